"""Which subscription, hour and metering record take each reported usage record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import MAX_AGE, Period, booking_hours, timestamp_of
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import EpochSeconds, epoch, hour_of
from marketplace.subscriptions.model import Subscription
from marketplace.usage.booking import MAX_ACTIONS, Booked, Booking, Job, NotBooked, actions
from marketplace.usage.overage import Term
from marketplace.usage.record import RecordName, Rejection
from marketplace.usage.report import FUTURE_TOLERANCE, NamedRecord, UsageReport
from marketplace.usage.results import (
    ACCOUNT_UNKNOWN,
    ENDED_RECENTLY,
    IN_FUTURE,
    NO_HOUR,
    NOT_ACTIVE,
    REFUSING,
    TOO_OLD,
    UNKNOWN,
    Recorded,
    Rejected,
    Result,
    known,
)


@dataclass(frozen=True, slots=True)
class Billing:
    """A subscription that can take usage, and when. `shadow`: of hours that another meter bills."""

    subscription: Subscription
    period: Period
    shadow: bool = False


@dataclass(slots=True)
class Entry:
    """A valid report on its way to a result. `hours` are the places that may take it, best first, and `billing` and
    `hour` the one it has come to; `term` is what it counts against first, in a contract with consumption."""

    index: int
    report: UsageReport
    name: RecordName
    own_hour: EpochSeconds
    hours: Iterator[tuple[Billing, EpochSeconds]]
    billing: Billing
    hour: EpochSeconds
    term: Term | None = None

    @property
    def subscription(self) -> Subscription:
        return self.billing.subscription

    @property
    def place(self) -> tuple[str, EpochSeconds]:
        return self.subscription.id, self.hour

    def next_hour(self) -> bool:
        """Moves on to the next place that may take the usage; False when there is none."""
        place = next(self.hours, None)
        if place is None:
            return False
        self.billing, self.hour = place
        return True

    def recorded(self, *, untagged: bool = False, included: int | None = None) -> Recorded:
        """The result once the report is counted in the hour that the entry is at."""
        return Recorded(self.report.id, self.hour, self.own_hour, self.report.quantity, untagged, included)


type Bundle = list[list[Entry]]
"""Groups of entries that are booked together; each group has one metering record."""

type Results = dict[int, Result]
"""The results of a request so far, by the place of the record in it."""


def names_of(reports: Iterable[NamedRecord], subscriptions: Iterable[Subscription]) -> list[RecordName]:
    """The name of each report's usage record. What a migrated customer reports is one usage under two names: by the
    licence's subscription and by the legacy customer's."""
    pairs = [(one.id, other) for one in subscriptions if (other := one.migrated_to or one.migrated_from)]
    # Both subscriptions say so; one of them may have been read before the migration.
    customers = {one: tuple(sorted(pair)) for pair in pairs for one in pair}
    return [
        RecordName(customers.get(report.named_subscription, (report.named_subscription,)), report.id)
        for report in reports
    ]


def moment_of(report: UsageReport, now: EpochSeconds) -> EpochSeconds:
    """The time of the usage: the report's own, or now."""
    return now if report.timestamp is None else epoch(report.timestamp)


def entry_for(
    index: int,
    report: UsageReport,
    name: RecordName,
    subscriptions: Mapping[str, Subscription],
    now: EpochSeconds,
    *,
    starts_at: int,
) -> Entry | Rejection:
    """The entry of a report with this name, or why no hour can take it now. Usage of hours before `starts_at` is
    another meter's: it stays before, and what is ours stays from then on."""
    subscription = subscriptions.get(report.named_subscription)
    if subscription is None:
        return UNKNOWN
    moment = moment_of(report, now)
    if moment > now + FUTURE_TOLERANCE:
        return IN_FUTURE
    if moment <= now - MAX_AGE:
        return TOO_OLD
    billed = subscriptions.get(subscription.billed_to(hour_of(moment)), subscription)
    own = _billing(billed, now)
    # Usage that no hour before a cut-over can take goes to one after it; the other way round it would be sent twice.
    later = subscriptions.get(billed.migrated_to or "")
    billings = [own] if later is None else [own, _billing(later, now)]
    usable = [billing for billing in billings if isinstance(billing, Billing)]
    if not usable:
        return own if isinstance(own, Rejection) else NOT_ACTIVE
    own_hour = usable[0].period.own_hour(moment)
    if starts_at:
        usable = [_divided(billing, starts_at, shadow=own_hour < starts_at) for billing in usable]
    hours = ((billing, hour) for billing in usable for hour in booking_hours(moment, billing.period, now))
    return Entry(index, report, name, own_hour, hours, usable[0], own_hour)


def _billing(subscription: Subscription, now: EpochSeconds) -> Billing | Rejection:
    """How a subscription takes usage now, or why it doesn't."""
    refusal = _refusal(subscription, now)
    if refusal is not None or subscription.activated_at is None:
        return refusal or NOT_ACTIVE
    if subscription.lacks_account:
        return ACCOUNT_UNKNOWN
    cutover = subscription.cutover_at
    period = Period(
        subscription.activated_at,
        subscription.closing_deadline if subscription.status == "closing" else None,
        since=cutover if cutover is not None and subscription.migrated_from else 0,
        until=cutover if subscription.migrated_to else None,
    )
    return Billing(subscription, period)


def _divided(billing: Billing, starts_at: int, *, shadow: bool) -> Billing:
    """The part of it before, or from, the hour at which metering starts."""
    period = billing.period
    if shadow:
        until = starts_at if period.until is None else min(period.until, starts_at)
        return replace(billing, period=replace(period, until=until), shadow=True)
    return replace(billing, period=replace(period, since=max(period.since, starts_at)))


def _refusal(subscription: Subscription, now: EpochSeconds) -> Rejection | None:
    """Why the status takes no usage. A renewal, or a later closing event, may arrive late: until AWS would refuse the
    usage for its age, an end isn't final."""
    status = subscription.status_at(now)
    if status == "ended" and now < (subscription.closing_deadline or 0) + MAX_AGE:
        return ENDED_RECENTLY
    return REFUSING.get(status)


def groups_of(entries: Iterable[Entry], results: Results) -> list[list[Entry]]:
    """The entries by the metering record that takes them; those that no hour can take are rejected."""
    groups: dict[tuple[str, int, str], list[Entry]] = {}
    for entry in at_next_hour(entries, results):
        groups.setdefault((*entry.place, entry.report.dimension), []).append(entry)
    return list(groups.values())


def at_next_hour(entries: Iterable[Entry], results: Results) -> list[Entry]:
    """The entries, each moved on to its next hour; those that have none left are rejected."""
    moving: list[Entry] = []
    for entry in entries:
        if entry.next_hour():
            moving.append(entry)
        else:
            results[entry.index] = Rejected(entry.report.id, NO_HOUR)
    return moving


def bundles_of(groups: Sequence[list[Entry]]) -> list[Bundle]:
    """Small groups together as far as one transaction goes; a group that needs several stands alone."""
    bundles: list[Bundle] = []
    room = 0
    for group in sorted(groups, key=len):
        needed = actions(bookings_of(group))
        if not bundles or needed > room:
            bundles.append([])
            room = MAX_ACTIONS
        bundles[-1].append(group)
        room -= needed
    return bundles


def lanes_of(bundles: Iterable[Bundle]) -> list[list[Bundle]]:
    """Lists of bundles that may be booked at the same time as the other lists. Bundles that count against the same
    contract are in one list, because their transactions would conflict."""
    lanes: list[tuple[set[Key], list[Bundle]]] = []
    for bundle in bundles:
        counters = {entry.term.counter for entry in chain.from_iterable(bundle) if entry.term is not None}
        together = [bundle]
        apart: list[tuple[set[Key], list[Bundle]]] = []
        for lane in lanes:
            if lane[0] & counters:
                counters |= lane[0]
                together = [*lane[1], *together]
            else:
                apart.append(lane)
        lanes = [*apart, (counters, together)]
    return [lane for _, lane in lanes]


def bookings_of(group: Sequence[Entry]) -> list[Booking]:
    return [Booking(entry.report, entry.name, entry.own_hour, entry.term) for entry in group]


def job_for(group: Sequence[Entry], seal_delay: int, now: EpochSeconds) -> Job:
    """The entries of one metering record as a job for the store."""
    entry, period = group[0], group[0].billing.period
    record = MeteringRecord.new(
        entry.subscription,
        entry.hour,
        entry.report.dimension,
        timestamp=timestamp_of(entry.hour, period.activated_at),
        due_at=period.due_at(entry.hour, seal_delay, now),
        refuse_at=period.refuse_at(entry.hour),
    )
    if entry.billing.shadow:
        return Job(record.in_shadow(now), bookings_of(group))
    return Job(record, bookings_of(group), period.closing_deadline is not None)


def answer(group: Sequence[Entry], outcome: Booked, results: Results) -> None:
    """Writes the results of entries that are booked."""
    for entry in group:
        included = outcome.included.get(entry.name)
        results[entry.index] = entry.recorded(untagged=entry.name in outcome.untagged, included=included)


def without_known(chunk: Sequence[Entry], outcome: NotBooked, results: Results) -> list[Entry]:
    """The entries that are not stored yet; those that are get their results."""
    for entry in chunk:
        if entry.name in outcome.known:
            results[entry.index] = known(entry.report, outcome.known[entry.name])
    return [entry for entry in chunk if entry.name not in outcome.known]


def reject_all(chunk: Iterable[Entry], rejection: Rejection, results: Results) -> None:
    for entry in chunk:
        results[entry.index] = Rejected(entry.report.id, rejection)
