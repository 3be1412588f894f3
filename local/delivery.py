"""From AWS Marketplace to the seller's queue, the way the template says: EventBridge rules and SNS subscriptions.

The emulator makes the messages in their final shapes and says which go to EventBridge and which to SNS; here each is
matched against what is deployed, and put into the queues as those services put it.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.deployment import Deployment
from marketplace_emulator import Marketplace

IDLE_SECONDS = 0.25


class PatternError(ValueError):
    """An event pattern that uses an operator which is not supported here."""


def matches(pattern: Mapping[str, Any], event: Any) -> bool:
    """Whether an event matches a pattern (EventBridge User Guide: event patterns): lists of values, prefix, suffix,
    equals-ignore-case, anything-but and exists, at any depth. Raises PatternError for other operators."""
    for name, wanted in pattern.items():
        present = isinstance(event, Mapping) and name in event
        value = event[name] if present else None
        if isinstance(wanted, Mapping):
            if not present or not matches(wanted, value):
                return False
        elif not any(_allows(condition, value, present) for condition in wanted):
            return False
    return True


def _allows(condition: Any, value: Any, present: bool) -> bool:
    if isinstance(condition, Mapping):
        ((operator, operand),) = condition.items()
        if operator == "exists":
            return present is bool(operand)
        if not present:
            return False
        values = value if isinstance(value, list) else [value]
        return any(_compares(operator, operand, item) for item in values)
    if isinstance(value, list):
        return condition in value
    return present and bool(value == condition)


def _compares(operator: str, operand: Any, value: Any) -> bool:
    match operator:
        case "prefix":
            return isinstance(value, str) and value.startswith(operand)
        case "suffix":
            return isinstance(value, str) and value.endswith(operand)
        case "equals-ignore-case":
            return isinstance(value, str) and value.lower() == operand.lower()
        case "anything-but":
            if isinstance(operand, Mapping):
                ((inner, other),) = operand.items()
                return not _compares(inner, other, value)
            return value not in (operand if isinstance(operand, list) else [operand])
    raise PatternError(f"the pattern operator {operator!r} is not known on one machine")


def destinations(deployment: Deployment, kind: str, body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The queues that get a message, each with the body it gets."""
    if kind == "eventbridge":
        return [
            (queue, json.dumps(body))
            for rule in deployment.rules
            if matches(rule.pattern, body)
            for queue in rule.queues
        ]
    return [
        (one.queue, str(body["Message"]) if one.raw else json.dumps(body))
        for one in deployment.subscriptions
        if one.topic_arn == body["TopicArn"]
    ]


class Delivery:
    """A thread that puts the notifications of AWS Marketplace into the queues. `position`: the emulator's generation,
    and the number of the last delivery that was made."""

    def __init__(
        self,
        marketplace: Marketplace,
        deployment: Deployment,
        sqs: Any,
        queue_urls: Mapping[str, str],
        on_delivery: Callable[[], None] = lambda: None,
        *,
        position: tuple[int, int] = (0, 0),
    ) -> None:
        self._marketplace = marketplace
        self._deployment = deployment
        self._sqs = sqs
        self._queue_urls = queue_urls
        self._on_delivery = on_delivery
        self._lock = threading.Lock()
        self._generation, self._after = position
        self._stopping = threading.Event()
        self.undelivered: list[str] = []
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    def deliver(self) -> int:
        """Deliver everything that is due by the emulator's clock; answers how many messages there were."""
        with self._lock:
            if self._generation != self._marketplace.generation:
                self._generation, self._after = self._marketplace.generation, 0
            waiting = self._marketplace.outbox.deliveries(self._after)
            for delivery in waiting:
                self._send(delivery.notification.kind, delivery.notification.name, delivery.notification.body)
                self._after = delivery.seq
                self._on_delivery()
            return len(waiting)

    @property
    def position(self) -> tuple[int, int]:
        """Where another delivery would go on. A message that is being sent is sent again there."""
        return self._generation, self._after

    def stop(self) -> None:
        self._stopping.set()
        with self._marketplace.agenda.changed:
            self._marketplace.agenda.changed.notify_all()
        self._thread.join()

    def _send(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        found: Sequence[tuple[str, str]] = destinations(self._deployment, kind, body)
        if not found:
            self.undelivered.append(name)
        for queue, content in found:
            self._sqs.send_message(QueueUrl=self._queue_urls[queue], MessageBody=content)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self.deliver() == 0:
                with self._marketplace.agenda.changed:
                    if not self._stopping.is_set():
                        self._marketplace.agenda.changed.wait(IDLE_SECONDS)
