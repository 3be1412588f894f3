"""Whether an hour of usage is unusual, so that it waits for the seller's approval: the rules, as pure functions.

What is usual is kept for each subscription and dimension: the greatest hour of each of the last days with usage. A
greatest value can be written twice, in any order, and stays what it is. Whether an hour is unusual follows from what is
kept and from nothing else, and what was usual once stays so when it is judged again, because its own quantity is kept
too.

Nothing is judged while it is learned: neither a subscription in the first day of its usage, nor a dimension in its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from marketplace.platform.clock import DAY, EpochSeconds

LEARNED_FOR = DAY
"""How long after the first hour of usage a subscription, or a dimension, is not judged."""

DAYS = 7
"""Of how many days with usage the greatest hour is kept."""

type Oddity = Literal["far_above_usual", "new_dimension"]


def day_of(hour: EpochSeconds) -> str:
    """The day of an hour as text that sorts by time, such as `20261118`."""
    return datetime.fromtimestamp(hour, UTC).strftime("%Y%m%d")


@dataclass(frozen=True, slots=True)
class Usual:
    """Usage of one dimension: since which hour it is known, and the greatest hour of each day, by day."""

    since: EpochSeconds
    greatest: Mapping[str, int] = field(default_factory=dict)

    def raised_by(self, hour: EpochSeconds, quantity: int) -> bool:
        """Whether this hour is greater than any that is kept of its day. Days before the oldest that is kept no longer
        count."""
        day = day_of(hour)
        kept = sorted(self.greatest)[-DAYS:]
        if len(kept) == DAYS and day < kept[0]:
            return False
        return quantity > self.greatest.get(day, 0)

    def outdated_by(self, hour: EpochSeconds) -> list[str]:
        """The days that need not be kept once usage of this hour is."""
        return sorted({*self.greatest, day_of(hour)})[:-DAYS]


def oddity(
    hour: EpochSeconds, quantity: int, usual: Usual | None, others: Iterable[Usual], factor: int
) -> Oddity | None:
    """What is unusual about an hour, if anything. `usual`: what is known of its dimension, None before the first
    usage; `others`: what is known of the subscription's other dimensions, asked for only where that is needed. Usage of
    0 is never unusual."""
    if not quantity:
        return None
    if usual is None:
        known = any(other.since + LEARNED_FOR <= hour for other in others)
        return "new_dimension" if known else None
    if hour < usual.since + LEARNED_FOR or not usual.greatest:
        return None
    return "far_above_usual" if quantity > factor * max(usual.greatest.values()) else None
