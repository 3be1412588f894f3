"""A circuit breaker: it opens when AWS fails for every caller, so that a run stops and rejects no good record."""

import threading
from collections.abc import Callable

from marketplace.platform.backoff import pause

FAILURES_IN_A_ROW = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0


class Breaker:
    """Counts failures in a row over all the workers of a run, and opens for the rest of the run at the fifth.

    Calls that were under way at the same time and failed count as one failure. `jitter` gives 0 to 1; `monotonic`
    counts seconds.
    """

    def __init__(
        self, monotonic: Callable[[], float], jitter: Callable[[], float], failures: int = FAILURES_IN_A_ROW
    ) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._limit = failures
        self._failures = 0
        self._last_failure = float("-inf")
        self._turn = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def succeeded(self) -> None:
        """AWS answered, even if it refused the request."""
        with self._turn:
            if not self.is_open:
                self._failures = 0

    def failed(self, started: float) -> float:
        """A call begun at `started` (monotonic) got no useful answer; returns the seconds to pause before the next."""
        with self._turn:
            if started >= self._last_failure:
                self._failures += 1
                self._last_failure = self._monotonic()
            attempt = self._failures - 1
        return pause(attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self._jitter())
