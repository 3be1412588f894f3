"""When the template's schedules fire as the clock moves, and which of their ticks are played."""

from collections.abc import Iterator, Sequence

from local.deployment import Schedule
from local.options import StackError
from local.schedule import ScheduleError, Ticks, parse

HOUR = 3600
ALL_TICKS = 3 * HOUR
HOURLY_TICKS = 26 * HOUR
RARE_TICKS = 12 * HOUR
SELDOM_AFTER, SELDOM_TICKS = 72 * HOUR, 96 * HOUR


class Schedules:
    """The schedules of one deployment. Raises StackError for an expression that is not understood.

    Where nothing has happened for hours, most ticks would find nothing to do and a jump of a year would take an hour.
    So beyond three hours without activity one tick an hour is played, beyond 26 hours one in twelve hours, beyond three
    days one in four days, and always the last one before the end of a move. Activity is a request to
    the API, a notification, an event on the bus, or a scheduled run that wrote something: what runs by itself and finds
    nothing is none. AWS refuses usage after 24 hours, so after 26 quiet hours nothing waits for a run.

    `fired`: when each schedule fired last. `spacing`: the least number of seconds between two ticks, by schedule, for
    who plays a long time on purpose (local/demo.py). Times are in seconds since the epoch.
    """

    def __init__(self, schedules: Sequence[Schedule], now: float) -> None:
        self._schedules = schedules
        self._ticks: dict[str, Ticks] = {}
        for one in schedules:
            try:
                self._ticks[one.name] = parse(one.expression, now)
            except ScheduleError as error:
                raise StackError(f"{one.name}: {error}") from error
        self.fired = dict.fromkeys(self._ticks, now)
        self.last_activity = now
        self.spacing: dict[str, float] = {}

    def note_activity(self, now: float) -> None:
        """Something has happened."""
        self.last_activity = max(self.last_activity, now)

    def set_back(self, now: float) -> None:
        """The clock was set back: nothing has happened in its future."""
        self.fired = {name: min(fired, now) for name, fired in self.fired.items()}
        self.last_activity = min(self.last_activity, now)

    def next_run(self, after: float) -> float | None:
        """When a schedule runs a function next after a moment; others put a message into a queue."""
        ticks = (self._ticks[one.name].after(after) for one in self._schedules if one.function is not None)
        return min((tick for tick in ticks if tick is not None), default=None)

    def next_stop(self, end: float) -> float | None:
        """The next tick that is played on the way to `end`."""
        played = (self._next_played(name, end) for name in self._ticks)
        return min((tick for tick in played if tick is not None), default=None)

    def is_due(self, now: float) -> bool:
        """Whether a schedule has a tick that was not played yet."""
        due = (ticks.after(self.fired[name]) for name, ticks in self._ticks.items())
        return any(tick is not None and tick <= now for tick in due)

    def due(self, now: float) -> Iterator[tuple[Schedule, float]]:
        """The schedules that are due, each once, with the tick; each counts as fired when it is answered."""
        for one in self._schedules:
            tick = self._ticks[one.name].after(self.fired[one.name])
            if tick is not None and tick <= now and now >= self.fired[one.name] + self.spacing.get(one.name, 0):
                self.fired[one.name] = now
                yield one, tick

    def _next_played(self, name: str, end: float) -> float | None:
        ticks, fired = self._ticks[name], self.fired[name]
        tick = ticks.after(fired)
        if tick is None or tick > end:
            return None
        spacing = max(self.spacing.get(name, 0), self._spacing(tick - self.last_activity))
        if tick >= fired + spacing:
            return tick
        later = ticks.after(fired + spacing - 1)
        return later if later is not None and later <= end else self._last(ticks, tick, end)

    @staticmethod
    def _spacing(quiet: float) -> float:
        if quiet <= HOURLY_TICKS:
            return 0 if quiet <= ALL_TICKS else HOUR
        return RARE_TICKS if quiet <= SELDOM_AFTER else SELDOM_TICKS

    @staticmethod
    def _last(ticks: Ticks, tick: float, end: float) -> float:
        """The last tick up to `end`, sought backwards from it; `tick` is one of them."""
        seconds = 60
        while tick < end - seconds:
            if (found := ticks.after(end - seconds)) is not None and found <= end:
                tick = found
                break
            seconds *= 2
        while (following := ticks.after(tick)) is not None and following <= end:
            tick = following
        return tick
