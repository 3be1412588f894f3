"""What is kept and answered of a usage record: its name, its tags, and why it is refused."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import MAX_QUANTITY

MAX_TAGS = 5
"""Tags in one allocation (botocore model, TagList), and different tag keys in one metering record (metering skill);
the documents disagree on which is meant, so both are kept."""

type TagSet = tuple[tuple[str, str], ...]
"""Tags as one comparable value, in the order of their keys."""


class RecordName(NamedTuple):
    """A usage record's own name: its id, and the subscriptions whose id it is. That is the one which is named, and of a
    migrated customer both, in one order: the record is kept under each, so it is found by either, and an id is used up
    for both at once."""

    subscriptions: tuple[str, ...]
    id: str

    @property
    def keys(self) -> list[Key]:
        return [keys.usage_record(subscription_id, self.id) for subscription_id in self.subscriptions]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record can't be recorded, in one word for programs and one sentence for people."""

    reason: str
    message: str
    retryable: bool = False


def tag_set(tags: Mapping[str, str] | None) -> TagSet:
    """Tags as one comparable value, whatever order they came in; () without any."""
    return tuple(sorted((tags or {}).items()))


def tags_digest(tags: TagSet) -> str:
    """What the key of the tag set's allocation ends with."""
    return hashlib.sha256(json.dumps(tags, separators=(",", ":")).encode()).hexdigest()[:32]


def tag_bytes(tags: TagSet) -> int:
    """At most how many bytes one allocation with these tags takes in the request's JSON."""
    wire: dict[str, Any] = {
        "AllocatedUsageQuantity": MAX_QUANTITY,
        "Tags": [{"Key": key, "Value": value} for key, value in tags],
    }
    return len(json.dumps(wire)) + 2
