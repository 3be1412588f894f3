"""Archiving a month: many items of few subscriptions, the same with the waiting of a network, and few items of many.

python -m bench.archive [--items 20000]

Everything that a run does counts: statements are frozen, files are written, read back and compared, and each item gets
its time to live. The bucket is in memory, so its part of the time is the waiting alone.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.surroundings import Surroundings, surroundings, table
from marketplace.archive.archiver import UsageArchiver
from marketplace.archive.bucket import ArchiveBucket
from marketplace.archive.content import line_of
from marketplace.dynamodb.table import Table
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.reader import subscriptions_ever_active
from tests.support.memory_s3 import MemoryS3

FIRST_HOUR = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())
READY = datetime(2026, 12, 1, 0, 20, tzinfo=UTC)
MOST = 2000
"""Items of one subscription and month: three dimensions in 667 of October's hours."""
NETWORK = {
    "Query": 0.01,
    "GetItem": 0.005,
    "BatchGetItem": 0.01,
    "PutItem": 0.01,
    "BatchExecuteStatement": 0.02,
    "PutObject": 0.1,
    "GetObject": 0.05,
}
"""Seconds of waiting by call, on the long side of what calls within a region take."""


@dataclass
class Bucket:
    """A bucket in memory that counts its calls and lets each wait."""

    latency: dict[str, float]
    calls: Counter[str] = field(default_factory=Counter)
    memory: MemoryS3 = field(default_factory=MemoryS3)

    def put_object(self, **given: Any) -> Any:
        self._called("PutObject")
        return self.memory.put_object(**given)

    def get_object(self, **given: Any) -> Any:
        self._called("GetObject")
        return self.memory.get_object(**given)

    def _called(self, operation: str) -> None:
        self.calls[operation] += 1
        time.sleep(self.latency.get(operation, 0))


def archiver(around: Surroundings, bucket: Bucket) -> UsageArchiver:
    usage = Table(around.dynamodb, around.tables.usage)
    subscriptions = Table(around.dynamodb, around.tables.subscriptions)
    objects = ArchiveBucket(lambda: bucket, "archive")
    statements = StatementReader(usage, lambda: READY, objects)
    return UsageArchiver(
        usage=usage,
        objects=objects,
        clock=lambda: READY,
        after_months=1,
        subscription_ids=lambda: subscriptions_ever_active(subscriptions),
        close=lambda subscription_id, month: statements.statement(subscription_id, month).settled,
    )


def october(around: Surroundings, each: int) -> Iterator[dict[str, Any]]:
    """So many settled metering records of every buyer."""
    buyers = len(around.buyers)
    for buyer in range(buyers):
        for number in range(each):
            yield around.settled_record_at(number % 3 * buyers + buyer, FIRST_HOUR + number // 3 * 3600)


def measure(case: str, subscriptions: int, each: int, latency: dict[str, float]) -> float:
    """Prints the table of one case, and answers its items per second."""
    items, bucket = subscriptions * each, Bucket(latency)
    with surroundings(licences=subscriptions) as around:
        around.put_subscriptions()
        around.write(around.tables.usage, october(around, each), items)
        around.calls.clear()
        around.latency = latency
        cpu, began = around.cpu(), time.monotonic()
        report = archiver(around, bucket).run(lambda: 900.0)
        elapsed = time.monotonic() - began
        used = {name: seconds - cpu[name] for name, seconds in around.cpu().items()}
        assert (report.items, report.months, report.held_back) == (items, subscriptions, 0), report
        calls, objects = around.calls.copy(), bucket.calls.copy()
        around.calls.clear()
        assert archiver(around, bucket).run(lambda: 900.0).months == 0
        again = ", ".join(f"{count} {name}" for name, count in around.calls.items())
    plain = sum(len(line_of(item)) for item in october(around, each))
    stored = sum(map(len, bucket.memory.objects.values()))
    per_thousand = ", ".join(f"{count / items * 1000:,.1f} {name}" for name, count in sorted(calls.items()))
    table(
        f"Archiving {items:,} items of {subscriptions:,} subscriptions, {case}",
        [
            ("items per second", f"{items / elapsed:,.0f}"),
            ("months of subscriptions per second", f"{subscriptions / elapsed:,.1f}"),
            ("requests of DynamoDB per 1,000 items", f"{sum(calls.values()) / items * 1000:,.0f}: {per_thousand}"),
            ("PutObject per 1,000 items", f"{objects['PutObject'] / items * 1000:,.1f}"),
            ("GetObject per 1,000 items", f"{objects['GetObject'] / items * 1000:,.1f}"),
            ("PutObject and GetObject per month of a subscription", f"{objects.total() / subscriptions:.1f}"),
            ("CPU of the function per item", f"{used['here'] / items * 1000:.2f} ms"),
            ("CPU of DynamoDB Local per item", f"{used['dynamodb'] / items * 1000:.2f} ms"),
            ("an item in the archive", f"{stored / items:,.0f} bytes, 1/{plain / stored:.0f} of its line"),
            ("the next run", again),
        ],
    )
    return items / elapsed


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.archive", description=__doc__)
    options.add_argument("--items", type=int, default=20_000)
    items = options.parse_args().items
    large, small = max(1, items // MOST), max(1, items // 50)
    rates = [
        measure("many of each", large, min(items, MOST), {}),
        measure("many of each, with a network's waiting times", large, min(items, MOST), NETWORK),
        measure("few of each", small, 50, {}),
        measure("few of each, with a network's waiting times", small, 50, NETWORK),
    ]
    table(
        "Items per second, in ratios of one run",
        [
            ("waiting for a network, many of each", f"{rates[1] / rates[0]:.2f} of the rate without"),
            ("few of each", f"{rates[2] / rates[0]:.2f} of the rate of many"),
            ("waiting for a network, few of each", f"{rates[3] / rates[1]:.2f} of the rate of many"),
        ],
    )


if __name__ == "__main__":
    main()
