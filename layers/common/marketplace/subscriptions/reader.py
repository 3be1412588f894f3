"""Reading subscriptions by id, consistently and several at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from marketplace.dynamodb import keys
from marketplace.dynamodb.batch_read import read_items
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions.model import Subscription

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class SubscriptionReader:
    """The subscriptions table, read only."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def get_many(self, ids: Sequence[str]) -> dict[str, Subscription]:
        """The subscriptions that exist among these ids. Raises AwsError when any can't be read."""
        found, unread = read_items(self._client, self._table, [keys.subscription(one) for one in ids])
        if unread:
            raise ThrottledError("UnprocessedKeys", f"{len(unread)} subscriptions were left unread")
        return {(one := Subscription.from_item(item)).id: one for item in found.values()}
