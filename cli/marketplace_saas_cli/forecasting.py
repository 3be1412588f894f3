"""What a month's usage will come to: what is booked of it, and for the rest of the month the rate of the last days.
Pure rules."""

import calendar
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR

RATE_DAYS = 7
_BILLED = frozenset({"open", "held", "awaiting_approval", "metered"})
"""States of usage that AWS bills, or is expected to."""


@dataclass(slots=True)
class Sum:
    """Units of one dimension of one owner: in this month, and in the time that the rate is of."""

    metered: int = 0
    waiting: int = 0
    recent: int = 0


@dataclass(frozen=True, slots=True)
class Month:
    """The month of a moment, in seconds since the epoch; `rate_from`: the start of the time that the rate is of."""

    start: int
    end: int
    now: int

    @classmethod
    def of(cls, now: int) -> "Month":
        moment = datetime.fromtimestamp(now, UTC)
        start = int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp())
        return cls(start, start + calendar.monthrange(moment.year, moment.month)[1] * DAY, now)

    @property
    def name(self) -> str:
        return datetime.fromtimestamp(self.start, UTC).strftime("%Y-%m")

    @property
    def first_hour(self) -> int:
        """From where usage is read."""
        return min(self.start, self.rate_from)

    @property
    def rate_from(self) -> int:
        return self.now - self.now % HOUR - RATE_DAYS * DAY

    def expected(self, recent: int, first_seen: int) -> int:
        """Units of the rest of the month at the rate of `recent` units since the later of `rate_from` and the first
        usage; rounded down."""
        span = max(HOUR, self.now - max(self.rate_from, first_seen))
        return recent * max(0, self.end - self.now) // span


type Owner = tuple[str, str]
"""A product's code, and a subscription's id where it has a price of its own; else empty."""


def summed(
    records: Iterable[tuple[Owner, MeteringRecord]], month: Month
) -> tuple[dict[tuple[Owner, str], Sum], dict[tuple[Owner, str], int]]:
    """Sums by owner and dimension of records with their owner, and the first hour of each that was seen."""
    sums: dict[tuple[Owner, str], Sum] = defaultdict(Sum)
    first: dict[tuple[Owner, str], int] = {}
    for owner, record in records:
        if record.state not in _BILLED and not record.billed:
            continue
        units = record.billed or record.quantity
        name = owner, record.dimension
        one = sums[name]
        first[name] = min(first.get(name, record.hour), record.hour)
        if month.start <= record.hour < month.end:
            if record.billed:
                one.metered += units
            else:
                one.waiting += units
        if record.hour >= month.rate_from:
            one.recent += units
    return dict(sums), first
