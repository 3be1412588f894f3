"""Our ledger: the metering records of many subscriptions, from the usage table and the archive."""

from collections.abc import Iterable, Iterator
from itertools import batched

from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.record import MeteringRecord, is_metering_record
from marketplace.ledger.selections import METERING_RECORDS
from marketplace.subscriptions.reader import SubscriptionReader, subscriptions_ever_active


def metering_records(
    usage: UsageHistory, subscription_ids: Iterable[str], start: int, end: int
) -> Iterator[MeteringRecord]:
    """The metering records of these subscriptions of the hours from `start` to before `end` (seconds since the epoch):
    a bounded query for each, whatever the history. Raises AwsError and InvalidRecordError."""
    first, last = keys.hour_prefix(start), keys.hour_prefix(end)
    for subscription_id in subscription_ids:
        for item in usage.items(subscription_id, first, last, where=METERING_RECORDS.expression):
            if not is_metering_record(item):
                continue
            record = MeteringRecord.from_item(item)
            if start <= record.hour < end:
                yield record


def subscriptions_with_usage(table: Table, start: int) -> Iterator[str]:
    """The ids of all subscriptions that may have usage from `start` (seconds since the epoch) on, from the index by
    status: all but those whose closing deadline is before it, and those that AWS never activated. Raises AwsError."""
    reader = SubscriptionReader(table)
    for some in batched(subscriptions_ever_active(table), 100, strict=False):
        yield from _since(reader, list(some), start)


def _since(reader: SubscriptionReader, ids: list[str], start: int) -> Iterator[str]:
    found = reader.get_many(ids)
    for subscription_id, subscription in found.items():
        deadline = subscription.closing_deadline
        if deadline is None or deadline >= start:
            yield subscription_id
