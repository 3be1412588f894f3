"""What a benchmark runs against: AWS's DynamoDB Local and the emulator, each a process of its own, and counters."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_item
from marketplace.ledger.seal import UNSEALED
from marketplace.platform import clients
from marketplace.subscriptions.identity import LicenseIdentity
from marketplace.usage.record import tag_set, tags_digest
from tests.support.progress import tracked
from tests.support.tables import Tables, create_tables
from tools import dynamodb_local

NOW = 1_795_003_500
"""The moment every benchmark takes place: 2026-11-18T12:05:00Z by the emulator's clock and the product's."""
HOUR = NOW - NOW % 3600 - 3600
TICKS = os.sysconf("SC_CLK_TCK")
WRITES_PER_CALL = 25
"""DynamoDB API reference, BatchWriteItem."""

_EMULATOR = """
import json, sys
from marketplace_emulator import Clock, Marketplace, Settings, serve
licences, rate, now = int(sys.argv[1]), float(sys.argv[2]) or None, float(sys.argv[3])
clock = Clock.frozen(now - 86400)
market = Marketplace(clock=clock, settings=Settings(metering_rate=rate))
market_purchases = [market.purchases.subscribe(None, f"{100000000000 + n}", provision=True) for n in range(licences)]
clock.advance(86400)
server = serve(market)
print(json.dumps({"url": server.url, "code": market_purchases[0].product_code,
                  "buyers": [[p.license_arn, p.account_id] for p in market_purchases]}), flush=True)
sys.stdin.read()
"""


@dataclass
class Surroundings:
    """Clients with their calls counted, and the processes behind them."""

    dynamodb: Any
    metering: Any
    tables: Tables
    product_code: str
    buyers: list[tuple[str, str]]
    emulator_url: str
    pids: dict[str, int]
    calls: Counter[str] = field(default_factory=Counter)
    latency: dict[str, float] = field(default_factory=dict)
    "Seconds that each call of an operation waits before it is sent, by the operation's name, as over a network."
    metered_at: list[float] = field(default_factory=list)
    "When BatchMeterUsage was called, by time.monotonic()."

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far: this process, DynamoDB Local, the emulator."""
        return {"here": time.process_time(), **{name: _cpu_of(pid) for name, pid in self.pids.items()}}

    def subscription_id(self, number: int) -> str:
        return LicenseIdentity(self.buyers[number][0]).subscription_id

    def put_subscriptions(self) -> None:
        """Every buyer as an active subscription."""
        items = []
        for number, (arn, account) in enumerate(self.buyers):
            subscription_id = self.subscription_id(number)
            values = {
                **keys.subscription(subscription_id)._asdict(),
                "id": subscription_id,
                "integration": "license",
                "product_code": self.product_code,
                "license_arn": arn,
                "account_id": account,
                "status": "active",
                "activated_at": NOW - 86400,
                "version": 1,
            }
            items.append(to_item(values))
        self.write(self.tables.subscriptions, items, len(items))

    def due_records(self, count: int, tag_sets: int = 0) -> Iterator[dict[str, Any]]:
        """Metering records of the last hour, due now, spread over the buyers and as few dimensions as that takes, each
        with so many allocations of one unit."""
        for number in range(count):
            record = self._record(number, HOUR, settled=False)
            if tag_sets:
                record |= to_item({"quantity": tag_sets + 1, "tag_sets": tag_sets, "tag_keys": ["team", "user"]})
            yield record
            for tags in ({"user": f"user-{n}", "team": "storage"} for n in range(tag_sets)):
                sk = keys.allocation_prefix(record["sk"]["S"]) + tags_digest(tag_set(tags))
                yield to_item({"pk": record["pk"]["S"], "sk": sk, "quantity": 1, "tags": tags})

    def settled_record(self, number: int) -> dict[str, Any]:
        """A metering record of long ago, settled."""
        return self.settled_record_at(number, HOUR - 3600 * (24 + number // 1000))

    def settled_record_at(self, number: int, hour: int) -> dict[str, Any]:
        """A settled metering record of an hour; the number decides of which buyer and dimension."""
        return self._record(number, hour, settled=True)

    def _record(self, number: int, hour: int, *, settled: bool) -> dict[str, Any]:
        dimension = ("api_calls", "storage_gb_hours", "users")[number // len(self.buyers) % 3]
        arn, account = self.buyers[number % len(self.buyers)]
        subscription_id = self.subscription_id(number % len(self.buyers))
        values: dict[str, Any] = {
            **keys.metering_record(subscription_id, hour, dimension)._asdict(),
            "dimension": dimension,
            "hour": hour,
            "quantity": 1 + number % 997,
            "records": 3,
            "state": "metered" if settled else "open",
            "seal": "token" if settled else UNSEALED,
            "timestamp": hour,
            "refuse_at": hour + 86400,
            "product_code": self.product_code,
            "license_arn": arn,
            "account_id": account,
        }
        if settled:
            values |= {"metering_record_id": "0" * 36, "settled_at": hour + 4000}
        else:
            values |= {"due_shard": keys.due_shard(subscription_id), "due_at": hour + 3600 + 300}
        return to_item(values)

    def write(self, table: str, items: Iterable[Any], total: int) -> None:
        """Puts items, `total` of them, 25 a call."""
        calls = -(-total // WRITES_PER_CALL)
        for batch in tracked(batched(items, WRITES_PER_CALL, strict=False), f"writing {total:,} items", calls):
            self.dynamodb.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": item}} for item in batch]})


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def surroundings(*, licences: int, rate: float = 0.0, memory: str = "2g") -> Iterator[Surroundings]:
    """DynamoDB Local with both tables, and the emulator with this many buyers; `rate` is its quota (0: none)."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "testing"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    port = dynamodb_local.free_port()
    store = dynamodb_local.start(port, [f"-Xmx{memory}"])
    with tempfile.TemporaryFile() as errors:
        emulator = subprocess.Popen(
            [sys.executable, "-c", _EMULATOR, str(licences), str(rate), str(NOW)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert emulator.stdout is not None
            said = json.loads(emulator.stdout.readline())
            os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = f"http://127.0.0.1:{port}"
            os.environ["AWS_ENDPOINT_URL_MARKETPLACE_METERING"] = said["url"]
            dynamodb, metering = clients.dynamodb(), clients.metering_without_retries("us-east-1")
            made = Surroundings(
                dynamodb,
                metering,
                _tables(),
                said["code"],
                [tuple(buyer) for buyer in said["buyers"]],
                said["url"],
                {"dynamodb": store.pid, "emulator": emulator.pid},
            )
            for client in (dynamodb, metering):
                client.meta.events.register("before-send", lambda request, **_: _count(made, request))
            yield made
        finally:
            for process in (emulator, store):
                process.kill()
                process.wait()
            if emulator.stdout is not None:
                emulator.stdout.close()
            if emulator.stdin is not None:
                emulator.stdin.close()


def _tables() -> Tables:
    """Creates both tables. On a busy machine the client of the product would send CreateTable again before the answer
    comes, and fail because the table exists then. This client sends it once and waits for the answer."""
    patient = Config(read_timeout=300, retries={"mode": "standard", "total_max_attempts": 1})
    with closing(boto3.client("dynamodb", config=patient)) as client:
        return create_tables(client)


def _count(made: Surroundings, request: Any) -> None:
    target = request.headers["X-Amz-Target"]
    operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
    made.calls[operation] += 1
    if operation == "BatchMeterUsage":
        made.metered_at.append(time.monotonic())
    if wait := made.latency.get(operation):
        time.sleep(wait)


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """Prints a table as Markdown, so that it can stand in the documents as it is."""
    print(f"\n### {title}\n\n| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")
    sys.stdout.flush()
