"""Reporters and metering runs in processes of their own, which the parent can end at any point with SIGKILL.

A child says through its gate before and after every call what it is about to do, and waits to be let through. What it
publishes or answers counts once the parent has received it.
"""

import os
import random
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from typing import Any, cast
from unittest import mock

import boto3
from botocore.config import Config

from marketplace.dynamodb.table import Table
from marketplace.metering.api import MeteringApi
from marketplace.metering.rate import CallRate
from marketplace.metering.run import MeteringRun
from marketplace.metering.store import MeteringStore
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.seller_events import SellerEvent
from marketplace.usage.booking import UsageStore
from marketplace.usage.recorder import UsageRecorder
from tests.support.observed_client import ObservedClient
from tests.support.tables import Tables
from tests.support.world import SEAL_DELAY

SESSION = boto3.session.Session()


@dataclass(frozen=True)
class Place:
    """Where a child finds its deployment. `now` is its clock, in seconds; a child's whole life is one moment."""

    dynamodb: str
    marketplace: str
    tables: Tables
    now: int

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def client(self, service: str, endpoint: str, gate: Connection) -> Any:
        make: Any = SESSION.client
        made = make(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
        )

        def point(name: str, _: dict[str, Any]) -> None:
            let_through(gate, name)

        return ObservedClient(made, before=point, after=point)


def let_through(gate: Connection, name: str, content: Any = None) -> None:
    gate.send((name, content))
    gate.recv()


class GatedBus:
    """The seller's bus: an event is published when the parent has it."""

    def __init__(self, gate: Connection) -> None:
        self._gate = gate

    def publish(self, events: Sequence[SellerEvent]) -> None:
        let_through(self._gate, "publish")
        let_through(self._gate, "published", list(events))


class NoRequests:
    def look_again(
        self, subscription_id: str, reason: str, *, since: int | None = None, delay_seconds: int = 0
    ) -> None:
        pass


def _no_sleep(seconds: float) -> None:
    pass


def report(place: Place, records: list[dict[str, Any]], gate: Connection) -> None:
    """A child: one request of POST /usage."""
    client = place.client("dynamodb", place.dynamodb, gate)
    recorder = UsageRecorder(
        store=UsageStore(Table(client, place.tables.usage, sleep=_no_sleep), ttl_days=400),
        subscriptions=SubscriptionReader(Table(client, place.tables.subscriptions)),
        clock=place.clock,
        seal_delay=SEAL_DELAY,
        sleep=_no_sleep,
        monotonic=time.monotonic,
        parallel=1,
    )
    let_through(gate, "answered", recorder.record(records))


def meter(place: Place, gate: Connection) -> None:
    """A child: one metering run."""
    client = place.client("dynamodb", place.dynamodb, gate)
    run = MeteringRun(
        store=MeteringStore(Table(client, place.tables.usage, sleep=_no_sleep)),
        api=MeteringApi(place.client("meteringmarketplace", place.marketplace, gate)),
        region="us-east-1",
        rate=CallRate(1000, time.monotonic, _no_sleep),
        bus=GatedBus(gate),
        requests=NoRequests(),
        clock=place.clock,
        monotonic=time.monotonic,
        sleep=_no_sleep,
        time_left=lambda: 900.0,
        new_token=lambda: uuid.uuid4().hex,
        workers=1,
    )
    report = run.run()
    if report.failure is not None:
        raise report.failure
    let_through(gate, "reported", report.summary())


@cache
def fork_server() -> Any:
    """Started with this process's search path, which the fork server of Python 3.13.0 forgets when it preloads."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.fork_preload"])
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path)}):
        forkserver.ensure_running()
    return context


@dataclass
class Child:
    """A process under way. It is killed at its `kill_at`th point, if it has so many: standing there, or `in_flight`,
    which is right after it was let through."""

    work: Any
    arguments: tuple[Any, ...]
    kill_at: int | None = None
    in_flight: bool = False
    heard: dict[str, Any] = field(default_factory=dict)
    points: int = 0
    killed: bool = False

    def start(self) -> None:
        context = fork_server()
        self.gate, theirs = context.Pipe()
        self.process = context.Process(target=self.work, args=(*self.arguments, theirs))
        self.process.start()
        theirs.close()

    def go_on(self) -> bool:
        """Hears the child out and lets it go on, or ends it; says whether it is still there."""
        try:
            name, content = self.gate.recv()
        except EOFError:
            return self._gone()
        if content is not None:
            self.heard.setdefault(name, []).append(content)
        if self.points == self.kill_at:
            if self.in_flight:
                self.gate.send(None)
            self.process.kill()
            self.killed = True
            return self._gone()
        self.points += 1
        self.gate.send(None)
        return True

    def _gone(self) -> bool:
        self.process.join()
        self.gate.close()
        expected = -9 if self.killed else 0
        if self.process.exitcode != expected:
            raise AssertionError(f"a child ended with {self.process.exitcode}")
        self.process.close()
        return False


def run_together(children: Sequence[Child], dice: random.Random) -> None:
    """Runs the children at once until each has ended or was killed."""
    alive = {}
    for child in children:
        child.start()
        alive[child.gate] = child
    while alive:
        ready = cast("list[Connection]", wait(list(alive)))
        gate = dice.choice(ready)
        if not alive[gate].go_on():
            del alive[gate]
