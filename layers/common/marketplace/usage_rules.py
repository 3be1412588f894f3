"""The rules of recording usage, without any I/O: what a report must look like, and which hour takes it.

Times are whole seconds since the epoch (UTC); an hour is named by its first second.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from marketplace.clock import DAY, HOUR, epoch, hour_of
from marketplace.identity import SUBSCRIPTION_ID

MAX_QUANTITY = 2_147_483_647
"""BatchMeterUsage takes 0 to 2147483647 (botocore model, UsageQuantity)."""

MAX_AGE = DAY
"""BatchMeterUsage refuses a record once it is 24 hours old (botocore model, BatchMeterUsage)."""

FUTURE_TOLERANCE = 5 * 60
"""How far a reporter's clock may be ahead of ours."""

MONTH_GRACE = 6 * HOUR
"""Last month's usage is taken until 06:00 UTC on the 1st (botocore model, TimestampOutOfBoundsException)."""

SENDING_MARGIN = 20 * 60
"""How long before AWS's refusal an hour must be booked for a metering run (every 15 minutes) to reach it."""

MAX_TAGS = 5
"""Tags in one allocation (botocore model, TagList), and different tag keys in one metering record (metering skill);
the documents disagree on which is meant, so both are kept."""

FINAL_MARGIN = 35 * 60
"""How long before its closing deadline a subscription's running hour is metered: late enough for the usage that the
seller flushes on hearing of the closing, early enough for two runs."""

HELD_TRIES_WITHIN = 6 * HOUR
"""How long before AWS's refusal held usage is tried again, and counts as at risk."""

_TAG_TEXT = re.compile(r"[A-Za-z0-9+ \-=._:/@]+")
_MAX_TAG_KEY = 100
_MAX_TAG_VALUE = 256


def _only_text(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be an ISO 8601 text with a UTC offset, such as 2026-11-22T14:05:00Z")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _in_utc(value: datetime | None) -> datetime | None:
    try:
        return None if value is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


def _valid_tags(value: object) -> object:
    if value is None:
        return value
    if not isinstance(value, dict):
        raise ValueError("must be an object of tag keys and values")
    if len(value) > MAX_TAGS:
        raise ValueError(f"at most {MAX_TAGS} tags are allowed")
    for key, text in value.items():
        if not isinstance(text, str) or not text:
            raise ValueError("every value must be a text that isn't empty; leave the tag out instead")
        if not isinstance(key, str) or len(key) > _MAX_TAG_KEY or not _TAG_TEXT.fullmatch(key):
            raise ValueError(f"a key must be 1-{_MAX_TAG_KEY} characters of a-z A-Z 0-9 + space - = . _ : / @")
        if len(text) > _MAX_TAG_VALUE or not _TAG_TEXT.fullmatch(text):
            raise ValueError(f"a value must be 1-{_MAX_TAG_VALUE} characters of a-z A-Z 0-9 + space - = . _ : / @")
    return value


class UsageReport(BaseModel, frozen=True, extra="forbid"):
    """One usage record as the seller's application reports it.

    `id` is the seller's own and makes repeating safe. Without `timestamp` the usage is of the moment it arrives.
    """

    id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$", strict=True)]
    subscription_id: Annotated[str, Field(pattern=SUBSCRIPTION_ID.pattern, strict=True)] | None = None
    license_arn: (
        Annotated[str, Field(min_length=1, max_length=2048, strict=True), AfterValidator(_not_blank)] | None
    ) = None
    dimension: Annotated[str, Field(min_length=1, max_length=255, strict=True)]
    quantity: Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY)]
    timestamp: Annotated[AwareDatetime | None, BeforeValidator(_only_text), AfterValidator(_in_utc)] = None
    tags: Annotated[dict[str, str] | None, BeforeValidator(_valid_tags)] = None

    @model_validator(mode="after")
    def _one_subscription(self) -> Self:
        if (self.subscription_id is None) == (self.license_arn is None):
            raise ValueError("give either subscription_id or license_arn")
        return self

    @property
    def content_digest(self) -> str:
        """What decides between a repetition and a conflict: all that was reported but the id, with tags in any order.
        A report without a timestamp stays without one, so repeating it later is still a repetition."""
        content = [
            self.subscription_id,
            self.license_arn,
            self.dimension,
            self.quantity,
            None if self.timestamp is None else self.timestamp.isoformat(),
            sorted((self.tags or {}).items()),
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record can't be recorded, in one word for programs and one sentence for people."""

    reason: str
    message: str
    retryable: bool = False


def parsed(raw: object) -> UsageReport | Rejection:
    """A report from parsed JSON, or a Rejection that names the field; raises nothing."""
    try:
        report = UsageReport.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "record"
        return Rejection(f"invalid_{field}", f"{field}: {first['msg'].removeprefix('Value error, ')}")
    if len(report.dimension.encode()) > 255:
        return Rejection("invalid_dimension", "dimension: at most 255 bytes in UTF-8 are allowed")
    return report


def tag_set(tags: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Tags as one comparable value, whatever order they came in."""
    return tuple(sorted((tags or {}).items()))


def tags_digest(tags: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(json.dumps(tags, separators=(",", ":")).encode()).hexdigest()[:32]


def tag_bytes(tags: tuple[tuple[str, str], ...]) -> int:
    """At most how many bytes one allocation with these tags takes in the request's JSON."""
    wire: dict[str, Any] = {
        "AllocatedUsageQuantity": MAX_QUANTITY,
        "Tags": [{"Key": key, "Value": value} for key, value in tags],
    }
    return len(json.dumps(wire)) + 2


def month_of(moment: int) -> tuple[int, int]:
    """Year and month (UTC): the billing month of an hour."""
    at = datetime.fromtimestamp(moment, UTC)
    return at.year, at.month


def refuse_at(hour: int) -> int:
    """When AWS stops taking usage of this hour: 24 hours after it began, or at 06:00 UTC on the 1st of the month after
    it, whichever is sooner (botocore model, BatchMeterUsage and TimestampOutOfBoundsException)."""
    year, month = month_of(hour)
    next_month = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return min(hour + MAX_AGE, epoch(next_month) + MONTH_GRACE)


def due_at(hour: int, seal_delay: int) -> int:
    """When an hour is metered: once it has ended and `seal_delay` seconds more have passed for usage on its way."""
    return hour + HOUR + seal_delay


def held_due_at(now: int, refused: int) -> int:
    """When usage that AWS answered CustomerNotSubscribed for is due again on its own: six hours before AWS refuses it
    for good, from then on at half of the time that is left, and at the refusal, to be written off."""
    left = refused - now
    if left > HELD_TRIES_WITHIN:
        return refused - HELD_TRIES_WITHIN
    return now + left // 2 if left // 2 >= SENDING_MARGIN // 2 else refused


def timestamp_of(hour: int, activated_at: int) -> int:
    """The Timestamp that is sent for an hour: its start, but never before AWS began to meter the subscription
    (botocore model, InvalidLicenseException: usage outside of the licence's activation period)."""
    return max(hour, activated_at)


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when a subscription's usage can be metered. `closing_deadline` is None while it isn't closing;
    hours before `since` and from `until` on belong to another subscription, across a migration."""

    activated_at: int
    closing_deadline: int | None = None
    since: int = 0
    until: int | None = None

    @property
    def first_hour(self) -> int:
        return max(hour_of(self.activated_at), self.since)

    def own_hour(self, moment: int) -> int:
        """The hour that usage of this moment belongs to, once it can be metered at all."""
        return max(hour_of(moment), self.first_hour)

    def refuse_at(self, hour: int) -> int:
        regular = refuse_at(hour)
        return regular if self.closing_deadline is None else min(regular, self.closing_deadline)

    def due_at(self, hour: int, seal_delay: int, now: int) -> int:
        """When an hour is to be metered. While closing, hours that have ended are due at once; the running one stays
        open for the last usage until FINAL_MARGIN before the deadline, because what comes after its seal may find no
        hour any more. Never before the Timestamp: AWS refuses the future."""
        regular = due_at(hour, seal_delay)
        if self.closing_deadline is None:
            return regular
        earliest = max(now, timestamp_of(hour, self.activated_at))
        if hour + HOUR <= now:
            return earliest
        return max(earliest, min(regular, self.closing_deadline - FINAL_MARGIN))

    def time_to_send(self, hour: int, now: int) -> int:
        """Seconds between the moment this hour can first be sent and AWS's refusal."""
        return self.refuse_at(hour) - max(now, timestamp_of(hour, self.activated_at))


def booking_hours(moment: int, period: Period, now: int) -> Iterator[int]:
    """The hours that may take usage of `moment`, best first; the first unsealed one is to be used.

    Its own hour; then later ones of the same billing month, up to the coming one; then earlier ones, not before
    activation; then, if none of that month is left, the current and the coming hour. Hours that no metering run would
    reach before AWS refuses them come last, as a chance rather than none.
    """
    own = period.own_hour(moment)
    in_order = [hour for hour in _nearest_hours(own, period, now) if period.until is None or hour < period.until]
    safe = [hour for hour in in_order if period.time_to_send(hour, now) >= SENDING_MARGIN]
    narrow = [hour for hour in in_order if 0 < period.time_to_send(hour, now) < SENDING_MARGIN]
    yield from safe
    yield from narrow


def _nearest_hours(own: int, period: Period, now: int) -> Iterator[int]:
    current = hour_of(now)
    coming = current + HOUR
    month = month_of(own)
    later = range(own, max(own, coming) + HOUR, HOUR)
    earlier = range(own - HOUR, max(period.first_hour, own - MAX_AGE) - HOUR, -HOUR)
    seen = [hour for hour in (*later, *earlier) if month_of(hour) == month]
    yield from seen
    yield from (hour for hour in (current, coming) if hour >= period.first_hour and hour not in seen)
