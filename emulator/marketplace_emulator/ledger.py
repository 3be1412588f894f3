"""Accepted metering records by de-duplication key, purchase, dimension and hour, and the bill made of them."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from marketplace_emulator.clock import HOUR, iso_millis, iso_seconds

type Quantity = int | Decimal
type TagSet = tuple[tuple[str, str], ...]
type Key = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class MeteringRecord:
    """One accepted record. `customer` is what AWS bills: a licence id, or `<product code>/<customer identifier>`."""

    id: str
    seq: int
    region: str
    integration: str
    customer: str
    purchase_id: str
    license_arn: str
    customer_identifier: str
    account_id: str
    product_code: str
    dimension: str
    timestamp: float
    hour: int
    quantity: Quantity
    allocations: tuple[tuple[TagSet, Quantity], ...]
    unit_price: Decimal
    received_at: float

    @property
    def key(self) -> Key:
        """What AWS de-duplicates on: region, integration, customer, dimension and hour."""
        return (self.region, self.integration, self.customer, self.dimension, self.hour)

    @property
    def amount(self) -> Decimal:
        """What the buyer pays for it."""
        return self.quantity * self.unit_price

    @property
    def hour_start(self) -> str:
        """The hour as ISO text."""
        return iso_seconds(self.hour * HOUR)

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/ledger`."""
        return asdict(self) | {
            "timestamp": iso_millis(self.timestamp),
            "hour": self.hour_start,
            "quantity": plain(self.quantity),
            "allocations": [{"tags": dict(tags), "quantity": plain(quantity)} for tags, quantity in self.allocations],
            "unit_price": str(self.unit_price),
            "amount": str(self.amount),
            "received_at": iso_millis(self.received_at),
        }


def plain(quantity: Quantity) -> int | str:
    """Return a quantity for JSON: whole numbers as numbers, decimals as text."""
    return quantity if isinstance(quantity, int) else str(quantity)


class Ledger:
    """Accepted records and their totals. Records are only added."""

    def __init__(self) -> None:
        self.records: list[MeteringRecord] = []
        self._by_key: dict[Key, MeteringRecord] = {}
        self._by_license: dict[str, list[MeteringRecord]] = {}
        self.totals: dict[tuple[str, str, int], Quantity] = {}

    def find(self, key: Key) -> MeteringRecord | None:
        """Return the record with this de-duplication key, or None."""
        return self._by_key.get(key)

    def add(self, record: MeteringRecord) -> None:
        """Add an accepted record."""
        self.records.append(record)
        self._by_key[record.key] = record
        self._by_license.setdefault(record.purchase_id, []).append(record)
        total = (record.purchase_id, record.dimension, record.hour)
        self.totals[total] = self.totals.get(total, 0) + record.quantity

    def bill(self, purchase_id: str | None = None) -> list["Line"]:
        """Return the bill by purchase, hour and dimension, of one purchase or of all."""
        return lines(self.records if purchase_id is None else self.of_purchase(purchase_id))

    def of_purchase(self, purchase_id: str) -> list[MeteringRecord]:
        """Return the records of one purchase, whether sent by licence or by product code."""
        return self._by_license.get(purchase_id, [])

    def select(
        self, *, purchase_id: str | None = None, dimension: str | None = None, hour: int | None = None
    ) -> Iterator[MeteringRecord]:
        """Yield the records that match all given filters; `hour` counts from the epoch."""
        source = self.records if purchase_id is None else self.of_purchase(purchase_id)
        for record in source:
            if dimension in (None, record.dimension) and hour in (None, record.hour):
                yield record


@dataclass(slots=True)
class Line:
    """One line of a bill: a dimension in one hour, with its tag sets."""

    purchase_id: str
    dimension: str
    hour: int
    quantity: Quantity
    amount: Decimal
    records: int
    tag_sets: dict[TagSet, Quantity]

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/bill`."""
        return {
            "purchase_id": self.purchase_id,
            "dimension": self.dimension,
            "hour": iso_seconds(self.hour * HOUR),
            "quantity": plain(self.quantity),
            "amount": str(self.amount),
            "records": self.records,
            "billed_more_than_once": self.records > 1,
            "tag_sets": [{"tags": dict(tags), "quantity": plain(quantity)} for tags, quantity in self.tag_sets.items()],
        }


def lines(records: Iterable[MeteringRecord]) -> list[Line]:
    """Return a bill by purchase, hour and dimension. A line with more than one record is usage billed twice."""
    found: dict[tuple[str, int, str], Line] = {}
    for record in records:
        key = (record.purchase_id, record.hour, record.dimension)
        line = found.get(key)
        if line is None:
            line = found[key] = Line(record.purchase_id, record.dimension, record.hour, 0, Decimal(0), 0, {})
        line.quantity += record.quantity
        line.amount += record.amount
        line.records += 1
        for tags, quantity in record.allocations:
            line.tag_sets[tags] = line.tag_sets.get(tags, 0) + quantity
    return [found[key] for key in sorted(found)]
