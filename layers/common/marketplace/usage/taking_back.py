"""Taking usage out of a metering record again, exactly, while it is unsealed: its quantity, its counts and the
allocations of its tag sets. The writes belong to a transaction, which also changes the usage records."""

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write
from marketplace.dynamodb.update import Update
from marketplace.ledger.record import Addition, MeteringRecord
from marketplace.usage.record import TagSet, tag_bytes, tags_digest


@dataclass(frozen=True, slots=True)
class Taken:
    """Units that one usage record had in the metering record. `tags`: of its allocation, () where it has none; `whole`:
    nothing of the usage record is left in the hour; `untagged`: its tags had found no room."""

    units: int
    tags: TagSet = ()
    whole: bool = True
    untagged: bool = False


def taken_out(table: Table, stored: MeteringRecord, taken: Sequence[Taken]) -> list[Write]:
    """The writes that take these out of the metering record as it is stored. They are refused once it is sealed, and
    when it or an allocation was changed so that they would not be exact. Raises AwsError."""
    units = sum(one.units for one in taken)
    leaving = [one for one in taken if one.whole]
    allocations, gone = _allocations(table, stored.key, taken)
    if stored.quantity == units and stored.records == len(leaving):
        # An empty record would be sent as a zero, and AWS keeps the first quantity of an hour.
        condition, given = MeteringRecord.removal(units, len(leaving))
        return [table.delete_action(stored.key, condition, given), *allocations]
    reduction = Addition(
        units,
        len(leaving),
        untagged_records=sum(1 for one in leaving if one.untagged),
        tagged_quantity=0 if stored.tagged_quantity is None else sum(one.units for one in taken if one.tags),
        tag_sets=len(gone),
        tag_bytes=sum(tag_bytes(tags) for tags in gone),
    )
    return [table.update_action(stored.key, MeteringRecord.reduction(reduction)), *allocations]


def _allocations(table: Table, hour: Key, taken: Sequence[Taken]) -> tuple[list[Write], list[TagSet]]:
    """The units taken out of the allocations of their tag sets, and the tag sets that are gone with them."""
    of_tags: dict[TagSet, int] = {}
    for one in taken:
        if one.tags:
            of_tags[one.tags] = of_tags.get(one.tags, 0) + one.units
    places = {tags: Key(hour.pk, keys.allocation_prefix(hour.sk) + tags_digest(tags)) for tags in of_tags}
    found = table.get_many(places.values())
    writes: list[Write] = []
    gone: list[TagSet] = []
    for tags, units in of_tags.items():
        key = places[tags]
        if key in found and int(found[key]["quantity"]["N"]) == units:
            gone.append(tags)
            writes.append(table.delete_action(key, "#quantity = :taken", {"taken": units}))
        elif units:
            update = Update(add={"quantity": -units}, condition="#quantity > :taken", given={"taken": units})
            writes.append(table.update_action(key, update))
    return writes, gone
