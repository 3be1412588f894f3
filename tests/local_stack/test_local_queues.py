"""How a poller tells what a function has handled (Lambda Developer Guide: partial batch responses)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from local.aws import LocalAws
from local.deployment import Deployment, Queue, QueueMapping
from local.queues import Poller
from local.runtime import FunctionError
from tests.local_stack.conftest import Time


@pytest.fixture
def aws(start_aws: Callable[[Deployment], LocalAws]) -> LocalAws:
    return start_aws(Deployment({}, [], [], [], [], [Queue("q", {"VisibilityTimeout": "60"})], [], [], [], ""))


def polled(
    aws: LocalAws, answer: Callable[[list[str]], Any], *bodies: str, partial: bool = True, told: list[str] | None = None
) -> list[list[str]]:
    """Sends these messages, lets them be handled, and answers the batches that the function got."""
    sqs, batches = aws.client("sqs"), []
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    if entries:
        sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def invoke(_function: str, event: dict[str, Any]) -> Any:
        batches.append([record["body"] for record in event["Records"]])
        return answer([record["messageId"] for record in event["Records"]])

    mapping = QueueMapping("q", "F", batch_size=10, partial_responses=partial, concurrency=2)
    poller = Poller(mapping, aws, invoke, url, lambda _who, text: (told if told is not None else []).append(text))
    with aws.sent:
        assert aws.sent.wait_for(lambda: len(batches) >= bool(bodies) and poller.quiet(), timeout=30)
    poller.stop()
    return batches


def left(aws: LocalAws, time: Time) -> int:
    time.moment += timedelta(seconds=61)
    return aws.visible_messages("q")


def failed(*ids: str) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in ids]}


def raising(_ids: list[str]) -> Any:
    raise FunctionError("ValueError", "no")


def test_what_was_handled_is_deleted(aws: LocalAws, time: Time) -> None:
    batches = polled(aws, lambda _: failed(), "a", "b")

    assert sorted(body for batch in batches for body in batch) == ["a", "b"]
    assert left(aws, time) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda ids: failed(ids[0]), 1),
        (lambda ids: failed(*ids), 2),
        (lambda ids: failed("nobody"), 2),
        (lambda ids: {"batchItemFailures": "all"}, 2),
        (lambda ids: None, 0),
        (raising, 2),
    ],
)
def test_what_failed_stays(aws: LocalAws, time: Time, answer: Any, expected: int) -> None:
    told: list[str] = []
    polled(aws, answer, "a", "b", told=told)

    assert left(aws, time) == expected
    assert bool(told) is (answer is raising)


def test_without_partial_responses_any_answer_is_success(aws: LocalAws, time: Time) -> None:
    polled(aws, lambda ids: failed(*ids), "a", partial=False)

    assert left(aws, time) == 0
