"""One stack per module: its clock stands still, and moves when a test moves it.

Tests of one module may run in any order and in several workers, each with a stack of its own, so every test makes what
it needs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local import stack as local_stack
from local.aws import LocalAws
from local.deployment import Deployment
from local.options import Options
from tests.local_stack.browser import Neighbourhood
from tools.template import TEMPLATE

NOON = "2026-11-22T12:10:00Z"


class Time:
    """A clock to move by hand."""

    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def start_aws(time: Time) -> Iterator[Callable[[Deployment], LocalAws]]:
    """Starts moto with what a deployment declares."""
    servers: list[LocalAws] = []

    def start(deployment: Deployment) -> LocalAws:
        servers.append(LocalAws("127.0.0.1", 0, time.now))
        servers[-1].furnish(deployment)
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Writes a template.yaml in which these texts are replaced."""

    def written(*changes: tuple[str, str]) -> Path:
        text = TEMPLATE.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "template.yaml"
        path.write_text(text)
        return path

    return written


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    """What the functions print."""
    return io.StringIO()


@pytest.fixture(scope="module")
def stack(log: io.StringIO) -> Iterator[local_stack.Stack]:
    """A whole system of the module's own, at ten past noon."""
    with local_stack.running(Options(clock=f"frozen:{NOON}", log=log, log_all=True, metering_rate=None)) as running:
        yield running


@pytest.fixture
def neighbourhood(stack: local_stack.Stack) -> Neighbourhood:
    """The stack as it is seen from outside: through HTTP alone."""
    return Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
