"""The requests of the seller API: query parameters and bodies, checked by pydantic models."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.clock import DAY, HOUR, epoch, hour_of
from marketplace.platform.http import BodyTooLargeError, Request
from marketplace.platform.moments import Moment
from marketplace.registration.claim_history import MAX_PAGE as MAX_CLAIM_PAGE
from marketplace.seller_api import problems
from marketplace.seller_api.problems import ProblemError
from marketplace.seller_api.subscription_queries import MAX_PAGE, Filter
from marketplace.statements.reader import MAX_PAGE as MAX_STATEMENT_PAGE
from marketplace.subscriptions.identity import SUBSCRIPTION_ID
from marketplace.subscriptions.model import Status
from marketplace.usage.approval import Choice
from marketplace.usage.queries import MAX_PAGE as MAX_USAGE_PAGE
from marketplace.usage.void import MAX_VOIDED

MAX_RECORDS = 500
MAX_RECORD_ID = 128
USAGE_BODY_LIMIT = 2_097_152
"""Bytes: 500 records with five tags of the greatest length fit. Lambda takes 6 MB (Lambda quotas)."""
VOID_BODY_LIMIT = 262_144
"""Bytes: 100 records, each with an id and the ARN of a licence, fit."""
_BODY_LIMIT = 16_384


def _year_in_range(moment: datetime) -> datetime:
    if not 2000 <= moment.year <= 9000:
        raise ValueError("the year must be 2000 to 9000")
    return moment


def _at_most_255_bytes(dimension: str | None) -> str | None:
    if dimension is not None and len(dimension.encode()) > 255:
        raise ValueError("at most 255 bytes in UTF-8 are allowed")
    return dimension


type QueriedMoment = Annotated[Moment, AfterValidator(_year_in_range)]
type Cursor = Annotated[str, Field(min_length=1, max_length=1024, description="Where the page before ended.")]


class SubscriptionsQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Exactly one of `tenant_id`, `account_id` and `status` is given."""

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


class EntitlementsQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Without `dimension` all entitlements are listed; with it, access to the dimension is checked. `quantity` needs a
    `dimension`."""

    dimension: Annotated[str | None, Field(min_length=1, max_length=255), AfterValidator(_at_most_255_bytes)] = None
    quantity: Annotated[
        int | None, Field(ge=0, le=MAX_QUANTITY, description="How much of the dimension is wanted in all.")
    ] = None

    @model_validator(mode="after")
    def _quantity_of_something(self) -> Self:
        if self.quantity is not None and self.dimension is None:
            raise ValueError("quantity needs a dimension")
        return self


class NoQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """No parameters."""


class RecordUsageQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """With `validate=true` every record is answered as it would be, and none is recorded."""

    validate_only: Annotated[
        Literal["true", "false"],
        Field(alias="validate", description="With true the records are checked and nothing is written."),
    ] = "false"


class UsageQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """The hours that overlap the time from `from` to before `to`, which must be the later; the last day's when both are
    left out. Years are 2000 to 9000."""

    start: Annotated[QueriedMoment | None, Field(alias="from")] = None
    end: Annotated[QueriedMoment | None, Field(alias="to")] = None
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


class StatementQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """A month in UTC. Days come whole or in parts, until `limit` lines are on the page."""

    month: Annotated[str, Field(pattern=r"^[2-8][0-9]{3}-(0[1-9]|1[0-2])$", description="For example 2026-11.")]
    limit: Annotated[int, Field(ge=1, le=MAX_STATEMENT_PAGE)] = MAX_STATEMENT_PAGE
    cursor: Cursor | None = None


class ClaimsQuery(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """The changes of a claim, the newest first."""

    limit: Annotated[int, Field(ge=1, le=MAX_CLAIM_PAGE)] = MAX_CLAIM_PAGE
    cursor: Cursor | None = None


class RetryBody(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Which refused usage is to be sent again; all of it without a dimension."""

    dimension: Annotated[str | None, Field(min_length=1, max_length=255), AfterValidator(_at_most_255_bytes)] = None


class ApprovalBody(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """What is decided about unusual usage: all of it that awaits approval, or of one dimension or hour."""

    decision: Choice
    dimension: Annotated[str | None, Field(min_length=1, max_length=255), AfterValidator(_at_most_255_bytes)] = None
    hour: Annotated[Moment, AfterValidator(_year_in_range)] | None = None


class UsageBody(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Only the envelope: every record is checked by itself and gets a result of its own."""

    records: Annotated[list[object], Field(min_length=1, max_length=MAX_RECORDS)]


class VoidBody(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """Only the envelope: every record is looked at by itself and gets a result of its own."""

    records: Annotated[list[object], Field(min_length=1, max_length=MAX_VOIDED)]


def subscription_id_of(request: Request) -> str:
    """The subscription id in the path. Raises ProblemError when it can't be one."""
    subscription_id = request.path.get("subscription_id", "")
    if not SUBSCRIPTION_ID.fullmatch(subscription_id):
        raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
    return subscription_id


def query_of[M: BaseModel](request: Request, model: type[M]) -> M:
    """The query parameters as this model. Raises ProblemError that names what is wrong."""
    try:
        return model.model_validate(request.query())
    except ValidationError as error:
        raise ProblemError(problems.PARAMETER_INVALID.saying(_complaint(error))) from error


def body_of[M: BaseModel](request: Request, model: type[M], limit: int = _BODY_LIMIT) -> M:
    """The JSON body, of at most `limit` bytes, as this model. Raises ProblemError that names what is wrong, and
    BodyTooLargeError."""
    try:
        # Unlike json.loads this refuses NaN, lone surrogates and too deep nesting.
        content = from_json(request.body(limit), allow_inf_nan=False)
    except ValueError as error:
        if isinstance(error, BodyTooLargeError):
            raise
        raise ProblemError(problems.BODY_INVALID.saying("The body must be JSON in UTF-8.")) from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProblemError(problems.BODY_INVALID.saying(_complaint(error))) from error


def _complaint(error: ValidationError) -> str:
    """What is wrong, by field, without repeating what was sent."""
    complaints = []
    for found in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        place = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        complaints.append(f"{place}: {message}" if place else message)
    return "; ".join(complaints)
