"""Where subscriptions, their inbox, their joins to agreements and their unpublished events are kept.

A subscription's item has several writers: registration and claiming set attributes of their own. Each adds 1 to
`version`, and the writer of the state sets its own attributes only, on the condition that the version is the one it
read.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_attribute, to_item
from marketplace.dynamodb.transactions import Write, write_together
from marketplace.lifecycle.facts import Fact
from marketplace.lifecycle.notifications import Notification, QueueMessage, parsed
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import DAY
from marketplace.subscriptions.model import Status, Subscription
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INBOX_DAYS = 400
"""Audit logs are kept for a year and more (Seller Guide: SaaS product guidelines)."""

_SAME_VERSION = "version = :read"
_NEVER_VERSIONED = "attribute_exists(pk) AND attribute_not_exists(version)"
_STILL_ABSENT = "attribute_not_exists(pk)"


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
    """The lifecycle's view of the subscriptions table. Every method raises AwsError when DynamoDB can't answer."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep
        self._jitter = jitter

    # The inbox

    def keep(self, key: keys.Key, notification: Notification) -> None:
        """Keep a notification as received, under its place in an inbox; keeping it again changes nothing."""
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
        }
        with classified_errors():
            self._client.put_item(TableName=self._table, Item=to_item(values))

    def inbox(self, subscription_id: str) -> list[Notification]:
        """Everything received about a subscription, in the order of event times."""
        return self._notifications(keys.subscription_pk(subscription_id))

    def waiting(self, agreement_id: str) -> list[Notification]:
        """Everything received about an agreement, in the order of event times."""
        return self._notifications(keys.agreement_pk(agreement_id))

    # The join of agreements to subscriptions

    def join(self, agreement_id: str, subscription_id: str) -> None:
        """Write down that the agreement belongs to the subscription. Who joins reads `waiting` afterwards, who brings
        an agreement's event keeps it and reads `joined` afterwards: whichever is second sees the other."""
        key = keys.agreement_subscription(agreement_id, subscription_id)
        with classified_errors():
            self._client.put_item(
                TableName=self._table, Item=to_item({**key._asdict(), "subscription_id": subscription_id})
            )

    def joined(self, agreement_id: str) -> list[str]:
        """The subscriptions that the agreement is known to belong to."""
        items = self._query(keys.agreement_pk(agreement_id), "SUB#")
        return [str(values["sk"]).removeprefix("SUB#") for values in items]

    # The subscription

    def read(self, subscription_id: str) -> Stored | None:
        """The subscription as last written (a consistent read), or None."""
        with classified_errors():
            answer = self._client.get_item(
                TableName=self._table, Key=keys.subscription(subscription_id).item(), ConsistentRead=True
            )
        item = answer.get("Item")
        return None if item is None else Stored.from_values(from_item(item))

    def write(
        self,
        subscription_id: str,
        *,
        read: Stored | None,
        changes: Mapping[str, Any],
        defaults: Mapping[str, Any],
        events: Sequence[SellerEvent] = (),
    ) -> bool:
        """Set `changes` (None removes), `defaults` where there is no value yet, and put the events into the outbox:
        all of it or nothing.

        Answers False when the subscription is no longer as read; read it again and decide anew.
        """
        expression, names, values = _update(changes, defaults)
        if read is None:
            condition = _STILL_ABSENT
        elif "version" not in read.values:
            condition = _NEVER_VERSIONED
        else:
            condition = _SAME_VERSION
            values[":read"] = to_attribute(read.subscription.version)
        writes: list[Write] = [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": keys.subscription(subscription_id).item(),
                    "UpdateExpression": expression,
                    "ConditionExpression": condition,
                    "ExpressionAttributeNames": names,
                    "ExpressionAttributeValues": values,
                }
            }
        ]
        writes += [{"Put": {"TableName": self._table, "Item": outbox_item(subscription_id, event)}} for event in events]
        return write_together(self._client, writes, self._sleep, self._jitter) is None

    # Finding subscriptions

    def of_account(self, account_id: str) -> list[str]:
        """The ids of the subscriptions of a buyer's account, by an index that lags a moment behind."""
        return list(self._index(keys.ACCOUNT_INDEX, "account_id", account_id))

    def with_status(self, status: Status, *, after: str | None = None, limit: int = 100) -> list[str]:
        """Up to `limit` ids of subscriptions stored with this status, in their order, those after the id `after`."""
        names = {"#partition": "status"}
        condition = "#partition = :partition"
        values = {":partition": to_attribute(status)}
        if after is not None:
            condition += " AND pk > :after"
            values[":after"] = to_attribute(keys.subscription_pk(after))
        with classified_errors():
            answer = self._client.query(
                TableName=self._table,
                IndexName=keys.STATUS_INDEX,
                KeyConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                Limit=limit,
            )
        return [keys.subscription_id_of(item["pk"]["S"]) for item in answer["Items"]]

    def _index(self, index: str, attribute: str, value: str) -> Iterator[str]:
        with classified_errors():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=index,
                KeyConditionExpression="#partition = :partition",
                ExpressionAttributeNames={"#partition": attribute},
                ExpressionAttributeValues={":partition": to_attribute(value)},
            )
            for page in pages:
                for item in page["Items"]:
                    yield keys.subscription_id_of(item["pk"]["S"])

    def _notifications(self, pk: str) -> list[Notification]:
        received = (
            parsed(QueueMessage(message_id=values["message_id"], body=values["body"], sent_at_ms=values["sent_at_ms"]))
            for values in self._query(pk, keys.EVENT_PREFIX)
        )
        return [notification for notification in received if isinstance(notification, Notification)]

    def _query(self, pk: str, prefix: str) -> list[dict[str, Any]]:
        with classified_errors():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
                ExpressionAttributeValues={":pk": to_attribute(pk), ":prefix": to_attribute(prefix)},
                ConsistentRead=True,
            )
            return [from_item(item) for page in pages for item in page["Items"]]


def _update(changes: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, dict[str, str], dict[str, Any]]:
    """An update expression for these attributes and one more version, its names and its values."""
    names: dict[str, str] = {"#version": "version"}
    values: dict[str, Any] = {":one": to_attribute(1)}
    sets: list[str] = []
    removes: list[str] = []
    for name, value in [*changes.items(), *((name, value) for name, value in defaults.items() if value is not None)]:
        place = f"a{len(names)}"
        names[f"#{place}"] = name
        if value is None:
            removes.append(f"#{place}")
            continue
        values[f":{place}"] = to_attribute(value)
        new = f":{place}" if name in changes else f"if_not_exists(#{place}, :{place})"
        sets.append(f"#{place} = {new}")
    clauses = [f"SET {', '.join(sets)}" if sets else "", f"REMOVE {', '.join(removes)}" if removes else ""]
    return " ".join([*filter(None, clauses), "ADD #version :one"]), names, values
