"""Reading several subscriptions by their ids."""

from collections.abc import Sequence

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
