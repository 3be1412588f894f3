"""Which due records a run takes on: all of them, up to more than any run can send."""

from collections.abc import Callable
from enum import IntEnum

from marketplace.dynamodb.keys import Key
from marketplace.ledger.due_index import DueEntry
from marketplace.platform.clock import EpochSeconds

MAX_ENTRIES = 250_000
"""More than AWS's quota lets one run send (250 records a second for fourteen minutes: 210,000), and little enough for
the function's memory."""


class Phase(IntEnum):
    """The parts of a run's work, the most urgent first."""

    SEND = 0
    TELL = 1
    SEND_LATE = 2
    "Past the deadline that we reckon with: AWS may take it all the same."
    WRITE_OFF = 3
    FORGET = 4
    SHADOW = 5
    "Of an hour before metering starts: it is not sent."


_PHASE_OF_STEP = {"tell": Phase.TELL, "write off": Phase.WRITE_OFF, "forget": Phase.FORGET}


def phase_of(entry: DueEntry, now: EpochSeconds) -> Phase | None:
    """The part of a run's work that the entry belongs to; None while it only waits."""
    step = entry.step(now)
    if step == "send":
        return Phase.SEND if entry.refuse_at > now else Phase.SEND_LATE
    return _PHASE_OF_STEP.get(step)


class Backlog:
    """Of the entries added, MAX_ENTRIES at most: those of the first phases, soonest refusal first.

    `on_left_over` is called with each entry that is left for a later run. An entry that is added twice counts once, as
    it was seen last.
    """

    def __init__(self, on_left_over: Callable[[DueEntry], None]) -> None:
        self._on_left_over = on_left_over
        self._limit = MAX_ENTRIES
        self._entries: dict[Key, tuple[Phase, DueEntry]] = {}

    def add(self, entry: DueEntry, phase: Phase) -> None:
        self._entries[entry.key] = phase, entry
        if len(self._entries) > self._limit * 5 // 4:
            self._cut()

    def phases(self) -> dict[Phase, list[DueEntry]]:
        """The entries that the run takes on, most urgent first in each phase."""
        self._cut()
        taken: dict[Phase, list[DueEntry]] = {phase: [] for phase in Phase}
        for phase, entry in self._entries.values():
            taken[phase].append(entry)
        return taken

    def _cut(self) -> None:
        in_order = sorted(self._entries.values(), key=lambda one: (one[0], one[1].refuse_at, one[1].key))
        for _, entry in in_order[self._limit :]:
            self._on_left_over(entry)
        self._entries = {one[1].key: one for one in in_order[: self._limit]}
