"""Our ledger: the metering records of many subscriptions, from the usage table."""

from collections.abc import Iterable, Iterator
from itertools import batched

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.record import METERING_RECORDS, MeteringRecord
from marketplace.subscriptions.reader import SubscriptionReader


def metering_records(table: Table, subscription_ids: Iterable[str], start: int, end: int) -> Iterator[MeteringRecord]:
    """The metering records of these subscriptions of the hours from `start` to before `end` (seconds since the epoch):
    a bounded query for each, whatever the history. Raises AwsError and InvalidRecordError."""
    first, last = keys.hour_prefix(start), keys.hour_prefix(end)
    for subscription_id in subscription_ids:
        span = {"pk": keys.subscription_pk(subscription_id), "first": first, "last": last}
        found = table.items("pk = :pk AND sk BETWEEN :first AND :last", span, where=METERING_RECORDS.expression)
        for item in found:
            record = MeteringRecord.from_item(item)
            if start <= record.hour < end:
                yield record


def subscriptions_with_usage(table: Table, start: int) -> Iterator[str]:
    """The ids of all subscriptions that may have usage from `start` (seconds since the epoch) on, from the index by
    status: all but those whose closing deadline is before it, and those that AWS never activated. Raises AwsError."""
    reader = SubscriptionReader(table)
    seen: set[str] = set()
    for status in ("active", "closing", "ended"):
        found = table.items("#status = :status", {"status": status}, index=keys.STATUS_INDEX)
        for some in batched((keys.subscription_id_of(item["pk"]["S"]) for item in found), 100, strict=False):
            # A subscription whose status changes meanwhile stands in the index at two places, one after the other.
            yield from _since(reader, [one for one in some if one not in seen], start)
            seen.update(some)


def _since(reader: SubscriptionReader, ids: list[str], start: int) -> Iterator[str]:
    found = reader.get_many(ids) if ids else {}
    for subscription_id, subscription in found.items():
        deadline = subscription.closing_deadline
        if deadline is None or deadline >= start:
            yield subscription_id
