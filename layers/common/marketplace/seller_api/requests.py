"""What the seller's application may ask, checked at the edge: query parameters and bodies as pydantic models."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, model_validator

from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.clock import DAY, HOUR, epoch, hour_of
from marketplace.seller_api.subscription_queries import MAX_PAGE, Filter
from marketplace.subscriptions.model import Status
from marketplace.usage.queries import MAX_PAGE as MAX_USAGE_PAGE

MAX_RECORDS = 500

_CALENDAR_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T.+")


def _calendar_time(value: object) -> object:
    if isinstance(value, str) and not _CALENDAR_TIME.fullmatch(value):
        raise ValueError("must be ISO 8601 with a UTC offset, such as 2026-11-22T14:00:00Z; write a + as %2B")
    return value


def _thinkable(moment: AwareDatetime) -> AwareDatetime:
    if not 2000 <= moment.year <= 9000:
        raise ValueError("the year must be 2000 to 9000")
    return moment


def _storable(dimension: str | None) -> str | None:
    if dimension is not None and len(dimension.encode()) > 255:
        raise ValueError("at most 255 bytes in UTF-8 are allowed")
    return dimension


type Moment = Annotated[AwareDatetime, BeforeValidator(_calendar_time), AfterValidator(_thinkable)]
type Cursor = Annotated[str, Field(min_length=1, max_length=1024, description="Where the page before ended.")]


class SubscriptionsQuery(BaseModel, frozen=True, extra="forbid"):
    """Exactly one of tenant_id, account_id and status."""

    tenant_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    account_id: Annotated[
        str | None, Field(pattern=r"^[0-9]{12}$", description="The buyer's AWS account: 12 digits.")
    ] = None
    status: Annotated[Status | None, Field(description="The status as of now.")] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _one_filter(self) -> Self:
        if sum(value is not None for value in (self.tenant_id, self.account_id, self.status)) != 1:
            raise ValueError("give exactly one of tenant_id, account_id and status")
        return self

    @property
    def filter(self) -> Filter:
        if self.tenant_id is not None:
            return Filter("tenant_id", self.tenant_id)
        if self.account_id is not None:
            return Filter("account_id", self.account_id)
        return Filter("status", str(self.status))


class EntitlementsQuery(BaseModel, frozen=True, extra="forbid"):
    """Without a dimension all entitlements are listed; with one, access to it is checked."""

    dimension: Annotated[str | None, Field(min_length=1, max_length=255), AfterValidator(_storable)] = None
    quantity: Annotated[
        int | None, Field(ge=0, le=MAX_QUANTITY, description="How much of the dimension is wanted in all.")
    ] = None

    @model_validator(mode="after")
    def _quantity_of_something(self) -> Self:
        if self.quantity is not None and self.dimension is None:
            raise ValueError("quantity needs a dimension")
        return self


class NoQuery(BaseModel, frozen=True, extra="forbid"):
    """No parameters."""


class RecordUsageQuery(BaseModel, frozen=True, extra="forbid"):
    validate_only: Annotated[
        Literal["true", "false"],
        Field(alias="validate", description="With true the records are checked and nothing is written."),
    ] = "false"


class UsageQuery(BaseModel, frozen=True, extra="forbid"):
    """The hours that overlap the time from `from` to before `to`; the last day's when left out."""

    start: Annotated[Moment | None, Field(alias="from")] = None
    end: Annotated[Moment | None, Field(alias="to")] = None
    limit: Annotated[int, Field(ge=1, le=MAX_USAGE_PAGE)] = 100
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("to must be later than from")
        return self

    def hours(self, now: int) -> tuple[int, int]:
        """The first hour and the one after the last, in seconds since the epoch."""
        end: int | None = hour_of(epoch(self.end) + HOUR - 1) if self.end is not None else None
        if self.start is not None:
            start = hour_of(epoch(self.start))
            return start, end if end is not None else max(hour_of(now), start) + HOUR
        end = hour_of(now) + HOUR if end is None else end
        return end - DAY, end


class RetryBody(BaseModel, frozen=True, extra="forbid"):
    """Which refused usage is to be sent again; all of it without a dimension."""

    dimension: Annotated[str | None, Field(min_length=1, max_length=255), AfterValidator(_storable)] = None


class UsageBody(BaseModel, frozen=True, extra="forbid"):
    """Only the envelope: every record is checked by itself and gets a result of its own."""

    records: Annotated[list[object], Field(min_length=1, max_length=MAX_RECORDS)]
