"""What is to happen at a later moment of the settable clock, in order of time."""

import heapq
from collections.abc import Callable
from itertools import count


class Task:
    """One appointment; `cancel` makes it not happen."""

    __slots__ = ("action", "at", "cancelled")

    def __init__(self, at: float, action: Callable[[float], None]) -> None:
        self.at = at
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Take the appointment off the agenda."""
        self.cancelled = True


class Agenda:
    """A queue of appointments; each is told its own time, however late it is run."""

    def __init__(self) -> None:
        self._tasks: list[tuple[float, int, Task]] = []
        self._order = count()

    def at(self, moment: float, action: Callable[[float], None]) -> Task:
        """Run `action(moment)` once the clock has reached `moment`."""
        task = Task(moment, action)
        heapq.heappush(self._tasks, (moment, next(self._order), task))
        return task

    def run_due(self, now: float) -> None:
        """Run everything due by `now`, including what the actions themselves put on the agenda."""
        while self._tasks and self._tasks[0][0] <= now:
            moment, _, task = heapq.heappop(self._tasks)
            if not task.cancelled:
                task.action(moment)

    def next_at(self) -> float | None:
        """When the next appointment is that still holds."""
        while self._tasks and self._tasks[0][2].cancelled:
            heapq.heappop(self._tasks)
        return self._tasks[0][0] if self._tasks else None
