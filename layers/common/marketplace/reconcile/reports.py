"""Seller reports as entries: usage by day, and billed revenue by month.

Sources: Seller Guide, "Usage dashboard" and "Billed revenue dashboard" (the columns of an exported table), and "Daily
Usage data feed" (the columns of the feed). A report is told by its columns, which may be in any order and case.

A report names a buyer by account, product and agreement, and the feed by the agreement alone. `payers` says how the
caller knows an agreement; ours must be told in the same way: `report_payer`.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import epoch
from marketplace.reconcile.evidence import Entry, Span, UnreadableEvidenceError, quantity_of


class _Columns(NamedTuple):
    """The names of a report's columns, in lower case, and the span of its rows. An empty name: it has none."""

    span: Span
    date: str
    dimension: str
    quantity: str
    agreement: str
    product: str
    account: str


_REPORTS = (
    _Columns(
        *("day", "usage date", "dimension key", "estimated usage", "agreement id", "product code"),
        "subscriber aws account id",
    ),
    _Columns(
        *("month", "usage period start date", "dimension key", "usage units", "agreement id", "product code"),
        "subscriber aws account id",
    ),
    _Columns("day", "usage_date", "dimension_key", "usage_quantity", "agreement_id", "", ""),
)


def report_payer(product_code: str, account: str) -> str:
    """How a report knows a buyer, where the agreement is not asked for."""
    return f"{product_code}/{account}"


def our_report_payer(accounts: Callable[[MeteringRecord], str | None]) -> Callable[[MeteringRecord], str]:
    """How our records are told to be compared with a report; `accounts` gives the buyer's account of a record, which a
    record of a licence holds itself."""
    return lambda record: report_payer(record.product_code, record.account_id or accounts(record) or "")


def span_of(lines: Iterable[str]) -> Span:
    """The span of a report's rows, by its header. Raises UnreadableEvidenceError."""
    return _columns_of(csv.DictReader(lines).fieldnames).span


def report_entries(lines: Iterable[str], payers: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """The usage in a report, row by row. Rows without a date, such as what a contract costs, are no usage. `payers`:
    how an agreement's buyer is known, by the agreement's id. Raises UnreadableEvidenceError that names the row."""
    reader = csv.DictReader(lines)
    columns = _columns_of(reader.fieldnames)
    known = payers or {}
    for row in reader:
        values = {(name or "").strip().lower(): str(value or "").strip() for name, value in row.items()}
        if not values[columns.date]:
            continue
        agreement = values[columns.agreement]
        by_account = report_payer(values.get(columns.product, ""), values.get(columns.account, ""))
        try:
            yield Entry(
                known.get(agreement) or (by_account if columns.account else f"agreement/{agreement}"),
                values[columns.dimension],
                _day(values[columns.date]),
                quantity_of(values[columns.quantity]),
            )
        except ValueError as error:
            raise UnreadableEvidenceError(f"line {reader.line_num} of the report: {error}") from error


def _columns_of(header: Iterable[str] | None) -> _Columns:
    names = {name.strip().lower().lstrip("\ufeff") for name in header or ()}
    wanted = [{name for name in columns[1:] if name} for columns in _REPORTS]
    for columns, needed in zip(_REPORTS, wanted, strict=True):
        if needed <= names:
            return columns
    lacking = min((sorted(needed - names) for needed in wanted), key=len)
    raise UnreadableEvidenceError(f"the report lacks the columns: {', '.join(lacking)}")


def _day(text: str) -> int:
    """The first second of a date, which may have a time behind it."""
    moment = datetime.fromisoformat(text[:10])
    return epoch(moment.replace(tzinfo=UTC))
