"""What BatchMeterUsage is sent: metering records as UsageRecords, in calls that keep within its limits."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from marketplace.dynamodb.keys import Key
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import Group, MeteringRecord
from marketplace.platform.clock import EpochSeconds, hour_of
from marketplace.subscriptions.identity import normalised_license_arn

MAX_RECORDS_PER_CALL = 25
"""botocore model, BatchMeterUsageRequest."""

MAX_REQUEST_BYTES = 1_000_000
"""A BatchMeterUsage request must be smaller than 1 MB (botocore model); the smaller reading of MB is kept to."""


_UNTAGGED_RECORD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Allocation:
    """Usage of one tag set."""

    quantity: int
    tags: tuple[tuple[str, str], ...]


type ResultKey = tuple[str, str, int]


@dataclass(slots=True)
class Sendable:
    """A sealed metering record on its way: what was read, what is sent, whether an attempt is in doubt, and whether it
    was unsealed until this attempt, so that it may be opened again if AWS does not process it."""

    record: MeteringRecord
    wire: dict[str, Any]
    size: int
    doubtful: bool
    was_unsealed: bool = False

    @property
    def key(self) -> Key:
        return self.record.key

    @property
    def timestamp(self) -> EpochSeconds:
        return self.record.timestamp

    @property
    def has_allocations(self) -> bool:
        return "UsageAllocations" in self.wire

    def drop_allocations(self, reason: str) -> None:
        """The record is sent without its allocations, because AWS refused them for this reason."""
        self.record = replace(self.record, tags_refused=reason)
        del self.wire["UsageAllocations"]
        self.size = wire_size(self.wire)

    @property
    def subscription_id(self) -> str:
        return self.record.subscription_id

    @property
    def result_key(self) -> ResultKey:
        return result_key(self.wire)

    @property
    def quantity(self) -> int:
        return self.record.quantity


def result_key(record: dict[str, Any]) -> ResultKey:
    """What tells one record of a call from the others, in what is sent and in what AWS echoes."""
    arn = record.get("LicenseArn")
    who = normalised_license_arn(arn) if arn else record.get("CustomerIdentifier") or record["CustomerAWSAccountId"]
    timestamp = record["Timestamp"]
    seconds = timestamp if isinstance(timestamp, int) else int(timestamp.timestamp())
    return (str(who), str(record["Dimension"]), hour_of(seconds))


class UnsendableError(ValueError):
    """The stored record contradicts itself: it lacks the customer's identity, or its allocations sum to more than its
    quantity."""


def wire_record(record: MeteringRecord, allocations: Sequence[Allocation]) -> dict[str, Any]:
    """A UsageRecord as BatchMeterUsage takes it, from stored data alone: the same record gives the same bytes.

    Raises UnsendableError when the stored data can't be a UsageRecord.
    """
    wire: dict[str, Any] = {
        "Timestamp": record.timestamp,
        "Dimension": record.dimension,
        "Quantity": record.quantity,
        **_identity(record),
    }
    if allocations:
        wire["UsageAllocations"] = _wire_allocations(record.quantity, allocations)
    return wire


def _identity(record: MeteringRecord) -> dict[str, str]:
    if record.license_arn is not None and record.account_id is not None:
        return {"LicenseArn": record.license_arn, "CustomerAWSAccountId": record.account_id}
    if record.license_arn is None and record.customer_identifier is not None:
        return {"CustomerIdentifier": record.customer_identifier}
    raise UnsendableError("the customer's identity is missing")


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
    filled = [batch for group in by_group.values() for batch in _full(group)]
    return sorted(filled, key=lambda batch: batch[0].refuse_at)


def late_batches(entries: Iterable[DueEntry]) -> list[list[DueEntry]]:
    """Work that is past its deadline as batches of one group each, youngest first: where AWS refuses one as too old,
    all that follow are too."""
    by_group: dict[Group, list[DueEntry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.key.sk, reverse=True):
        by_group.setdefault(entry.group, []).append(entry)
    return [batch for group in by_group.values() for batch in _full(group)]


def _full(entries: list[DueEntry]) -> list[list[DueEntry]]:
    return [entries[start : start + MAX_RECORDS_PER_CALL] for start in range(0, len(entries), MAX_RECORDS_PER_CALL)]


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
