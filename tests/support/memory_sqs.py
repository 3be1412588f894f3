"""SQS in this process's memory: the queues that template.yaml declares, with delays, visibility, receive counts and
dead letters, and what Lambda's event source makes of a message."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tools.template import resources

MAX_DELAY = 900
"""SQS API reference, SendMessage."""


@dataclass(slots=True)
class Message:
    """One message; `visible_at` is in seconds since the epoch."""

    id: str
    body: str
    sent_at: float
    visible_at: float
    receives: int = 0


@dataclass(slots=True)
class Queue:
    """One queue of the template and its dead letters. Times are in seconds."""

    visibility_timeout: int
    retention: int
    max_receives: float
    messages: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)


class MemorySqs:
    """A client for the sender, and `receive` and `delete` for what Lambda does. Queues are named by their logical ids,
    which stand for their URLs. `now` gives the seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ids = itertools.count(1)
        self.queues = {name: _queue(body["Properties"]) for name, body in _declared().items()}
        self.sent: list[tuple[str, str]] = []

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:  # noqa: N803
        assert 0 <= DelaySeconds <= MAX_DELAY
        self.sent.append((QueueUrl, MessageBody))
        self.arrive(QueueUrl, MessageBody, self._now() + DelaySeconds)
        return {"MessageId": str(len(self.sent))}

    def arrive(self, queue: str, body: str, at: float) -> None:
        """A message that comes from elsewhere, when it likes."""
        self.queues[queue].messages.append(Message(f"m{next(self._ids)}", body, at, at))

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:  # noqa: N803
        for message in self.queues[QueueUrl].messages:
            if message.id == ReceiptHandle:
                message.visible_at = self._now() + VisibilityTimeout

    def receive(self, queue: str) -> dict[str, Any] | None:
        """The record of the message that has been visible longest; what was received too often moves aside."""
        found = self.queues[queue]
        found.messages[:] = [one for one in found.messages if self._now() < one.sent_at + found.retention]
        visible = [message for message in found.messages if message.visible_at <= self._now()]
        for message in sorted(visible, key=lambda one: one.visible_at):
            if message.receives >= found.max_receives:
                found.messages.remove(message)
                found.dead.append(message)
                continue
            message.receives += 1
            message.visible_at = self._now() + found.visibility_timeout
            return {
                "messageId": message.id,
                "receiptHandle": message.id,
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": str(message.receives),
                    "SentTimestamp": str(int(message.sent_at * 1000)),
                },
            }
        return None

    def delete(self, queue: str, receipt_handle: str) -> None:
        messages = self.queues[queue].messages
        messages[:] = [message for message in messages if message.id != receipt_handle]

    def next_visible(self) -> float | None:
        """When the next message can be received."""
        return min((one.visible_at for queue in self.queues.values() for one in queue.messages), default=None)

    def redrive(self) -> int:
        """Every dead letter goes back to its queue; answers how many there were."""
        moved = 0
        for queue in self.queues.values():
            for message in queue.dead:
                message.receives, message.visible_at = 0, self._now()
            moved += len(queue.dead)
            queue.messages += queue.dead
            queue.dead.clear()
        return moved


def _declared() -> dict[str, Any]:
    """The queues that a function is started by."""
    return {name: body for name, body in resources("AWS::SQS::Queue").items() if "DeadLetter" not in name}


def _queue(properties: dict[str, Any]) -> Queue:
    redrive = properties.get("RedrivePolicy", {})
    retention = properties["MessageRetentionPeriod"]
    return Queue(properties["VisibilityTimeout"], retention, redrive.get("maxReceiveCount", float("inf")))
