"""What waits for AWS Marketplace, for a person or for this application itself, and since when.

An item that waits has two attributes more, and the sparse index `waiting` holds those items alone, in the order of the
second. So the oldest of a kind is one query for one item, however many subscriptions and notifications there are, and
an item leaves the index with the write that ends its wait.

| kind | the item | it waits for |
|---|---|---|
| registration | a pending subscription | its activation |
| account | a licence that is active or closing | the buyer's account, without which AWS takes no usage |
| agreement | a mark beside the events of an agreement | the licence that the agreement belongs to |
| unassigned | a notification that nothing here understands | a person |
| event | an event in an outbox | its publication |
| correction | what a contract included and was charged | a person, who has it corrected |
| reconciliation | the mark of the last reconciliation of all subscriptions | the next one |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table, Update, key_of

type Kind = Literal["registration", "account", "agreement", "unassigned", "event", "correction", "reconciliation"]
KINDS: tuple[Kind, ...] = get_args(Kind.__value__)

NOT_WAITING: Mapping[str, None] = {"waiting": None, "waiting_since": None}
"""The attributes of an item that does not wait, as a change that removes them."""

AWAITED_UNTIL = "awaited_until"
"""An attribute: the moment until which an operator expects the wait to last (seconds since the epoch). The item waits
from then on."""

WITHOUT_END = 253_402_300_799
"""The end of the year 9999: an operator expects nothing more."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item that waits. `since`: from when on, in seconds since the epoch; later than now while it is expected to."""

    kind: Kind
    key: Key
    since: int


def waits(kind: Kind, since: int, awaited_until: int | None = None) -> dict[str, Any]:
    """The attributes of an item that waits from `since` on, or from the moment until which it is expected to."""
    return {"waiting": kind, "waiting_since": max(since, awaited_until or 0)}


class WaitingItems:
    """What waits in the subscriptions table, the oldest first, by an index that lags a moment behind. Raises AwsError
    when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def oldest(self, kind: Kind) -> Waiting | None:
        page = self._table.page("#waiting = :kind", {"kind": kind}, index=keys.WAITING_INDEX, limit=1)
        return next(map(_waiting, page.items), None)

    def note_reconciliation(self, at: int) -> None:
        """Every subscription's comparison has been requested; the next time is waited for from then on."""
        self._table.update_if(keys.reconciliation(), Update(set=waits("reconciliation", at)))

    def await_reconciliation(self, since: int) -> None:
        """Has the first one waited for, if none has been noted yet."""
        self._table.put_new(to_item({**keys.reconciliation()._asdict(), **waits("reconciliation", since)}))

    def all(self, kind: Kind) -> Iterator[Waiting]:
        return map(_waiting, self._table.items("#waiting = :kind", {"kind": kind}, index=keys.WAITING_INDEX))


def _waiting(item: dict[str, Any]) -> Waiting:
    values = from_item(item)
    return Waiting(values["waiting"], key_of(item), values["waiting_since"])
