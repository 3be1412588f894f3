"""The one place where the time comes from: everything else is handed a Clock."""

from collections.abc import Callable
from datetime import UTC, datetime

type Clock = Callable[[], datetime]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def utc_now() -> datetime:
    """The present moment, timezone-aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the module that the rule points to


def epoch(moment: datetime) -> int:
    """Whole seconds since 1970-01-01T00:00Z; fractions are cut off, as BatchMeterUsage wants them (botocore
    would send them)."""
    return int(moment.timestamp())


def iso(seconds: int) -> str:
    """`2026-11-22T14:00:00Z` for a number of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hour_of(seconds: int) -> int:
    """The start of the clock hour (UTC) that holds this moment, in seconds since the epoch."""
    return seconds - seconds % HOUR
