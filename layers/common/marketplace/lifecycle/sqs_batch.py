"""The SQS messages of one invocation, each handled by itself. A message that fails is returned to the queue alone, and
waits longer each time.

template.yaml gives the function one message at a time, so SQS counts a receive only for a message that is begun, and
the count decides when it moves to the dead-letter queue: 20 minutes at most after its first receive
(tests/template/test_queues.py computes it). Source: Lambda Developer Guide: partial batch responses for SQS; SQS
Developer Guide: visibility timeout, dead-letter queues.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketplace.lifecycle.notifications import QueueMessage
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

WAITS = (10, 20, 30, 60, 120, 180, 180)
"""Seconds that a message waits after its first, second, ... failure. It is received once more after the last wait
(maxReceiveCount in template.yaml), and if it fails then it waits no longer: SQS moves it to the dead-letter queue."""
TIME_FOR_ONE = 20
"""Seconds that the slowest message may take: the sum of its calls' timeouts, without the SDK's last retries."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that has to be received again; `error` is None when there was no time left to handle it."""

    message_id: str
    receive_count: int
    error: Exception | None


def wait_after(receive_count: int) -> int:
    """Seconds until a message that failed at its `receive_count`-th receive is seen again."""
    return (*WAITS, 0)[min(max(receive_count, 1), len(WAITS) + 1) - 1]


def handle_each(
    records: Sequence[Mapping[str, Any]],
    handle: Callable[[QueueMessage], None],
    *,
    sqs: "SQSClient",
    queue_url: str,
    time_left: Callable[[], float],
) -> list[Failure]:
    """Handles every record of Lambda's SQS event, and returns those that failed for whatever reason. What there is no
    time to begin with is visible in the queue again at once. time_left: seconds until the function times out."""
    failures: list[Failure] = []
    for record in records:
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        if time_left() < TIME_FOR_ONE:
            failures.append(Failure(record["messageId"], receives, None))
            _put_back(sqs, queue_url, record["receiptHandle"], 0)
            continue
        try:
            handle(QueueMessage.from_record(record))
        except Exception as error:  # one message's failure, of whatever kind, is its own
            failures.append(Failure(record["messageId"], receives, error))
            _put_back(sqs, queue_url, record["receiptHandle"], wait_after(receives))
    return failures


def response(failures: list[Failure]) -> dict[str, list[dict[str, str]]]:
    """The handler's answer: the messages that stay in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": failure.message_id} for failure in failures]}


def _put_back(sqs: "SQSClient", queue_url: str, receipt_handle: str, seconds: int) -> None:
    # Without it the message comes back all the same, when the queue's own visibility timeout has passed.
    with suppress(AwsError), classified_errors():
        sqs.change_message_visibility(QueueUrl=queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds)
