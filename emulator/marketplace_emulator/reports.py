"""Seller reports as CSV: usage by day, billed revenue by month, and the older monthly billed revenue report.

Sources of the columns: Seller Guide, "Usage dashboard", section "Granular data" (`usage`), and "Monthly billed revenue
report", section 1 (`monthly`). Of the billed revenue dashboard (`billed_revenue`) the names of money and identity are
those of AWS's metering skill; that the period and the dimension are named as the usage dashboard names them is an
assumption. A column about which the emulator knows nothing stays empty.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from marketplace_emulator.clock import HOUR, iso_seconds, to_datetime
from marketplace_emulator.errors import BadRequestError
from marketplace_emulator.invoices import agreement_of, invoice_id, issued_at, next_month
from marketplace_emulator.ledger import MeteringRecord, Quantity
from marketplace_emulator.model import Agreement
from marketplace_emulator.statement import charges, harmless, month_of

if TYPE_CHECKING:
    from marketplace_emulator.marketplace import Marketplace

LISTING_FEE = Decimal("0.03")
"""The share of a sale that AWS keeps, in these reports. The real one depends on the seller's deal."""

_ADDRESS = ("company name", "AWS account ID", "email domain", "city", "state or region", "country", "postal code")
USAGE = (
    *("Usage date", "Usage reported date", *(f"End user {what}" for what in _ADDRESS)),
    *("Product title", "Legacy product ID", "Product ID", "Product code", "Offer ID", "Offer name"),
    *("Offer visibility", "Offer Set ID", "Agreement ID", "Agreement acceptance date", "Agreement start date"),
    *("Agreement end date", "Agreement Term Types", "Dimension key", "Region", "Estimated usage", "Usage unit types"),
    *("Usage rate per unit", "Charge item description", "Estimated revenue", "Currency"),
    *(f"Subscriber {what}" for what in _ADDRESS),
    *(f"Payer {what}" for what in _ADDRESS),
    *("Reseller company name", "Reseller AWS account ID", "Resale authorization ID", "Resale authorization name"),
    *("Resale authorization description", "CPPO flag", "ISV company name", "ISV AWS account ID"),
)
BILLED_REVENUE = (
    *("Invoice date", "Invoice ID", "Usage period start date", "Usage period end date", "Product title", "Product ID"),
    *("Product code", "Agreement ID", "Offer ID", "Subscriber AWS account ID", "Payer AWS account ID"),
    *("Dimension key", "Usage units", "Currency", "Gross revenue", "Listing fee", "Seller net revenue"),
)
MONTHLY = (
    *("Customer Reference ID", "Country", "State", "City", "Zip Code", "Product Title", "Product Code"),
    *("Customer Billed Amount", "AWS Listing Fee", "Refunds Amount", "AWS Fee Refund", "Cost"),
    *("Partner Revenue Amount", "Currency", "Transaction Reference ID", "U.S. Sales Tax Customer Billed Amount"),
    *("U.S. Sales Tax Refunds Amount", "Offer ID", "Offer Visibility", "Customer AWS Account Number"),
    *("Customer Email Domain", "Opportunity Name", "Opportunity Description", "Solution Title", "Solution ID"),
    *("Payer Reference ID", "Payer Address ID"),
)


@dataclass(slots=True)
class _Sum:
    """Usage that stands in one row. `agreement` is None for a buyer whom nobody sold anything."""

    record: MeteringRecord
    agreement: Agreement | None
    quantity: Quantity = 0
    amount: Decimal = Decimal(0)


def usage(marketplace: "Marketplace", month: str) -> str:
    """The usage of a month by day, buyer, agreement, dimension and region."""
    return _csv(USAGE, (_usage_row(marketplace, one) for one in _sums(marketplace, month, _by_day)))


def billed_revenue(marketplace: "Marketplace", month: str) -> str:
    """What is invoiced for the usage and the contracts of a month, by agreement and dimension."""
    return _csv(BILLED_REVENUE, _billed_rows(marketplace, month))


def monthly(marketplace: "Marketplace", month: str) -> str:
    """What each buyer is billed for a month, by product and offer."""
    totals: dict[tuple[str, ...], Decimal] = {}
    for row in _billed_rows(marketplace, month):
        key = tuple(row[name] for name in ("Subscriber AWS account ID", "Product title", "Product code", "Offer ID"))
        totals[key] = totals.get(key, Decimal(0)) + Decimal(row["Gross revenue"])
    rows = []
    for (account, title, code, offer), amount in totals.items():
        fee = _money(amount * LISTING_FEE)
        reference = hashlib.sha256(account.encode()).hexdigest()[:32]
        rows.append(
            {
                "Customer Reference ID": reference,
                "Payer Reference ID": reference,
                "Product Title": title,
                "Product Code": code,
                "Customer Billed Amount": _money(amount),
                "AWS Listing Fee": f"-{fee}" if Decimal(fee) else fee,
                "Partner Revenue Amount": _money(amount - Decimal(fee)),
                "Currency": "USD",
                "Transaction Reference ID": hashlib.sha256(f"{month} {account} {code}".encode()).hexdigest()[:32],
                "Offer ID": offer,
                "Offer Visibility": "Public",
                "Customer AWS Account Number": account,
            }
        )
    return _csv(MONTHLY, rows)


REPORTS: dict[str, Callable[["Marketplace", str], str]] = {
    "usage": usage,
    "billed_revenue": billed_revenue,
    "monthly": monthly,
}


def month_asked_for(text: str) -> str:
    """A month such as `2026-11`. Raises BadRequestError."""
    if len(text) != 7 or text[4] != "-" or not (text[:4] + text[5:]).isdecimal() or not 1 <= int(text[5:]) <= 12:
        raise BadRequestError(f"{text!r} is not a month", "for example 2026-11")
    return text


def _by_day(record: MeteringRecord) -> str:
    return f"{to_datetime(record.hour * HOUR):%Y-%m-%d}"


def _sums(marketplace: "Marketplace", month: str, period: Callable[[MeteringRecord], str]) -> Iterator[_Sum]:
    """The usage that the reports show of a month, in the order of period, buyer and dimension."""
    found: dict[tuple[str, ...], _Sum] = {}
    for accepted in marketplace.ledger.records:
        for record in marketplace.differences.shown(accepted, "reports"):
            if month_of(record.hour * HOUR) != month:
                continue
            agreement = agreement_of(record, marketplace.registry)
            key = (
                *(period(record), record.product_code, record.account_id, record.purchase_id),
                *(agreement.id if agreement else record.license_arn, record.dimension, record.region),
                str(record.unit_price),
            )
            one = found.setdefault(key, _Sum(record, agreement))
            one.quantity += record.quantity
            one.amount += record.amount
    yield from (found[key] for key in sorted(found))


def _usage_row(marketplace: "Marketplace", one: _Sum) -> dict[str, Any]:
    record, agreement = one.record, one.agreement
    product = marketplace.registry.products[record.product_code]
    account = record.account_id
    row = {
        "Usage date": _by_day(record),
        "Usage reported date": f"{to_datetime(record.received_at):%Y-%m-%d}",
        "Product title": product.title,
        "Product ID": product.id,
        "Product code": product.code,
        "Dimension key": record.dimension,
        "Region": record.region,
        "Estimated usage": one.quantity,
        "Usage unit types": product.dimensions[record.dimension].unit,
        "Usage rate per unit": record.unit_price,
        "Charge item description": f"AWS Marketplace software usage|{record.region}|{record.dimension}",
        "Estimated revenue": _money(one.amount),
        "Currency": "USD",
        "CPPO flag": "No",
        "ISV AWS account ID": marketplace.settings.seller_account,
        **{f"{who} AWS account ID": account for who in ("End user", "Subscriber", "Payer")},
    }
    return row if agreement is None else row | _agreement_columns(agreement)


def _agreement_columns(agreement: Agreement) -> dict[str, Any]:
    ends = "9999-01-01T00:00:00Z" if agreement.ends_at is None else iso_seconds(agreement.ends_at)
    return {
        "Offer ID": agreement.offer_id,
        "Offer visibility": "Public",
        "Agreement ID": agreement.id,
        "Agreement acceptance date": iso_seconds(agreement.accepted_at),
        "Agreement start date": iso_seconds(agreement.starts_at),
        "Agreement end date": ends,
        "CPPO flag": "Yes" if agreement.resale_authorization else "No",
        "Resale authorization ID": agreement.resale_authorization or "",
    }


def _billed_rows(marketplace: "Marketplace", month: str) -> Iterator[dict[str, Any]]:
    for one in _sums(marketplace, month, lambda _: ""):
        yield _billed_row(marketplace, month, one.record.product_code, one.record.account_id, one.agreement) | {
            "Dimension key": one.record.dimension,
            "Usage units": one.quantity,
            **_revenue(one.amount),
        }
    for charged in charges(marketplace, month):
        purchase = charged.purchase
        for what, price in charged.fees:
            yield _billed_row(marketplace, month, purchase.product_code, purchase.account_id, purchase.agreement) | {
                "Dimension key": what,
                "Usage period start date": "",
                "Usage period end date": "",
                **_revenue(price),
            }


def _billed_row(
    marketplace: "Marketplace", month: str, product_code: str, account: str, agreement: Agreement | None
) -> dict[str, Any]:
    product = marketplace.registry.products[product_code]
    return {
        "Invoice date": f"{to_datetime(issued_at(month)):%Y-%m-%d}",
        "Invoice ID": invoice_id(agreement.id if agreement else account, month),
        "Usage period start date": f"{month}-01",
        "Usage period end date": f"{to_datetime(next_month(month) - 1):%Y-%m-%d}",
        "Product title": product.title,
        "Product ID": product.id,
        "Product code": product.code,
        "Agreement ID": agreement.id if agreement else "",
        "Offer ID": agreement.offer_id if agreement else "",
        "Subscriber AWS account ID": account,
        "Payer AWS account ID": account,
        "Currency": "USD",
    }


def _revenue(amount: Decimal) -> dict[str, str]:
    fee = Decimal(_money(amount * LISTING_FEE))
    gross = Decimal(_money(amount))
    return {"Gross revenue": str(gross), "Listing fee": str(fee), "Seller net revenue": str(gross - fee)}


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _csv(columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([harmless(row.get(name, "")) for name in columns])
    return text.getvalue()
