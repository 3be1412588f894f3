"""Moving one customer from the legacy integration to their licence, on an hour's boundary.

"Sending metering records with both ProductCode and LicenseArn for the same customer within the same hour will result in
duplicate billing" (botocore model, BatchMeterUsage). So every hour belongs to exactly one of the two: hours before the
cut-over to the legacy customer, all others to the licence, whichever of them usage is reported for, and however late
(Subscription.billed_to). The boundary lies ahead when it is set, so nothing of its hour was booked under the old rule.
From a shell with credentials for the tables:

    python -m marketplace.migration --table TABLE --usage-table TABLE --legacy ID --license ID
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketplace import aws, keys
from marketplace.clock import HOUR, Clock, epoch, hour_of, iso, utc_now
from marketplace.errors import classified_errors
from marketplace.items import from_item, to_attribute
from marketplace.transactions import write_together

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOTICE = HOUR + 600
"""Seconds that the cut-over lies ahead at least. Late usage may be booked to the hour to come, and a usage request that
has read the old state may still run."""
_WINDOW = 25 * HOUR
"""Older hours are no longer taken by AWS (botocore model, BatchMeterUsage: the last 24 hours)."""
_AHEAD = 24 * HOUR
_AFTER_ALL = "$"
"""Sorts after `#`, which follows the hour in a key."""


class MigrationRefusedError(Exception):
    """The customer can't be moved as asked; the text says why, for the person who asked."""


@dataclass(frozen=True, slots=True)
class Cutover:
    """From this hour on (seconds since the epoch) usage is billed to the licence."""

    legacy_id: str
    license_id: str
    at: int


def next_boundary(now: int) -> int:
    """The first hour that begins late enough."""
    return hour_of(now + NOTICE + HOUR - 1)


class Migration:
    """The use case. `sleep` and `jitter` are what waiting for another writer is done with."""

    def __init__(
        self,
        *,
        client: "DynamoDBClient",
        table: str,
        usage_table: str,
        clock: Clock,
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self._client = client
        self._table = table
        self._usage_table = usage_table
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    def migrate(self, legacy_id: str, license_id: str) -> Cutover:
        """Sets the cut-over, on both subscriptions or on neither. Asked again, the first answer stands.

        Raises MigrationRefusedError, and AwsError when DynamoDB gave no answer: ask again.
        """
        legacy, licensed = self._read(legacy_id), self._read(license_id)
        if legacy.get("integration") != "legacy" or licensed.get("integration") != "license":
            raise MigrationRefusedError("the first has to be a legacy subscription, the second a licence")
        if legacy.get("product_code") != licensed.get("product_code"):
            raise MigrationRefusedError("the two are subscriptions to different products")
        if licensed.get("status") != "active":
            raise MigrationRefusedError("the licence isn't active; its usage would not be taken")
        if legacy.get("migrated_to") == license_id:
            return Cutover(legacy_id, license_id, legacy["cutover_at"])
        now = epoch(self._clock())
        cutover = Cutover(legacy_id, license_id, next_boundary(now))
        if self._has_usage(license_id, now - _WINDOW, cutover.at - HOUR):
            raise MigrationRefusedError(
                "usage was recorded for the licence within the last day, in hours that would be the legacy customer's"
            )
        if self._has_usage(legacy_id, cutover.at, now + _AHEAD):
            raise MigrationRefusedError("usage of the legacy customer is booked ahead; ask again in an hour")
        if self._set(cutover):
            return cutover
        raise MigrationRefusedError("one of the two is part of another migration")

    def _read(self, subscription_id: str) -> dict[str, Any]:
        with classified_errors():
            answer = self._client.get_item(
                TableName=self._table, Key=keys.subscription(subscription_id).item(), ConsistentRead=True
            )
        if "Item" not in answer:
            raise MigrationRefusedError(f"there is no subscription {subscription_id}")
        return from_item(answer["Item"])

    def _has_usage(self, subscription_id: str, first: int, last: int) -> bool:
        """Whether there are metering records of these hours, the first and the last included."""
        with classified_errors():
            answer = self._client.query(
                TableName=self._usage_table,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                ExpressionAttributeValues={
                    ":pk": to_attribute(keys.subscription_pk(subscription_id)),
                    ":first": to_attribute(keys.hour_prefix(first)),
                    ":last": to_attribute(keys.hour_prefix(last) + _AFTER_ALL),
                },
                ConsistentRead=True,
                Limit=1,
            )
        return bool(answer["Items"])

    def _set(self, cutover: Cutover) -> bool:
        both = (
            (cutover.legacy_id, "migrated_to", cutover.license_id),
            (cutover.license_id, "migrated_from", cutover.legacy_id),
        )
        writes = [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": keys.subscription(subscription_id).item(),
                    "UpdateExpression": "SET #other = :other, cutover_at = :at ADD version :one",
                    "ConditionExpression": (
                        "attribute_exists(pk) AND attribute_not_exists(migrated_to) "
                        "AND attribute_not_exists(migrated_from)"
                    ),
                    "ExpressionAttributeNames": {"#other": name},
                    "ExpressionAttributeValues": {
                        ":other": to_attribute(other),
                        ":at": to_attribute(cutover.at),
                        ":one": to_attribute(1),
                    },
                }
            }
            for subscription_id, name, other in both
        ]
        return write_together(self._client, writes, self._sleep, self._jitter) is None


def main(arguments: Sequence[str], show: Callable[[str], object] = sys.stdout.write) -> int:
    """The command of the module's docstring; answers its exit status."""
    parser = argparse.ArgumentParser(prog="python -m marketplace.migration", description=__doc__)
    for name, meaning in (
        ("table", "the subscriptions table"),
        ("usage-table", "the usage table"),
        ("legacy", "the id of the legacy customer's subscription"),
        ("license", "the id of the licence's subscription"),
    ):
        parser.add_argument(f"--{name}", required=True, help=meaning)
    given = parser.parse_args(arguments)
    migration = Migration(
        client=aws.dynamodb(),
        table=given.table,
        usage_table=given.usage_table,
        clock=utc_now,
        sleep=time.sleep,
        jitter=random.random,
    )
    try:
        cutover = migration.migrate(given.legacy, given.license)
    except MigrationRefusedError as refusal:
        show(f"refused: {refusal}\n")
        return 1
    show(f"usage from {iso(cutover.at)} on is billed to the licence, earlier usage to the legacy customer\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
