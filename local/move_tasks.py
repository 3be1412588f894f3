"""Redrive of dead-letter queues, which moto does not have: SQS's message move tasks, on moto's queues.

A task moves everything at once, so it is over when it is started. Source: botocore's model of SQS
(StartMessageMoveTask, ListMessageMoveTasks, CancelMessageMoveTask).
"""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from moto.backends import get_backend
from moto.sqs.models import Message, Queue
from werkzeug import Response

from local.deployment import ACCOUNT, REGION

LISTED = 10

type OnDeadLetter = Callable[[str, str], None]


class SqsError(Exception):
    """An error that SQS answers with status 400; `code` is the error's shape."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MoveTasks:
    """The tasks of all queues. The caller holds the lock on moto."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []

    def answer(self, operation: str, body: bytes) -> Response | None:
        """The answer to one of the three operations; None for another one."""
        handle = {
            "StartMessageMoveTask": self._start,
            "ListMessageMoveTasks": self._list,
            "CancelMessageMoveTask": self._cancel,
        }.get(operation)
        if handle is None:
            return None
        try:
            return _json(200, handle(_object(body)))
        except SqsError as error:
            return _json(400, {"__type": f"com.amazonaws.sqs#{error.code}", "message": str(error)})

    def _start(self, given: dict[str, Any]) -> dict[str, Any]:
        source = _dead_letter_queue(given.get("SourceArn"))
        target = given.get("DestinationArn")
        destination = None if target is None else _queue(target)
        if destination is source:
            raise SqsError("InvalidParameterValue", "The source queue and the destination queue are the same.")
        waiting = list(source.messages)
        origins = [destination or _origin(message, source) for message in waiting]
        moved = 0
        for message, to in itertools.takewhile(lambda pair: pair[1] is not None, zip(waiting, origins, strict=True)):
            source._messages.remove(message)
            _send(message, to)
            moved += 1
        task = {
            "Status": "COMPLETED" if moved == len(waiting) else "FAILED",
            "SourceArn": source.queue_arn,
            "ApproximateNumberOfMessagesMoved": moved,
            "ApproximateNumberOfMessagesToMove": len(waiting),
            "StartedTimestamp": int(moto_now()),
        }
        task |= {key: given[key] for key in ("DestinationArn", "MaxNumberOfMessagesPerSecond") if key in given}
        if moved < len(waiting):
            task["FailureReason"] = "CouldNotDetermineMessageSource"
        self.done.insert(0, task)
        return {"TaskHandle": uuid.uuid4().hex}

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        source, most = _dead_letter_queue(given.get("SourceArn")), given.get("MaxResults", 1)
        if not isinstance(most, int) or not 1 <= most <= LISTED:
            raise SqsError("InvalidParameterValue", f"MaxResults is from 1 to {LISTED}.")
        return {"Results": [task for task in self.done if task["SourceArn"] == source.queue_arn][:most]}

    @staticmethod
    def _cancel(_given: dict[str, Any]) -> dict[str, Any]:
        raise SqsError("ResourceNotFoundException", "There is no task that is running.")


@contextmanager
def noted_origins(on_dead_letter: OnDeadLetter) -> Iterator[None]:
    """Note in each message which queue it was sent to first, and report each one that falls into a dead-letter queue:
    `on_dead_letter` gets the names of the queue that it leaves and of the one that takes it."""
    original = Queue.add_message

    def add_message(self: Any, message: Any) -> None:
        first = getattr(message, "first_queue", None)
        message.first_queue = first or self.name
        original(self, message)
        if first not in (None, self.name):
            on_dead_letter(first, self.name)

    with mock.patch.object(Queue, "add_message", add_message):
        yield


@contextmanager
def shown_at_once() -> Iterator[None]:
    """Have a message whose visibility timeout is set to 0 be received at once; moto shows it a moment later, which
    never comes while the clock stands still."""
    original = Message.change_visibility

    def change_visibility(self: Any, visibility_timeout: int) -> None:
        original(self, visibility_timeout)
        if not int(visibility_timeout):
            self.visible_at -= 1

    with mock.patch.object(Message, "change_visibility", change_visibility):
        yield


def moto_now() -> float:
    """Now in milliseconds, as moto stamps messages."""
    probe = Message("probe", "")
    probe.mark_sent()
    return float(probe.sent_timestamp or 0)


def _send(message: Any, to: Any) -> None:
    """A message that is moved gets a new id and begins anew."""
    moved = Message(str(uuid.uuid4()), message.body, message.system_attributes)
    moved.message_attributes = message.message_attributes
    moved.mark_sent()
    to.add_message(moved)


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise SqsError("InvalidAddress", "The request is not a JSON object.")
    return given


def _queues() -> dict[str, Any]:
    found: dict[str, Any] = get_backend("sqs")[ACCOUNT][REGION].queues
    return found


def _queue(arn: Any) -> Any:
    for queue in _queues().values():
        if queue.queue_arn == arn:
            return queue
    raise SqsError("ResourceNotFoundException", "The resource that you specified for the ARN does not exist.")


def _dead_letter_queue(arn: Any) -> Any:
    queue = _queue(arn)
    if not any(other.dead_letter_queue is queue for other in _queues().values()):
        raise SqsError("InvalidParameterValue", "The source queue is not the dead-letter queue of another queue.")
    return queue


def _origin(message: Any, dead_letters: Any) -> Any:
    """The queue that a dead letter was sent to first; None for one that was sent to the dead-letter queue itself."""
    first = getattr(message, "first_queue", dead_letters.name)
    return None if first == dead_letters.name else _queues().get(first)


def _json(status: int, content: Any) -> Response:
    return Response(json.dumps(content), status, content_type="application/x-amz-json-1.0")
