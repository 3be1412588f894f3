"""The settings of the emulator. Where documents of AWS disagree, a setting offers each reading."""

from dataclasses import asdict, dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from marketplace_emulator.clock import HOUR
from marketplace_emulator.errors import AdminError


@dataclass(slots=True)
class Settings:
    """All settings. The README describes each one and names the document that leaves it open."""

    seller_account: str = "222233334444"
    fulfilment_url: str = ""
    seed: int | None = None

    # Registration
    token_lifetime_seconds: float = 4 * HOUR
    agreement_token_lifetime_seconds: float = 1800
    token_single_use: bool = False
    resolve_metadata: bool = True

    # Metering
    identical_resend: Literal["success", "duplicate"] = "success"
    pending_license: Literal["not_subscribed", "invalid_license"] = "not_subscribed"
    unknown_customer: Literal["exception", "status"] = "exception"
    product_code_on_license_products: Literal["refuse", "double_bill"] = "refuse"
    usage_after_end: Literal["accept", "invalid_license"] = "accept"
    closing_window: Literal["after_later", "after_ended", "until_deprovisioned"] = "after_later"
    closing_window_seconds: float = HOUR
    future_tolerance_seconds: float = 0
    tag_limit: Literal["record", "allocation"] = "record"
    max_request_bytes: int = 1_048_576
    metering_regions: list[str] | None = None
    metering_rate: float | None = None
    entitlement_rate: float | None = None

    # Entitlements and agreements
    entitlement_delay_seconds: float = 0
    empty_pages: int = 0
    access_denied: list[str] = field(default_factory=list)

    # Notifications
    license_delay_seconds: float = 61
    deprovision_delay_seconds: float = 31
    renewal_events: Literal["created_and_license", "license_only"] = "created_and_license"
    event_license_form: Literal["arn", "document"] = "arn"
    eventbridge_for_legacy: bool = False

    # Faults
    hang_seconds: float = 120

    def update(self, changes: dict[str, Any]) -> None:
        """Change several settings at once, or none. Raises AdminError (400) for an unknown name or a wrong value."""
        hints = get_type_hints(Settings)
        checked = {}
        for name, value in changes.items():
            if name not in hints:
                raise AdminError(400, f"there is no setting {name!r}", f"the settings are: {', '.join(sorted(hints))}")
            if not _fits(value, hints[name]):
                raise AdminError(
                    400, f"{value!r} does not fit the setting {name!r}", f"it takes {_describe(hints[name])}"
                )
            checked[name] = value
        for name, value in checked.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if origin is list:
        return f"a list, each {_describe(get_args(hint)[0])}"
    names = {float: "a number >= 0", int: "a whole number >= 0", NoneType: "null", str: "text", bool: "true or false"}
    return names.get(hint, str(hint))
