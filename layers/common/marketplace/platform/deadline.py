"""A time after which a caller is answered whatever is still being waited for.

Lambda ends a function that takes too long, and API Gateway answers in its place, with an error that says nothing to
whoever reads it. What takes too long is interrupted here before that.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class DeadlineError(BaseException):
    """The time is over. Not an Exception, so that nothing on the way takes it for an error of its own."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises DeadlineError in the `with` block when it takes longer. What it has begun to write may be written.

    It works by a signal, so only in the main thread, in which Lambda runs a handler; in another one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, _end)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise DeadlineError
