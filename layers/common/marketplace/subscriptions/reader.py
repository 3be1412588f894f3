"""Reading several subscriptions by their ids, and the condition that one is still as it was read."""

from collections.abc import Iterator, Sequence
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.subscriptions.model import Subscription


class SubscriptionReader:
    """Reads the subscriptions table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get_many(self, ids: Sequence[str]) -> dict[str, Subscription]:
        """The subscriptions that exist among these ids (consistent reads), by id. Raises AwsError when any of them
        can't be read."""
        found = self._table.get_many(keys.subscription(one) for one in ids)
        return {(one := Subscription.from_item(item)).id: one for item in found.values()}


def subscriptions_ever_active(table: Table) -> Iterator[str]:
    """The ids of all subscriptions that may have usage, each once, from the index by status: all but those that AWS
    never activated. Raises AwsError."""
    seen: set[str] = set()
    for status in ("active", "closing", "ended"):
        for item in table.items("#status = :status", {"status": status}, index=keys.STATUS_INDEX):
            # A subscription whose status changes meanwhile stands in the index at two places, one after the other.
            subscription_id = keys.subscription_id_of(item["pk"]["S"])
            if subscription_id not in seen:
                seen.add(subscription_id)
                yield subscription_id


def as_read(subscription: Subscription) -> dict[str, Any]:
    """The condition of a change, as Update takes it: nobody has changed the subscription since it was read."""
    if subscription.version == 0:
        return {"condition": "attribute_exists(pk) AND attribute_not_exists(version)"}
    return {"condition": "version = :read", "given": {"read": subscription.version}}


def joined_subscriptions(table: Table, agreement_id: str) -> list[str]:
    """The ids of the subscriptions that the agreement belongs to. Raises AwsError."""
    items = table.items_under(keys.agreement_pk(agreement_id), "SUB#")
    return [keys.subscription_id_of(item["sk"]["S"]) for item in items]
