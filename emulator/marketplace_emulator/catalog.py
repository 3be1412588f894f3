"""The products that the seller lists: dimensions, prices and kind of integration."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, cast, get_args

from marketplace_emulator.errors import AdminError

Integration = Literal["license", "legacy"]
Pricing = Literal["subscription", "contract", "contract_with_consumption"]
DimensionType = Literal["usage", "entitlement"]
ValueType = Literal["integer", "double", "boolean", "string"]

_CODE = re.compile(r"^[-a-zA-Z0-9/=:_.@]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One unit of value: `usage` is metered, `entitlement` is bought up front."""

    key: str
    type: DimensionType
    price: Decimal = Decimal(0)
    unit: str = "unit"
    value_type: ValueType = "integer"


@dataclass(frozen=True, slots=True)
class Product:
    """One listed product. `license` products use Concurrent Agreements, `legacy` ones customer identifiers."""

    code: str
    id: str
    title: str
    integration: Integration
    pricing: Pricing
    dimensions: dict[str, Dimension]

    @property
    def has_contract(self) -> bool:
        """Whether the buyer buys entitlements up front."""
        return self.pricing != "subscription"

    def usage_dimensions(self) -> list[Dimension]:
        """The dimensions that BatchMeterUsage takes."""
        return [item for item in self.dimensions.values() if item.type == "usage"]

    def entitlement_dimensions(self) -> list[Dimension]:
        """The dimensions that GetEntitlements answers with."""
        return [item for item in self.dimensions.values() if item.type == "entitlement"]

    def as_dict(self) -> dict[str, Any]:
        """The product in the form `parse_product` reads."""
        dimensions = [asdict(item) | {"price": str(item.price)} for item in self.dimensions.values()]
        return asdict(self) | {"dimensions": dimensions}


def parse_product(data: Any) -> Product:
    """Return a product from its JSON form. Raises AdminError (400), which names the wrong member."""
    if not isinstance(data, dict):
        raise AdminError(400, "a product is a JSON object", "see GET /admin/products for the form")
    code = data.get("code")
    if not isinstance(code, str) or not _CODE.match(code):
        raise AdminError(400, "code must be a product code", "1 to 255 of a-z A-Z 0-9 - / = : _ . @")
    dimensions = data.get("dimensions")
    if not isinstance(dimensions, list) or not dimensions:
        raise AdminError(400, "dimensions must be a list with at least one dimension", _DIMENSION_HINT)
    parsed = [_dimension(item) for item in dimensions]
    return Product(
        code=code,
        id=str(data.get("id") or f"prod-{code[:13].lower()}"),
        title=str(data.get("title") or code),
        integration=cast(Integration, _one_of(data, "integration", get_args(Integration), "license")),
        pricing=cast(Pricing, _one_of(data, "pricing", get_args(Pricing), "subscription")),
        dimensions={item.key: item for item in parsed},
    )


def load_products(path: Path) -> list[Product]:
    """The products of a JSON file: a list, or an object with the list under `products`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    items = data.get("products") if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise AdminError(400, f"{path} holds no list of products", "a list, or {'products': [...]}")
    return [parse_product(item) for item in items]


_DIMENSION_HINT = 'for example [{"key": "api_calls", "type": "usage", "price": "0.001"}]'


def _dimension(data: Any) -> Dimension:
    if not isinstance(data, dict) or not isinstance(data.get("key"), str) or not data["key"]:
        raise AdminError(400, "a dimension needs a key", _DIMENSION_HINT)
    try:
        price = Decimal(str(data.get("price", "0")))
        if not price.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise AdminError(400, f"price of {data['key']} is not a number", _DIMENSION_HINT) from None
    return Dimension(
        key=data["key"],
        type=cast(DimensionType, _one_of(data, "type", get_args(DimensionType), "usage")),
        price=price,
        unit=str(data.get("unit") or "unit"),
        value_type=cast(ValueType, _one_of(data, "value_type", get_args(ValueType), "integer")),
    )


def _one_of(data: dict[str, Any], name: str, options: Iterable[str], default: str) -> str:
    value = data.get(name, default)
    if value not in options:
        raise AdminError(400, f"{name} {value!r} is not known", f"it is one of {', '.join(options)}")
    return cast(str, value)


def default_products() -> list[Product]:
    """One product of each kind: contract with consumption, pay as you go, and a legacy subscription."""
    return [parse_product(item) for item in _DEFAULTS]


_DEFAULTS: list[dict[str, Any]] = [
    {
        "code": "ca1contractandconsumption",
        "id": "prod-contractusage",
        "title": "Acme Analytics",
        "integration": "license",
        "pricing": "contract_with_consumption",
        "dimensions": [
            {"key": "seats", "type": "entitlement", "price": "120.00", "unit": "seat a year"},
            {"key": "api_calls", "type": "usage", "price": "0.002", "unit": "call"},
            {"key": "storage_gb_hours", "type": "usage", "price": "0.0001", "unit": "GB-hour"},
            {"key": "users", "type": "usage", "price": "0.05", "unit": "user-hour"},
        ],
    },
    {
        "code": "ca2payasyougoproduct00000",
        "id": "prod-payasyougoabc",
        "title": "Acme Search",
        "integration": "license",
        "pricing": "subscription",
        "dimensions": [
            {"key": "api_calls", "type": "usage", "price": "0.001", "unit": "call"},
            {"key": "storage_gb_hours", "type": "usage", "price": "0.0001", "unit": "GB-hour"},
        ],
    },
    {
        "code": "legacysubscriptionproduct",
        "id": "prod-legacyproduct",
        "title": "Acme Mail",
        "integration": "legacy",
        "pricing": "subscription",
        "dimensions": [
            {"key": "emails", "type": "usage", "price": "0.0004", "unit": "e-mail"},
            {"key": "users", "type": "usage", "price": "0.05", "unit": "user-hour"},
        ],
    },
]
