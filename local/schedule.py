"""When a schedule fires: EventBridge's cron(...) and rate(...) expressions, in UTC.

Of cron (EventBridge User Guide: cron expressions) this knows `*`, `?`, numbers, names of months and days, lists, ranges
and steps; `L`, `W` and `#` are refused by name.
"""

import calendar
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from local.deployment import ACCOUNT, REGION

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name.upper(): (number + 1) % 7 + 1 for number, name in enumerate(calendar.day_abbr)}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 1, 7, _DAYS),
    ("year", 1970, 2199, {}),
)
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}


class ScheduleError(ValueError):
    """An expression that is not understood; the message says which part."""


class Ticks(Protocol):
    """The moments of one schedule, in seconds since the epoch."""

    def after(self, moment: float) -> float | None:
        """The first one later than `moment`; None when there is no more."""


def parse(expression: str, start: float) -> Ticks:
    """The schedule of an expression; a rate counts from `start`. Raises ScheduleError."""
    match = re.fullmatch(r"(cron|rate)\((.*)\)", expression.strip())
    if match is None:
        raise ScheduleError(f"{expression!r} is neither cron(...) nor rate(...)")
    return _cron(match[2]) if match[1] == "cron" else _rate(match[2], start)


def scheduled_event(rule: str, tick: float) -> dict[str, Any]:
    """What EventBridge hands the target of a scheduled rule at a moment, in seconds since the epoch (EventBridge User
    Guide: scheduled rules)."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}"],
        "detail": {},
    }


@dataclass(frozen=True)
class Rate:
    """Every so many seconds, counted from a start."""

    start: float
    seconds: int

    def after(self, moment: float) -> float:
        return self.start + ((moment - self.start) // self.seconds + 1) * self.seconds


@dataclass(frozen=True)
class Cron:
    """The minutes that all six fields allow."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]

    def after(self, moment: float) -> float | None:
        later = datetime.fromtimestamp(moment // 60 * 60 + 60, UTC)
        day = later.date()
        while day.year <= max(self.years):
            if self._allows(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        tick = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                        if tick >= later:
                            return tick.timestamp()
            day = self._next(day)
        return None

    def _next(self, day: date) -> date:
        if day.year not in self.years:
            return date(day.year + 1, 1, 1)
        return day + timedelta(days=1)

    def _allows(self, day: date) -> bool:
        return (
            day.year in self.years
            and day.month in self.months
            and day.day in self.days
            and day.isoweekday() % 7 + 1 in self.weekdays
        )


def _rate(text: str, start: float) -> Rate:
    match = re.fullmatch(r"(\d+) (minute|hour|day)(s?)", text.strip())
    if match is None or int(match[1]) == 0:
        raise ScheduleError(f"rate({text}) is not a number of minutes, hours or days")
    if (int(match[1]) == 1) == bool(match[3]):
        raise ScheduleError(f"rate({text}): 1 takes the singular, other numbers the plural")
    return Rate(start, int(match[1]) * _UNITS[match[2]])


def _cron(text: str) -> Cron:
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ScheduleError(f"cron({text}) has {len(parts)} fields, not minutes hours day month weekday year")
    if (parts[2] == "?") == (parts[4] == "?"):
        raise ScheduleError(f"cron({text}): exactly one of day of month and day of week must be ?")
    minutes, hours, days, months, weekdays, years = (
        _field(part, *kind) for part, kind in zip(parts, _FIELDS, strict=True)
    )
    return Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(weekdays),
        frozenset(years),
    )


def _field(text: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    if text == "?" and name in ("day of month", "day of week"):
        return set(range(low, high + 1))

    def number(part: str) -> int:
        value = names.get(part.upper(), int(part) if part.isdigit() else -1)
        if not low <= value <= high:
            raise ScheduleError(f"{name}: {part!r} is not from {low} to {high} (L, W and # are not known here)")
        return value

    allowed: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and (not step.isdigit() or int(step) == 0):
            raise ScheduleError(f"{name}: {step!r} is not a step")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        elif dash:
            start, end = number(first), number(last)
        else:
            start = number(first)
            end = high if slash else start
        if end < start:
            raise ScheduleError(f"{name}: {span!r} runs backwards")
        allowed.update(range(start, end + 1, int(step) if slash else 1))
    return allowed
