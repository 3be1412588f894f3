"""What a metering run did and what it left, in numbers; marketplace.metering.metrics makes metrics of it."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from marketplace.dynamodb.keys import Key
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import SAVABLE
from marketplace.ledger.seal import in_doubt
from marketplace.platform.clock import HOUR, EpochSeconds

AT_RISK_HOURS = (1, 3, 6)
"""Usage that AWS refuses within so many hours, or should have refused already, is at risk."""

MAX_NOTES = 100
"""The most records that a run logs one by one; when everything is refused, a hundred are enough to show the cause."""


@dataclass(frozen=True, slots=True)
class Note:
    """A metering record that a run has settled in another state than metered, or holds; it is logged."""

    subscription_id: str
    hour: str
    dimension: str
    quantity: int
    state: str
    reason: str


@dataclass(slots=True)
class MeteringReport:
    """Counts of one run: `records` and `units` by outcome, `calls` to BatchMeterUsage, `errors` by code.

    `oldest_unsettled_seconds` is how long the oldest due record has been waiting after the run, `notes` the first of
    what was not metered, `unreadable` the keys of items in the index that are no metering records, `in_other_region`
    how many records were left because an attempt in another region is in doubt.

    The rest are gauges of what stands in the index after the run, whoever brought it there: `standing_records` and
    `standing_units` by state, under `in_doubt` those of any state that may be billed already, under `not_metered` those
    that a deployment which meters nothing does not send, and `units_at_risk` by the hours within which AWS refuses
    them. `failure` is a fault of our own that stopped a batch, and only that: whoever asked for the run must raise it
    once the report is published.
    """

    records: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    due: int = 0
    left: int = 0
    oldest_unsettled_seconds: int = 0
    in_other_region: int = 0
    standing_records: Counter[str] = field(default_factory=Counter)
    standing_units: Counter[str] = field(default_factory=Counter)
    units_at_risk: Counter[int] = field(default_factory=Counter)
    breaker_opened: bool = False
    out_of_time: bool = False
    notes: list[Note] = field(default_factory=list)
    unreadable: list[Key] = field(default_factory=list)
    failure: Exception | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, outcome: str, quantity: int) -> None:
        with self._turn:
            self.records[outcome] += 1
            self.units[outcome] += quantity

    def note(self, note: Note) -> None:
        with self._turn:
            if len(self.notes) < MAX_NOTES:
                self.notes.append(note)

    def count_call(self) -> None:
        with self._turn:
            self.calls += 1

    def count_error(self, code: str) -> None:
        with self._turn:
            self.errors[code] += 1

    def leave(self, entry: DueEntry, now: EpochSeconds) -> None:
        """Counts a due record that the run does not settle."""
        self.left += 1
        self.oldest_unsettled_seconds = max(self.oldest_unsettled_seconds, entry.overdue(now))

    def stands_as_seen(self, entry: DueEntry, now: EpochSeconds) -> None:
        """Takes note of a record that stands in the index as it was found there."""
        self.stand(entry.state, entry.quantity, entry.refuse_at, now, doubtful=in_doubt(entry.seal))

    def stands_unmetered(self, entry: DueEntry) -> None:
        """Takes note of a record that waits to be sent and is not, because this deployment meters nothing."""
        names = ["not_metered", "in_doubt"] if in_doubt(entry.seal) else ["not_metered"]
        with self._turn:
            for name in names:
                self.standing_records[name] += 1
                self.standing_units[name] += entry.quantity

    def stand(self, state: str, quantity: int, refuse_at: EpochSeconds, now: EpochSeconds, *, doubtful: bool) -> None:
        """Takes note of a record that stands in the index in this state, and until when AWS takes it."""
        names = [state, "in_doubt"] if doubtful and state in SAVABLE else [state]
        with self._turn:
            for name in names:
                self.standing_records[name] += 1
                self.standing_units[name] += quantity
            for hours in AT_RISK_HOURS if state in SAVABLE else ():
                if refuse_at - now <= hours * HOUR:
                    self.units_at_risk[hours] += quantity

    def fail(self, error: Exception) -> None:
        """Counts a fault of this application that stopped a batch, and keeps the first one."""
        self.count_error(type(error).__name__)
        with self._turn:
            self.failure = self.failure or error

    def summary(self) -> dict[str, Any]:
        """The report as plain values, for a log line or an answer."""
        return {
            "due": self.due,
            "left": self.left,
            "calls": self.calls,
            "records": dict(self.records),
            "units": dict(self.units),
            "errors": dict(self.errors),
            "oldest_unsettled_seconds": self.oldest_unsettled_seconds,
            "units_at_risk": dict(self.units_at_risk),
            "standing_records": dict(self.standing_records),
            "standing_units": dict(self.standing_units),
            "in_other_region": self.in_other_region,
            "unreadable": len(self.unreadable),
            "breaker_opened": self.breaker_opened,
            "out_of_time": self.out_of_time,
        }
