"""A bad week on one machine. Each trouble is found by `doctor`, `status` or `reconcile`, and mended by commands of
docs/operations.md alone; in the end the bill is right to the unit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local.stack import Stack
from marketplace.dynamodb import keys
from marketplace.platform.clock import iso
from marketplace_saas_cli.exits import FINE, TROUBLE
from tests.local_stack.browser import Neighbourhood
from tests.local_stack.test_command_line import PRODUCT, Shell, other_sender
from tests.local_stack.test_local_operations import DEAD_LETTERS, client

MINUTE, HOUR, DAY = 60, 3600, 86_400
CLOSED_AT_AWS = "api_calls"

pytestmark = pytest.mark.slow


class Week:
    """The seller, whose application reports usage all the time, and whoever is on duty."""

    def __init__(self, stack: Stack, outside: Neighbourhood, shell: Shell, folder: Path) -> None:
        self.stack, self.outside, self.shell, self.folder = stack, outside, shell, folder
        self.expected: Counter[str] = Counter()
        self._ids = 0
        self.licences: dict[str, str] = {}

    def customer(self, account: str) -> str:
        bought = self.outside.buy(PRODUCT, account)
        code = self.outside.register(bought["id"]).rsplit("/", 1)[1]
        subscription_id: str = self.outside.claim(code, f"tenant-{account}")["subscription_id"]
        self.licences[subscription_id] = bought["id"]
        return subscription_id

    def use(self, subscription_id: str, quantity: int, *, dimension: str = "api_calls", owed: bool = True) -> str:
        """Reports usage of now; it is owed unless it is reported wrongly."""
        self._ids += 1
        record = {"id": f"w{self._ids}", "subscription_id": subscription_id}
        (result,) = self.outside.report([{**record, "dimension": dimension, "quantity": quantity}])
        assert result["status"] == "recorded", result
        self.expected[subscription_id] += quantity if owed else 0
        return f"w{self._ids}"

    def correct(self, subscription_id: str, quantity: int) -> None:
        """Reports a quantity under a new id, from a file."""
        self._ids += 1
        file = self.folder / f"corrected-{self._ids}.jsonl"
        record = {"id": f"c{self._ids}", "subscription_id": subscription_id}
        file.write_text(json.dumps({**record, "dimension": "api_calls", "quantity": quantity}) + "\n")
        assert self.shell.run("usage", "import", str(file), "--yes") == FINE, self.shell.err
        self.expected[subscription_id] += quantity

    def troubles(self) -> dict[str, dict[str, Any]]:
        """What `doctor` finds, by subject."""
        self.shell.run("doctor", "--json")
        found = json.loads(self.shell.out)["findings"]
        return {one["subject"]: one for one in found if one["result"] == "trouble"}

    def billed(self) -> dict[str, int]:
        """AWS's side."""
        return {
            subscription_id: sum(int(record["quantity"]) for record in self.outside.ledger(purchase))
            for subscription_id, purchase in self.licences.items()
        }

    def last_hours(self, hours: int) -> list[str]:
        return ["--from", iso(int(self.stack.clock.timestamp()) - hours * HOUR)]


@pytest.fixture
def week(stack: Stack, neighbourhood: Neighbourhood, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Week:
    return Week(stack, neighbourhood, Shell(stack, capsys), tmp_path)


def test_a_bad_week_ends_with_a_bill_that_is_right_to_the_unit(week: Week) -> None:
    acme = week.customer("111122223333")
    week.stack.advance(10 * MINUTE)
    week.use(acme, 100)
    week.stack.advance(2 * HOUR)
    assert week.troubles() == {}
    for day in (
        the_role_loses_its_permission,
        the_dead_letter_queue_fills,
        a_dimension_is_misspelt,
        the_schedule_stops,
        another_sender_meters_the_licence,
        a_table_is_restored,
    ):
        day(week, acme)
        week.use(acme, 11)
        week.stack.advance(3 * HOUR)
        assert week.billed() == dict(week.expected), day.__name__

    week.stack.advance(2 * DAY)
    assert week.troubles() == {}
    assert week.billed() == dict(week.expected)


def the_role_loses_its_permission(week: Week, acme: str) -> None:
    week.outside.admin("POST", "/faults", [{"operation": "BatchMeterUsage", "fault": "access_denied", "times": None}])
    week.use(acme, 21)
    # A run that AWS refuses pauses before it asks again, and the pauses are real; few runs show as much as all.
    week.stack.schedules.spacing = {"MeterUsageSchedule": HOUR}
    week.stack.advance(2 * HOUR)
    week.stack.schedules.spacing = {}
    found = week.troubles()
    assert "no run has metered it" in found["last run"]["text"]
    assert week.shell.run("run", "--yes") == TROUBLE
    assert "AccessDenied" in week.shell.out

    week.outside.admin("DELETE", "/faults")  # the policy is put right
    assert week.shell.run("run", "--yes") == FINE
    assert week.troubles() == {}


def the_dead_letter_queue_fills(week: Week, _: str) -> None:
    week.outside.admin("POST", "/delivery", {"match": "License Updated", "do": "drop"})
    globex = week.customer("444455556666")
    week.stack.advance(5 * MINUTE)
    lost = week.outside.admin("GET", "/notifications")["notifications"][-1]
    body = json.dumps(lost["body"]) if not isinstance(lost["body"], str) else lost["body"]
    week.outside.admin("DELETE", "/delivery")
    sqs = client(week.stack, "sqs")
    sqs.send_message(QueueUrl=week.stack.queue_url(DEAD_LETTERS), MessageBody=body)  # as EventBridge does in the end
    assert "1 message could not be handled" in week.troubles()["queues"]["text"]
    (message,) = week.shell.json("queue", "show", status=TROUBLE)["messages"]
    assert (message["title"], message["subscription_id"]) == ("License Updated", globex)
    assert message["effect"].startswith("activates")

    assert week.shell.json("queue", "redrive", "--yes")["moved"] == 1
    week.stack.settle()
    assert week.shell.json("subscriptions", "show", globex)["status"] == "active"
    week.use(globex, 31)
    assert week.troubles() == {}


def a_dimension_is_misspelt(week: Week, acme: str) -> None:
    week.use(acme, 41, dimension="API_calls", owed=False)
    week.stack.advance(2 * HOUR)
    assert "41 units" in week.troubles()["rejected"]["text"]
    (record,) = week.shell.json("usage", "list", "--subscription", acme, status=TROUBLE)["metering_records"]
    assert record["reason"] == "InvalidUsageDimensionException"
    assert "in_doubt" not in record

    week.correct(acme, 41)
    week.stack.advance(50 * HOUR)  # the wrong record is written off, and shown for a day
    assert week.troubles() == {}


def the_schedule_stops(week: Week, acme: str) -> None:
    rule = week.stack.deployment.resources["MeterUsageSchedule"]
    client(week.stack, "events").disable_rule(Name=rule)
    for _ in range(20):
        week.use(acme, 3)
        week.stack.advance(HOUR)
    found = week.troubles()
    assert f"enable-rule --name {rule}" in found["schedule"]["do"]
    assert {"last run", "at risk"} <= found.keys()
    assert week.shell.run("status") == TROUBLE

    client(week.stack, "events").enable_rule(Name=rule)
    assert week.shell.run("run", "--yes") == FINE
    assert week.troubles() == {}


def another_sender_meters_the_licence(week: Week, acme: str) -> None:
    week.use(acme, 50)
    other_sender(week.stack, week.shell.json("subscriptions", "show", acme), 8)
    week.stack.advance(2 * HOUR)
    assert "50 units" in week.troubles()["conflict"]["text"]
    (difference,) = week.shell.json("reconcile", *week.last_hours(3), status=TROUBLE)["differences"]
    assert (difference["kind"], difference["theirs"], difference["ours"]) == ("sent_by_someone_else", 8, 50)
    assert "somebody" in difference["senders"][0]

    (record,) = week.shell.json("usage", "list", "--subscription", acme, status=TROUBLE)["metering_records"]
    given = ["resolve", acme, "--hour", record["hour"], "--dimension", record["dimension"], "--yes"]
    for changed in (True, False):  # AWS has 8 of the 50 already, as CloudTrail shows
        assert week.shell.json(*given)["changed"] is changed
    week.stack.advance(2 * HOUR)
    told = {one.detail["id"]: one.detail for one in week.stack.aws.events if one.detail_type == "Conflict Resolved"}
    assert [(one["aws_quantity"], one["missing"], one["excess"]) for one in told.values()] == [(8, 42, 0)]
    assert week.shell.json("trace", *[one["record_id"] for one in told.values()])["chains"]
    assert week.billed() == dict(week.expected)
    assert week.shell.run("reconcile", *week.last_hours(8)) == FINE
    assert week.troubles() == {}


def a_table_is_restored(week: Week, acme: str) -> None:
    dynamodb, table = client(week.stack, "dynamodb"), "marketplace-saas-UsageTable"
    week.use(acme, 60)
    week.stack.advance(30 * MINUTE)
    backup = items_of(dynamodb, table, acme)
    week.stack.advance(2 * HOUR)  # what the backup has as open is metered by now
    for item in items_of(dynamodb, table, acme):
        if item["sk"]["S"].startswith((keys.HOUR_PREFIX, keys.RECORD_PREFIX)):
            dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    lost = week.shell.json("reconcile", *week.last_hours(4), status=TROUBLE)["differences"]
    assert {one["kind"] for one in lost} == {"only_theirs"}

    described = next(one for one in week.stack.deployment.tables if one["TableName"] == table)
    dynamodb.create_table(**{**described, "TableName": "usage-as-it-was"})
    for item in backup:
        dynamodb.put_item(TableName="usage-as-it-was", Item=item)
    put_back = week.shell.json("put-back", "usage-as-it-was", "--into", "usage", "--yes")
    assert put_back["gone"]["usage record"] > 20
    assert week.shell.run("run", "--yes") == FINE
    week.stack.advance(HOUR)
    assert week.shell.run("reconcile", *week.last_hours(5)) == FINE, week.shell.out
    assert week.troubles() == {}


def items_of(dynamodb: Any, table: str, subscription_id: str) -> list[dict[str, Any]]:
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": keys.subscription_pk(subscription_id)}},
    )
    found: list[dict[str, Any]] = answer["Items"]
    return found
