"""The agreement API: search, description, terms and entitlements of agreements.

Source: botocore model of marketplace-agreement (2020-03-01).
"""

from collections.abc import Callable, Iterable
from typing import Any

from marketplace_emulator import paging
from marketplace_emulator.catalog import Dimension, Product
from marketplace_emulator.clock import DAY, parse_time
from marketplace_emulator.errors import ServiceError, serialization, validation
from marketplace_emulator.ids import license_id
from marketplace_emulator.model import Agreement, Purchase
from marketplace_emulator.registry import Registry

MAX_PAGE = 50
_TIME_FILTERS = {
    "BeforeEndTime": ("ends_at", True),
    "AfterEndTime": ("ends_at", False),
    "BeforeStartTime": ("starts_at", True),
    "AfterStartTime": ("starts_at", False),
    "BeforeLastUpdateTime": ("updated_at", True),
    "AfterLastUpdateTime": ("updated_at", False),
}
_SORT = {"EndTime": "ends_at", "StartTime": "starts_at", "LastUpdateTime": "updated_at"}
_STATUSES = {"ACTIVE", "CANCELLED", "EXPIRED", "RENEWED", "REPLACED", "TERMINATED"}


class AgreementService:
    """Answers the four agreement operations."""

    def __init__(self, registry: Registry, issue_token: Callable[[Purchase], str]) -> None:
        self._registry = registry
        self._issue_token = issue_token

    def search_agreements(self, request: dict[str, Any]) -> dict[str, Any]:
        """A proposer's search: AgreementType is required, all filters intersect."""
        filters = _parse_filters(request.get("filters"))
        if filters.get("PartyType") not in ("Proposer", "Acceptor"):
            raise validation("PartyType is Proposer or Acceptor", reason="MISSING_PARTY_TYPE")
        if filters.get("AgreementType") != "PurchaseAgreement":
            raise validation("AgreementType PurchaseAgreement is required", reason="INVALID_AGREEMENT_TYPE")
        tests = [_filter_test(name, value) for name, value in filters.items()]
        found = [
            item
            for item in self._registry.agreements.values()
            if filters["PartyType"] == "Proposer" and all(test(item) for test in tests)
        ]
        found.sort(key=_sort_key(request.get("sort")), reverse=_descending(request.get("sort")))
        return page_of(
            "agreementViewSummaries", [_summary(item) for item in found], request, ["SearchAgreements", filters]
        )

    def describe_agreement(self, request: dict[str, Any]) -> dict[str, Any]:
        """One agreement, without its terms."""
        agreement = the_agreement(self._registry, request)
        product = self._product(agreement)
        described = _common(agreement)
        described["estimatedCharges"] = {"currencyCode": "USD", "agreementValue": _value(agreement, product)}
        if agreement.ends_at is not None and agreement.status == "ACTIVE":
            described["endTimeBehavior"] = _end_behavior(agreement)
        if agreement.free_trial_until is not None:
            described["freeTrialSummary"] = {"trialEndTime": agreement.free_trial_until}
        return described

    def get_agreement_terms(self, request: dict[str, Any]) -> dict[str, Any]:
        """The accepted terms, each a union with one member; a free trial shows as freeTrialPricingTerm."""
        agreement = the_agreement(self._registry, request)
        terms = list(_terms(agreement, self._product(agreement)))
        return page_of("acceptedTerms", terms, request, ["GetAgreementTerms", agreement.id])

    def get_agreement_entitlements(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """Status and reason of the licence, with a 30-minute registration token while it is provisioned."""
        agreement = the_agreement(self._registry, request)
        purchase = self._registry.purchases[agreement.purchase_id]
        status, reason = _license_status(purchase, agreement, now, agreement.account_id in self._registry.suspended)
        entry: dict[str, Any] = {
            "resource": {"id": agreement.product_id, "type": "SaaSProduct"},
            "type": "License",
            "status": status,
            "statusReasonCode": reason,
        }
        if status in ("PROVISIONED", "DEPROVISIONED"):
            entry["licenseArn"] = agreement.license_arn
        if status == "PROVISIONED":
            entry["registrationToken"] = self._issue_token(purchase)
        return page_of("agreementEntitlements", [entry], request, ["GetAgreementEntitlements", agreement.id])

    def _product(self, agreement: Agreement) -> Product:
        return self._registry.purchases[agreement.purchase_id].product


def the_agreement(registry: Registry, request: dict[str, Any]) -> Agreement:
    """The agreement that a request names by `agreementId`. Raises ServiceError."""
    agreement_id = request.get("agreementId")
    if agreement_id is None:
        raise validation("agreementId is required", reason="MISSING_AGREEMENT_ID")
    if not isinstance(agreement_id, str):
        raise serialization("agreementId is not a string")
    agreement = registry.agreements.get(agreement_id)
    if agreement is None:
        raise ServiceError(
            "ResourceNotFoundException",
            f"There is no agreement {agreement_id}",
            404,
            resourceId=agreement_id,
            resourceType="Agreement",
        )
    return agreement


def _common(agreement: Agreement) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "agreementId": agreement.id,
        "acceptanceTime": agreement.accepted_at,
        "startTime": agreement.starts_at,
        "agreementType": "PurchaseAgreement",
        "acceptor": {"accountId": agreement.account_id},
        "proposer": {"accountId": agreement.proposer_id},
        "proposalSummary": {
            "resources": [{"id": agreement.product_id, "type": "SaaSProduct"}],
            "offerId": agreement.offer_id,
        },
        "status": agreement.status,
        "initialAgreementId": agreement.initial_id,
    }
    if agreement.ends_at is not None:
        shown["endTime"] = agreement.ends_at
    return shown


def _summary(agreement: Agreement) -> dict[str, Any]:
    shown = _common(agreement)
    shown["lastUpdateTime"] = agreement.updated_at
    shown["entitlements"] = [{"licenseArn": agreement.license_arn}]
    if agreement.ends_at is not None and agreement.status == "ACTIVE":
        behavior = _end_behavior(agreement)
        shown["endTimeBehaviorType"] = behavior["type"]
        if "reasonCode" in behavior:
            shown["endTimeBehaviorReasonCode"] = behavior["reasonCode"]
    if agreement.free_trial_until is not None:
        shown["freeTrialEndTime"] = agreement.free_trial_until
    return shown


def _end_behavior(agreement: Agreement) -> dict[str, Any]:
    kind = {"type": "RENEW"} if agreement.auto_renew else {"type": "EXPIRE", "reasonCode": "ACCEPTOR_RENEW_OPTED_OUT"}
    return {**kind, "renewalSummary": {"offerId": agreement.offer_id}}


def _value(agreement: Agreement, product: Product) -> str:
    total = sum(
        product.dimensions[key].price * value
        for key, value in agreement.entitlements.items()
        if isinstance(value, int) and not isinstance(value, bool)
    )
    return f"{total:.2f}"


def _terms(agreement: Agreement, product: Product) -> Iterable[dict[str, Any]]:
    yield _term("legal", documents=[{"type": "StandardEula", "version": "2022-07-14"}])
    yield _term("support", refundPolicy="No refunds.")
    if agreement.free_trial_until is not None:
        duration = _days(agreement.starts_at, agreement.free_trial_until)
        grants = [{"dimensionKey": key} for key in product.dimensions]
        yield _term("freeTrialPricing", "free-trial", duration=duration, grants=grants)
    if usage := _rate_card(product.usage_dimensions()):
        yield _term("usageBasedPricing", "usage", currencyCode="USD", rateCards=[{"rateCard": usage}])
    if product.has_contract and agreement.ends_at is not None:
        yield _upfront_term(agreement, product, agreement.ends_at)
        yield _term("renewal", configuration={"enableAutoRenew": agreement.auto_renew})
        yield _term("validity", agreementStartDate=agreement.starts_at, agreementEndDate=agreement.ends_at)


def _term(kind: str, name: str = "", **members: Any) -> dict[str, Any]:
    return {f"{kind}Term": {"type": f"{kind[0].upper()}{kind[1:]}Term", "id": f"term-{name or kind}", **members}}


def _days(start: float, end: float) -> str:
    return f"P{round((end - start) / DAY)}D"


def _rate_card(dimensions: list[Dimension]) -> list[dict[str, str]]:
    return [{"dimensionKey": item.key, "price": str(item.price)} for item in dimensions]


def _upfront_term(agreement: Agreement, product: Product, ends_at: float) -> dict[str, Any]:
    duration = _days(agreement.starts_at, ends_at)
    card = {
        "selector": {"type": "Duration", "value": duration},
        "rateCard": _rate_card(product.entitlement_dimensions()),
    }
    bought = [
        {"dimensionKey": key, "dimensionValue": int(value) if isinstance(value, int | float) else 1}
        for key, value in agreement.entitlements.items()
    ]
    configuration = {"selectorValue": duration, "dimensions": bought}
    return _term(
        "configurableUpfrontPricing", "upfront", currencyCode="USD", rateCards=[card], configuration=configuration
    )


def _license_status(purchase: Purchase, agreement: Agreement, now: float, suspended: bool) -> tuple[str, str]:
    if purchase.failed_reason:
        return "FAILED", purchase.failed_reason
    if agreement.status in ("RENEWED", "REPLACED") or purchase.deprovisioned_at is not None:
        return "DEPROVISIONED", "AGREEMENT_INACTIVE"
    if suspended:
        return "FAILED", "ACCOUNT_SUSPENDED"
    if agreement.starts_at > now:
        return "SCHEDULED", "FUTURE_START_DATE"
    if purchase.provisioned_agreement_id != agreement.id:
        return "PENDING", "PROVISIONING_IN_PROGRESS"
    return "PROVISIONED", "AGREEMENT_ACTIVE"


def _parse_filters(data: Any) -> dict[str, str]:
    if not data:
        return {}
    if not isinstance(data, list):
        raise serialization("filters is not a list")
    if len(data) > 10:
        raise validation("at most 10 filters are allowed", reason="INVALID_FILTERS")
    filters: dict[str, str] = {}
    for item in data:
        name, values = (item.get("name"), item.get("values")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str):
            raise validation("a filter has a name", reason="MISSING_FILTER_NAME")
        if name not in _FILTERS:
            raise validation(f"there is no filter {name}", reason="INVALID_FILTER_NAME")
        if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], str):
            raise validation(f"filter {name} has one value", reason="INVALID_FILTER_VALUES")
        filters[name] = values[0]
    return filters


def _filter_test(name: str, value: str) -> Callable[[Agreement], bool]:
    if name in _TIME_FILTERS:
        attribute, before = _TIME_FILTERS[name]
        try:
            limit = parse_time(value)
        except ValueError:
            raise validation(f"filter {name} is a date", reason="INVALID_FILTER_VALUES") from None
        return lambda item: _beyond(getattr(item, attribute), limit, before)
    if name == "Status" and value not in _STATUSES:
        raise validation(f"there is no status {value}", reason="INVALID_FILTER_VALUES")
    if name == "LicenseArn":
        wanted = license_id(value)
        return lambda item: license_id(item.license_arn) == wanted
    return _FILTERS[name](value)


def _beyond(moment: float | None, limit: float, before: bool) -> bool:
    if moment is None:
        return not before
    return moment < limit if before else moment > limit


_FILTERS: dict[str, Callable[[str], Callable[[Agreement], bool]]] = {
    "PartyType": lambda _: lambda _: True,
    "AgreementType": lambda _: lambda _: True,
    "ResourceIdentifier": lambda value: lambda item: item.product_id == value,
    "ResourceType": lambda value: lambda _: value == "SaaSProduct",
    "AcceptorAccountId": lambda value: lambda item: item.account_id == value,
    "OfferId": lambda value: lambda item: item.offer_id == value,
    "Status": lambda value: lambda item: item.status == value,
    "InitialAgreementId": lambda value: lambda item: item.initial_id == value,
    "EndTimeBehaviorType": lambda value: lambda item: item.ends_at is not None and _end_behavior(item)["type"] == value,
    **dict.fromkeys(("LicenseArn", *_TIME_FILTERS), lambda _: lambda _: True),
}


def _sort_key(sort: Any) -> Callable[[Agreement], tuple[float, str]]:
    name = sort.get("sortBy", "EndTime") if isinstance(sort, dict) else "EndTime"
    if not isinstance(name, str) or name not in _SORT:
        raise validation(f"sortBy is one of {', '.join(_SORT)}", reason="INVALID_SORT_BY")
    attribute = _SORT[name]

    def key(item: Agreement) -> tuple[float, str]:
        moment = getattr(item, attribute)
        return (float("inf") if moment is None else moment, item.id)

    return key


def _descending(sort: Any) -> bool:
    order = sort.get("sortOrder", "ASCENDING") if isinstance(sort, dict) else "ASCENDING"
    if order not in ("ASCENDING", "DESCENDING"):
        raise validation("sortOrder is ASCENDING or DESCENDING", reason="INVALID_SORT_ORDER")
    return bool(order == "DESCENDING")


def page_of(name: str, items: list[dict[str, Any]], request: dict[str, Any], query: list[Any]) -> dict[str, Any]:
    """The page of `items` that a request with maxResults and nextToken asks for, under a name."""
    size = request.get("maxResults", MAX_PAGE)
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_PAGE:
        raise validation(f"maxResults is between 1 and {MAX_PAGE}", reason="INVALID_MAX_RESULTS")
    offset = 0
    if request.get("nextToken"):
        try:
            (offset,) = paging.read(request["nextToken"], query, 1)
        except paging.TokenError as error:
            raise validation(f"nextToken {error}", reason="INVALID_NEXT_TOKEN") from None
    end = offset + size
    answer: dict[str, Any] = {name: items[offset:end]}
    if end < len(items):
        answer["nextToken"] = paging.made(query, end)
    return answer
