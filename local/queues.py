"""Lambda's pollers: messages of a queue become events of a function (Lambda Developer Guide: using Lambda with SQS)."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.aws import LocalAws
from local.deployment import REGION, QueueMapping, queue_arn
from local.runtime import BusyError, FunctionError, StoppedError

CONCURRENCY = 5
IDLE_SECONDS = 0.2


class Poller:
    """One event source mapping: receives, invokes, deletes what was handled.

    Messages of a batch that failed stay in the queue and are seen again when their visibility timeout has passed by the
    emulator's clock; the queue's own redrive policy moves them to the dead-letter queue.
    """

    def __init__(
        self,
        mapping: QueueMapping,
        aws: LocalAws,
        invoke: Callable[[str, Any], Any],
        queue_url: str,
        note: Callable[[str, str], None],
    ) -> None:
        self.mapping = mapping
        self._aws = aws
        self._sqs = aws.client("sqs")
        self._invoke = invoke
        self._queue_url = queue_url
        self._note = note
        self._slots = mapping.concurrency or CONCURRENCY
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix=f"poller-{mapping.queue}")
        self._busy = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"poller-{mapping.queue}", daemon=True)
        self._thread.start()

    def quiet(self) -> bool:
        """Whether nothing is being handled and nothing waits to be."""
        with self._aws.sent:
            return self._busy == 0 and self._aws.visible_messages(self.mapping.queue) == 0

    def stop(self) -> None:
        self._stopping.set()
        with self._aws.sent:
            self._aws.sent.notify_all()
        self._thread.join()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._aws.sent:
                while not self._stopping.is_set() and (
                    self._busy >= self._slots or self._aws.visible_messages(self.mapping.queue) == 0
                ):
                    self._aws.sent.wait(IDLE_SECONDS)
                self._busy += 1
            messages = [] if self._stopping.is_set() else self._receive()
            if messages:
                self._pool.submit(self._handle, messages)
            else:
                self._done()

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=min(10, self.mapping.batch_size),
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _handle(self, messages: list[dict[str, Any]]) -> None:
        try:
            answer = self._invoke(self.mapping.function, sqs_event(messages, self.mapping.queue))
            handled = self._handled(messages, answer)
            if handled:
                self._sqs.delete_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                        for index, message in enumerate(handled)
                    ],
                )
        except (FunctionError, BusyError) as error:
            self._note(self.mapping.function, f"ERROR {len(messages)} message(s) stay in the queue: {error}")
        except StoppedError:
            pass
        finally:
            self._done()

    def _handled(self, messages: list[dict[str, Any]], answer: Any) -> list[dict[str, Any]]:
        """The messages to delete. A malformed answer, or an id that was not in the batch, fails the whole batch."""
        if not self.mapping.partial_responses or answer is None or answer == {}:
            return messages
        failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        failed = {item.get("itemIdentifier") for item in failures or [] if isinstance(item, dict)}
        if not isinstance(failures, list) and failures is not None:
            return []
        if not failed <= {message["MessageId"] for message in messages}:
            return []
        return [message for message in messages if message["MessageId"] not in failed]

    def _done(self) -> None:
        with self._aws.sent:
            self._busy -= 1
            self._aws.sent.notify_all()


def sqs_event(messages: list[dict[str, Any]], queue: str) -> dict[str, Any]:
    """A batch as Lambda hands it to a function."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {
                    name: {
                        "stringValue": value.get("StringValue"),
                        "dataType": value["DataType"],
                        "stringListValues": [],
                        "binaryListValues": [],
                    }
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn(queue),
                "awsRegion": REGION,
            }
            for message in messages
        ]
    }
