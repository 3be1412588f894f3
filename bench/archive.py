"""Archiving a month: large months of few subscriptions and small ones of many, without and with a network's waiting.

python -m bench.archive [--items 20000]

Everything that a run does counts: statements are frozen, files are written, read back and compared, and each item gets
its time to live. The bucket is in memory, so its part of the time is the waiting alone.
"""

import argparse
import time
import uuid
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
FEW = 50
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
            item = around.settled_record_at(number % 3 * buyers + buyer, FIRST_HOUR + number // 3 * 3600)
            accepted = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{buyer} {number}"))  # no two are alike, as AWS's are
            yield {**item, "metering_record_id": {"S": accepted}}


def measure(case: str, subscriptions: int, each: int, latency: dict[str, float]) -> tuple[float, list[tuple[str, str]]]:
    """The items per second of one case, and its rows of the table."""
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
        assert dict(around.calls) == {"GetItem": 1}, around.calls
        plain = sum(len(line_of(item)) for item in october(around, each))
    stored = sum(map(len, bucket.memory.objects.values()))
    by_name = ", ".join(f"{count / items * 1000:,.0f} {name}" for name, count in calls.most_common())
    waiting = sum(count * latency.get(name, 0) for name, count in (calls + objects).items())
    rows = [
        ("items per second", f"{items / elapsed:,.0f}; {subscriptions / elapsed:,.1f} months of subscriptions"),
        ("requests of DynamoDB per 1,000 items", f"{calls.total() / items * 1000:,.0f}: {by_name}"),
        (
            "calls of S3 per 1,000 items",
            ", ".join(f"{count / items * 1000:,.0f} {name}" for name, count in sorted(objects.items())),
        ),
        (
            "CPU per item",
            f"{used['here'] / items * 1000:.2f} ms (DynamoDB Local {used['dynamodb'] / items * 1000:.2f} ms)",
        ),
        ("an item in the archive", f"{stored / items:,.0f} bytes, 1/{plain / stored:.0f} of its line"),
    ]
    if waiting:
        rows.append(("waiting per 1,000 items", f"{waiting / items * 1000:.1f} s"))
    return items / elapsed, [(f"{case}: {name}", measured) for name, measured in rows]


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.archive", description=__doc__)
    options.add_argument("--items", type=int, default=20_000)
    items = options.parse_args().items
    large, small = max(1, items // MOST), max(1, items // FEW)
    cases = {
        "large months": (large, min(items, MOST), {}),
        "small months": (small, FEW, {}),
        "large months, with waiting": (large, min(items, MOST), NETWORK),
        "small months, with waiting": (small, FEW, NETWORK),
    }
    rates, rows = [], []
    for case, given in cases.items():
        rate, of_case = measure(case, *given)
        rates.append(rate)
        rows += of_case
    rows += [
        ("small months beside large ones", f"{rates[1] / rates[0]:.2f} of the items per second"),
        ("the same, with waiting", f"{rates[3] / rates[2]:.2f} of the items per second"),
        ("the next run", "1 GetItem"),
    ]
    table(f"Archiving {items:,} items, in months of {min(items, MOST):,} and of {FEW}", rows)


if __name__ == "__main__":
    main()
