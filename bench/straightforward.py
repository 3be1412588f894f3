"""The same work done the straightforward way: one update per usage record, one call per customer.

    python -m bench.straightforward [--records 2000]

The straightforward way is what samples do: each record is put and added to its hour's total in two writes; each due
total is read from a query, sent in a call of its own and marked in a write. It knows no duplicates and no crashes.
"""

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from bench.metering import metering_run
from bench.surroundings import HOUR, NOW, Surroundings, surroundings, table
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.usage.booking import UsageStore
from marketplace.usage.recorder import UsageRecorder

LICENCES = 200


def usage(around: Surroundings, records: int) -> list[dict[str, Any]]:
    at = datetime.fromtimestamp(HOUR + 60, UTC).isoformat()
    return [
        {
            "id": f"r{n}",
            "subscription_id": around.subscription_id(n % LICENCES),
            "dimension": ("api_calls", "storage_gb_hours", "users")[n // LICENCES % 3],
            "quantity": 1,
            "timestamp": at,
        }
        for n in range(records)
    ]


def record_ours(around: Surroundings, records: list[dict[str, Any]]) -> None:
    recorder = UsageRecorder(
        store=UsageStore(Table(around.dynamodb, around.tables.usage), 400),
        subscriptions=SubscriptionReader(Table(around.dynamodb, around.tables.subscriptions)),
        clock=lambda: datetime.fromtimestamp(NOW, UTC),
        seal_delay=240,
        sleep=time.sleep,
        monotonic=time.monotonic,
    )
    for start in range(0, len(records), 500):
        for result in recorder.record(records[start : start + 500]):
            assert result["status"] == "recorded", result


def record_straightforward(around: Surroundings, records: list[dict[str, Any]]) -> None:
    for record in records:
        pk = keys.subscription_pk(record["subscription_id"])
        quantity = {"N": str(record["quantity"])}
        around.dynamodb.put_item(
            TableName=around.tables.usage,
            Item={"pk": {"S": f"PLAIN#{pk}"}, "sk": {"S": record["id"]}, "quantity": quantity},
        )
        around.dynamodb.update_item(
            TableName=around.tables.usage,
            Key={"pk": {"S": "PLAIN"}, "sk": {"S": f"{pk}#{record['dimension']}"}},
            UpdateExpression="ADD quantity :quantity",
            ExpressionAttributeValues={":quantity": quantity},
        )


def meter_straightforward(around: Surroundings) -> int:
    arns = {around.subscription_id(n): buyer for n, buyer in enumerate(around.buyers)}
    start: dict[str, Any] = {}
    sent = 0
    while True:
        page = around.dynamodb.query(
            TableName=around.tables.usage,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "PLAIN"}},
            **start,
        )
        for item in page["Items"]:
            _, subscription_id, dimension = item["sk"]["S"].split("#")
            arn, account = arns[subscription_id]
            around.metering.batch_meter_usage(
                UsageRecords=[
                    {
                        "Timestamp": HOUR - 3600,
                        "LicenseArn": arn,
                        "CustomerAWSAccountId": account,
                        "Dimension": dimension,
                        "Quantity": int(item["quantity"]["N"]),
                    }
                ]
            )
            around.dynamodb.update_item(
                TableName=around.tables.usage,
                Key={"pk": item["pk"], "sk": item["sk"]},
                UpdateExpression="SET sent = :yes",
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
            sent += 1
        if "LastEvaluatedKey" not in page:
            return sent
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.straightforward", description=__doc__)
    options.add_argument("--records", type=int, default=6000)
    given = options.parse_args()
    measured: dict[str, tuple[float, float, int]] = {}
    with surroundings(licences=LICENCES) as around:
        around.put_subscriptions()
        records = usage(around, given.records)

        def timed(name: str, work: Any) -> Any:
            around.calls.clear()
            cpu, began = time.process_time(), time.monotonic()
            result = work()
            measured[name] = (time.monotonic() - began, time.process_time() - cpu, sum(around.calls.values()))
            return result

        timed("record, straightforward", lambda: record_straightforward(around, records))
        timed("record, ours", lambda: record_ours(around, records))
        sent = timed("meter, straightforward", lambda: meter_straightforward(around))
        report = timed("meter, ours", lambda: metering_run(around, 1_000_000, 4).run())
        assert report.records["metered"] == sent, report.summary()
    rows = []
    for job in ("record", "meter"):
        ours, plain = measured[f"{job}, ours"], measured[f"{job}, straightforward"]
        what = f"{given.records:,} usage records recorded" if job == "record" else f"{sent:,} metering records sent"
        ratios = [
            f"{b / a:.1f} x the {name}" for a, b, name in zip(ours, plain, ("time", "CPU", "round trips"), strict=True)
        ]
        rows.append((what, f"the straightforward way takes {', '.join(ratios)} (ours: {ours[2]:,} round trips)"))
    calls = f"{sent / 10:.0f} s against {sent / 250:.1f} s"
    rows.append((f"{sent:,} metering records at AWS's 10 calls a second", f"at least {calls}"))
    table("Beside the straightforward way, in one run", rows)


if __name__ == "__main__":
    main()
