"""A token bucket per operation and region, on real (monotonic) time and not on the settable clock.

Source: AWS Marketplace quotas: BatchMeterUsage 10 requests a second, GetEntitlements 20, per account and region.
"""

from collections.abc import Callable


class Buckets:
    """Token buckets; each holds one second's worth of calls and refills continuously."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, operation: str, region: str, rate: float | None) -> bool:
        """Return whether one more call is allowed, and count it. `rate` is calls per second; None allows all."""
        if rate is None:
            return True
        now = self._monotonic()
        capacity = max(rate, 1.0)
        level, since = self._levels.get((operation, region), (capacity, now))
        level = min(capacity, level + (now - since) * rate)
        allowed = level >= 1
        self._levels[operation, region] = (level - 1 if allowed else level, now)
        return allowed
