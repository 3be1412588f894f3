"""The one place where the time comes from: everything else is handed a Clock."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NewType

type Clock = Callable[[], datetime]

EpochSeconds = NewType("EpochSeconds", int)
"""A moment: whole seconds since 1970-01-01T00:00Z. A type of its own, so that a duration or milliseconds can't pass for
one."""

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def utc_now() -> datetime:
    """The present moment, timezone-aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the module that the rule points to


def epoch(moment: datetime) -> EpochSeconds:
    """The moment in whole seconds; fractions are cut off, because BatchMeterUsage takes none and botocore would send
    them."""
    return EpochSeconds(int(moment.timestamp()))


def iso(seconds: int) -> str:
    """`2026-11-22T14:00:00Z` for a number of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hour_of(seconds: int) -> EpochSeconds:
    """The start of the clock hour (UTC) that holds this moment."""
    return EpochSeconds(seconds - seconds % HOUR)
