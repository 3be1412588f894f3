"""Which tag sets of a metering record get an allocation of their own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import MAX_ALLOCATION_BYTES, MAX_TAG_SETS, MeteringRecord
from marketplace.usage.record import MAX_TAGS, TagSet, tag_bytes, tags_digest


def allocation_key(record: MeteringRecord, tags: TagSet) -> Key:
    return keys.allocation(record.subscription_id, record.hour, record.dimension, tags_digest(tags))


@dataclass(frozen=True, slots=True)
class Tagging:
    """Which tag sets get an allocation of their own; the usage of those that are `refused` stays in the untagged rest.

    `new` sets have no allocation yet; they take `new_bytes` and bring the tag keys `new_keys`. `seen_sets` is how many
    the metering record had when that was decided.
    """

    accepted: tuple[TagSet, ...] = ()
    new: frozenset[TagSet] = frozenset()
    refused: frozenset[TagSet] = frozenset()
    new_keys: frozenset[str] = frozenset()
    new_bytes: int = 0
    seen_sets: int = 0

    @classmethod
    def of(cls, record: MeteringRecord, tag_sets: Iterable[TagSet], stored: Mapping[Key, Item]) -> "Tagging":
        """For these tag sets of the record, from what is stored of it and of their allocations."""
        there = MeteringRecord.from_item(stored[record.key]) if record.key in stored else record
        existing: list[TagSet] = []
        wanted: list[TagSet] = []
        for tags in tag_sets:
            (existing if allocation_key(record, tags) in stored else wanted).append(tags)
        return cls.decide(there, existing, wanted)

    @classmethod
    def decide(cls, record: MeteringRecord, existing: list[TagSet], wanted: list[TagSet]) -> "Tagging":
        """Takes wanted tag sets in order while the record keeps within BatchMeterUsage's limits: 2500 sets (one place
        is left for the untagged rest), 5 different keys, and a size that lets the record go into a request alone."""
        new: list[TagSet] = []
        known_keys, new_bytes = record.tag_keys, 0
        for tags in wanted:
            with_these = known_keys | {key for key, _ in tags}
            fits = (
                record.tag_sets + len(new) + 1 < MAX_TAG_SETS
                and len(with_these) <= MAX_TAGS
                and record.tag_bytes + new_bytes + tag_bytes(tags) <= MAX_ALLOCATION_BYTES
            )
            if fits:
                new.append(tags)
                known_keys = with_these
                new_bytes += tag_bytes(tags)
        return cls(
            accepted=(*existing, *new),
            new=frozenset(new),
            refused=frozenset(wanted) - frozenset(new),
            new_keys=known_keys - record.tag_keys,
            new_bytes=new_bytes,
            seen_sets=record.tag_sets,
        )
