"""Metering 25,000 due records over 10,000 licences: at the quota of 10 calls a second, the same with the waiting of a
network, the same with three tag sets in every record, and without a quota.

python -m bench.metering [--records 25000] [--licences 10000] [--workers 4]
"""

import argparse
import itertools
import time
from datetime import UTC, datetime
from typing import Any

from bench.surroundings import NOW, Surroundings, surroundings, table
from marketplace.dynamodb.table import Table
from marketplace.metering.api import MeteringApi
from marketplace.metering.rate import CallRate
from marketplace.metering.run import MeteringRun
from marketplace.metering.store import MeteringStore

NETWORK = {
    "Query": 0.01,
    "BatchExecuteStatement": 0.02,
    "BatchGetItem": 0.01,
    "BatchWriteItem": 0.02,
    "BatchMeterUsage": 0.2,
}
"""Seconds of waiting by call, on the long side of what calls within a region take."""


class Silent:
    """Stands for the seller's bus and the queue, which metering without trouble doesn't use."""

    def publish(self, *_: Any) -> None:
        raise AssertionError("nothing is to be announced")

    def look_again(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody is unsubscribed")


def metering_run(around: Surroundings, calls_per_second: float, workers: int) -> MeteringRun:
    tokens = itertools.count()
    return MeteringRun(
        store=MeteringStore(Table(around.dynamodb, around.tables.usage)),
        api=MeteringApi(around.metering),
        region="us-east-1",
        rate=CallRate(calls_per_second, time.monotonic, time.sleep),
        bus=Silent(),
        requests=Silent(),
        clock=lambda: datetime.fromtimestamp(NOW, UTC),
        monotonic=time.monotonic,
        sleep=time.sleep,
        time_left=lambda: 900.0,
        new_token=lambda: f"bench-{next(tokens)}",
        workers=workers,
    )


def measure(
    case: str, records: int, licences: int, workers: int, *, quota: float, latency: dict[str, float], tag_sets: int = 0
) -> None:
    with surroundings(licences=licences, rate=quota) as around:
        around.write(around.tables.usage, around.due_records(records, tag_sets), records * (1 + tag_sets))
        around.calls.clear()
        around.latency = latency
        cpu, began = around.cpu(), time.monotonic()
        report = metering_run(around, quota or 1_000_000, workers).run()
        elapsed = time.monotonic() - began
        used = {name: seconds - cpu[name] for name, seconds in around.cpu().items()}
        assert report.records == {"metered": records}, report.summary()
        calls = around.calls["BatchMeterUsage"]
        allocations = records if tag_sets else 0
        trips = sum(around.calls.values()) - around.calls["Query"] + allocations
        sending = (calls - 1) / (around.metered_at[-1] - around.metered_at[0])
        table(
            f"Metering {records:,} due records of {licences:,} licences, {case}, {workers} workers",
            [
                ("records per second, from the first call to the last", f"{sending * records / calls:,.1f}"),
                ("the whole run", f"{elapsed:,.1f} s, {records / elapsed:,.0f} records per second"),
                ("before the first call (reading the index)", f"{around.metered_at[0] - began:.1f} s"),
                ("BatchMeterUsage calls", f"{calls:,}, {sending:.2f} a second"),
                ("batches full", f"{records / calls / 25:.1%}"),
                (
                    "round trips per 25 records",
                    f"{trips / (records / 25):.2f}, and {around.calls['Query'] - allocations} queries in all",
                ),
                ("refused, throttled or unanswered calls", f"{report.errors.total()}"),
                ("CPU of the function per record", f"{used['here'] / records * 1000:.2f} ms"),
                ("CPU of DynamoDB Local per record", f"{used['dynamodb'] / records * 1000:.2f} ms"),
                ("CPU of the emulator per record", f"{used['emulator'] / records * 1000:.2f} ms"),
                ("DynamoDB Local's share of all CPU", f"{used['dynamodb'] / sum(used.values()):.0%}"),
            ],
        )


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.metering", description=__doc__)
    options.add_argument("--records", type=int, default=25_000)
    options.add_argument("--licences", type=int, default=10_000)
    options.add_argument("--workers", type=int, default=4)
    given = options.parse_args()
    waiting = f"waiting {NETWORK['BatchMeterUsage'] * 1000:.0f} ms for AWS Marketplace and 10 to 20 ms for DynamoDB"
    for case, quota, latency, tag_sets in (
        ("10 calls a second", 10.0, {}, 0),
        (f"10 calls a second, {waiting}", 10.0, NETWORK, 0),
        (f"each with 3 tag sets, 10 calls a second, {waiting}", 10.0, NETWORK, 3),
        ("no quota", 0.0, {}, 0),
    ):
        measure(case, given.records, given.licences, given.workers, quota=quota, latency=latency, tag_sets=tag_sets)


if __name__ == "__main__":
    main()
