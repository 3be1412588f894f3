"""The deployment's settings, read once from the environment into one typed, frozen object."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


type OverageDimensions = Mapping[tuple[str, str], str]
"""(product code, overage dimension) -> the dimension whose entitlement is used up first."""


_PART = re.compile(r"(?P<product>[^,/=\s]+)/(?P<overage>[^,=\s]+)=(?P<included>[^,=\s]+)")


def parsed_overage_dimensions(value: object) -> object:
    """`<product code>/<overage dimension>=<included dimension>`, several separated by commas, as OverageDimensions.

    Raises ValueError that names the part which is wrong. Values other than text are handed on.
    """
    if not isinstance(value, str):
        return value
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


def _product_titles(value: object) -> object:
    """`<product code>=<title>`, several separated by commas, as titles by code. What is not of that form is left out:
    no unit and no registration depends on a title."""
    if not isinstance(value, str):
        return value
    pairs = (part.partition("=") for part in value.split(","))
    return {code.strip(): title.strip() for code, _, title in pairs if code.strip() and title.strip()}


class Settings(BaseModel, frozen=True):
    """What template.yaml passes to the functions; each field is the lower-case name of its variable.

    Raises pydantic.ValidationError, naming the variable, when one is missing or out of range.
    """

    stage: str = "dev"
    subscriptions_table: Annotated[str, Field(min_length=1)]
    usage_table: Annotated[str, Field(min_length=1)]
    event_bus_name: Annotated[str, Field(min_length=1)]
    notification_queue_url: Annotated[str, Field(min_length=1)]
    read_back_queue_url: Annotated[str, Field(min_length=1)]
    metering_queue_url: Annotated[str, Field(min_length=1)]
    product_codes: Annotated[frozenset[str], BeforeValidator(_comma_separated)] = frozenset()
    sign_up_url: str = ""
    login_url: str = ""
    support_contact: str = ""
    seller_name: str = ""
    seller_logo_url: str = ""
    seller_color: str = ""
    product_titles: Annotated[dict[str, str], BeforeValidator(_product_titles)] = Field(default_factory=dict)
    marketplace_console_url: str = ""
    metering_enabled: bool = False
    seal_delay_minutes: Annotated[int, Field(ge=0, le=720)] = 10
    metering_calls_per_second: Annotated[float, Field(gt=0, le=100)] = 10
    metering_region: str = "us-east-1"
    heartbeat_dimension: str = ""
    metering_role: str = ""
    entitlement_max_age_minutes: Annotated[int, Field(ge=0)] = 15
    entitlement_stale_limit_minutes: Annotated[int, Field(ge=0)] = 1440
    usage_record_ttl_days: Annotated[int, Field(ge=2)] = 400
    overage_dimensions: Annotated[dict[tuple[str, str], str], BeforeValidator(parsed_overage_dimensions)] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _overage_of_own_products(self) -> Self:
        """A product code with a typing error would be billed as if its contracts included nothing."""
        unknown = sorted({product for product, _ in self.overage_dimensions} - self.product_codes)
        if self.product_codes and unknown:
            raise ValueError(f"overage_dimensions: {', '.join(unknown)} is not among product_codes")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings from environment variables; an empty variable counts as not set."""
        source = os.environ if environ is None else environ
        named = {name: source.get(name.upper(), "") for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in named.items() if value != ""})
