"""Keeps within AWS's call quota by spacing calls, so that AWS does not have to throttle them."""

import threading
from collections.abc import Callable


class CallRate:
    """At most `per_second` calls a second, evenly spaced (a token bucket that holds one token); shared by threads.

    `monotonic` and `sleep` count in seconds.
    """

    def __init__(self, per_second: float, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._interval = 1 / per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = monotonic()
        self._turn = threading.Lock()

    def wait(self) -> None:
        """Returns when the next call may be made."""
        with self._turn:
            now = self._monotonic()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
