"""GetEntitlements: the entitlements of buyers, filtered and paged.

Source: GetEntitlements API reference and its botocore model.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from marketplace_emulator import paging
from marketplace_emulator.errors import ServiceError, serialization
from marketplace_emulator.ids import license_id
from marketplace_emulator.model import Purchase
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

MAX_PAGE = 25
_invalid = partial(ServiceError, "InvalidParameterException")
FILTERS = ("CUSTOMER_IDENTIFIER", "DIMENSION", "CUSTOMER_AWS_ACCOUNT_ID", "LICENSE_ARN")

_VALUES = {
    "integer": "IntegerValue",
    "double": "DoubleValue",
    "boolean": "BooleanValue",
    "string": "StringValue",
}


class EntitlementService:
    """Answers GetEntitlements."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry

    def get_entitlements(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one page. A page may be empty and still carry a NextToken (setting `empty_pages`)."""
        code = request.get("ProductCode")
        if code is None or code == "":
            raise _invalid("ProductCode is required")
        if not isinstance(code, str):
            raise serialization("ProductCode is not a string")
        if code not in self._registry.products:
            raise _invalid(f"ProductCode {code} is not a product of this seller")
        filters = _parse_filters(request.get("Filter"))
        size = request.get("MaxResults", MAX_PAGE)
        if not isinstance(size, int) or isinstance(size, bool):
            raise serialization("MaxResults is not a whole number")
        if not 1 <= size <= MAX_PAGE:
            raise _invalid(f"MaxResults is not between 1 and {MAX_PAGE}")
        query = [code, {name: sorted(values) for name, values in sorted(filters.items())}]
        offset, empty_left = self._position(request.get("NextToken"), query)
        if empty_left:
            return {"Entitlements": [], "NextToken": paging.made(query, offset, empty_left - 1)}
        found = list(self._entitlements(code, filters))
        page = found[offset : offset + size]
        answer: dict[str, Any] = {"Entitlements": page}
        if offset + size < len(found):
            answer["NextToken"] = paging.made(query, offset + size, self._settings.empty_pages)
        return answer

    def _position(self, token: Any, query: list[Any]) -> tuple[int, int]:
        if token is None:
            return 0, self._settings.empty_pages
        try:
            offset, empty_left = paging.read(token, query, 2)
        except paging.TokenError as error:
            raise _invalid(f"NextToken {error}") from None
        return offset, empty_left

    def _entitlements(self, code: str, filters: dict[str, set[str]]) -> Iterator[dict[str, Any]]:
        for purchase in self._candidates(code, filters):
            for key, value in sorted(purchase.entitlements.items()):
                if "DIMENSION" not in filters or key in filters["DIMENSION"]:
                    yield _entitlement(purchase, key, value)

    def _candidates(self, code: str, filters: dict[str, set[str]]) -> Iterator[Purchase]:
        """Values of one filter are unioned, filters intersected."""
        licenses = filters.get("LICENSE_ARN")
        if licenses is not None:
            found = (self._registry.by_license.get(license_id(arn) or "") for arn in sorted(licenses))
            purchases = [item for item in found if item is not None and item.product.code == code]
        else:
            purchases = self._registry.by_product.get(code, [])
        customers = filters.get("CUSTOMER_IDENTIFIER")
        accounts = filters.get("CUSTOMER_AWS_ACCOUNT_ID")
        for purchase in purchases:
            if customers is not None and purchase.customer_identifier not in customers:
                continue
            if accounts is not None and purchase.account_id not in accounts:
                continue
            yield purchase


def _parse_filters(data: Any) -> dict[str, set[str]]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise serialization("Filter is not a map")
    filters = {}
    for name, values in data.items():
        if name not in FILTERS:
            raise _invalid(f"Filter {name!r} is not one of {', '.join(FILTERS)}")
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise serialization(f"Filter {name} is not a list of strings")
        if not values:
            raise _invalid(f"Filter {name} has at least 1 value")
        filters[name] = set(values)
    if "CUSTOMER_IDENTIFIER" in filters and "CUSTOMER_AWS_ACCOUNT_ID" in filters:
        raise _invalid("CUSTOMER_IDENTIFIER and CUSTOMER_AWS_ACCOUNT_ID exclude each other")
    return filters


def _entitlement(purchase: Purchase, key: str, value: Any) -> dict[str, Any]:
    kind = purchase.product.dimensions[key].value_type
    shown: dict[str, Any] = {
        "ProductCode": purchase.product.code,
        "Dimension": key,
        "CustomerAWSAccountId": purchase.account_id,
        "Value": {_VALUES[kind]: value},
    }
    if purchase.is_legacy:
        shown["CustomerIdentifier"] = purchase.customer_identifier
    else:
        shown["LicenseArn"] = purchase.license_arn
    if purchase.agreement.ends_at is not None:
        shown["ExpirationDate"] = purchase.agreement.ends_at
    return shown
