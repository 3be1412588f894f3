"""The use case of the notification queue and of the read-back queue: what kind of message it is decides who handles it.

A question to AWS Marketplace that gets no answer is not a message that fails. It is sent again as a new message with a
delay, so AWS's silence fills no dead-letter queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import (
    FindLicenses,
    LookAgain,
    MeasureWaiting,
    Notification,
    Question,
    QueueMessage,
    ReadBack,
    Reconcile,
    parsed,
)
from marketplace.lifecycle.outcomes import USAGE_STOPPED, AnyOutcome
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.lifecycle.waiting_gauges import WaitingGauges
from marketplace.platform.errors import UnavailableError
from marketplace.subscriptions.recheck import MAX_DELAY_SECONDS
from marketplace.subscriptions.recheck_queue import LifecycleRequests

FIRST_POSTPONEMENT = 60
"""Seconds after which a question without an answer is asked again. Each further time it is twice as long, up to
MAX_DELAY_SECONDS."""
MAX_TRIES = 30
"""How often a question is postponed, about seven hours. After that the message fails like any other."""


@dataclass(frozen=True, slots=True)
class Handled:
    """How the handling of a message ended, what the message was about, for the log, and the gauges that it asked for,
    in seconds and in numbers."""

    outcome: AnyOutcome
    about: Mapping[str, str]
    gauges: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Messages:
    """The use case."""

    def __init__(
        self, lifecycle: Lifecycle, reconciliation: Reconciliation, gauges: WaitingGauges, queue: LifecycleRequests
    ) -> None:
        self._lifecycle = lifecycle
        self._reconciliation = reconciliation
        self._gauges = gauges
        self._queue = queue

    def handle(self, message: QueueMessage) -> Handled:
        """Handles one message. Raises MalformedMessageError and AwsError: the message has to be received again."""
        match content := parsed(message):
            case Notification():
                about = {"title": content.title, "event_id": content.id}
                return Handled(self._lifecycle.receive(content), about)
            case LookAgain():
                about = {"subscription_id": content.subscription_id, "reason": content.reason}
                return Handled(self._lifecycle.look_again(content), about)
            case MeasureWaiting():
                measured = self._gauges.measure()
                about = {**measured.oldest, "usage_stopped": " ".join(measured.stopped)}
                return Handled("measured", about, measured.seconds, {USAGE_STOPPED: len(measured.stopped)})
            case FindLicenses():
                return Handled(self._asked(content, message), {"agreement_id": content.agreement_id})
            case ReadBack() | Reconcile():
                about = {"subscription_id": content.subscription_id or ""}
                return Handled(self._asked(content, message), about)

    def _asked(self, question: Question, message: QueueMessage) -> AnyOutcome:
        try:
            match question:
                case ReadBack():
                    return self._lifecycle.read_back(question)
                case FindLicenses():
                    return self._lifecycle.find_licenses(question)
                case Reconcile():
                    return self._reconciliation.reconcile(question)
        except UnavailableError:
            if question.tries >= MAX_TRIES:
                raise
            delay = min(FIRST_POSTPONEMENT * 2**question.tries, MAX_DELAY_SECONDS)
            self._queue.postpone(message.body, tries=question.tries + 1, delay_seconds=delay)
            return "postponed"
