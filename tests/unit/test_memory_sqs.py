"""The queues in memory behave as SQS does, with what template.yaml declares."""

from typing import Any

import pytest

from tests.support.memory_sqs import MemorySqs
from tests.support.observed_client import ObservedClient
from tools.template import resources

NOTIFICATIONS = "NotificationQueue"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqs(clock: Clock) -> MemorySqs:
    return MemorySqs(clock)


def received(sqs: MemorySqs) -> dict[str, Any]:
    record = sqs.receive(NOTIFICATIONS)
    assert record is not None
    return record


def test_it_has_the_queues_of_the_template(sqs: MemorySqs) -> None:
    declared = {name for name in resources("AWS::SQS::Queue") if "DeadLetter" not in name}
    assert set(sqs.queues) == declared


def test_a_message_is_seen_after_its_delay_and_hidden_while_it_is_handled(sqs: MemorySqs, clock: Clock) -> None:
    sqs.send_message(QueueUrl=NOTIFICATIONS, MessageBody="{}", DelaySeconds=60)
    assert sqs.receive(NOTIFICATIONS) is None
    clock.seconds += 60
    record = received(sqs)
    assert sqs.receive(NOTIFICATIONS) is None
    clock.seconds += sqs.queues[NOTIFICATIONS].visibility_timeout
    assert received(sqs)["attributes"]["ApproximateReceiveCount"] == "2"
    sqs.delete(NOTIFICATIONS, record["receiptHandle"])
    assert sqs.next_visible() is None


def test_a_message_given_back_is_seen_when_it_says(sqs: MemorySqs, clock: Clock) -> None:
    sqs.send_message(QueueUrl=NOTIFICATIONS, MessageBody="{}")
    handle = received(sqs)["receiptHandle"]
    sqs.change_message_visibility(QueueUrl=NOTIFICATIONS, ReceiptHandle=handle, VisibilityTimeout=10)
    assert sqs.next_visible() == clock.seconds + 10


def test_what_was_received_too_often_is_a_dead_letter_until_it_is_redriven(sqs: MemorySqs, clock: Clock) -> None:
    sqs.send_message(QueueUrl=NOTIFICATIONS, MessageBody="{}")
    queue = sqs.queues[NOTIFICATIONS]
    for _ in range(int(queue.max_receives)):
        received(sqs)
        clock.seconds += queue.visibility_timeout
    assert sqs.receive(NOTIFICATIONS) is None
    assert len(queue.dead) == 1
    assert sqs.redrive() == 1
    assert received(sqs)["attributes"]["ApproximateReceiveCount"] == "1"


def test_a_message_that_is_older_than_its_queue_keeps_is_gone(sqs: MemorySqs, clock: Clock) -> None:
    sqs.send_message(QueueUrl=NOTIFICATIONS, MessageBody="{}")
    clock.seconds += sqs.queues[NOTIFICATIONS].retention
    assert sqs.receive(NOTIFICATIONS) is None


def test_a_call_whose_answer_is_lost_is_made_again_by_the_sdk(sqs: MemorySqs) -> None:
    client = ObservedClient(sqs, repeated=lambda name, _: name == "send_message")
    client.send_message(QueueUrl=NOTIFICATIONS, MessageBody="{}")
    assert len(sqs.queues[NOTIFICATIONS].messages) == 2
