"""The emulator's clock, moved as time itself moves: through every moment at which something happens.

Advanced by an hour, it stops at each delayed message, each timer of the emulator and each tick of a schedule on the
way, and goes on when what follows from it is done. So everything sees the time it would have seen had the hour passed.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from local.environment import SharedClock
from local.options import StackError
from marketplace_emulator import Clock
from marketplace_emulator.clock import HOUR, in_range, parse_duration, to_timestamp


class StackClock(Clock):
    """A clock with four callbacks.

    `next_stop(now, end)` returns the next moment up to `end` at which something happens, or None. `at_stop()` does what
    is due then and returns when all that follows is done. `set_back(now)` is called after the clock was set back.
    `on_move(start, now, end)` is called at the start of a move and at each stop. `moving`: the start and the end of the
    move that is going on, in seconds since the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.next_stop: Callable[[float, float], float | None] = lambda _now, _end: None
        self.at_stop: Callable[[], None] = lambda: None
        self.set_back: Callable[[float], None] = lambda _now: None
        self.on_move: Callable[[float, float, float], None] = lambda _start, _now, _end: None
        self.moving: tuple[float, float] | None = None
        self.stopping = threading.Event()
        self._shared: SharedClock | None = None
        self._walking = threading.RLock()

    @classmethod
    def parse(cls, text: str) -> "StackClock":
        """The clock that a text asks for: `real`, or `frozen:2026-11-22T10:00:00Z`. Raises StackError."""
        kind, _, moment = text.partition(":")
        if kind not in ("real", "frozen") or (kind == "frozen") != bool(moment):
            raise StackError(f"the clock {text!r} is not known; it is real, or frozen:2026-11-22T10:00:00Z")
        clock = cls()
        if moment:
            clock.freeze()
            try:
                clock.set(moment, force=True)
            except ValueError as error:
                raise StackError(f"{moment!r} is not a time; for example 2026-11-22T10:00:00Z") from error
        return clock

    def begin(self, now: float, *, frozen: bool) -> None:
        """Show this moment, before anything looks at the clock."""
        super().freeze()
        super().set(now, force=True)
        if not frozen:
            super().run()
        self._publish()

    def share(self, shared: SharedClock) -> None:
        """Keep another process's view of the clock up to date."""
        self._shared = shared
        self._publish()

    def unshare(self) -> None:
        """The other processes are gone."""
        self._shared = None

    @property
    def walking(self) -> threading.RLock:
        """Held while the clock is moved and while what is due is done: one mover at a time."""
        return self._walking

    def advance(self, by: float | str | timedelta, *, force: bool = False) -> datetime:
        """Move by seconds, a timedelta or an ISO 8601 duration; backwards only with `force`."""
        with self._walking:
            return self._walk(self.timestamp() + parse_duration(by), force)

    def set(self, to: str | float | datetime, *, force: bool = False) -> datetime:
        """Move to a moment; backwards only with `force`."""
        with self._walking:
            return self._walk(to_timestamp(to), force)

    def to_next_hour(self) -> datetime:
        """Move to the start of the next hour."""
        with self._walking:
            return self._walk((self.timestamp() // HOUR + 1) * HOUR, False)

    def freeze(self) -> datetime:
        """Stand still at the present moment."""
        moment = super().freeze()
        self._publish()
        return moment

    def run(self) -> datetime:
        """Run on at the speed of real time from the present moment."""
        moment = super().run()
        self._publish()
        return moment

    def _walk(self, end: float, force: bool) -> datetime:
        now = self.timestamp()
        in_range(end)
        if end < now:
            moment = super().set(end, force=force)
            self._publish()
            self.set_back(end)
            return moment
        self.at_stop()  # what is still to be done belongs to the present
        start, self.moving = now, (now, end)
        self.on_move(start, now, end)
        while not self.stopping.is_set():
            stop = self.next_stop(now, end)
            if stop is None:
                break
            self._jump(stop)
            self.at_stop()
            now = max(stop, now)
            self.on_move(start, now, end)
        self.moving = None
        self._jump(end)
        self.at_stop()
        return self.now()

    def _jump(self, moment: float) -> None:
        super().set(max(moment, self.timestamp()), force=True)  # real time may have passed it by a moment
        self._publish()

    def _publish(self) -> None:
        if self._shared is not None:
            frozen = self.timestamp() if self.is_frozen else None
            self._shared.write(frozen, self.offset)
