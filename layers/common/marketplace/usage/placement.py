"""Which subscription, hour and metering record take each reported usage record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import MAX_AGE, Period, booking_hours, month_of
from marketplace.platform.clock import epoch, hour_of, iso
from marketplace.subscriptions.identity import LicenseIdentity
from marketplace.subscriptions.model import Subscription
from marketplace.usage.booking import NotBooked
from marketplace.usage.overage import Term
from marketplace.usage.report import FUTURE_TOLERANCE, Rejection, UsageReport
from marketplace.usage.results import (
    _IN_FUTURE,
    _NO_HOUR,
    _NOT_ACTIVE,
    _REFUSING,
    _TOO_OLD,
    _UNKNOWN,
    Result,
    _known,
    _rejected,
    _split,
)
from marketplace.usage.tag_sets import Booking, RecordName


@dataclass(frozen=True, slots=True)
class _Billing:
    """A subscription that can take usage, and when."""

    subscription: Subscription
    period: Period


@dataclass(slots=True)
class _Entry:
    """A valid report on its way to a result. `hours` are the places that may take it, best first; `term` is what it
    counts against first, in a contract with consumption."""

    index: int
    report: UsageReport
    named: str
    own_hour: int
    hours: Iterator[tuple[_Billing, int]]
    billing: _Billing
    hour: int = 0
    term: Term | None = None

    @property
    def subscription(self) -> Subscription:
        return self.billing.subscription

    @property
    def name(self) -> RecordName:
        return self.named, self.report.id

    @property
    def place(self) -> tuple[str, int]:
        return self.subscription.id, self.hour

    def next_hour(self) -> bool:
        """Moves on to the next place that may take the usage; False when there is none."""
        place = next(self.hours, None)
        if place is None:
            return False
        self.billing, self.hour = place
        return True


type _Bundle = list[list[_Entry]]
"""Groups of entries that are booked together; each group has one metering record."""


def _groups(entries: Iterable[_Entry], results: dict[int, Result]) -> list[list[_Entry]]:
    """The entries by the metering record that takes them; those that no hour can take are rejected."""
    groups: dict[tuple[str, int, str], list[_Entry]] = {}
    for entry in entries:
        if entry.next_hour():
            groups.setdefault((*entry.place, entry.report.dimension), []).append(entry)
        else:
            results[entry.index] = _rejected(entry.report.id, _NO_HOUR)
    return list(groups.values())


def _lanes(bundles: Iterable[_Bundle]) -> list[list[_Bundle]]:
    """What may be booked side by side: bundles that count against the same contract go one after another, or they
    would get into each other's way."""
    lanes: list[tuple[set[Key], list[_Bundle]]] = []
    for bundle in bundles:
        counters = {group[0].term.counter for group in bundle if group[0].term is not None}
        together = [bundle]
        apart: list[tuple[set[Key], list[_Bundle]]] = []
        for lane in lanes:
            if lane[0] & counters:
                counters |= lane[0]
                together = [*lane[1], *together]
            else:
                apart.append(lane)
        lanes = [*apart, (counters, together)]
    return [lane for _, lane in lanes]


def _counters(group: Sequence[_Entry]) -> int:
    """How many actions of a transaction the counter of the group's term takes."""
    return 0 if group[0].term is None else 1


def _bookings(group: Sequence[_Entry]) -> list[Booking]:
    return [Booking(entry.report, entry.named, entry.own_hour) for entry in group]


def _subscription_id(report: UsageReport) -> str:
    if report.license_arn is not None:
        return LicenseIdentity(report.license_arn).subscription_id
    return report.subscription_id or ""


def _entry(
    index: int, report: UsageReport, named: str, subscriptions: Mapping[str, Subscription], now: int
) -> _Entry | Rejection:
    subscription = subscriptions.get(named)
    if subscription is None:
        return _UNKNOWN
    moment = now if report.timestamp is None else epoch(report.timestamp)
    if moment > now + FUTURE_TOLERANCE:
        return _IN_FUTURE
    if moment <= now - MAX_AGE:
        return _TOO_OLD
    billed = subscriptions.get(subscription.billed_to(hour_of(moment)), subscription)
    own = _billing(billed, now)
    # What finds no hour before a cut-over any more goes to one after it; the other way round it would be sent twice.
    later = subscriptions.get(billed.migrated_to or "")
    billings = [own] if later is None else [own, _billing(later, now)]
    usable = [billing for billing in billings if isinstance(billing, _Billing)]
    if not usable:
        return own if isinstance(own, Rejection) else _NOT_ACTIVE
    hours = ((billing, hour) for billing in usable for hour in booking_hours(moment, billing.period, now))
    return _Entry(index, report, named, usable[0].period.own_hour(moment), hours, usable[0])


def _billing(subscription: Subscription, now: int) -> _Billing | Rejection:
    """How a subscription takes usage now, or why it doesn't."""
    refusal = _REFUSING.get(subscription.status_at(now))
    nameless = subscription.license_arn is not None and subscription.account_id is None
    if refusal is not None or subscription.activated_at is None or nameless:
        return refusal or _NOT_ACTIVE
    cutover = subscription.cutover_at
    period = Period(
        subscription.activated_at,
        subscription.closing_deadline if subscription.status == "closing" else None,
        since=cutover if cutover is not None and subscription.migrated_from else 0,
        until=cutover if subscription.migrated_to else None,
    )
    return _Billing(subscription, period)


def _without_known(chunk: list[_Entry], outcome: NotBooked, results: dict[int, Result]) -> list[_Entry]:
    for entry in chunk:
        if entry.name in outcome.known:
            results[entry.index] = _known(entry.report, outcome.known[entry.name])
    return [entry for entry in chunk if entry.name not in outcome.known]


def _at_next_hour(chunk: list[_Entry], results: dict[int, Result]) -> list[_Entry]:
    moving: list[_Entry] = []
    for entry in chunk:
        if entry.next_hour():
            moving.append(entry)
        else:
            results[entry.index] = _rejected(entry.report.id, _NO_HOUR)
    return moving


def _recorded(entry: _Entry, *, untagged: bool, included: int | None) -> Result:
    result: Result = {"id": entry.report.id, "status": "recorded", "hour": iso(entry.hour)}
    if entry.hour != entry.own_hour:
        result["own_hour"] = iso(entry.own_hour)
        if month_of(entry.hour) != month_of(entry.own_hour):
            result["month_shifted"] = True
    if untagged:
        result["untagged"] = True
    return result | _split(entry.report.quantity, included)
