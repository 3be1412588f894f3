"""How long the oldest of what waits has waited, and how many subscriptions' usage has stopped: gauges from stored
state, published by a schedule. So an alarm on one of them lasts as long as somebody waits, whatever became of the
messages about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.platform.clock import Clock, epoch
from marketplace.subscriptions.waiting import WaitingItems


@dataclass(frozen=True, slots=True)
class Measured:
    """`seconds`: every gauge of a wait by name, 0 when nothing waits. `oldest`: for the log, what has waited longest,
    by kind: the partition of its item. `stopped`: the ids of subscriptions whose usage has stopped."""

    seconds: Mapping[str, int]
    oldest: Mapping[str, str]
    stopped: Sequence[str] = ()


class WaitingGauges:
    """The use case: one query for each kind, which reads one item, and what `stopped` costs."""

    def __init__(self, items: WaitingItems, clock: Clock, stopped: Callable[[], Sequence[str]] = lambda: ()) -> None:
        self._items = items
        self._clock = clock
        self._stopped = stopped

    def measure(self) -> Measured:
        """Raises AwsError when DynamoDB gave no answer."""
        now = epoch(self._clock())
        seconds = dict.fromkeys(GAUGE_OF_WAITING.values(), 0)
        oldest: dict[str, str] = {}
        for kind, gauge in GAUGE_OF_WAITING.items():
            waiting = self._items.oldest(kind)
            if waiting is None and kind == "reconciliation":
                self._items.await_reconciliation(now)
            if waiting is not None and waiting.since <= now:
                seconds[gauge] = now - waiting.since
                oldest[f"oldest_{kind}"] = waiting.key.pk
        return Measured(seconds, oldest, self._stopped())
