"""The settings of the emulator. Where documents of AWS disagree, a setting offers each reading."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_type_hints

from marketplace_emulator.checks import checked
from marketplace_emulator.clock import HOUR
from marketplace_emulator.errors import BadRequestError


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

    adjustment_delay_seconds: float = 60

    # CloudTrail
    trail_delay_seconds: float = 900
    trail_rate: float | None = None
    callers: dict[str, str] = field(default_factory=dict)

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
        for name, value in checked(changes, get_type_hints(Settings)).items():
            if isinstance(value, int | float) and value < 0:
                raise BadRequestError(f"{value!r} does not fit {name!r}", "it takes a number from 0 on")
        for name, value in changes.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
