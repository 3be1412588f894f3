"""The notification queue's use case: what kind of message it is decides who handles it."""

from dataclasses import dataclass

from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import LookAgain, Notification, QueueMessage, Reconcile, parsed
from marketplace.lifecycle.outcomes import Outcome, ReconcileOutcome
from marketplace.lifecycle.reconciliation import Reconciliation


@dataclass(frozen=True, slots=True)
class Handled:
    """How the handling of a message ended, and what the message was about, for the log."""

    outcome: Outcome | ReconcileOutcome
    about: dict[str, str]


class Messages:
    """The use case."""

    def __init__(self, lifecycle: Lifecycle, reconciliation: Reconciliation) -> None:
        self._lifecycle = lifecycle
        self._reconciliation = reconciliation

    def handle(self, message: QueueMessage) -> Handled:
        """Handles one message. Raises MalformedMessageError and AwsError: the message has to be received again."""
        match content := parsed(message):
            case Notification():
                about = {"title": content.title, "event_id": content.id}
                return Handled(self._lifecycle.receive(content), about)
            case LookAgain():
                about = {"subscription_id": content.subscription_id, "reason": content.reason}
                return Handled(self._lifecycle.look_again(content), about)
            case Reconcile():
                about = {"subscription_id": content.subscription_id or ""}
                return Handled(self._reconciliation.reconcile(content), about)
