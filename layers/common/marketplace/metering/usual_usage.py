"""Judges the hours that a metering run is about to send, and keeps what is usual in the usage table.

What is usual of a subscription's dimension is one item: `since`, and a number for each day. It is read in the same
request as the metering records. It is written, before the hour is sent, only if the hour is the greatest of its day:
conditionally, so of two runs at the same time the greater number stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key, hour_and_dimension, subscription_id_of
from marketplace.dynamodb.table import Table, key_of
from marketplace.dynamodb.update import Update
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import MeteringRecord
from marketplace.metering.anomaly import Oddity, Usual, day_of, oddity
from marketplace.platform.clock import EpochSeconds

_DAY = "day_"


@dataclass(frozen=True, slots=True)
class UsualUsage:
    """What is usual, in the usage table. An hour is far above it that is more than `factor` times as great. Methods
    raise AwsError when DynamoDB gives no answer."""

    table: Table
    factor: int

    def wanted(self, entries: Iterable[DueEntry]) -> list[Key]:
        """The keys of what is to be read to judge these."""
        return [_key(entry.key) for entry in entries]

    def oddity(self, record: MeteringRecord, read: Mapping[Key, Item]) -> Oddity | None:
        """What is unusual about a sealed record, by what was read. What was not read is asked for: it is not there, or
        DynamoDB left it unread."""
        usual = _usual(read.get(_key(record.key)))
        others: dict[Key, Usual] = {}
        if record.quantity and usual is None:
            others = self._of_subscription(record)
            usual = others.pop(_key(record.key), None)
        return oddity(record.hour, record.quantity, usual, others.values(), self.factor)

    def learn(self, records: Sequence[MeteringRecord], read: Mapping[Key, Item]) -> None:
        """Keeps the quantities of hours that are usual, or were approved."""
        for record in records:
            usual = _usual(read.get(_key(record.key)))
            if not record.quantity or (usual is not None and not usual.raised_by(record.hour, record.quantity)):
                continue
            day = _DAY + day_of(record.hour)
            outdated = usual.outdated_by(record.hour) if usual is not None else []
            update = Update(
                set={day: record.quantity},
                keep={"since": record.hour},
                remove=[_DAY + one for one in outdated if _DAY + one != day],
                condition=f"attribute_not_exists(#{day}) OR #{day} <= :{day}",
            )
            self.table.update_if(_key(record.key), update)

    def _of_subscription(self, record: MeteringRecord) -> dict[Key, Usual]:
        found = self.table.items_under(record.key.pk, keys.USUAL_PREFIX)
        return {key_of(item): usual for item in found if (usual := _usual(item)) is not None}


def _key(metering_record: Key) -> Key:
    return keys.usual_usage(subscription_id_of(metering_record.pk), hour_and_dimension(metering_record.sk)[1])


def _usual(item: Item | None) -> Usual | None:
    if item is None:
        return None
    values: dict[str, Any] = from_item(item)
    days = {name.removeprefix(_DAY): value for name, value in values.items() if name.startswith(_DAY)}
    return Usual(EpochSeconds(values["since"]), days)
