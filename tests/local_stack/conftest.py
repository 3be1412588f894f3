"""One stack per module: its clock stands still, and moves when a test moves it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import stack as local_stack
from tests.local_stack.browser import Neighbourhood

NOON = "2026-11-22T12:10:00Z"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module's tests share a stack whose clock they move: one worker runs them, in their order."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    """What the functions print."""
    return io.StringIO()


@pytest.fixture(scope="module")
def stack(log: io.StringIO) -> Iterator[local_stack.Stack]:
    """A whole system of the module's own, at ten past noon."""
    with local_stack.running(local_stack.Options(clock=f"frozen:{NOON}", log=log, metering_rate=None)) as running:
        yield running


@pytest.fixture
def neighbourhood(stack: local_stack.Stack) -> Neighbourhood:
    """The stack as it is seen from outside: through HTTP alone."""
    return Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
