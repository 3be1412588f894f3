"""The bill by month, as AWS charges it: what contracts cost, and usage by purchase."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from marketplace_emulator.clock import HOUR, iso_seconds, to_datetime
from marketplace_emulator.ledger import MeteringRecord, TagSet
from marketplace_emulator.model import Agreement, Purchase

if TYPE_CHECKING:
    from marketplace_emulator.marketplace import Marketplace

COLUMNS = (
    *("month", "product_code", "title", "account", "customer", "agreement", "kind", "time", "dimension", "tags"),
    *("quantity", "unit_price", "amount"),
)


@dataclass(slots=True)
class Charges:
    """What one purchase costs in one month. `fees` are pairs of what a contract holds and its price."""

    purchase: Purchase
    fees: list[tuple[str, Decimal]] = field(default_factory=list)
    records: list[MeteringRecord] = field(default_factory=list)

    @property
    def contract(self) -> Decimal:
        """What the contract costs, in the month in which it was made or renewed."""
        return sum((price for _, price in self.fees), Decimal(0))

    @property
    def usage(self) -> Decimal:
        """What the metered usage costs."""
        return sum((record.amount for record in self.records), Decimal(0))


def month_of(moment: float) -> str:
    """The month of a moment, such as `2026-11`."""
    return f"{to_datetime(moment):%Y-%m}"


def months(marketplace: "Marketplace") -> list[str]:
    """The months with anything on the bill, the newest first. Callers hold the agenda's lock."""
    hours = {record.hour for record in marketplace.ledger.records}
    fees = (one.accepted_at for purchase in marketplace.registry.purchases.values() for one in _charged(purchase))
    return sorted({month_of(hour * HOUR) for hour in hours} | {month_of(moment) for moment in fees}, reverse=True)


def charges(marketplace: "Marketplace", month: str) -> list[Charges]:
    """What each purchase costs in a month, the newest purchase first. Callers hold the agenda's lock."""
    found: dict[str, Charges] = {}
    purchases = marketplace.registry.purchases
    in_month: dict[int, bool] = {}
    for record in marketplace.ledger.records:
        if record.hour not in in_month:
            in_month[record.hour] = month_of(record.hour * HOUR) == month
        if in_month[record.hour]:
            if record.purchase_id not in found:
                found[record.purchase_id] = Charges(purchases[record.purchase_id])
            found[record.purchase_id].records.append(record)
    for purchase in purchases.values():
        for agreement in _charged(purchase):
            if month_of(agreement.accepted_at) == month:
                one = found.setdefault(purchase.id, Charges(purchase))
                one.fees += contract_fees(purchase, agreement)
    return [found[name] for name in reversed(purchases) if name in found]


def by_month(records: Iterable[MeteringRecord]) -> dict[str, Decimal]:
    """What usage costs in each month, the newest first."""
    totals: dict[str, Decimal] = {}
    for record in records:
        month = month_of(record.hour * HOUR)
        totals[month] = totals.get(month, Decimal(0)) + record.amount
    return dict(sorted(totals.items(), reverse=True))


def as_csv(found: Iterable[Charges], month: str) -> str:
    """The month's bill as CSV, one line for each fee, and for each record and tag set."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in found:
        purchase = one.purchase
        customer = purchase.customer_identifier if purchase.is_legacy else purchase.license_arn
        who = (month, purchase.product.code, purchase.product.title, purchase.account_id, customer)
        for what, price in one.fees:
            writer.writerow(map(harmless, (*who, purchase.agreement_id, "contract", "", what, "", 1, price, price)))
        for record in one.records:
            for tags, quantity in record.allocations or (((), record.quantity),):
                amount = record.unit_price * quantity
                row = (*who, purchase.agreement_id, "usage", iso_seconds(record.hour * HOUR), record.dimension)
                writer.writerow(map(harmless, (*row, _tags(tags), quantity, record.unit_price, amount)))
    return text.getvalue()


def harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula. Numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _charged(purchase: Purchase) -> Iterator[Agreement]:
    """The agreements for which a contract is paid: made, and not failed before the licence came."""
    if purchase.product.has_contract and not purchase.failed_reason:
        yield from purchase.agreements


def contract_fees(purchase: Purchase, agreement: Agreement) -> Iterator[tuple[str, Decimal]]:
    """What an agreement holds and its price, for each entitlement that has one."""
    for key, value in agreement.entitlements.items():
        dimension = purchase.product.dimensions.get(key)
        if dimension is None or isinstance(value, str) or not value:
            continue
        amount = 1 if isinstance(value, bool) else Decimal(str(value))
        yield f"{amount:,} {key}, ${dimension.price:,} per {dimension.unit}", dimension.price * amount


def _tags(tags: TagSet) -> str:
    return "; ".join(f"{key}={value}" for key, value in tags)
