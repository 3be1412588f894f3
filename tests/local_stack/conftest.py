"""One stack per module: its clock stands still, and moves when a test moves it.

Tests of one module may run in any order and in several workers, each with a stack of its own, so every test makes what
it needs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from local import stack as local_stack
from local.options import Options
from tests.local_stack.browser import Neighbourhood

NOON = "2026-11-22T12:10:00Z"


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    """What the functions print."""
    return io.StringIO()


@pytest.fixture(scope="module")
def stack(log: io.StringIO) -> Iterator[local_stack.Stack]:
    """A whole system of the module's own, at ten past noon."""
    with local_stack.running(Options(clock=f"frozen:{NOON}", log=log, metering_rate=None)) as running:
        yield running


@pytest.fixture
def neighbourhood(stack: local_stack.Stack) -> Neighbourhood:
    """The stack as it is seen from outside: through HTTP alone."""
    return Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
