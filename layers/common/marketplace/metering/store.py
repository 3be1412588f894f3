"""Metering records in the usage table, as a metering run sees them: find what is due, seal, read, settle.

Sealing and every outcome but `metered` are conditional on the seal that was seen, so of two runs only the later
one's view is written; `metered` is written whatever else happened, because AWS said so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.ledger.due_index import SEALING, Decision, DueEntry, Unreadable, due_in
from marketplace.ledger.record import MeteringRecord, RecordChange
from marketplace.metering.wire import Allocation
from marketplace.platform.clock import EpochSeconds

_READS = 5
"""How often allocations are read that do not sum to what their record says."""


class IncompleteAllocationsError(Exception):
    """The allocations that are found are not those that their record says."""


class MeteringStore:
    """The usage table as metering sees it. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def due(self, now: EpochSeconds) -> Iterator[DueEntry | Unreadable]:
        """The records whose due time has come, and all in trouble: one query per shard and page. Read from the index,
        so what it says may be a moment old, and a record that moves while the pages are read may come twice; sealing
        finds out."""
        for shard in keys.all_due_shards():
            condition, values = due_in(shard, now)
            for item in self._table.items(condition, values, index=keys.DUE_INDEX):
                yield DueEntry.from_item(item)

    def seal(self, entries: Sequence[DueEntry], token: str) -> Counter[str]:
        """Puts `token` in place of the seal each entry was seen with; after it, no writer can change the record.

        An answer can be lost, so what was sealed is what `read` finds. Returns the error codes of the statements that
        DynamoDB would not carry out; when that is all of them, it raises AwsError.
        """
        return self._table.update_all(SEALING, [entry.sealing(token) for entry in entries])

    def read(self, wanted: Iterable[Key]) -> dict[Key, Item]:
        """The records as they are (consistent read). Those that DynamoDB leaves unread are not in the answer."""
        found, _ = self._table.get_readable(wanted)
        return found

    def allocations(self, record: MeteringRecord) -> list[Allocation]:
        """The allocations of a sealed record, in the order of their keys, so always the same.

        A query may find a transaction applied to the metering record and not yet to its allocations (DynamoDB Developer
        Guide, "Isolation levels for DynamoDB transactions": read-committed), so it is repeated while it finds something
        else than the record says. Raises IncompleteAllocationsError when it still does.
        """
        for attempt in range(_READS):
            if attempt:
                self._table.wait(attempt - 1)
            stored = map(from_item, self._table.items_under(record.key.pk, keys.allocation_prefix(record.key.sk)))
            found = [Allocation(values["quantity"], tuple(sorted(values["tags"].items()))) for values in stored]
            tagged, allocated = record.tagged_quantity, sum(allocation.quantity for allocation in found)
            if tagged is None or (len(found) == record.tag_sets and allocated == tagged):
                return found
        # What an earlier version has booked is not counted, so in an hour of both more is there for good.
        if len(found) == record.tag_sets and (tagged or 0) < allocated <= record.quantity:
            return found
        raise IncompleteAllocationsError

    def settle(self, settled: Iterable[Item]) -> set[Key]:
        """Writes whole items, whatever is stored. Returns the keys of those that DynamoDB did not take in several
        attempts; they stay due, and sending them again is safe."""
        return self._table.put_all(settled)

    def change_if(
        self,
        key: Key,
        seal: str,
        change: RecordChange,
        *,
        seen_state: str | None = None,
        seen_approval: str | None = None,
        settled: bool = False,
    ) -> bool:
        """Makes the change if the record still carries the seal, and what was seen of it if that is given; takes it out
        of the index when it is settled. False when another writer has got further; nothing is written then."""
        update = change.update(seal, seen_state=seen_state, seen_approval=seen_approval, settled=settled)
        return self._table.update_if(key, update)

    def told(self, decision: Decision, next_step: EpochSeconds) -> None:
        """Notes that the decision is told, unless the record has moved on: then it is told again, or has no need."""
        self._table.update_if(decision.key, decision.told(next_step))
