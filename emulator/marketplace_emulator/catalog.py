"""The products that the seller lists: dimensions, prices and kind of integration."""

import json
import re
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, get_type_hints

from marketplace_emulator.checks import checked
from marketplace_emulator.errors import AdminError, BadRequestError

Integration = Literal["license", "legacy"]
Pricing = Literal["subscription", "contract", "contract_with_consumption"]
DimensionType = Literal["usage", "entitlement"]
ValueType = Literal["integer", "double", "boolean", "string"]

_CODE = re.compile(r"^[-a-zA-Z0-9/=:_.@]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One unit of value: `usage` is metered, `entitlement` is bought up front."""

    key: str
    type: DimensionType = "usage"
    price: Decimal = Decimal(0)
    unit: str = "unit"
    value_type: ValueType = "integer"


@dataclass(frozen=True, slots=True)
class Product:
    """One listed product. `license` products use Concurrent Agreements, `legacy` ones customer identifiers."""

    code: str
    id: str
    title: str
    dimensions: dict[str, Dimension]
    integration: Integration = "license"
    pricing: Pricing = "subscription"

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
    """Return a product from its JSON form. Raises BadRequestError, which names the wrong member."""
    given = _members(data, _PRODUCT)
    code = given.get("code", "")
    if not _CODE.match(code):
        raise BadRequestError("code must be a product code", "1 to 255 of a-z A-Z 0-9 - / = : _ . @")
    dimensions = [_dimension(item) for item in given.get("dimensions", ())]
    if not dimensions:
        raise BadRequestError("dimensions must be a list with at least one dimension", _DIMENSION_HINT)
    names = {"id": f"prod-{code[:13].lower()}", "title": code}
    return Product(**{**names, **given, "dimensions": {item.key: item for item in dimensions}})


def load_products(path: Path) -> list[Product]:
    """The products of a JSON file: a list, or an object with the list under `products`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    items = data.get("products") if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise AdminError(400, f"{path} holds no list of products", "a list, or {'products': [...]}")
    return [parse_product(item) for item in items]


_DIMENSION_HINT = 'for example [{"key": "api_calls", "type": "usage", "price": "0.001"}]'


_PRODUCT: dict[str, Any] = {**get_type_hints(Product), "dimensions": list[Any]}
_DIMENSION: dict[str, Any] = {**get_type_hints(Dimension), "price": str | float}


def _dimension(data: Any) -> Dimension:
    given = _members(data, _DIMENSION)
    if "key" not in given:
        raise BadRequestError("a dimension needs a key", _DIMENSION_HINT)
    try:
        price = Decimal(str(given.get("price", 0)))
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite():
        raise BadRequestError(f"price of {given['key']} is not a number", _DIMENSION_HINT)
    return Dimension(**{**given, "price": price})


def _members(data: Any, hints: dict[str, Any]) -> dict[str, Any]:
    """The members of these names that are given and not empty; others may be there."""
    if not isinstance(data, dict):
        raise BadRequestError("this is not a JSON object", "see GET /admin/products for the form of a product")
    return checked({name: data[name] for name in hints if data.get(name)}, hints)


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
