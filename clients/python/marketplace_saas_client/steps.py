"""Work that is written once and done by threads or by asyncio.

A procedure is a generator. It yields each piece of work that may block, as a function, and gets the function's result
back; or it yields a number of seconds to wait. The procedure itself neither blocks nor awaits.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Step = Callable[[], Any] | float
Steps = Generator[Step, Any, T]


def run(steps: Steps[T]) -> T:
    """Do a procedure in this thread."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            done: T = end.value
            return done
        result, error = None, None
        try:
            if isinstance(step, int | float):
                time.sleep(step)
            else:
                result = step()
        except Exception as raised:  # it is the procedure's to handle
            error = raised


async def run_async(steps: Steps[T]) -> T:
    """Do a procedure on the event loop, with the blocking pieces in threads. When it is cancelled, the piece of work
    that is being done is still completed."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            done: T = end.value
            return done
        result, error = None, None
        try:
            result = await (asyncio.sleep(step) if isinstance(step, int | float) else asyncio.to_thread(step))
        except Exception as raised:  # it is the procedure's to handle
            error = raised
