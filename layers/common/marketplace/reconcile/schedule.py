"""The scheduled reconciliation: every day's hours the next morning, and those of last month once more from the 3rd on.

A run works through the days that are ready and not done yet, the oldest first, so a run that fails or never starts is
made up for by the next one. What it found is announced before it is stored, and stored before the day counts as done:
after a crash the day is compared again, with the same events and the same items.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from marketplace.archive.bucket import Objects
from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import DAY, HOUR, Clock, epoch, iso
from marketplace.reconcile.cloudtrail import EventLookup, entries_of, looked_up
from marketplace.reconcile.compare import reconcile
from marketplace.reconcile.difference import Difference
from marketplace.reconcile.evidence import Gap, our_entries, period_of, within
from marketplace.reconcile.ledger import metering_records, subscriptions_with_usage
from marketplace.reconcile.store import Progress, ReconciliationStore
from marketplace.subscriptions.seller_events import SellerEvent, stable_id

READY_AFTER = 6 * HOUR
"""How long after its end a day is compared: its last hour is metered, and CloudTrail shows it."""
SHOWN_AFTER = HOUR
"""What was settled within the last hour is not missed yet. CloudTrail shows a call after about 15 minutes, without a
promise (CloudTrail User Guide)."""
SENT_WITHIN = DAY + HOUR
"""How long after a day its usage can still be sent: AWS takes a record for 24 hours."""
LOOKED_UP_FOR = 89 * DAY
"""CloudTrail's event history keeps 90 days."""
MONTH_READY_AFTER = 2 * DAY + READY_AFTER
"""On the 3rd of a month AWS has invoiced the month before."""
SHOWN_FOR = 62 * DAY
"""How long a difference that nobody accepts counts in the gauge: until two months are invoiced."""
MOST_STORED = 1000
"""Differences of a day that are stored and announced; the others are counted. A day without any evidence would bring as
many as it has records."""
MOST_ANNOUNCED = 20


class Bus(Protocol):
    def publish(self, events: Sequence[SellerEvent], /) -> None: ...


@dataclass(slots=True)
class ReconciliationReport:
    """What a run did, and what stands: differences that nobody has accepted, and the days that are ready and not
    compared yet."""

    days: int = 0
    behind: int = 0
    found: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    standing: int = 0
    standing_units: int = 0
    unproven: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The metrics of the unit Count by name, zeros included."""
        return {
            "UsageDifferences": self.standing,
            "UsageDifferenceUnits": self.standing_units,
            "UsageUnproven": self.unproven,
            "UsageReconciliationDaysBehind": self.behind,
            "UsageReconciledDays": self.days,
            "UsageEvidenceUnreadable": self.unreadable,
        }


@dataclass(slots=True)
class ScheduledReconciliation:
    """`senders`: the roles that send usage for this deployment, by name or ARN; None asks no event for its sender.
    `trail`: CloudTrail in the region that usage is sent to. `archive`: where old usage is, if it is archived. Hours
    before `metering_starts_at` are another meter's."""

    usage: Table
    subscriptions: Table
    trail: EventLookup
    bus: Bus
    clock: Clock
    sleep: Callable[[float], None]
    senders: Collection[str] | None = None
    archive: Objects | None = None
    metering_starts_at: int = 0

    def run(self, time_left: Callable[[], float]) -> ReconciliationReport:
        """Compares the days that are ready, until `time_left` gives no more seconds. Raises AwsError and
        UnreadableEvidenceError: the next run begins with the same day."""
        store, now = ReconciliationStore(self.usage), epoch(self.clock())
        report = ReconciliationReport()
        progress = store.progress()
        ready = list(_ready(progress, now))
        for done, (day, again) in enumerate(ready):
            if time_left() <= 0:
                report.behind = len(ready) - done
                break
            self._compare(day, store, now, report)
            progress = replace(progress, again=day) if again else replace(progress, day=day)
            store.remember(progress)
            report.days += 1
        for stored in store.differences(since=now - SHOWN_FOR):
            if stored.values["kind"] == "unproven":
                report.unproven += 1
            elif stored.reason is None:
                report.standing += 1
                report.standing_units += abs(int(stored.values["units"]))
        return report

    def _compare(self, day: int, store: ReconciliationStore, now: int, report: ReconciliationReport) -> None:
        end = day + DAY
        gaps: list[Gap] = []
        events = looked_up(self.trail, day, min(now, end + SENT_WITHIN), sleep=self.sleep)
        ids = subscriptions_with_usage(self.subscriptions, day)
        theirs = within(entries_of(events, gaps), day, end)
        ours = our_entries(
            metering_records(UsageHistory(self.usage, self.clock, self.archive), ids, day, end),
            settled_before=now - SHOWN_AFTER,
        )
        known = {one.id for one in store.differences(day)}
        kept: list[Difference] = []
        for found in reconcile(
            ours,
            theirs,
            accepted=store.acceptances(day),
            senders=self.senders,
            others_until=self.metering_starts_at,
            gaps=gaps,
        ):
            report.found[found.kind] += 1
            if len(kept) < MOST_STORED:
                kept.append(found)
        report.unreadable += len(gaps)
        fresh = [one for one in kept if one.id not in known and one.kind != "unproven"]
        if fresh:
            self.bus.publish([_event(day, fresh, now)])
        store.replace(day, kept, now)


def _ready(progress: Progress, now: int) -> Iterator[tuple[int, bool]]:
    """The days to compare, oldest first, and whether it is for the second time: those after the last that was compared,
    and from the 3rd on those of the month before once more."""
    last = period_of(now - READY_AFTER, "day") - DAY
    first = last if progress.day is None else max(progress.day + DAY, last - LOOKED_UP_FOR + DAY)
    this_month = period_of(now, "month")
    if now >= this_month + MONTH_READY_AFTER:
        month = period_of(this_month - DAY, "month")
        begun = month - DAY if progress.again is None or progress.again < month else progress.again
        yield from ((day, True) for day in range(begun + DAY, min(this_month, first), DAY))
    yield from ((day, False) for day in range(first, last + DAY, DAY))


def _event(day: int, fresh: list[Difference], now: int) -> SellerEvent:
    ids = sorted(one.id for one in fresh)
    return SellerEvent(
        kind="Usage Differences Found",
        id=stable_id("Usage Differences Found", day, *ids),
        time=now,
        detail={
            "day": datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d"),
            "differences": len(fresh),
            "units": sum(abs(int(one.units)) for one in fresh),
            "kinds": dict(sorted(Counter(one.kind for one in fresh).items())),
            "first": [_shown(one) for one in fresh[:MOST_ANNOUNCED]],
        },
    )


def _shown(one: Difference) -> dict[str, object]:
    return {
        "id": one.id,
        "kind": one.kind,
        "dimension": one.dimension,
        "hour": iso(one.period),
        "ours": one.ours,
        "theirs": one.theirs,
    }
