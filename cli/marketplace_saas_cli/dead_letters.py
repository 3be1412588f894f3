"""The messages of the dead-letter queue: what each is about, and what AWS would still accept if it were handled now."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marketplace.ledger.deadlines import refuse_at
from marketplace.ledger.recent import recent_records
from marketplace.ledger.selections import UNSETTLED
from marketplace.lifecycle.notifications import MalformedMessageError, Notification, QueueMessage, parsed
from marketplace.platform.clock import iso
from marketplace.subscriptions.model import CLOSING_WINDOW
from marketplace.subscriptions.reader import joined_subscriptions
from marketplace_saas_cli.session import Session

MAX_SHOWN = 1000
HIDDEN_SECONDS = 60
"""How long a message is not seen by others while it is read here; it is shown again at once afterwards."""
_PER_CALL = 10
_CLOSINGS = frozenset({"agreement_ended", "license_deprovisioned", "unsubscribe_pending"})
_ACTIVATIONS = frozenset({"license_updated", "subscribe_success"})


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message, and the handle with which it can be deleted."""

    message: QueueMessage
    receipt: str


def received(session: Session) -> list[DeadLetter]:
    """The messages of the dead-letter queue, at most MAX_SHOWN of them, the oldest first. None is removed; the caller
    shows them again with `released`. Raises what boto3 raises."""
    url = session.stack.outputs["DeadLetterQueueUrl"]
    found: dict[str, DeadLetter] = {}
    while len(found) < MAX_SHOWN:
        page = session.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=_PER_CALL,
            VisibilityTimeout=HIDDEN_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        ).get("Messages", [])
        if not page:
            break
        for one in page:
            sent = int(one.get("Attributes", {}).get("SentTimestamp", "0"))
            message = QueueMessage(message_id=one["MessageId"], body=one["Body"], sent_at_ms=sent)
            found[message.message_id] = DeadLetter(message, one["ReceiptHandle"])
    return sorted(found.values(), key=lambda letter: letter.message.sent_at_ms)


def released(session: Session, letters: list[DeadLetter]) -> None:
    """Has the messages seen by others again."""
    url = session.stack.outputs["DeadLetterQueueUrl"]
    for start in range(0, len(letters), _PER_CALL):
        entries = [
            {"Id": str(number), "ReceiptHandle": letter.receipt, "VisibilityTimeout": 0}
            for number, letter in enumerate(letters[start : start + _PER_CALL])
        ]
        session.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def described(session: Session, letter: DeadLetter) -> dict[str, Any]:
    """What the message is about, and what handling it now would bring."""
    message = letter.message
    shown: dict[str, Any] = {
        "message_id": message.message_id,
        "sent_at": iso(message.sent_at_ms // 1000),
        "title": "",
        "subscription_id": None,
        "effect": "",
    }
    try:
        content = parsed(message)
    except MalformedMessageError as error:
        return {**shown, "title": "unreadable", "effect": f"it can never be handled ({error}): delete it"}
    if not isinstance(content, Notification):
        about = getattr(content, "subscription_id", None) or getattr(content, "agreement_id", None)
        return {**shown, "title": type(content).__name__, "subscription_id": about, "effect": "asked again, harmless"}
    ids = list(_subscriptions_of(session, content))
    shown |= {"title": content.title, "subscription_id": ", ".join(ids) or None, "happened_at": content.time}
    return {**shown, "effect": _effect(session, content, ids)}


def _subscriptions_of(session: Session, content: Notification) -> Iterator[str]:
    if content.identity is not None:
        yield content.identity.subscription_id
    elif content.agreement_id is not None:
        yield from joined_subscriptions(session.subscriptions, content.agreement_id)


def _effect(session: Session, content: Notification, ids: list[str]) -> str:
    if content.kind not in _CLOSINGS | _ACTIVATIONS:
        return "stored and applied"
    if not ids:
        return "stored until the licence of its agreement is known"
    records = [one for id_ in ids for one in recent_records(session.usage, id_, session.now, UNSETTLED)]
    if content.kind in _ACTIVATIONS:
        held = [one for one in records if one.state == "held"]
        taken = sum(one.quantity for one in held if refuse_at(one.hour) > session.now)
        return f"activates; of {sum(one.quantity for one in held):,} held units AWS still takes {taken:,}"
    deadline, units = content.at_ms // 1000 + CLOSING_WINDOW, sum(one.quantity for one in records)
    if deadline > session.now:
        return f"closes; AWS takes its {units:,} open units until {iso(deadline)}"
    return f"closes; its final hour ended {iso(deadline)}, so AWS may refuse its {units:,} open units"
