"""What a metering run did and what it left, in numbers; marketplace.metering.metrics makes metrics of it."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import HELD_TRIES_WITHIN
from marketplace.ledger.record import DueEntry
from marketplace.platform.clock import EpochSeconds

AT_RISK_WITHIN = HELD_TRIES_WITHIN

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

    `oldest_unsettled_seconds` is how long the oldest due record has been waiting after the run, `units_at_risk` the
    quantity left unsettled that AWS refuses within six hours, `notes` the first of what was not metered, `unreadable`
    the keys of items in the index that are no metering records. `failure` is a fault of this application that stopped a
    batch; the caller of the run must raise it after publishing the report.
    """

    records: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    due: int = 0
    left: int = 0
    oldest_unsettled_seconds: int = 0
    units_at_risk: int = 0
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
        self.oldest_unsettled_seconds = max(self.oldest_unsettled_seconds, now - entry.due_at)
        self.wait(entry.quantity, entry.refuse_at, now)

    def wait(self, quantity: int, refuse_at: EpochSeconds, now: EpochSeconds) -> None:
        """Counts a quantity that stays unsettled, and that AWS refuses at `refuse_at`."""
        if refuse_at - now <= AT_RISK_WITHIN:
            with self._turn:
                self.units_at_risk += quantity

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
            "units_at_risk": self.units_at_risk,
            "unreadable": len(self.unreadable),
            "breaker_opened": self.breaker_opened,
            "out_of_time": self.out_of_time,
        }
