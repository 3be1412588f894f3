"""Planted differences: evidence of metering that says something else than what was metered.

A seller compares its own ledger with CloudTrail and with AWS's reports. A planted difference changes what these two
show of one accepted record; the bill and the ledger stay as they are, so what the seller's comparison must find is
known to the record.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from marketplace_emulator.checks import arguments
from marketplace_emulator.clock import HOUR, to_timestamp
from marketplace_emulator.errors import AdminError, BadRequestError
from marketplace_emulator.ids import LICENSE_OWNER
from marketplace_emulator.ledger import Ledger, MeteringRecord, Quantity
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

Kind = Literal["only_ours", "only_theirs", "other_quantity", "other_hour", "other_identity", "sent_by_someone_else"]
Where = Literal["trail", "reports"]
KINDS: dict[Kind, str] = {
    "only_ours": "the record is missing from the evidence",
    "only_theirs": "a record that nobody metered is beside it, at an hour of the same buyer that has none",
    "other_quantity": "the quantity is `by` units larger, or smaller",
    "other_hour": "the record is of a neighbouring hour that has none",
    "other_identity": "the record is of another buyer: of the purchase `to`, or of one that does not exist",
    "sent_by_someone_else": "another role of the account has sent the record; reports do not show it",
}
SOMEONE_ELSE = "assumed-role/OldMeteringRole/nightly"
"""Who sends what `sent_by_someone_else` plants, within the seller's account."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One planted difference: what `record_id` is shown as, in CloudTrail (`trail`), in `reports`, or in both."""

    kind: Kind
    record_id: str
    where: tuple[Where, ...]
    shown: tuple[MeteringRecord, ...]
    sender: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/differences`."""
        found = asdict(self)
        return found | {"where": list(self.where), "shown": [record.as_dict() for record in self.shown]}


class Differences:
    """The planted differences of one emulator, at most one for each record."""

    def __init__(self) -> None:
        self._by_record: dict[str, Difference] = {}

    def planted(self) -> list[Difference]:
        """Return all of them, in the order in which they were planted."""
        return list(self._by_record.values())

    def clear(self) -> None:
        """Let the evidence say what was metered again."""
        self._by_record.clear()

    def of(self, record_id: str, where: Where) -> Difference | None:
        """Return the difference that changes what this evidence shows of a record, or None."""
        found = self._by_record.get(record_id)
        return found if found is not None and where in found.where else None

    def shown(self, record: MeteringRecord, where: Where) -> tuple[MeteringRecord, ...]:
        """Return what this evidence shows of an accepted record."""
        found = self.of(record.id, where)
        return (record,) if found is None else found.shown

    def plant(self, orders: list[Any], ledger: Ledger, registry: Registry, settings: Settings) -> None:
        """Plant differences, for example `[{"kind": "other_quantity", "license": "l-…", "by": -3}]`: each in the newest
        record of that licence, dimension and hour that has none yet. Raises AdminError."""
        for data in orders:
            order = _Order(**arguments(_Order, data))
            if order.kind not in KINDS:
                raise BadRequestError(f"{order.kind!r} is no kind of difference", f"kinds are: {', '.join(KINDS)}")
            planted = _planted(order, self._target(order, ledger, registry), ledger, registry, settings)
            self._by_record[planted.record_id] = planted

    def _target(self, order: "_Order", ledger: Ledger, registry: Registry) -> MeteringRecord:
        purchase_id = None if order.license is None else registry.get(order.license).id
        hour = None if order.hour is None else int(to_timestamp(order.hour) // HOUR)
        found = list(ledger.select(purchase_id=purchase_id, dimension=order.dimension, hour=hour))
        for record in reversed(found):
            if record.id not in self._by_record and (order.record_id in (None, record.id)):
                return record
        raise AdminError(
            404, "no metered record fits, or each has a difference already", "GET /admin/ledger lists them"
        )


@dataclass(frozen=True, slots=True)
class _Order:
    kind: str = ""
    license: str | None = None
    dimension: str | None = None
    hour: str | None = None
    record_id: str | None = None
    where: list[Where] | None = None
    by: int = 1
    to: str | None = None


def _planted(
    order: _Order, record: MeteringRecord, ledger: Ledger, registry: Registry, settings: Settings
) -> Difference:
    where = tuple(order.where) if order.where else get_args(Where)
    sender = ""
    shown: tuple[MeteringRecord, ...]
    match order.kind:
        case "only_ours":
            shown = ()
        case "only_theirs":
            invented = replace(_moved(record, ledger), id=_other_id(record), quantity=record.quantity + 1)
            shown = (record, invented)
        case "other_quantity":
            shown = (replace(record, quantity=_changed(record.quantity, order.by), allocations=()),)
        case "other_hour":
            shown = (_moved(record, ledger),)
        case "other_identity":
            shown = (_of_another(record, order.to, registry),)
        case _:
            shown, sender = (record,), f"arn:aws:sts::{settings.seller_account}:{SOMEONE_ELSE}"
    kind: Kind = next(kind for kind in KINDS if kind == order.kind)
    return Difference(kind, record.id, where, shown, sender)


def _changed(quantity: Quantity, by: int) -> Quantity:
    if by == 0 or quantity + by < 0:
        raise BadRequestError(f"by {by} makes no other quantity of {quantity}", "another whole number")
    return quantity + by


def _moved(record: MeteringRecord, ledger: Ledger) -> MeteringRecord:
    """The record at the nearest hour of its day that has none of its key, else at the nearest hour at all."""
    hours = sorted((hour for hour in _neighbours(record.hour)), key=lambda hour: hour // 24 != record.hour // 24)
    for hour in hours:
        moved = replace(record, hour=hour, timestamp=float(hour * HOUR))
        if ledger.find(moved.key) is None:
            return moved
    raise AdminError(409, "every hour around the record has one", "choose a record of a quieter buyer")


def _neighbours(hour: int) -> Iterator[int]:
    for distance in range(1, 49):
        yield hour - distance
        yield hour + distance


def _of_another(record: MeteringRecord, to: str | None, registry: Registry) -> MeteringRecord:
    if to is not None:
        other = registry.get(to)
        return replace(
            record,
            purchase_id=other.id,
            license_arn=other.license_arn if record.license_arn else "",
            customer_identifier=other.customer_identifier,
            account_id=other.account_id,
        )
    digest = hashlib.sha256(record.id.encode()).hexdigest()
    return replace(
        record,
        purchase_id="",
        license_arn=f"arn:aws:license-manager::{LICENSE_OWNER}:license:l-{digest[:32]}" if record.license_arn else "",
        customer_identifier=digest[:11].upper() if record.customer_identifier else "",
        account_id=f"{int(digest[:16], 16) % 10**12:012d}",
    )


def _other_id(record: MeteringRecord) -> str:
    digest = hashlib.sha256(f"only_theirs {record.id}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
