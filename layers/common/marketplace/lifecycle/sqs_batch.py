"""A batch of SQS messages, each handled by itself. A message that fails is returned to the queue alone, and waits
longer each time.

Source: Lambda Developer Guide: partial batch responses for SQS; SQS Developer Guide: visibility timeout. After the
receives that the queue allows, SQS moves the message to the dead-letter queue.
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

_WAITS = (30, 120, 600, 1800)
_TIME_FOR_ONE = 20
"""Seconds that the slowest message may take: the sum of its calls' timeouts, without the SDK's last retries."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that has to be received again; `error` is None when there was no time left to handle it."""

    message_id: str
    receive_count: int
    error: Exception | None


def wait_before_receive(receive_count: int) -> int:
    """Seconds until a message that failed at its `receive_count`-th receive is seen again."""
    return _WAITS[min(max(receive_count, 1), len(_WAITS)) - 1]


def handle_each(
    records: Sequence[Mapping[str, Any]],
    handle: Callable[[QueueMessage], None],
    *,
    sqs: "SQSClient",
    queue_url: str,
    time_left: Callable[[], float],
) -> list[Failure]:
    """Handles every record of Lambda's SQS event, and returns those that failed for whatever reason. time_left: seconds
    until the function times out."""
    failures: list[Failure] = []
    for record in records:
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        if time_left() < _TIME_FOR_ONE:
            failures.append(Failure(record["messageId"], receives, None))
            continue
        try:
            handle(QueueMessage.from_record(record))
        except Exception as error:  # one message's failure, of whatever kind, is its own
            failures.append(Failure(record["messageId"], receives, error))
            _put_back(sqs, queue_url, record["receiptHandle"], wait_before_receive(receives))
    return failures


def response(failures: list[Failure]) -> dict[str, list[dict[str, str]]]:
    """The handler's answer: the messages that stay in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": failure.message_id} for failure in failures]}


def _put_back(sqs: "SQSClient", queue_url: str, receipt_handle: str, seconds: int) -> None:
    # Without it the message comes back all the same, when the queue's own visibility timeout has passed.
    with suppress(AwsError), classified_errors():
        sqs.change_message_visibility(QueueUrl=queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds)
