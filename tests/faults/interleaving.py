"""Several actors that take turns at every call they make, in an order that a seed decides, and may crash there.

Each actor is a thread, and only one runs at a time: before and after each call to a client it hands over, and the
scheduler chooses the actor that continues, or that crashes. The same seed gives the same order.
"""

import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any


class CrashError(BaseException):
    """The process ends here: nothing after this point happens, and no `except Exception` catches it."""


class Actor:
    """One process: a reporter's request or a metering run."""

    def __init__(self, scheduler: "Scheduler", work: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._work = work
        self._turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.crashing = False
        self.finished = False
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._work()
        except CrashError:
            pass
        except BaseException as error:
            self.error = error
        self.finished = True
        self._scheduler.handed_over.release()

    def go_on(self) -> None:
        self._turn.release()

    def hand_over(self) -> None:
        """A point where another actor may run, or this one crashes."""
        self._scheduler.handed_over.release()
        self._turn.acquire()
        if self.crashing:
            raise CrashError

    def owns_this_thread(self) -> bool:
        return threading.current_thread() is self._thread


class Scheduler:
    """Runs actors to their end, one call at a time. `crash` is the chance that an actor dies at a point."""

    def __init__(self, seed: str, crash: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._crash = crash
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._alone = False
        self.handed_over = threading.Semaphore(0)
        self.crashes = 0

    def run(self, *work: Callable[[], None]) -> None:
        """Returns when each has ended or crashed; raises what one of them raised."""
        if len(work) == 1:
            self._run_alone(*work)
            return
        self._actors = [Actor(self, one) for one in work]
        for actor in self._actors:
            actor.start()
        alive = list(self._actors)
        while alive:
            self._current = self._random.choice(alive)
            if self._random.random() < self._crash:
                self._current.crashing = True
            self._current.go_on()
            self.handed_over.acquire()
            if self._current.finished:
                self.crashes += self._current.crashing
                alive.remove(self._current)
        self._current = None
        for actor in self._actors:
            if actor.error is not None:
                raise actor.error

    def _run_alone(self, work: Callable[[], None]) -> None:
        """Whoever has nobody to take turns with needs no thread."""
        self._alone = True
        with contextlib.suppress(CrashError):
            work()
        self._alone = False

    def point(self, name: str, _: dict[str, Any]) -> None:
        """The hook for an observed client."""
        if self._alone and self._random.random() < self._crash:
            self.crashes += 1
            raise CrashError
        if self._current is not None and self._current.owns_this_thread():
            self._current.hand_over()
