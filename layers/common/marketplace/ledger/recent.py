"""The metering records of a subscription that AWS may still take."""

from collections.abc import Iterator

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.deadlines import MAX_AGE
from marketplace.ledger.record import MeteringRecord
from marketplace.ledger.selections import Selection
from marketplace.platform.clock import HOUR


def recent_records(table: Table, subscription_id: str, now: int, wanted: Selection) -> Iterator[MeteringRecord]:
    """The wanted records of the last day's hours and of those that take usage ahead, oldest first. Older ones can only
    be written off, so a query costs the same however long the history is. Raises AwsError."""
    hours = {
        "pk": keys.subscription_pk(subscription_id),
        "first": keys.hour_prefix(now - MAX_AGE - HOUR),
        "last": keys.hour_prefix(now + 3 * HOUR),
    }
    condition = "pk = :pk AND sk BETWEEN :first AND :last"
    for item in table.items(condition, {**hours, **wanted.values}, where=wanted.expression):
        yield MeteringRecord.from_item(item)
