"""The settable clock: real time plus an offset, or frozen. It moves backwards only if forced."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import overload

from marketplace_emulator.errors import BadRequestError

HOUR = 3600
DAY = 24 * HOUR
_LATEST = 221_845_392_000
"""The start of the year 9000, in seconds since the epoch."""

type Moment = str | float | datetime

_DURATION = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")


def to_datetime(timestamp: float) -> datetime:
    """An aware UTC datetime for seconds since the epoch."""
    return datetime.fromtimestamp(timestamp, UTC)


def iso_seconds(timestamp: float) -> str:
    """`2026-08-20T14:23:22Z`: whole seconds, the way EventBridge prints `time`."""
    return f"{to_datetime(int(timestamp)).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def iso_millis(timestamp: float) -> str:
    """`2026-08-20T14:23:11.013Z`: milliseconds, the way agreement times are printed."""
    return f"{to_datetime(timestamp).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def parse_time(text: str) -> float:
    """Seconds since the epoch for an ISO 8601 time; without an offset it is taken as UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@overload
def to_timestamp(moment: Moment) -> float: ...
@overload
def to_timestamp(moment: Moment | None) -> float | None: ...
def to_timestamp(moment: Moment | None) -> float | None:
    """Seconds since the epoch for ISO 8601 text, seconds or a datetime (without an offset it is taken as UTC).

    None stays None. Raises BadRequestError for what is no time.
    """
    if moment is None:
        return None
    try:
        seconds = parse_time(str(moment)) if isinstance(moment, str | datetime) else float(moment)
    except (ValueError, OverflowError):
        raise BadRequestError(f"{moment!r} is not a time", "for example 2026-11-22T10:00:00Z") from None
    return in_range(seconds)


def in_range(seconds: float) -> float:
    """A time that leaves room for terms of years on either side of it. Raises BadRequestError."""
    if not 0 <= seconds <= _LATEST:
        raise BadRequestError(f"{seconds} is not a time", "times are of the years 1970 to 9000")
    return seconds


def parse_duration(value: float | str | timedelta) -> float:
    """Seconds for a number, a timedelta or an ISO 8601 duration such as `PT1H` or `P1D`."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.match(value)
    if not match or not any(match.groups()):
        raise BadRequestError(
            f"{value!r} is neither seconds nor an ISO 8601 duration such as PT1H or P1D", "for example 90"
        )
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * DAY + hours * HOUR + minutes * 60 + seconds


class Clock:
    """A settable clock. `Clock()` follows real time; `Clock.frozen(...)` moves only by `advance` and `set`."""

    def __init__(
        self,
        source: Callable[[], float] = time.time,  # noqa: TID251  the one place real time comes from
    ) -> None:
        self._source = source
        self._offset = 0.0
        self._frozen: float | None = None
        self._lock = Lock()

    @classmethod
    def frozen(cls, at: Moment) -> "Clock":
        """A clock that stands still at `at` (ISO text, seconds or datetime) until advanced."""
        clock = cls()
        clock._frozen = to_timestamp(at)
        return clock

    @property
    def is_frozen(self) -> bool:
        """Whether the clock stands still between calls to `advance` and `set`."""
        return self._frozen is not None

    @property
    def offset(self) -> float:
        """Seconds ahead of real time (0 while frozen)."""
        return 0.0 if self._frozen is not None else self._offset

    def timestamp(self) -> float:
        """Now, in seconds since the epoch."""
        return self._frozen if self._frozen is not None else self._source() + self._offset

    def now(self) -> datetime:
        """Now, as an aware UTC datetime."""
        return to_datetime(self.timestamp())

    def advance(self, by: float | str | timedelta, *, force: bool = False) -> datetime:
        """Move by seconds, a timedelta or an ISO 8601 duration; backwards only with `force`."""
        with self._lock:
            now = self.timestamp()
            return self._move_to(now, now + parse_duration(by), force)

    def set(self, to: Moment, *, force: bool = False) -> datetime:
        """Move to a moment; backwards only with `force`."""
        with self._lock:
            return self._move_to(self.timestamp(), to_timestamp(to), force)

    def to_next_hour(self) -> datetime:
        """Move to the start of the next hour."""
        with self._lock:
            now = self.timestamp()
            return self._move_to(now, (now // HOUR + 1) * HOUR, False)

    def freeze(self) -> datetime:
        """Stand still at the present moment."""
        with self._lock:
            self._frozen = self.timestamp()
            return to_datetime(self._frozen)

    def run(self) -> datetime:
        """Run on at the speed of real time from the present moment."""
        with self._lock:
            if self._frozen is not None:
                self._offset = self._frozen - self._source()
                self._frozen = None
            return to_datetime(self.timestamp())

    def _move_to(self, now: float, moment: float, force: bool) -> datetime:
        in_range(moment)
        if moment < now and not force:
            raise BadRequestError(
                f"{iso_millis(moment)} is before the clock's {iso_millis(now)}; the clock moves forward only",
                "give force to move it back",
            )
        if self._frozen is not None:
            self._frozen = moment
        else:
            self._offset += moment - now
        return to_datetime(moment)
