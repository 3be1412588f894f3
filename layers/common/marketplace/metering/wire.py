"""A metering record: one subscription's usage of one dimension in one hour, as it is stored and as it is sent.

`seal` says who may change it and whether AWS may know it already:
    "-"              unsealed: usage can still be added
    "<token>"        sealed, and in doubt: the attempt with this token may have reached AWS, no answer is written down
    "clear-<token>"  sealed, and no attempt without an answer stands behind it
Every attempt first puts its own token in place of the seal it saw, so that whoever was slower can tell.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key, subscription_id_of
from marketplace.platform.clock import hour_of
from marketplace.subscriptions.identity import normalised_license_arn

MAX_RECORDS_PER_CALL = 25
"""botocore model, BatchMeterUsageRequest."""

MAX_REQUEST_BYTES = 1_000_000
"""A BatchMeterUsage request must be smaller than 1 MB (botocore model); the smaller reading of MB is kept to."""


_UNTAGGED_RECORD_BYTES = 4096


type Group = tuple[str, str]
"""What may go into one call: the integration and the product (one product per call; ProductCode and LicenseArn never
together, botocore model: duplicate billing)."""


@dataclass(frozen=True, slots=True)
class DueEntry:
    """What the `due` index knows of an unsettled metering record."""

    key: Key
    seal: str
    state: str
    refuse_at: int
    quantity: int
    product_code: str
    licensed: bool
    due_at: int

    @property
    def group(self) -> Group:
        return ("license" if self.licensed else "legacy", self.product_code)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item in the `due` index that lacks what a metering record has: nothing of ours writes such a one. It waits
    for a person, and nothing else waits for it."""

    key: Key


@dataclass(frozen=True, slots=True)
class Allocation:
    """Usage of one tag set."""

    quantity: int
    tags: tuple[tuple[str, str], ...]


_LICENSE_FIELDS = (("license_arn", "LicenseArn"), ("account_id", "CustomerAWSAccountId"))
_LEGACY_FIELDS = (("customer_identifier", "CustomerIdentifier"),)

type ResultKey = tuple[str, str, int]


@dataclass(slots=True)
class Sendable:
    """A sealed metering record on its way: what was read, what is sent, and whether an attempt is in doubt."""

    key: Key
    item: Item
    wire: dict[str, Any]
    size: int
    doubtful: bool
    refuse_at: int

    @property
    def subscription_id(self) -> str:
        return subscription_id_of(self.key.pk)

    @property
    def result_key(self) -> ResultKey:
        return result_key(self.wire)

    @property
    def quantity(self) -> int:
        return int(self.wire["Quantity"])


def result_key(record: dict[str, Any]) -> ResultKey:
    """What tells one record of a call from the others, in what is sent and in what AWS echoes."""
    arn = record.get("LicenseArn")
    who = normalised_license_arn(arn) if arn else record.get("CustomerIdentifier") or record["CustomerAWSAccountId"]
    timestamp = record["Timestamp"]
    seconds = timestamp if isinstance(timestamp, int) else int(timestamp.timestamp())
    return (str(who), str(record["Dimension"]), hour_of(seconds))


class UnsendableError(ValueError):
    """The stored record contradicts itself: something of it is missing, or its allocations sum to more than its
    quantity."""


def wire_record(item: Item, allocations: Sequence[Allocation]) -> dict[str, Any]:
    """A UsageRecord as BatchMeterUsage takes it, from stored data alone: the same item gives the same bytes.

    Raises UnsendableError when the stored data can't be a UsageRecord.
    """
    identity = _LICENSE_FIELDS if "license_arn" in item else _LEGACY_FIELDS
    try:
        quantity = int(item["quantity"]["N"])
        record: dict[str, Any] = {
            "Timestamp": int(item["timestamp"]["N"]),
            "Dimension": item["dimension"]["S"],
            "Quantity": quantity,
            **{field: item[attribute]["S"] for attribute, field in identity},
        }
    except KeyError as missing:
        raise UnsendableError(f"{missing} is missing") from missing
    if allocations:
        record["UsageAllocations"] = _wire_allocations(quantity, allocations)
    return record


def _wire_allocations(quantity: int, allocations: Sequence[Allocation]) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = [
        {
            "AllocatedUsageQuantity": allocation.quantity,
            "Tags": [{"Key": key, "Value": value} for key, value in allocation.tags],
        }
        for allocation in allocations
    ]
    untagged = quantity - sum(allocation.quantity for allocation in allocations)
    if untagged < 0:
        raise UnsendableError(f"allocations exceed the quantity by {-untagged}")
    if untagged:
        wire.append({"AllocatedUsageQuantity": untagged})
    return wire


def wire_size(record: dict[str, Any]) -> int:
    """At most how many bytes the record takes in the request. Without allocations a bound does; counting costs."""
    return len(json.dumps(record)) + 2 if "UsageAllocations" in record else _UNTAGGED_RECORD_BYTES


def batches(entries: Iterable[DueEntry]) -> list[list[DueEntry]]:
    """Due work as batches of one group each, soonest refusal first, every batch but a group's last one full."""
    by_group: dict[Group, list[DueEntry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.refuse_at, entry.key)):
        by_group.setdefault(entry.group, []).append(entry)
    filled = [
        group[start : start + MAX_RECORDS_PER_CALL]
        for group in by_group.values()
        for start in range(0, len(group), MAX_RECORDS_PER_CALL)
    ]
    return sorted(filled, key=lambda batch: batch[0].refuse_at)


def split_by_size(records: Sequence[Sendable]) -> list[list[Sendable]]:
    """Requests of at most 25 records and under 1 MB, in the order given."""
    requests: list[list[Sendable]] = []
    room = 0
    for record in records:
        if not requests or record.size > room or len(requests[-1]) == MAX_RECORDS_PER_CALL:
            requests.append([])
            room = MAX_REQUEST_BYTES - _UNTAGGED_RECORD_BYTES
        requests[-1].append(record)
        room -= record.size
    return requests
