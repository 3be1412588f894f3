"""Lists what waits for something that AWS Marketplace has yet to say, the oldest first, and lets an operator say until
when that is expected: the gauges and their alarms count it from then on. The reason is kept with the item.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table, Update
from marketplace.platform.clock import HOUR, Clock, epoch, iso
from marketplace.subscriptions.waiting import AWAITED_UNTIL, KINDS, WITHOUT_END, Waiting, WaitingItems, waits

_BECAUSE = "awaited_because"


@dataclass(frozen=True, slots=True)
class Listed:
    """What waits, and what it is: of a notification AWS's own name for it."""

    waiting: Waiting
    title: str = ""

    @property
    def name(self) -> str:
        return _name(self.waiting.key)


class WaitingList:
    """The use case."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._items = WaitingItems(table)
        self._clock = clock

    def all(self) -> Iterator[Listed]:
        """Everything that waits, by kind, the oldest first. Raises AwsError."""
        for kind in KINDS:
            for waiting in self._items.all(kind):
                item = from_item(self._table.get(waiting.key) or {})
                yield Listed(waiting, item.get("title", ""))

    def find(self, name: str) -> Listed:
        """What waits under this name. Raises CommandRefusedError when nothing does, and AwsError."""
        key = _key(name)
        item = None if key is None else self._table.get(key)
        values = from_item(item or {})
        if key is None or "waiting" not in values:
            raise CommandRefusedError(f"nothing waits under the name {name}; the list has the names")
        return Listed(Waiting(values["waiting"], key, values["waiting_since"]), values.get("title", ""))

    def expect(self, listed: Listed, until: int, reason: str) -> None:
        """Has it count as waiting from `until` on (seconds since the epoch). Raises CommandRefusedError when it waits
        no more, and AwsError."""
        update = Update(
            set={AWAITED_UNTIL: until, _BECAUSE: reason, **waits(listed.waiting.kind, until)},
            add={"version": 1} if listed.waiting.kind in {"registration", "account"} else {},
            condition="attribute_exists(#waiting)",
        )
        if not self._table.update_if(listed.waiting.key, update):
            raise CommandRefusedError(f"{listed.name} waits no more")

    def shown(self, listed: Listed) -> str:
        now, since = epoch(self._clock()), listed.waiting.since
        if since > now:
            age = "expects nothing more" if since >= WITHOUT_END else f"is expected to wait until {iso(since)}"
        else:
            age = f"has waited for {(now - since) / HOUR:.1f} hours, since {iso(since)}"
        title = f" ({listed.title})" if listed.title else ""
        return f"{listed.waiting.kind} {listed.name}{title}: {age}"


def _name(key: Key) -> str:
    """A subscription's id, an agreement's, or the key of a notification."""
    if key == keys.subscription(keys.subscription_id_of(key.pk)):
        return keys.subscription_id_of(key.pk)
    agreement_id = keys.agreement_id_of(key.pk)
    return f"{key.pk}/{key.sk}" if agreement_id is None else agreement_id


def _key(name: str) -> Key | None:
    if "/" in name:
        pk, _, sk = name.partition("/")
        return Key(pk, sk) if sk else None
    return keys.subscription(name) if name.startswith("sub-") else keys.agreement_waiting(name)
