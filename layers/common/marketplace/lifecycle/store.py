"""Subscriptions, their inboxes and their joins to agreements, as the lifecycle reads and writes them.

A subscription's item has several writers: registration and claiming set attributes of their own. Each adds 1 to
`version`, and the writer of the state sets its own attributes only, on the condition that the version is the one it
read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table, Update
from marketplace.lifecycle.facts import Fact
from marketplace.lifecycle.notifications import Notification, QueueMessage, parsed
from marketplace.platform.clock import DAY
from marketplace.subscriptions.model import Status, Subscription
from marketplace.subscriptions.predecessors import Predecessors
from marketplace.subscriptions.reader import as_read, joined_subscriptions
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item
from marketplace.subscriptions.waiting import AWAITED_UNTIL, WaitingItems, waits

INBOX_DAYS = 400
"""Audit logs are kept for a year and more (Seller Guide: SaaS product guidelines)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A subscription as read: the model, the facts its state is folded from, and every attribute by name."""

    subscription: Subscription
    facts: tuple[Fact, ...]
    values: Mapping[str, Any]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        facts = tuple(Fact.from_stored(stored) for stored in values.get("history", ()))
        return cls(Subscription.from_values(values), facts, values)


class SubscriptionStore:
    """The lifecycle's view of the subscriptions table; `predecessors` finds tenants to propose. Every method raises
    AwsError when DynamoDB can't answer."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.predecessors = Predecessors(table)

    # The inbox

    def keep(self, key: keys.Key, notification: Notification, waiting: Mapping[str, Any] | None = None) -> None:
        """Stores a notification as received, under its key in an inbox; storing it again changes nothing. `waiting`:
        the attributes of one that waits."""
        message = notification.message
        values = {
            **key._asdict(),
            "kind": notification.kind,
            "title": notification.title,
            "event_id": notification.id,
            "message_id": message.message_id,
            "sent_at_ms": message.sent_at_ms,
            "body": message.body,
            "expires_at": message.sent_at_ms // 1000 + INBOX_DAYS * DAY,
            **(waiting or {}),
        }
        self._table.put(to_item(values))

    def inbox(self, subscription_id: str) -> list[Notification]:
        """The notifications about a subscription, in the order of event times."""
        return self._notifications(keys.subscription_pk(subscription_id))

    def waiting(self, agreement_id: str) -> list[Notification]:
        """The notifications about an agreement, in the order of event times."""
        return self._notifications(keys.agreement_pk(agreement_id))

    # The join of agreements to subscriptions

    def join(self, agreement_id: str, subscription_id: str) -> None:
        """Stores that the agreement belongs to the subscription."""
        key = keys.agreement_subscription(agreement_id, subscription_id)
        self._table.put(to_item({**key._asdict(), "subscription_id": subscription_id}))

    def joined(self, agreement_id: str) -> list[str]:
        """The ids of the subscriptions that the agreement belongs to."""
        return joined_subscriptions(self._table, agreement_id)

    def note_other_product(self, agreement_id: str, *, expires_at: int | None = None) -> None:
        """Stores that the agreement is of a product that is not sold here. `expires_at` (seconds since the epoch): when
        that may be forgotten; without it, what is stored of it stays."""
        expiry = {} if expires_at is None else {"expires_at": expires_at}
        self._table.update_if(keys.other_product(agreement_id), Update(keep={"agreement_id": agreement_id, **expiry}))

    def is_of_other_product(self, agreement_id: str) -> bool:
        """Whether that is stored of the agreement. It says nothing of the agreement's joins, which count first."""
        return self._table.get(keys.other_product(agreement_id)) is not None

    def awaited_until(self, agreement_id: str) -> int:
        """Until when an operator expects the agreement to wait for its join; 0 if none has said so."""
        item = self._table.get(keys.agreement_waiting(agreement_id))
        until: int = from_item(item or {}).get(AWAITED_UNTIL, 0)
        return until

    def await_join(self, agreement_id: str, since: int) -> None:
        """Marks the agreement as one whose events wait for the join, from `since` on."""
        update = Update(set=waits("agreement", since), keep={"expires_at": since + INBOX_DAYS * DAY})
        self._table.update_if(keys.agreement_waiting(agreement_id), update)

    def await_no_join(self, agreement_id: str) -> None:
        """Removes that mark, if there is one."""
        self._table.delete(keys.agreement_waiting(agreement_id))

    # The subscription

    def read(self, subscription_id: str) -> Stored | None:
        """The subscription as last written (a consistent read), or None."""
        item = self._table.get(keys.subscription(subscription_id))
        return None if item is None else Stored.from_values(from_item(item))

    def write(
        self,
        subscription_id: str,
        *,
        read: Stored | None,
        changes: Mapping[str, Any],
        defaults: Mapping[str, Any],
        events: Sequence[SellerEvent] = (),
    ) -> Stored | None:
        """Sets `changes` (None removes an attribute), sets `defaults` where there is no value yet, and puts the events
        into the outbox: all of it or nothing.

        Returns the subscription as written, or None when it is no longer as it was read: read it again and decide anew.
        """
        update = Update(set=changes, keep=defaults, add={"version": 1}, **_unchanged(read))
        writes = [
            self._table.update_action(keys.subscription(subscription_id), update),
            *(self._table.put_action(outbox_item(subscription_id, event)) for event in events),
        ]
        if self._table.write_together(writes) is not None:
            return None
        before = keys.subscription(subscription_id)._asdict() if read is None else read.values
        after = {**defaults, **before, **changes, "version": before.get("version", 0) + 1}
        return Stored.from_values({name: value for name, value in after.items() if value is not None})

    def note_reconciliation(self, now: int) -> None:
        """Stores that all subscriptions have been compared with AWS Marketplace, or are about to be."""
        WaitingItems(self._table).note_reconciliation(now)

    # Finding subscriptions

    def of_account(self, account_id: str) -> list[str]:
        """The ids of the subscriptions of a buyer's account, by an index that lags a moment behind."""
        items = self._table.items("account_id = :account", {"account": account_id}, index=keys.ACCOUNT_INDEX)
        return [keys.subscription_id_of(item["pk"]["S"]) for item in items]

    def with_status(self, status: Status, *, after: str | None = None, limit: int = 100) -> list[str]:
        """Up to `limit` ids of subscriptions stored with this status, in their order, those after the id `after`."""
        condition, values = "#status = :status", {"status": str(status)}
        if after is not None:
            condition += " AND pk > :after"
            values["after"] = keys.subscription_pk(after)
        page = self._table.page(condition, values, index=keys.STATUS_INDEX, limit=limit)
        return [keys.subscription_id_of(item["pk"]["S"]) for item in page.items]

    def _notifications(self, pk: str) -> list[Notification]:
        received = (
            parsed(QueueMessage(message_id=values["message_id"], body=values["body"], sent_at_ms=values["sent_at_ms"]))
            for values in map(from_item, self._table.items_under(pk, keys.EVENT_PREFIX))
        )
        return [notification for notification in received if isinstance(notification, Notification)]


def _unchanged(read: Stored | None) -> dict[str, Any]:
    """The condition that the subscription is still as read, and the value that it names."""
    return {"condition": "attribute_not_exists(pk)"} if read is None else as_read(read.subscription)
