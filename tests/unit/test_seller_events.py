"""Events on the seller's bus, requests on the queue, and its batches: what is sent, and what if it isn't taken."""

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from marketplace.lifecycle.sqs_batch import WAITS, handle_each, response, wait_after
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.recheck_queue import LifecycleRequests, Requests
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent, from_outbox, outbox_item, stable_id
from tests.support.lifecycle_world import EventsClient, QueueClient

ID = "evt-" + "a" * 26


def event(number: int = 1) -> SellerEvent:
    detail = {
        "subscription_id": "sub-" + "a" * 26,
        "dimension": "api_calls",
        "hour": "2026-08-20T13:00:00Z",
        "quantity": number,
        "reason": "duplicate_record",
    }
    return SellerEvent("Usage Conflict", ID, 1_787_236_200, detail)


def bus(client: EventsClient) -> SellerBus:
    return SellerBus(client, "seller")  # type: ignore[arg-type]


class TestBus:
    def test_an_event_carries_its_id_its_time_and_the_version_of_its_schema(self) -> None:
        client = EventsClient()
        bus(client).publish([event()])
        (entry,) = client.put
        assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == (
            "marketplace.saas",
            "Usage Conflict",
            "seller",
        )
        assert entry["Time"] == datetime(2026, 8, 20, 14, 30, tzinfo=UTC)
        general = {"id": ID, "time": "2026-08-20T14:30:00Z", "schema_version": 1}
        assert json.loads(entry["Detail"]) == {**general, **event().detail}

    def test_many_events_go_in_tens(self) -> None:
        client = EventsClient()
        bus(client).publish([event(number) for number in range(23)])
        assert [json.loads(entry["Detail"])["quantity"] for entry in client.put] == list(range(23))

    def test_no_event_is_no_call(self) -> None:
        bus(EventsClient(down=True)).publish([])

    def test_what_failed_singly_is_sent_again(self) -> None:
        client = EventsClient(failing=2)
        bus(client).publish([event(1), event(2), event(3)])
        assert [json.loads(entry["Detail"])["quantity"] for entry in client.put] == [3, 1, 2]

    def test_what_fails_again_and_again_is_told(self) -> None:
        with pytest.raises(NoAnswerError):
            bus(EventsClient(failing=99)).publish([event()])

    def test_ids_depend_on_every_part_and_nothing_else(self) -> None:
        assert stable_id("a", "bc", 1) == stable_id("a", "bc", 1)
        assert len({stable_id("a", "bc"), stable_id("ab", "c"), stable_id("abc"), stable_id("a", "b", "c")}) == 4

    def test_the_outbox_keeps_an_event_as_it_is(self) -> None:
        item = outbox_item("sub-1", event())
        assert from_outbox(item) == event()
        assert (item["pk"], item["sk"]) == ({"S": "SUB#sub-1"}, {"S": f"OUTBOX#{ID}"})


class TestRequests:
    def test_a_request_names_only_what_is_given(self, moto: None) -> None:
        sqs = boto3.client("sqs")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        Requests(sqs, url).look_again("sub-1", recheck.CLAIMED)
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        assert json.loads(message["Body"]) == {
            "marketplace_request": "look_again",
            "subscription_id": "sub-1",
            "reason": "claimed",
        }

    def test_everything_that_can_be_said(self) -> None:
        sqs = QueueClient()
        queue = LifecycleRequests(
            sqs,  # type: ignore[arg-type]
            "q",
            read_back_queue_url="read-back",
            metering_queue_url="metering",
        )
        queue.look_again("sub-1", recheck.REGISTERED, since=3, agreement_id="a", delay_seconds=9000)
        queue.reconcile("sub-1", delay_seconds=-5)
        queue.reconcile_all("active", after="sub-0")
        queue.read_back("sub-1", attempt=0, delay_seconds=120)
        queue.find_licenses("agmt-1")
        queue.metering_run("sub-1", 1_787_236_200, delay_seconds=33)
        assert [(set(message), delay) for message, delay in sqs.sent] == [
            ({"marketplace_request", "subscription_id", "reason", "since", "agreement_id"}, 900),
        ]
        assert [(set(message), delay) for message, delay in sqs.asked] == [
            ({"marketplace_request", "subscription_id"}, 0),
            ({"marketplace_request", "status", "after"}, 0),
            ({"marketplace_request", "subscription_id", "attempt"}, 120),
            ({"marketplace_request", "agreement_id"}, 0),
        ]
        assert sqs.runs == [33]


class TestBatches:
    def test_waits_grow_with_the_receives_and_the_last_is_none(self) -> None:
        waits = [wait_after(receive_count) for receive_count in range(1, 10)]
        assert waits == [10, 20, 30, 60, 120, 180, 180, 0, 0]
        assert waits == [*WAITS, 0, 0]
        assert wait_after(0) == WAITS[0]

    def test_a_record_without_attributes_is_a_first_receive(self) -> None:
        def refuse(_: Any) -> None:
            raise ValueError

        sqs = QueueClient()
        records = [{"messageId": "m", "body": "{}", "receiptHandle": "r"}]
        failures = handle_each(records, refuse, sqs=sqs, queue_url="q", time_left=lambda: 60)  # type: ignore[arg-type]
        assert sqs.hidden == [("r", 10)]
        assert response(failures) == {"batchItemFailures": [{"itemIdentifier": "m"}]}

    def test_what_there_is_no_time_to_begin_is_visible_again_at_once(self) -> None:
        begun: list[str] = []
        seconds = iter([60.0, 19.0, 19.0])
        sqs = QueueClient()
        records = [{"messageId": name, "body": "{}", "receiptHandle": name} for name in "abc"]
        failures = handle_each(
            records,
            lambda message: begun.append(message.message_id),
            sqs=sqs,  # type: ignore[arg-type]
            queue_url="q",
            time_left=lambda: next(seconds),
        )
        assert begun == ["a"]
        assert sqs.hidden == [("b", 0), ("c", 0)]
        assert [(failure.message_id, failure.error) for failure in failures] == [("b", None), ("c", None)]

    def test_a_wait_that_cannot_be_set_is_the_queues_own(self, moto: None) -> None:
        def refuse(_: Any) -> None:
            raise ValueError

        records = [{"messageId": "m", "body": "{}", "receiptHandle": "gone"}]
        url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
        failures = handle_each(records, refuse, sqs=boto3.client("sqs"), queue_url=url, time_left=lambda: 60)
        assert [failure.message_id for failure in failures] == ["m"]
