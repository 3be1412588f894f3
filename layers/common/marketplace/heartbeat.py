"""Zero records for hours without usage, for sellers whose listing test asks for a record every hour.

AWS keeps the first quantity of an hour and refuses a later one, so a zero is written only for an hour that is due: from
then on no usage is booked there (metering skill: an early zero locks the hour at 0).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from marketplace import keys
from marketplace.clock import HOUR, hour_of
from marketplace.errors import classified, classified_errors
from marketplace.items import from_item, to_item
from marketplace.metering_record import UNSEALED
from marketplace.subscription import Subscription
from marketplace.usage_rules import Period, due_at, timestamp_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CATCH_UP = 20 * HOUR
"""How far back hours are filled after an outage: AWS takes 24 hours, and a run needs some of them."""


class ActiveSubscriptions(Protocol):
    """Every subscription that is active now."""

    def active(self) -> Iterable[Subscription]: ...


@dataclass(slots=True)
class Heartbeat:
    """Fills hours that have no usage in `dimension`'s subscription with a zero in that dimension."""

    client: "DynamoDBClient"
    table: str
    subscriptions: ActiveSubscriptions
    dimension: str
    seal_delay: int

    def fill(self, now: int) -> int:
        """Writes the zeros that are missing; returns how many. Costs one read once an hour is filled.

        Raises marketplace.errors.AwsError when DynamoDB gives no answer; the next call goes on with the same hours.
        """
        last_due = hour_of(now - HOUR - self.seal_delay)
        filled = self._filled_to()
        first = max(last_due - _CATCH_UP, filled + HOUR) if filled else last_due
        hours = range(first, last_due + HOUR, HOUR)
        if not hours:
            return 0
        written = sum(
            self._fill(subscription, hour, now) for subscription in self.subscriptions.active() for hour in hours
        )
        self._remember(last_due)
        return written

    def _fill(self, subscription: Subscription, hour: int, now: int) -> int:
        if subscription.activated_at is None or hour < hour_of(subscription.activated_at):
            return 0
        period = Period(subscription.activated_at)
        if period.refuse_at(hour) <= now or subscription.billed_to(hour) != subscription.id:
            return 0
        if self._has_usage(subscription.id, hour):
            return 0
        key = keys.metering_record(subscription.id, hour, self.dimension)
        values: dict[str, Any] = {
            **key._asdict(),
            "dimension": self.dimension,
            "hour": hour,
            "quantity": 0,
            "records": 0,
            "state": "open",
            "seal": UNSEALED,
            "timestamp": timestamp_of(hour, subscription.activated_at),
            "product_code": subscription.product_code,
            "license_arn": subscription.license_arn,
            "customer_identifier": None if subscription.license_arn else subscription.customer_identifier,
            "account_id": subscription.account_id if subscription.license_arn else None,
            "due_shard": keys.due_shard(subscription.id),
            "due_at": due_at(hour, self.seal_delay),
            "refuse_at": period.refuse_at(hour),
        }
        try:
            self.client.put_item(
                TableName=self.table, Item=to_item(values), ConditionExpression="attribute_not_exists(pk)"
            )
        except self.client.exceptions.ConditionalCheckFailedException:
            return 0
        except (BotoCoreError, ClientError) as error:
            raise classified(error) from error
        return 1

    def _has_usage(self, subscription_id: str, hour: int) -> bool:
        with classified_errors():
            page = self.client.query(
                TableName=self.table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :hour)",
                ExpressionAttributeValues={
                    ":pk": {"S": keys.subscription_pk(subscription_id)},
                    ":hour": {"S": keys.hour_prefix(hour)},
                },
                Limit=1,
                ConsistentRead=True,
            )
        return bool(page["Items"])

    def _filled_to(self) -> int | None:
        key = keys.heartbeat_mark(self.dimension)
        with classified_errors():
            answer = self.client.get_item(TableName=self.table, Key=key.item(), ConsistentRead=True)
        return int(from_item(answer["Item"])["filled_to"]) if "Item" in answer else None

    def _remember(self, hour: int) -> None:
        key = keys.heartbeat_mark(self.dimension)
        with classified_errors():
            self.client.put_item(TableName=self.table, Item=to_item({**key._asdict(), "filled_to": hour}))


@dataclass(frozen=True, slots=True)
class ActiveByStatus:
    """The active subscriptions, from the by_status index and then read consistently, a page at a time."""

    client: "DynamoDBClient"
    table: str
    read: "SubscriptionPages"

    def active(self) -> Iterator[Subscription]:
        start: dict[str, Any] = {}
        while True:
            with classified_errors():
                page = self.client.query(
                    TableName=self.table,
                    IndexName=keys.STATUS_INDEX,
                    KeyConditionExpression="#status = :active",
                    ExpressionAttributeNames={"#status": "status"},
                    ExpressionAttributeValues={":active": {"S": "active"}},
                    **start,
                )
            ids = [keys.subscription_id_of(item["pk"]["S"]) for item in page["Items"]]
            for subscription in self.read.get_many(ids).values():
                if subscription.status == "active":
                    yield subscription
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


class SubscriptionPages(Protocol):
    """Reads subscriptions by id."""

    def get_many(self, ids: Sequence[str]) -> dict[str, Subscription]: ...
