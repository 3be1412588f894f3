"""The deployment's settings, read once from the environment into one typed, frozen object."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Self

from marketplace.platform.clock import HOUR, epoch

type OverageDimensions = Mapping[tuple[str, str], str]
"""(product code, overage dimension) -> the dimension whose entitlement is used up first."""


_PART = re.compile(r"(?P<product>[^,/=\s]+)/(?P<overage>[^,=\s]+)=(?P<included>[^,=\s]+)")


def parsed_overage_dimensions(value: str) -> dict[tuple[str, str], str]:
    """`<product code>/<overage dimension>=<included dimension>`, several separated by commas, as OverageDimensions.

    Raises ValueError that names the part which is wrong.
    """
    found: dict[tuple[str, str], str] = {}
    given: dict[tuple[str, str], str] = {}
    for part in filter(None, (one.strip() for one in value.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not of the form <product code>/<overage dimension>=<included dimension>")
        product, overage, included = match.group("product", "overage", "included")
        if (product, overage) in found:
            raise ValueError(f"{part!r}: the overage dimension {overage} of {product} is there twice")
        if (product, included) in given:
            other = given[product, included]
            raise ValueError(f"{part!r}: what {included} of {product} includes is used up by {other} already")
        found[product, overage] = included
        given[product, included] = overage
    return found


def _product_titles(value: str) -> dict[str, str]:
    """`<product code>=<title>`, several separated by commas, as titles by code. What is not of that form is left out:
    no unit and no registration depends on a title."""
    pairs = (part.partition("=") for part in value.split(","))
    return {code.strip(): title.strip() for code, _, title in pairs if code.strip() and title.strip()}


def _product_codes(value: str) -> frozenset[str]:
    return frozenset(part.strip() for part in value.split(",") if part.strip())


def _yes_or_no(value: str) -> bool:
    if value not in {"true", "false"}:
        raise ValueError(f"{value!r} is neither true nor false")
    return value == "true"


def _one_of(*words: str) -> Callable[[str], str]:
    """Reads one of these words."""

    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return value

    return read


def _hour(value: str) -> int:
    """Reads the beginning of an hour, as 2027-01-31T14:00:00Z."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None or epoch(moment) % HOUR:
        raise ValueError(f"{value!r} is not the beginning of an hour with a UTC offset")
    return epoch(moment)


def _number[N: (int, float)](kind: Callable[[str], N], least: float, most: float = math.inf) -> Callable[[str], N]:
    """Reads a number within bounds; `least` and `most` are allowed."""

    def read(value: str) -> N:
        number = kind(value)
        if not least <= number <= most:
            raise ValueError(f"{value} is not from {least} to {most}")
        return number

    return read


_NONE: Mapping[Any, str] = MappingProxyType({})


class SettingsError(ValueError):
    """The environment does not hold valid settings; the message names each variable that is wrong."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Settings:
    """What template.yaml passes to the functions; each field is the lower-case name of its variable. A field that is no
    plain text is annotated with what reads it."""

    stage: str = "dev"
    subscriptions_table: str
    usage_table: str
    event_bus_name: str
    notification_queue_url: str
    read_back_queue_url: str
    metering_queue_url: str
    product_codes: Annotated[frozenset[str], _product_codes] = frozenset()
    sign_up_url: str = ""
    login_url: str = ""
    support_contact: str = ""
    front_stage: str = ""
    seller_name: str = ""
    seller_logo_url: str = ""
    seller_color: str = ""
    product_titles: Annotated[Mapping[str, str], _product_titles] = _NONE
    marketplace_console_url: str = ""
    metering_enabled: Annotated[bool, _yes_or_no] = False
    metering_starts_at: Annotated[int, _hour] = 0
    seal_delay_minutes: Annotated[int, _number(int, 0, 720)] = 10
    metering_calls_per_second: Annotated[float, _number(float, 0.01, 100)] = 10.0
    metering_region: str = "us-east-1"
    anomaly_hold_factor: Annotated[int, _number(int, 0)] = 0
    anomaly_hold_at_deadline: Annotated[str, _one_of("Send", "Refuse")] = "Send"
    seller_role_arn: str = ""
    seller_role_external_id: str = ""
    heartbeat_dimension: str = ""
    metering_role: str = ""
    entitlement_max_age_minutes: Annotated[int, _number(int, 0)] = 15
    entitlement_stale_limit_minutes: Annotated[int, _number(int, 0)] = 1440
    usage_record_ttl_days: Annotated[int, _number(int, 2)] = 400
    archive_after_months: Annotated[int, _number(int, 0, 120)] = 0
    archive_bucket: str = ""
    overage_dimensions: Annotated[OverageDimensions, parsed_overage_dimensions] = _NONE

    def __post_init__(self) -> None:
        """A product code with a typing error would be billed as if its contracts included nothing."""
        unknown = sorted({product for product, _ in self.overage_dimensions} - self.product_codes)
        if self.product_codes and unknown:
            raise SettingsError(f"overage_dimensions: {', '.join(unknown)} is not among product_codes")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings from environment variables; an empty variable counts as not set.

        Raises SettingsError that names what is missing or out of range.
        """
        source = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for setting in fields(cls):
            value = source.get(setting.name.upper(), "")
            try:
                if value != "":
                    found[setting.name] = getattr(setting.type, "__metadata__", (str,))[0](value)
                elif setting.default is MISSING:
                    wrong.append(f"{setting.name}: is not set")
            except ValueError as error:
                wrong.append(f"{setting.name}: {error}")
        if wrong:
            raise SettingsError("; ".join(wrong))
        return cls(**found)
