"""Metering 25,000 due records over 10,000 licences: at the quota of 10 calls a second, and without one.

python -m bench.metering [--records 25000] [--licences 10000] [--workers 4]
"""

import argparse
import itertools
import time
from datetime import UTC, datetime
from typing import Any

from bench.surroundings import NOW, Surroundings, surroundings, table
from marketplace.metering import MeteringRun
from marketplace.metering_api import MeteringApi
from marketplace.metering_store import MeteringStore
from marketplace.rate import CallRate


class Silent:
    """Stands for the seller's bus and the queue, which metering without trouble doesn't use."""

    def publish(self, *_: Any) -> None:
        raise AssertionError("nothing is to be announced")

    def look_again(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody is unsubscribed")


def metering_run(around: Surroundings, calls_per_second: float, workers: int) -> MeteringRun:
    tokens = itertools.count()
    return MeteringRun(
        store=MeteringStore(around.dynamodb, around.tables.usage),
        api=MeteringApi(around.metering),
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


def measure(records: int, licences: int, quota: float, workers: int) -> None:
    with surroundings(licences=licences, rate=quota) as around:
        around.write(around.tables.usage, around.due_records(records), every=5000)
        around.calls.clear()
        cpu, began = around.cpu(), time.monotonic()
        report = metering_run(around, quota or 1_000_000, workers).run()
        elapsed = time.monotonic() - began
        used = {name: seconds - cpu[name] for name, seconds in around.cpu().items()}
        assert report.records == {"metered": records}, report.summary()
        calls = around.calls["BatchMeterUsage"]
        trips = sum(around.calls.values()) - around.calls["Query"]
        title = f"Metering {records:,} due records, {'10 calls a second' if quota else 'no quota'}, {workers} workers"
        table(
            title,
            [
                ("records per second", f"{records / elapsed:,.0f}"),
                ("seconds", f"{elapsed:,.1f}"),
                ("BatchMeterUsage calls", f"{calls:,} ({calls / elapsed:.2f} a second)"),
                ("batches full", f"{records / calls / 25:.1%}"),
                (
                    "round trips per 25 records",
                    f"{trips / (records / 25):.2f}, and {around.calls['Query']} queries in all",
                ),
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
    for quota in (10.0, 0.0):
        measure(given.records, given.licences, quota, given.workers)


if __name__ == "__main__":
    main()
