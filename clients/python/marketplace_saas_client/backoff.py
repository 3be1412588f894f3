"""How long to wait before something is sent again: full jitter, so that many senders do not come back together."""

import random
from collections.abc import Callable

Jitter = Callable[[float, float], float]
"""A number between two others, as random.uniform answers it."""

FIRST = 1.0
LONGEST = 60.0
LONGEST_RETRY_AFTER = 300.0
_DOUBLINGS = 32


def delay(failures: int, *, longest: float = LONGEST, retry_after: float | None = None, jitter: Jitter) -> float:
    """Seconds to wait after so many failures in a row (1 or more): anything from 0 to a bound that doubles with each.
    The time that an answer has asked for comes before it."""
    bound = min(longest, FIRST * 2 ** min(failures - 1, _DOUBLINGS))
    return min(retry_after or 0.0, LONGEST_RETRY_AFTER) + jitter(0.0, bound)


def uniform(low: float, high: float) -> float:
    """The jitter outside of tests."""
    return random.uniform(low, high)  # noqa: S311 - it spreads load and protects nothing
