"""POST /usage through the real handler, in batches of 1, 25 and 500 records.

python -m bench.usage [--rounds 20]
"""

import argparse
import json
import os
import statistics
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any

from bench.surroundings import NOW, surroundings, table
from marketplace.platform import clients, clock

SUBSCRIPTIONS = 50
DIMENSIONS = ("api_calls", "storage_gb_hours", "users")


def request(batch: int, serial: int, subscriptions: list[str], spread: int) -> dict[str, Any]:
    """A POST /usage event of `batch` new records over `spread` subscriptions and three dimensions."""
    records = [
        {
            "id": f"{batch}-{spread}-{serial}-{n}",
            "subscription_id": subscriptions[n % spread],
            "dimension": DIMENSIONS[n // spread % 3],
            "quantity": n,
        }
        for n in range(batch)
    ]
    return {
        "version": "2.0",
        "routeKey": "POST /usage",
        "rawPath": "/usage",
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": "/usage", "sourceIp": "127.0.0.1"}},
        "body": json.dumps({"records": records}),
        "isBase64Encoded": False,
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.usage", description=__doc__)
    options.add_argument("--rounds", type=int, default=20)
    given = options.parse_args()
    with surroundings(licences=SUBSCRIPTIONS) as around:
        around.put_subscriptions()
        os.environ |= {
            "SUBSCRIPTIONS_TABLE": around.tables.subscriptions,
            "USAGE_TABLE": around.tables.usage,
            "METERING_ENABLED": "true",
            "EVENT_BUS_NAME": "none",
            "NOTIFICATION_QUEUE_URL": "http://127.0.0.1:9/none",
            "READ_BACK_QUEUE_URL": "http://127.0.0.1:9/none",
            "METERING_QUEUE_URL": "http://127.0.0.1:9/none",
            "POWERTOOLS_SERVICE_NAME": "bench",
            "POWERTOOLS_METRICS_NAMESPACE": "bench",
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        clock.utc_now = lambda: datetime.fromtimestamp(NOW, UTC)
        clients.dynamodb = lambda: around.dynamodb
        from functions.seller_api.app import lambda_handler  # noqa: PLC0415 - its client is to be the counted one

        context: Any = SimpleNamespace(
            function_name="bench", memory_limit_in_mb=1024, invoked_function_arn="arn", aws_request_id="id"
        )
        subscriptions = [around.subscription_id(n) for n in range(SUBSCRIPTIONS)]
        rows = []
        for batch, spread in ((1, 1), (25, 5), (500, 1), (500, 10), (500, 50)):
            with redirect_stdout(StringIO()):
                for serial in range(3):
                    lambda_handler(request(batch, -serial - 1, subscriptions, spread), context)
            around.calls.clear()
            seconds, cpu, before = [], time.process_time(), around.cpu()["dynamodb"]
            for serial in range(given.rounds):
                event = request(batch, serial, subscriptions, spread)
                began = time.monotonic()
                with redirect_stdout(StringIO()):  # its metrics
                    answer = lambda_handler(event, context)
                seconds.append(time.monotonic() - began)
                assert {one["status"] for one in json.loads(answer["body"])["results"]} == {"recorded"}
            per_record = (time.process_time() - cpu) / given.rounds / batch * 1000
            store = (around.cpu()["dynamodb"] - before) / given.rounds / batch * 1000
            trips = sum(around.calls.values()) / given.rounds
            rows.append(
                (
                    f"{batch} records over {spread} subscriptions",
                    f"median {statistics.median(seconds) * 1000:,.0f} ms, slowest {max(seconds) * 1000:,.0f} ms; "
                    f"CPU per record {per_record:.2f} ms (DynamoDB Local {store:.2f} ms); {trips:.0f} round trips",
                )
            )
        table(f"POST /usage, {given.rounds} requests of each kind", rows)


if __name__ == "__main__":
    main()
