"""In which hours metering runs have found usage of which subscription, to notice one whose usage has stopped.

The usage table holds one item for each shard of the `due` index: a JSON text with a number for each subscription, in
which bit n is set if usage was due n hours before the item's hour. So a run that finds usage reads and writes these
items once, however many records it meters: two requests. A run without usage does not touch them.

Bounds: 8,000 subscriptions in a shard, 128,000 in all, of about 46 bytes each; more are not watched. Two runs at the
same time may lose an hour of each other's, which is why an hour or two may be missing in a day, and why whoever is told
of a subscription looks at its metering records.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR, EpochSeconds, hour_of

STEADY_HOURS = 24
MISSING_HOURS = 2
"""Usage is steady that was found in all of so many hours but so few."""
SILENT_HOURS = 3
"""Steady usage has stopped when so many hours have passed without any."""
TOLD_HOURS = 24
"""For how many hours it counts as stopped."""

_LONGEST_SILENCE = SILENT_HOURS + TOLD_HOURS
_KEPT = (1 << (_LONGEST_SILENCE + 1 + STEADY_HOURS)) - 1
_A_DAY = (1 << STEADY_HOURS) - 1
_MOST = 8_000


def has_stopped(hours: int) -> bool:
    """Whether steady usage has stopped, by the hours in which it was found: bit 0 is the hour that is not over yet."""
    if not hours:
        return False
    last = (hours & -hours).bit_length() - 1
    steady = ((hours >> last) & _A_DAY).bit_count() >= STEADY_HOURS - MISSING_HOURS
    return steady and SILENT_HOURS < last <= _LONGEST_SILENCE


@dataclass(slots=True)
class _Shard:
    """The subscriptions of a shard, by id, and the hours before `hour` in which usage of each was found."""

    hour: EpochSeconds
    hours: dict[str, int] = field(default_factory=dict)

    @classmethod
    def at(cls, now: EpochSeconds, item: Item | None) -> "_Shard":
        """As of now. The item may be of a later hour, if a clock was ahead."""
        if item is None:
            return cls(hour_of(now))
        values = from_item(item)
        hour, found = max(hour_of(now), EpochSeconds(values["hour"])), json.loads(values["hours"])
        passed = (hour - values["hour"]) // HOUR
        shifted = {one: (bits << passed) & _KEPT for one, bits in found.items()} if passed else found
        return cls(hour, {one: bits for one, bits in shifted.items() if bits})

    def add(self, subscription_id: str) -> bool:
        """Notes usage in this hour. False when that was noted already, or there is no room."""
        bits = self.hours.get(subscription_id, 0)
        if bits & 1 or (not bits and len(self.hours) >= _MOST):
            return False
        self.hours[subscription_id] = bits | 1
        return True

    def item(self, shard: str) -> Item:
        text = json.dumps(self.hours, separators=(",", ":"))
        return to_item({**keys.activity(shard)._asdict(), "hour": self.hour, "hours": text})


class HourlyActivity:
    """These items in the usage table. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def found(self, subscription_ids: Collection[str], now: EpochSeconds) -> None:
        """Notes that a run has found usage of these subscriptions now: nothing is read or written for none."""
        by_shard: dict[str, list[str]] = {}
        for subscription_id in subscription_ids:
            by_shard.setdefault(keys.due_shard(subscription_id), []).append(subscription_id)
        stored = self._table.get_many(map(keys.activity, by_shard))
        changed: list[Item] = []
        for shard, ids in by_shard.items():
            watched = _Shard.at(now, stored.get(keys.activity(shard)))
            if sum(map(watched.add, ids)):
                changed.append(watched.item(shard))
        self._table.put_all(changed)

    def stopped(self, now: EpochSeconds) -> Iterator[str]:
        """The ids of subscriptions whose steady usage has stopped, by what was noted."""
        shards = keys.all_due_shards()
        stored = self._table.get_many(map(keys.activity, shards))
        for item in stored.values():
            yield from (one for one, hours in _Shard.at(now, item).hours.items() if has_stopped(hours))
