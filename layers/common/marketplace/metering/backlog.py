"""Which due records a run takes on: all of them, up to more than any run can send."""

from collections.abc import Callable

from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import SENDABLE, DueEntry
from marketplace.platform.clock import EpochSeconds

MAX_ENTRIES = 250_000
"""More than AWS's quota lets one run send (250 records a second for fourteen minutes: 210,000), and little enough for
the function's memory."""


class Backlog:
    """Of the entries added, MAX_ENTRIES at most: first those that AWS still takes, soonest refusal first; then what is
    to be written off or announced.

    `on_left_over` is called with each entry that is left for a later run. An entry that is added twice counts once, as
    it was seen last.
    """

    def __init__(self, now: EpochSeconds, on_left_over: Callable[[DueEntry], None]) -> None:
        self._now = now
        self._on_left_over = on_left_over
        self._limit = MAX_ENTRIES
        self._entries: dict[Key, DueEntry] = {}

    def add(self, entry: DueEntry) -> None:
        self._entries[entry.key] = entry
        if len(self._entries) > self._limit * 5 // 4:
            self._cut()

    def entries(self) -> list[DueEntry]:
        """The entries that the run takes on, most urgent first."""
        self._cut()
        return list(self._entries.values())

    def _cut(self) -> None:
        in_order = sorted(self._entries.values(), key=self._urgency)
        for entry in in_order[self._limit :]:
            self._on_left_over(entry)
        self._entries = {entry.key: entry for entry in in_order[: self._limit]}

    def _urgency(self, entry: DueEntry) -> tuple[bool, int, Key]:
        return (not self.can_be_sent(entry), entry.refuse_at, entry.key)

    def can_be_sent(self, entry: DueEntry) -> bool:
        """Whether AWS may still take it."""
        return entry.state in SENDABLE and entry.refuse_at > self._now
