"""Which tag sets of a metering record get an allocation of their own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import MAX_ALLOCATION_BYTES, MAX_TAG_SETS
from marketplace.subscriptions.model import Subscription
from marketplace.usage.report import MAX_TAGS, UsageReport, tag_bytes, tag_set, tags_digest

if TYPE_CHECKING:
    pass


type TagSet = tuple[tuple[str, str], ...]


type RecordName = tuple[str, str]
"""A usage record's own name: the subscription it was reported for, and its id."""


@dataclass(frozen=True, slots=True)
class Booking:
    """One report, the subscription it names, and the hour it is of. Ids are the named subscription's, whichever
    subscription is billed, so a repetition is found across a migration too."""

    report: UsageReport
    named: str
    own_hour: int

    @property
    def name(self) -> RecordName:
        return self.named, self.report.id


@dataclass(frozen=True, slots=True)
class Target:
    """The metering record that is to take some bookings, and what it is created with when it is new."""

    subscription: Subscription
    dimension: str
    hour: int
    timestamp: int
    due_at: int
    refuse_at: int
    override_due: bool
    """Whether due_at and refuse_at replace those of an existing record: while the subscription is closing."""

    @property
    def key(self) -> Key:
        return keys.metering_record(self.subscription.id, self.hour, self.dimension)


def _by_tag_set(metered: Iterable[tuple[Booking, int]]) -> dict[TagSet, int]:
    added: dict[TagSet, int] = {}
    for booking, quantity in metered:
        tags = tag_set(booking.report.tags)
        added[tags] = added.get(tags, 0) + quantity
    return added


def _tagging(target: Target, tag_sets: list[TagSet], stored: Mapping[Key, Item]) -> "_Tagging":
    hour = from_item(stored[target.key]) if target.key in stored else dict[str, Any]()
    there = {tags for tags in tag_sets if _allocation_key(target, tags) in stored}
    return _Tagging.decide(
        existing=[tags for tags in tag_sets if tags in there],
        wanted=[tags for tags in tag_sets if tags not in there],
        sets=hour.get("tag_sets", 0),
        size=hour.get("tag_bytes", 0),
        tag_keys=hour.get("tag_keys", []),
    )


def _allocation_key(target: Target, tags: TagSet) -> Key:
    return keys.allocation(target.subscription.id, target.hour, target.dimension, tags_digest(tags))


@dataclass(frozen=True, slots=True)
class _Tagging:
    """Which tag sets get an allocation of their own; the others' usage stays in the untagged rest."""

    accepted: tuple[TagSet, ...] = ()
    new: frozenset[TagSet] = frozenset()
    refused: frozenset[TagSet] = frozenset()
    new_keys: frozenset[str] = frozenset()
    new_sets: int = 0
    new_bytes: int = 0
    sets: int = 0

    @classmethod
    def decide(
        cls, *, existing: list[TagSet], wanted: list[TagSet], sets: int, size: int, tag_keys: Iterable[str]
    ) -> "_Tagging":
        """Takes new tag sets in order while the record keeps within BatchMeterUsage's limits: 2500 sets (one place is
        left for the untagged rest), 5 different keys, and a size that lets the record go into a request alone."""
        new: list[TagSet] = []
        known_keys, new_bytes = set(tag_keys), 0
        for tags in wanted:
            with_these = known_keys | {key for key, _ in tags}
            fits = (
                sets + len(new) + 1 < MAX_TAG_SETS
                and len(with_these) <= MAX_TAGS
                and size + new_bytes + tag_bytes(tags) <= MAX_ALLOCATION_BYTES
            )
            if fits:
                new.append(tags)
                known_keys = with_these
                new_bytes += tag_bytes(tags)
        return cls(
            accepted=(*existing, *new),
            new=frozenset(new),
            refused=frozenset(wanted) - frozenset(new),
            new_keys=frozenset(known_keys - set(tag_keys)),
            new_sets=len(new),
            new_bytes=new_bytes,
            sets=sets,
        )
