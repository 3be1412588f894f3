"""moto as the stack uses it: on the emulator's clock, atomic, one request at a time, and watched."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import BusEvent, LocalAws
from local.deployment import Bucket, Deployment, Queue, queue_arn
from tests.local_stack.conftest import Time

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEYS = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
ATTRIBUTES = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
TABLE: Any = {
    "TableName": "t",
    "KeySchema": KEYS,
    "AttributeDefinitions": ATTRIBUTES,
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture
def aws(start_aws: Callable[[Deployment], LocalAws]) -> LocalAws:
    redrive = json.dumps({"deadLetterTargetArn": queue_arn("dead"), "maxReceiveCount": 2})
    queues = [Queue("q", {"VisibilityTimeout": "60", "RedrivePolicy": redrive}), Queue("dead", {})]
    buckets, time_to_live = [Bucket("bucket", versioned=True)], {"t": "until", "elsewhere": "until"}
    return start_aws(Deployment({}, [], [], [], [TABLE], queues, ["bus"], [], [], "", buckets, time_to_live))


def put(sk: str, **more: Any) -> dict[str, Any]:
    return {"Put": {"TableName": "t", "Item": {"pk": {"S": "a"}, "sk": {"S": sk}}, **more}}


def add(sk: str) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": "t",
            "Key": {"pk": {"S": "a"}, "sk": {"S": sk}},
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }


def items(aws: LocalAws) -> dict[str, Any]:
    found = aws.client("dynamodb").query(
        TableName="t", KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "a"}}
    )
    return {item["sk"]["S"]: item.get("n", {}).get("N") for item in found["Items"]}


def test_a_failed_transaction_leaves_everything_as_it_was(aws: LocalAws) -> None:
    dynamodb = aws.client("dynamodb")
    dynamodb.transact_write_items(TransactItems=[add("kept")])
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        dynamodb.transact_write_items(
            TransactItems=[add("kept"), put("new"), put("kept2", ConditionExpression="attribute_exists(pk)")]
        )
    with pytest.raises(ClientError, match="multiple operations"):
        dynamodb.transact_write_items(TransactItems=[put("twice"), add("twice")])

    assert items(aws) == {"kept": "1"}


def test_transactions_of_many_threads_are_all_counted(aws: LocalAws) -> None:
    dynamodb = aws.client("dynamodb")
    with ThreadPoolExecutor(8) as pool:
        for done in [
            pool.submit(dynamodb.transact_write_items, TransactItems=[add("n"), put(f"r{number}")])
            for number in range(40)
        ]:
            done.result()

    assert items(aws)["n"] == "40"
    assert len(items(aws)) == 41


def test_a_delayed_message_comes_when_the_clock_has_moved(aws: LocalAws, time: Time) -> None:
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=900)

    assert aws.visible_messages("q") == 0
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    due = aws.next_visible_at("q", NOON.timestamp())
    assert due is not None
    assert due == pytest.approx(NOON.timestamp() + 900, abs=0.01)
    time.moment = datetime.fromtimestamp(due, UTC)
    assert aws.visible_messages("q") == 1
    assert aws.next_visible_at("q", due) is None


def test_a_message_that_is_not_deleted_comes_back_and_ends_in_the_dead_letter_queue(aws: LocalAws, time: Time) -> None:
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
        assert aws.visible_messages("q") == 0
        time.moment += timedelta(seconds=61)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)

    assert aws.visible_messages("dead") == 1


def test_what_is_put_on_a_bus_is_kept(aws: LocalAws) -> None:
    heard: list[BusEvent] = []
    aws.on_event = heard.append
    entry = {"EventBusName": "bus", "Source": "marketplace.saas", "DetailType": "Subscription Activated"}
    aws.client("events").put_events(Entries=[{**entry, "Detail": '{"subscription_id": "s"}'}])

    assert heard == aws.events
    assert [(one.bus, one.source, one.detail_type, one.detail) for one in heard] == [
        ("bus", "marketplace.saas", "Subscription Activated", {"subscription_id": "s"})
    ]
    assert heard[0].at == NOON.timestamp()


def test_an_unknown_bus_takes_nothing(aws: LocalAws) -> None:
    entry = {"EventBusName": "nobody", "Source": "s", "DetailType": "d", "Detail": "{}"}
    with pytest.raises(ClientError):
        aws.client("events").put_events(Entries=[entry])

    assert aws.events == []


def test_a_new_server_knows_nothing_of_the_last_one(time: Time) -> None:
    for _ in range(2):
        server = LocalAws("127.0.0.1", 0, time.now)
        assert server.client("dynamodb").list_tables()["TableNames"] == []
        server.client("dynamodb").create_table(**TABLE)
        server.stop()


def until(aws: LocalAws, sk: str, value: dict[str, Any] | None) -> None:
    item = {"pk": {"S": "a"}, "sk": {"S": sk}, **({} if value is None else {"until": value})}
    aws.client("dynamodb").put_item(TableName="t", Item=item)


def test_what_has_expired_is_removed_once_a_day_of_the_clock(aws: LocalAws, time: Time) -> None:
    now = int(NOON.timestamp())
    for sk, value in {
        "past": {"N": str(now - 1)},
        "an hour": {"N": str(now + 3600)},
        "a week": {"N": str(now + 7 * 86400)},
        "a text": {"S": str(now - 1)},
        "for ever": None,
    }.items():
        until(aws, sk, value)
    aws.remove_expired()
    assert set(items(aws)) == {"an hour", "a week", "a text", "for ever"}
    time.moment += timedelta(hours=23)
    aws.remove_expired()
    assert "an hour" in items(aws)
    time.moment += timedelta(hours=1)
    aws.remove_expired()
    assert set(items(aws)) == {"a week", "a text", "for ever"}
    time.moment -= timedelta(days=9)  # a person sets the clock back
    aws.remove_expired()
    time.moment += timedelta(days=30)
    aws.remove_expired()
    assert set(items(aws)) == {"a text", "for ever"}


def test_an_overwritten_object_of_a_versioned_bucket_is_an_older_version(aws: LocalAws, time: Time) -> None:
    s3, before = aws.client("s3"), aws.writes
    for content in (b"one", b"two"):
        s3.put_object(Bucket="bucket", Key="usage/x", Body=content)
        time.moment += timedelta(hours=1)
    assert aws.writes == before + 2
    assert s3.get_object(Bucket="bucket", Key="usage/x")["Body"].read() == b"two"
    versions = s3.list_object_versions(Bucket="bucket")["Versions"]
    assert aws.writes == before + 2, "looking at it changes nothing that a page shows"
    assert [(one["IsLatest"], one["LastModified"]) for one in versions] == [
        (True, NOON + timedelta(hours=1)),
        (False, NOON),
    ]
    first = s3.get_object(Bucket="bucket", Key="usage/x", VersionId=versions[1]["VersionId"])
    assert first["Body"].read() == b"one"
