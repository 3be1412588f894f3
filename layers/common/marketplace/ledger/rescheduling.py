"""Unsettled usage when its subscription closes or comes (back) to life: due at once, or due again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import MAX_AGE, Period, due_at, held_due_at, refuse_at
from marketplace.platform.aws_errors import classified, classified_errors
from marketplace.platform.clock import HOUR

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Values = dict[str, Any]


class UsageDeadlines:
    """The usage table as a change of a subscription sees it. Every method can be repeated.

    Raises AwsError when DynamoDB gives no answer; some records may be changed then, and the rest is
    for the repetition.
    """

    def __init__(self, client: "DynamoDBClient", table: str, seal_delay: int) -> None:
        self._client = client
        self._table = table
        self._seal_delay = seal_delay

    def close(self, subscription_id: str, *, deadline: int, now: int) -> int:
        """Makes all unsettled usage due in time for the deadline (usage_rules.Period.due_at), and refused from the
        deadline on, or when AWS regularly refuses it; a later deadline counts like an earlier one. Returns how many
        records were changed."""

        def closing(values: Values) -> Values:
            refused = min(refuse_at(values["hour"]), deadline)
            if values["state"] == "held":
                return {"refuse_at": refused, "due_at": min(values["due_at"], held_due_at(now, refused))}
            closing_due = Period(values["timestamp"], deadline).due_at(values["hour"], self._seal_delay, now)
            return {"refuse_at": refused, "due_at": min(values["due_at"], closing_due)}

        return self._change(subscription_id, now, closing)

    def release(self, subscription_id: str, *, now: int) -> int:
        """Gives unsettled usage its regular times back, and makes held usage due again. Returns how many records were
        changed."""

        def released(values: Values) -> Values:
            return {
                "state": "open",
                "refuse_at": refuse_at(values["hour"]),
                "due_at": due_at(values["hour"], self._seal_delay),
            }

        return self._change(subscription_id, now, released)

    def reopen(self, subscription_id: str, *, now: int) -> int:
        """Gives unsettled usage its regular times back, as `release` does, but leaves held usage held. Returns how many
        records were changed."""

        def reopened(values: Values) -> Values:
            refused = refuse_at(values["hour"])
            if values["state"] != "held":
                return {"refuse_at": refused, "due_at": due_at(values["hour"], self._seal_delay)}
            return {} if refused == values["refuse_at"] else {"refuse_at": refused, "due_at": held_due_at(now, refused)}

        return self._change(subscription_id, now, reopened)

    def _change(self, subscription_id: str, now: int, new_values: Callable[[Values], Values]) -> int:
        changed = 0
        for key, values in self._unsettled(subscription_id, now):
            wanted = {name: value for name, value in new_values(values).items() if values[name] != value}
            if wanted and self._write(key, values, wanted):
                changed += 1
        return changed

    def _unsettled(self, subscription_id: str, now: int) -> list[tuple[Key, Values]]:
        """Older hours than a day can't be unsettled but for writing them off, so history costs nothing."""
        found: list[tuple[Key, Values]] = []
        start: dict[str, Any] = {}
        while True:
            with classified_errors():
                page = self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                    FilterExpression="attribute_exists(due_shard) AND #state IN (:open, :held)",
                    ExpressionAttributeNames={"#state": "state"},
                    ExpressionAttributeValues={
                        ":pk": {"S": keys.subscription_pk(subscription_id)},
                        ":first": {"S": keys.hour_prefix(now - MAX_AGE - HOUR)},
                        ":last": {"S": keys.hour_prefix(now + 3 * HOUR)},
                        ":open": {"S": "open"},
                        ":held": {"S": "held"},
                    },
                    ConsistentRead=True,
                    **start,
                )
            for item in page["Items"]:
                key = Key(item["pk"]["S"], item["sk"]["S"])
                found.append((key, from_item(item)))
            if not page.get("LastEvaluatedKey"):
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _write(self, key: Key, seen: Values, wanted: Values) -> bool:
        """A record that a run has settled meanwhile is left alone."""
        assignments = ", ".join(f"#{name} = :{name}" for name in wanted)
        try:
            self._client.update_item(
                TableName=self._table,
                Key=key.item(),
                UpdateExpression=f"SET {assignments}",
                ConditionExpression="attribute_exists(due_shard) AND #state = :seen_state",
                ExpressionAttributeNames={"#state": "state", **{f"#{name}": name for name in wanted}},
                ExpressionAttributeValues={
                    ":seen_state": {"S": seen["state"]},
                    **{
                        f":{name}": {"S": value} if isinstance(value, str) else {"N": str(value)}
                        for name, value in wanted.items()
                    },
                },
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        except (BotoCoreError, ClientError) as error:
            raise classified(error) from error
        return True
