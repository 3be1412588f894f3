"""When AWS refuses usage, when a metering record is due, and which hours take late usage.

The rules are pure functions. Moments are EpochSeconds, and an hour is named by its first second; durations are seconds.
No deadline here destroys anything: it orders the work and raises alarms. Only AWS's answer, or `window_closes_at`,
makes usage unbillable.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds, epoch, hour_of

MAX_AGE = DAY
"""BatchMeterUsage refuses a record once it is 24 hours old (botocore model, BatchMeterUsage)."""

MONTH_GRACE = 6 * HOUR
"""Last month's usage is taken until 06:00 UTC on the 1st (botocore model, TimestampOutOfBoundsException)."""

SCHEDULE_INTERVAL = 15 * MINUTE
"""A metering run starts every 15 minutes (template.yaml: cron(5/15 * * * ? *), which is no parameter)."""

SENDING_MARGIN = SCHEDULE_INTERVAL + 5 * MINUTE
"""How long before AWS's refusal an hour must be booked for a scheduled metering run to reach it."""

FINAL_RUN = 120
"""How long before a subscription's closing deadline a metering run is started for it."""

FINAL_MARGIN = FINAL_RUN
"""How long before its closing deadline a subscription's running hour is due: for the run that is started then."""

CLOCK_MARGIN = 15 * MINUTE
"""By how much the clocks of AWS Marketplace and of this application may differ when usage is written off unasked."""

HELD_TRIES_WITHIN = 6 * HOUR
"""How long before AWS's refusal held usage is tried again, and counts as at risk."""

APPROVAL_MARGIN = 3 * HOUR
"""How long before AWS regularly refuses it unusual usage waits for approval no more."""

SHOWN_FOR = DAY
"""How long a conflict and what is unbillable count in the gauges after the seller's application has been told."""


def month_of(moment: int) -> tuple[int, int]:
    """Year and month (UTC): the billing month of an hour."""
    at = datetime.fromtimestamp(moment, UTC)
    return at.year, at.month


def refuse_at(hour: EpochSeconds) -> EpochSeconds:
    """When AWS stops taking usage of this hour: 24 hours after it began, or at 06:00 UTC on the 1st of the month after
    it, whichever is sooner (botocore model, BatchMeterUsage and TimestampOutOfBoundsException)."""
    year, month = month_of(hour)
    next_month = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return EpochSeconds(min(hour + MAX_AGE, epoch(next_month) + MONTH_GRACE))


def window_closes_at(timestamp: EpochSeconds) -> EpochSeconds:
    """When AWS certainly takes no usage of this Timestamp any more, whichever clock is right."""
    return EpochSeconds(refuse_at(timestamp) + CLOCK_MARGIN)


def due_at(hour: EpochSeconds, seal_delay: int) -> EpochSeconds:
    """When an hour is metered: once it has ended and `seal_delay` seconds more have passed for usage on its way, but
    two scheduled runs before AWS refuses it, however long the delay."""
    return EpochSeconds(min(hour + HOUR + seal_delay, refuse_at(hour) - 2 * SCHEDULE_INTERVAL))


def last_due_hour(now: EpochSeconds, seal_delay: int) -> EpochSeconds:
    """The last hour that is due."""
    hour = hour_of(now - HOUR - seal_delay)
    while due_at(following := EpochSeconds(hour + HOUR), seal_delay) <= now:
        hour = following
    return hour


def approval_ends_at(hour: EpochSeconds, refused: EpochSeconds) -> EpochSeconds:
    """Until when unusual usage waits for approval: hours before AWS regularly refuses it. While the subscription is
    closing, so that a scheduled run comes before the deadline, and the one that is started for it is the second
    chance."""
    return EpochSeconds(min(refuse_at(hour) - APPROVAL_MARGIN, refused - SENDING_MARGIN))


def held_due_at(now: EpochSeconds, refused: EpochSeconds, closes: EpochSeconds) -> EpochSeconds:
    """When usage that AWS answered CustomerNotSubscribed for is due again on its own: six hours before AWS refuses it,
    from then on at half of the time that is left, and once more when AWS's window has closed."""
    left = refused - now
    if left > HELD_TRIES_WITHIN:
        return EpochSeconds(refused - HELD_TRIES_WITHIN)
    return EpochSeconds(now + left // 2) if left // 2 >= SENDING_MARGIN // 2 else closes


def timestamp_of(hour: EpochSeconds, activated_at: int) -> EpochSeconds:
    """The Timestamp that is sent for an hour: its start, but never before AWS began to meter the subscription
    (botocore model, InvalidLicenseException: usage outside of the licence's activation period)."""
    return EpochSeconds(max(hour, activated_at))


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when a subscription's usage can be metered. `closing_deadline` is None while it isn't closing;
    hours before `since` and from `until` on belong to another subscription, across a migration."""

    activated_at: int
    closing_deadline: int | None = None
    since: int = 0
    until: int | None = None

    @property
    def first_hour(self) -> EpochSeconds:
        return EpochSeconds(max(hour_of(self.activated_at), self.since))

    def own_hour(self, moment: int) -> EpochSeconds:
        """The hour that usage of this moment belongs to, once it can be metered at all."""
        return max(hour_of(moment), self.first_hour)

    def refuse_at(self, hour: EpochSeconds) -> EpochSeconds:
        """When AWS stops taking usage of this hour, at the closing deadline at the latest."""
        regular = refuse_at(hour)
        return regular if self.closing_deadline is None else EpochSeconds(min(regular, self.closing_deadline))

    def due_at(self, hour: EpochSeconds, seal_delay: int, now: EpochSeconds) -> EpochSeconds:
        """When an hour is to be metered. While closing, hours that have ended are due at once; the running one stays
        open for the last usage until FINAL_MARGIN before the deadline, because what comes after its seal may find no
        hour any more. Never before the Timestamp: AWS refuses the future."""
        regular = due_at(hour, seal_delay)
        if self.closing_deadline is None:
            return regular
        earliest = max(now, timestamp_of(hour, self.activated_at))
        if hour + HOUR <= now:
            return earliest
        return max(earliest, EpochSeconds(min(regular, self.closing_deadline - FINAL_MARGIN)))

    def time_to_send(self, hour: EpochSeconds, now: EpochSeconds) -> int:
        """Seconds between the moment this hour can first be sent and AWS's refusal."""
        return self.refuse_at(hour) - max(now, timestamp_of(hour, self.activated_at))

    def is_reached(self, hour: EpochSeconds, now: EpochSeconds) -> bool:
        """Whether a metering run comes between now and AWS's refusal: a scheduled one, or the one before the closing
        deadline."""
        start = max(now, timestamp_of(hour, self.activated_at))
        final = self.closing_deadline is None or self.closing_deadline - start >= FINAL_MARGIN
        return final and refuse_at(hour) - start >= SENDING_MARGIN


def booking_hours(moment: int, period: Period, now: EpochSeconds) -> Iterator[EpochSeconds]:
    """The hours that may take usage of `moment`, best first; the first unsealed one is to be used.

    Its own hour; then later ones of the same billing month, up to the coming one; then earlier ones, not before
    activation; then, if none of that month is left, the current and the coming hour. Hours that no metering run would
    reach before AWS refuses them come last, as a chance rather than none.
    """
    unreached: list[EpochSeconds] = []
    for hour in _nearest_hours(period.own_hour(moment), period, now):
        if (period.until is not None and hour >= period.until) or period.time_to_send(hour, now) <= 0:
            continue
        if period.is_reached(hour, now):
            yield hour
        else:
            unreached.append(hour)
    yield from unreached


def _nearest_hours(own: EpochSeconds, period: Period, now: EpochSeconds) -> Iterator[EpochSeconds]:
    current = hour_of(now)
    coming = EpochSeconds(current + HOUR)
    month = month_of(own)
    later = range(own, max(own, coming) + HOUR, HOUR)
    earlier = range(own - HOUR, max(period.first_hour, own - MAX_AGE) - HOUR, -HOUR)
    seen: set[EpochSeconds] = set()
    for hour in (EpochSeconds(hour) for hour in chain(later, earlier) if month_of(hour) == month):
        seen.add(hour)
        yield hour
    yield from (hour for hour in (current, coming) if hour >= period.first_hour and hour not in seen)
