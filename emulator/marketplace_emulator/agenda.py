"""What happens at a later moment of the settable clock, and the lock under which everything happens."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition, RLock

from marketplace_emulator.clock import Clock


class Task:
    """One planned action. A cancelled task is not run."""

    __slots__ = ("action", "at", "cancelled")

    def __init__(self, at: float, action: Callable[[float], None]) -> None:
        self.at = at
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Do not run the action."""
        self.cancelled = True


class Agenda:
    """The planned tasks of one emulator, in order of time.

    `changed` is notified of every new delivery; its lock is `lock`.
    """

    def __init__(self, clock: Clock) -> None:
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self._clock = clock
        self._tasks: list[tuple[float, int, Task]] = []
        self._order = count()

    @contextmanager
    def acting(self) -> Iterator[float]:
        """Hold the lock, run what is due, and yield the current time in seconds since the epoch."""
        with self.lock:
            now = self._clock.timestamp()
            self._run_due(now)
            yield now

    def settle(self) -> None:
        """Run what is due."""
        with self.acting():
            pass

    def next_due(self) -> float | None:
        """The time of the next task in seconds since the epoch, or None."""
        with self.acting():
            while self._tasks and self._tasks[0][2].cancelled:
                heapq.heappop(self._tasks)
            return self._tasks[0][0] if self._tasks else None

    def at(self, moment: float, action: Callable[[float], None]) -> Task:
        """Plan `action(moment)` for when the clock has reached `moment`."""
        task = Task(moment, action)
        heapq.heappush(self._tasks, (moment, next(self._order), task))
        return task

    def planned(self) -> list[Task]:
        """What is still to be done, in order."""
        return [task for _, _, task in sorted(self._tasks, key=lambda entry: entry[:2]) if not task.cancelled]

    def plan(self, tasks: Iterable[Task]) -> None:
        """Take these tasks, which another agenda has planned."""
        for task in tasks:
            heapq.heappush(self._tasks, (task.at, next(self._order), task))

    def clear(self) -> None:
        """Remove all tasks."""
        self._tasks.clear()

    def _run_due(self, now: float) -> None:
        """Run everything due by `now`, including tasks that the actions plan. Each is given its own time."""
        while self._tasks and self._tasks[0][0] <= now:
            moment, _, task = heapq.heappop(self._tasks)
            if not task.cancelled:
                task.action(moment)
