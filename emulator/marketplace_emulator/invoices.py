"""The invoices that AWS sends to buyers for an agreement, one for each month with charges.

Source: Seller Guide, "Billed revenue dashboard": usage is invoiced on the second or third day of the next month. That
what a contract costs is on the invoice of the month in which it was made is an assumption.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from marketplace_emulator.clock import DAY, HOUR, parse_time
from marketplace_emulator.ledger import MeteringRecord
from marketplace_emulator.model import Agreement, Purchase
from marketplace_emulator.statement import contract_fees, month_of

if TYPE_CHECKING:
    from marketplace_emulator.ledger import Ledger
    from marketplace_emulator.registry import Registry

ISSUED_AFTER = 2 * DAY
"""Seconds into the next month at which a month is invoiced."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice of one agreement. `issued_at` is in seconds since the epoch."""

    id: str
    agreement_id: str
    month: str
    amount: Decimal
    issued_at: float


def invoices_of(agreement: Agreement, registry: "Registry", ledger: "Ledger", now: float) -> list[Invoice]:
    """The invoices of an agreement that are issued by `now`, oldest first."""
    purchase = registry.purchases[agreement.purchase_id]
    amounts: dict[str, Decimal] = {}
    for record in ledger.of_purchase(purchase.id):
        if agreement_at(purchase, record.timestamp) is agreement:
            month = month_of(record.hour * HOUR)
            amounts[month] = amounts.get(month, Decimal(0)) + record.amount
    is_paid = purchase.product.has_contract and not purchase.failed_reason
    fees = sum((price for _, price in contract_fees(purchase, agreement)), Decimal(0))
    if is_paid and fees:
        month = month_of(agreement.accepted_at)
        amounts[month] = amounts.get(month, Decimal(0)) + fees
    issued = ((month, amount, issued_at(month)) for month, amount in sorted(amounts.items()) if amount)
    return [
        Invoice(invoice_id(agreement.id, month), agreement.id, month, amount, moment)
        for month, amount, moment in issued
        if moment <= now
    ]


def agreement_at(purchase: Purchase, moment: float) -> Agreement:
    """The agreement that usage of a moment belongs to."""
    begun: Iterable[Agreement] = (one for one in reversed(purchase.agreements) if one.starts_at <= moment)
    return next(iter(begun), purchase.agreements[0])


def agreement_of(record: MeteringRecord, registry: "Registry") -> Agreement | None:
    """The agreement of an accepted record; None for one that differs in its buyer and names nobody's purchase."""
    purchase = registry.purchases.get(record.purchase_id)
    return None if purchase is None else agreement_at(purchase, record.timestamp)


def invoice_id(agreement_id: str, month: str) -> str:
    """Ten digits, as AWS's invoices have them."""
    digest = hashlib.sha256(f"{agreement_id} {month}".encode()).hexdigest()
    return f"{int(digest[:16], 16) % 9_000_000_000 + 1_000_000_000}"


def issued_at(month: str) -> float:
    """When a month is invoiced, in seconds since the epoch."""
    return next_month(month) + ISSUED_AFTER


def next_month(month: str) -> float:
    """The end of a month such as `2026-11`, in seconds since the epoch."""
    year, number = int(month[:4]), int(month[5:])
    return parse_time(f"{year + number // 12}-{number % 12 + 1:02d}-01T00:00:00Z")
