"""Each client as a process of its own, on an outbox of the test's, against an API that the test controls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.fake_api import KEYS, FakeApi, serving
from tools import typescript

DRIVERS = Path(__file__).parent / "drivers"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEYS.access_key,
    "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
    "AWS_SESSION_TOKEN": KEYS.token or "",
    "PYTHONPATH": str(typescript.ROOT / "clients" / "python"),
    "PATH": os.environ["PATH"],
}
PYTHON = ("threads", "asyncio")
TYPESCRIPT = pytest.param("typescript", marks=pytest.mark.node)


class DiedError(Exception):
    """The client's process has ended before it answered."""


class Driver:
    """A client's process. `do` sends it a command and answers its answer."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, what: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **given}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise DiedError from error
        line = self._process.stdout.readline()
        if not line:
            raise DiedError
        return json.loads(line)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait until it has ended; answers its exit status."""
        return self._process.wait(timeout=60)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True)
class Flavour:
    """One of the clients: starts processes of it on one outbox."""

    name: str
    api: str
    outbox: Path
    dist: Path | None
    started: list[Driver]

    def process(self) -> Driver:
        """A process that has opened nothing yet."""
        if self.dist is None:
            return Driver([sys.executable, str(DRIVERS / "driver.py"), self.name], ENVIRONMENT)
        return Driver(["node", str(DRIVERS / "driver.mjs"), str(self.dist)], ENVIRONMENT)

    def start(self, **options: Any) -> Driver:
        """A process of its own."""
        self.started.append(self.process())
        return self.open(self.started[-1], **options)

    def open(self, driver: Driver, **options: Any) -> Driver:
        """Let a process begin with a new client on this outbox."""
        driver.do("open", api=self.api, outbox=str(self.outbox), **options)
        return driver


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled TypeScript client, beside the packages that it uses."""
    if lacking := typescript.missing():
        pytest.skip(lacking)  # CI has Node, and fails on a skipped test
    typescript.install()
    home = tmp_path_factory.mktemp("typescript")
    (home / "node_modules").symlink_to(typescript.CLIENT / "node_modules")
    (home / "package.json").write_text('{"type": "module"}')
    return typescript.compile_client(home / "dist")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def api_url(api: FakeApi) -> Iterator[str]:
    with serving(api) as url:
        yield url


@pytest.fixture
def flavours(api_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Flavour]]:
    """Answers a client by its name."""
    started: list[Driver] = []

    def flavour(name: str) -> Flavour:
        dist = request.getfixturevalue("dist") if name == "typescript" else None
        return Flavour(name, api_url, tmp_path / "outbox", dist, started)

    yield flavour
    for driver in started:
        driver.end()


@pytest.fixture(params=[*PYTHON, TYPESCRIPT])
def flavour(request: pytest.FixtureRequest, flavours: Callable[[str], Flavour]) -> Flavour:
    """Each client in turn."""
    return flavours(request.param)


@pytest.fixture(scope="session")
def lasting() -> Iterator[dict[str, Driver]]:
    """The process of each client that the tests share, because starting one takes longer than most of them."""
    drivers: dict[str, Driver] = {}
    yield drivers
    for driver in drivers.values():
        driver.end()


@pytest.fixture
def client(flavour: Flavour, api: FakeApi, lasting: dict[str, Driver]) -> Driver:
    """A running client on an outbox of the test's own."""
    driver = lasting.get(flavour.name)
    if driver is not None and driver.has_ended:
        driver.end()
        driver = None
    if driver is None:
        driver = lasting[flavour.name] = flavour.process()
    api.client = driver.pid
    return flavour.open(driver)
