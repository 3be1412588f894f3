"""What one side says about one hour of one buyer: our ledger, CloudTrail, or a report of AWS.

Entries are compared by their first three members. `payer` is who AWS bills, in a form that both sides reach: the id of
a licence, or product code and customer identifier. A report names neither licence nor customer identifier, so there it
is product code and account, or what the caller knows an agreement by.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from marketplace.ledger.conflict import is_resolved
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, epoch, hour_of
from marketplace.subscriptions.identity import normalised_license_arn

type Quantity = int | float
"""Units. Ours are whole; AWS takes fractions from others."""

type Span = Literal["hour", "day", "month"]

METERED = "metered"
"""The state of an entry of ours that AWS has accepted."""

FRESH = "fresh"
"""The state of one that AWS has accepted so recently that the other side may not show it yet."""


SHADOW = "shadow"
"""The state of one that another meter is to send."""

RESOLVED = "resolved"
"""The state of an entry of ours that another sender has metered: its quantity is what a person said that AWS has."""


class UnreadableEvidenceError(ValueError):
    """A file or an event of another form; the text names it."""


class Entry(NamedTuple):
    """`period` is the first second of an hour, a day or a month. `moment` is when it was settled, or the event's time.
    `reference` is the MeteringRecordId, `sender` the role that sent it, `state` that of our record; empty or 0 where
    it is not known."""

    payer: str
    dimension: str
    period: int
    quantity: Quantity
    reference: str = ""
    sender: str = ""
    state: str = ""
    moment: int = 0


class Gap(NamedTuple):
    """An event that does not show what was metered, because AWS leaves out what is too large."""

    event_id: str
    moment: int
    sender: str


@lru_cache(maxsize=65536)
def payer_of_license(license_arn: str) -> str:
    return normalised_license_arn(license_arn)


def payer_of_customer(product_code: str, customer_identifier: str) -> str:
    return f"{product_code}/{customer_identifier}"


def our_payer(record: MeteringRecord) -> str:
    """Who AWS bills for a record, as CloudTrail shows it."""
    if record.license_arn is not None:
        return payer_of_license(record.license_arn)
    return payer_of_customer(record.product_code, record.customer_identifier or "")


def quantity_of(value: Any) -> Quantity:
    """A quantity, which may be a number or its decimal text. Raises ValueError."""
    if type(value) is int:
        return value
    try:
        number = Decimal(str(value).replace(",", "").strip())
    except ArithmeticError:
        raise ValueError(f"{value!r} is no quantity") from None
    return int(number) if number == number.to_integral_value() else float(number)


def period_of(moment: int, span: Span) -> int:
    """The first second of the hour, day or month (UTC) that holds a moment."""
    if span == "hour":
        return hour_of(moment)
    if span == "day":
        return moment - moment % DAY
    at = datetime.fromtimestamp(moment, UTC)
    return epoch(datetime(at.year, at.month, 1, tzinfo=UTC))


def our_entries(
    records: Iterable[MeteringRecord],
    *,
    settled_before: int | None = None,
    payer_of: Callable[[MeteringRecord], str] = our_payer,
    span: Span = "hour",
) -> Iterator[Entry]:
    """Our ledger as entries. What was settled at `settled_before` (seconds since the epoch) or later is too fresh to be
    missed on the other side."""
    for record in records:
        settled = record.settled_at or 0
        fresh = record.state == METERED and settled_before is not None and settled >= settled_before
        yield Entry(
            payer_of(record),
            record.dimension,
            period_of(record.hour, span),
            record.billed if is_resolved(record) else record.quantity,
            record.metering_record_id or "",
            "",
            FRESH if fresh else RESOLVED if is_resolved(record) else record.state,
            settled,
        )


def within(entries: Iterable[Entry], start: int, end: int) -> Iterator[Entry]:
    """The entries of the periods from `start` to before `end`."""
    return (entry for entry in entries if start <= entry.period < end)
