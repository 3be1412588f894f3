"""Usage that AWS refused, made due again on request, once the seller has mended the cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import MAX_AGE, refuse_at
from marketplace.platform.aws_errors import classified, classified_errors
from marketplace.platform.clock import HOUR, Clock, epoch
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.usage.queries import described

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_RETRIED = 100
"""Metering records that one request makes due again: each is a write, and API Gateway waits 30 seconds."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Metering records as the API shows them. `too_late`: AWS takes no more usage of their hour; nothing was changed.
    `more`: there are others; the same request again goes on with them."""

    due_again: list[dict[str, Any]]
    too_late: list[dict[str, Any]]
    more: bool


class UsageRetry:
    """Makes `rejected` and `held` metering records due again. They are sent as they were sealed, so the quantity and
    the identity are those that AWS refused; what changes is what AWS makes of them."""

    def __init__(
        self, client: "DynamoDBClient", usage_table: str, subscriptions: SubscriptionReader, clock: Clock
    ) -> None:
        self._client = client
        self._table = usage_table
        self._subscriptions = subscriptions
        self._clock = clock

    def retry(self, subscription_id: str, dimension: str | None = None) -> Retried | None:
        """Looks at the hours that AWS can still take, in one dimension or all. None: there is no such subscription.

        Can be repeated: what is due already is left alone. Raises AwsError when DynamoDB gives no
        answer; some records may be due again then, and the same request goes on with the rest.
        """
        subscription = self._subscriptions.get_many([subscription_id]).get(subscription_id)
        if subscription is None:
            return None
        now = epoch(self._clock())
        due_again: list[dict[str, Any]] = []
        too_late: list[dict[str, Any]] = []
        for item in self._refused(subscription_id, dimension, now):
            refused_at = _refuse_at(int(item["hour"]["N"]), subscription)
            if refused_at <= now:
                too_late.append(described(item))
                continue
            if len(due_again) == MAX_RETRIED:
                return Retried(due_again, too_late, more=True)
            changed = self._make_due(item, now, refused_at)
            if changed is not None:
                due_again.append(described(changed))
        return Retried(due_again, too_late, more=False)

    def _refused(self, subscription_id: str, dimension: str | None, now: int) -> Iterator[Item]:
        start: dict[str, Any] = {}
        wanted: dict[str, Any] = {":dimension": {"S": dimension}} if dimension is not None else {}
        while True:
            with classified_errors():
                page = self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                    FilterExpression="#state IN (:rejected, :held)" + (" AND dimension = :dimension" if wanted else ""),
                    ExpressionAttributeNames={"#state": "state"},
                    ExpressionAttributeValues={
                        ":pk": {"S": keys.subscription_pk(subscription_id)},
                        ":first": {"S": keys.hour_prefix(now - MAX_AGE - HOUR)},
                        ":last": {"S": keys.hour_prefix(now + 3 * HOUR)},
                        ":rejected": {"S": "rejected"},
                        ":held": {"S": "held"},
                        **wanted,
                    },
                    ConsistentRead=True,
                    **start,
                )
            yield from page["Items"]
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _make_due(self, item: Item, now: int, refused_at: int) -> Item | None:
        """The record as it is then; None when a run or another request has got further. The seal stays, and with it
        whether an earlier attempt is in doubt."""
        key = Key(item["pk"]["S"], item["sk"]["S"])
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=key.item(),
                UpdateExpression="SET #state = :open, due_shard = :shard, due_at = :now, refuse_at = :refuse_at "
                "REMOVE reason, settled_at",
                ConditionExpression="#state = :seen_state AND seal = :seen_seal",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":open": {"S": "open"},
                    ":shard": {"S": keys.due_shard(keys.subscription_id_of(key.pk))},
                    ":now": {"N": str(now)},
                    ":refuse_at": {"N": str(refused_at)},
                    ":seen_state": item["state"],
                    ":seen_seal": item["seal"],
                },
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        except (BotoCoreError, ClientError) as error:
            raise classified(error) from error
        return answer["Attributes"]


def _refuse_at(hour: int, subscription: Subscription) -> int:
    deadline = None if subscription.status == "active" else subscription.closing_deadline
    return refuse_at(hour) if deadline is None else min(refuse_at(hour), deadline)
