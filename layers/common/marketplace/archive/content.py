"""What an archived month of a subscription consists of: files of items, and a manifest that names them and their sums.

    usage/<subscription>/<month>/<sha256>.jsonl.gz    items in the order of their keys, one a line, as DynamoDB has them
    usage/<subscription>/<month>/manifest.json        the files with their hashes, and what the items sum to

The same items give the same lines, the same files and the same manifest, whenever and however often they are written.
A month such as `2026-11` is that of the hour that usage was booked to.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.ledger.record import MeteringRecord, is_metering_record
from marketplace.platform.errors import SystemicError

EXPIRY = "expires_at"
"""The attribute by which DynamoDB removes an item; it is no part of what is archived."""


class ArchiveError(SystemicError):
    """What is asked for is archived and can't be had, and trying again does not help; the message says what is wrong
    and holds nothing that a log may not."""


class ArchiveDamagedError(ArchiveError):
    """An object of the archive is gone, or is not what its hash says; the message names it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__("ArchiveDamaged", f"{name}: {problem}")


def month_of(sk: str) -> str:
    """The month of a metering record or an allocation, by its sort key."""
    return sk.removeprefix(keys.HOUR_PREFIX)[:7]


def month_at(now: datetime, months_before: int) -> str:
    """The month that is so many months before the one of now."""
    count = now.year * 12 + now.month - 1 - months_before
    return f"{count // 12:04d}-{count % 12 + 1:02d}"


def hours_of(month: str) -> tuple[str, str]:
    """Sort keys before and after everything of the hours of a month."""
    return f"{keys.HOUR_PREFIX}{month}", f"{keys.HOUR_PREFIX}{month}~"


def archived(item: Item) -> Item:
    """What is archived of an item."""
    return {name: value for name, value in item.items() if name != EXPIRY}


def line_of(item: Item) -> bytes:
    """The line of an item. A set has no order in DynamoDB, so it is sorted."""
    ordered = {name: {"SS": sorted(value["SS"])} if "SS" in value else value for name, value in archived(item).items()}
    return json.dumps(ordered, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def place_of(subscription_id: str, month: str) -> str:
    return f"usage/{subscription_id}/{month}/"


def manifest_name(subscription_id: str, month: str) -> str:
    return place_of(subscription_id, month) + "manifest.json"


@dataclass(frozen=True, slots=True)
class Part:
    """A file: its name in the bucket, its hash and size, how many items it has, and the first and last sort key."""

    name: str
    sha256: str
    bytes: int
    items: int
    first: str
    last: str


def part_of(place: str, items: Sequence[Item]) -> tuple[Part, bytes]:
    """The file of some items, and its content. It is named by its hash, so that another content has another name."""
    content = gzip.compress(b"".join(map(line_of, items)), 9, mtime=0)
    digest = digest_of(content)
    first, last = items[0]["sk"]["S"], items[-1]["sk"]["S"]
    return Part(f"{place}{digest}.jsonl.gz", digest, len(content), len(items), first, last), content


def items_in(part: Part, content: bytes) -> Iterator[Item]:
    """The items of a file. Raises ArchiveDamagedError."""
    if digest_of(content) != part.sha256:
        raise ArchiveDamagedError(part.name, "its hash is another than the manifest says")
    return map(json.loads, gzip.decompress(content).splitlines())


@dataclass(slots=True)
class Sums:
    """What metering records of one dimension and state sum to: their number, that of the usage records in them, and
    units."""

    metering_records: int = 0
    usage_records: int = 0
    units: int = 0


@dataclass(slots=True)
class Totals:
    """What the items of a month sum to, as they are added one by one."""

    items: int = 0
    allocations: int = 0
    allocated_units: int = 0
    sums: dict[tuple[str, str], Sums] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        self.items += 1
        if is_metering_record(item):
            record = MeteringRecord.from_item(item)
            sums = self.sums.setdefault((record.dimension, record.state), Sums())
            sums.metering_records += 1
            sums.usage_records += record.records
            sums.units += record.quantity
        elif keys.is_allocation(item["sk"]["S"]):
            self.allocations += 1
            self.allocated_units += int(item["quantity"]["N"])

    def as_json(self) -> dict[str, Any]:
        by_state = [
            {"dimension": dimension, "state": state, **asdict(sums)}
            for (dimension, state), sums in sorted(self.sums.items())
        ]
        counts = {"items": self.items, "allocations": self.allocations, "allocated_units": self.allocated_units}
        return {**counts, "by_dimension_and_state": by_state}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a month: `content` is its bytes."""

    parts: Sequence[Part]
    totals: Mapping[str, Any]
    content: bytes

    @property
    def sha256(self) -> str:
        return digest_of(self.content)

    @classmethod
    def new(cls, subscription_id: str, month: str, parts: Sequence[Part], totals: Totals) -> Self:
        values = {
            "format": 1,
            "subscription_id": subscription_id,
            "month": month,
            "totals": totals.as_json(),
            "parts": [asdict(part) for part in parts],
        }
        content = json.dumps(values, separators=(",", ":"), sort_keys=True).encode() + b"\n"
        return cls(parts, values["totals"], content)  # type: ignore[arg-type]

    @classmethod
    def read(cls, name: str, content: bytes, sha256: str | None = None) -> Self:
        """The manifest of this name, which must have the hash, if one is given. Raises ArchiveDamagedError."""
        if sha256 is not None and digest_of(content) != sha256:
            raise ArchiveDamagedError(name, "its hash is another than the usage table says")
        try:
            values = json.loads(content)
            return cls([Part(**part) for part in values["parts"]], values["totals"], content)
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveDamagedError(name, "it is no manifest") from error


def joined(stored: Iterable[Item], kept: Iterable[Item]) -> Iterator[tuple[Item | None, Item | None]]:
    """Items of the table and of the archive, both in the order of their keys, side by side: each key once."""
    table, archive = iter(stored), iter(kept)
    one, other = next(table, None), next(archive, None)
    while one is not None or other is not None:
        mine = None if one is None else one["sk"]["S"]
        theirs = None if other is None else other["sk"]["S"]
        in_table = mine is not None and (theirs is None or mine <= theirs)
        in_archive = theirs is not None and (mine is None or theirs <= mine)
        yield one if in_table else None, other if in_archive else None
        if in_table:
            one = next(table, None)
        if in_archive:
            other = next(archive, None)
