"""Puts back what a table has lost, from a table that was restored from a backup.

Only items that are gone are written, on the condition that there is still none: an older item never replaces a newer
one. What is gone because it was to go stays gone: what time to live has removed, contacts that were deleted, events
that were published.
"""

from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Literal

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table, key_of
from marketplace.platform.clock import Clock, epoch

_KEYS_PER_READ = 100
_WENT_ON_PURPOSE = (keys.contact("").sk, keys.OUTBOX_PREFIX)

type Kind = Literal["subscription", "usage record", "metering record", "other"]


def kind_of(key: Key) -> Kind:
    """What an item is, for the person who puts it back."""
    if key == keys.subscription(keys.subscription_id_of(key.pk)):
        return "subscription"
    if key.sk.startswith(keys.RECORD_PREFIX):
        return "usage record"
    if key.sk.startswith(keys.HOUR_PREFIX) and not keys.is_allocation(key.sk):
        return "metering record"
    return "other"


class PutBack:
    """The use case: from the restored table `old` into the table in use."""

    def __init__(self, old: Table, current: Table, clock: Clock) -> None:
        self._old = old
        self._current = current
        self._clock = clock

    def missing(self) -> Iterator[Item]:
        """The items that the table in use has lost. Reads the restored table once. Raises AwsError."""
        now = epoch(self._clock())
        for some in batched(self._old.everything(), _KEYS_PER_READ, strict=False):
            found = self._current.get_many(map(key_of, some))
            yield from (item for item in some if key_of(item) not in found and not _is_over(item, now))

    def write(self, items: Iterable[Item]) -> Iterator[bool]:
        """Writes them, each unless another writer was first. Raises AwsError; repeating it goes on."""
        for item in items:
            yield self._current.put_new(item)


def _is_over(item: Item, now: int) -> bool:
    expires_at = from_item(item).get("expires_at")
    expired = isinstance(expires_at, int) and expires_at <= now
    return expired or key_of(item).sk.startswith(_WENT_ON_PURPOSE)
