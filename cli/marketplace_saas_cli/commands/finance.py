"""`reconcile` and `forecast`: whether the bill is right, and what this month's usage will come to."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from marketplace.platform.clock import HOUR, iso
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import From, OfSubscription, To
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.forecasting import RATE_DAYS, Month, summed
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.prices import CENT, price_of, prices_of
from marketplace_saas_cli.reconciling import Outcome, accept, accepted_in, with_cloudtrail, with_report

Price = Annotated[
    list[str] | None, typer.Option(help="[PRODUCT/ or SUBSCRIPTION/]DIMENSION=PRICE of a unit; repeatable")
]
TrailFiles = Annotated[
    Path | None, typer.Option(help="a folder with a copy of a trail's files, in place of the event history")
]
PriceFile = Annotated[Path | None, typer.Option(help="a file of lines DIMENSION,PRICE")]


_FORECAST = ("dimension", "metered", "waiting", "expected", "units", "price", "amount")


def forecast(
    context: typer.Context,
    price: Price = None,
    prices: PriceFile = None,
    subscription: OfSubscription = None,
) -> None:
    """What this month's usage will come to, at the rate of the last seven days and at your prices."""
    known = prices_of(price or [], prices)
    session = session_of(context)
    month = Month.of(session.now)
    found = walks.metering_records(
        session, walks.chosen(session, subscription), month.first_hour, session.now + 2 * HOUR
    )
    owned = (
        ((one.product_code, one.id if f"{one.id}/{record.dimension}" in known else ""), record) for one, record in found
    )
    sums, first = summed(owned, month)
    rows: list[dict[str, Any]] = []
    total, complete = Decimal(0), True
    for (owner, dimension), one in sorted(sums.items()):
        product, subscription_id = owner
        expected = month.expected(one.recent, first[owner, dimension])
        units = one.metered + one.waiting + expected
        unit_price = price_of(known, product, dimension, subscription_id)
        amount = None if unit_price is None else (unit_price * units).quantize(CENT)
        total, complete = total + (amount or 0), complete and amount is not None
        rows.append(
            {
                "product_code": product,
                "subscription_id": subscription_id or None,
                "dimension": dimension,
                "metered": one.metered,
                "waiting": one.waiting,
                "expected": expected,
                "units": units,
                "price": None if unit_price is None else str(unit_price),
                "amount": None if amount is None else f"{amount}",
            }
        )
    summary = {"month": month.name, "until": iso(month.now), "rate_days": RATE_DAYS, "dimensions": rows}
    known_total = f"{total.quantize(CENT)}"
    missing = "" if complete else "; dimensions without a price are not in it"
    session.output.show(
        {**summary, "amount": known_total if known else None, "complete": complete and bool(known)},
        f"{month.name} as of {iso(month.now)}; the rest of the month at the rate of the last {RATE_DAYS} days",
        table(rows, "product_code", "subscription_id", *_FORECAST),
        *([f"amount {known_total}{missing}, before discounts"] if known else ["no prices given (--price)"]),
    )


def reconcile(
    context: typer.Context,
    first: From = None,
    last: To = None,
    trail: TrailFiles = None,
    report: Annotated[Path | None, typer.Option(help="a seller report, in place of CloudTrail")] = None,
    price: Price = None,
    prices: PriceFile = None,
    accepted: Annotated[Path | None, typer.Option(help="a file of differences that are known and stay")] = None,
    accepting: Annotated[
        str | None, typer.Option("--accept", help="add the difference with this id to the file of --accepted")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="with --accept: why it stays")] = None,
) -> None:
    """Compares the ledger with what AWS shows, hour by hour, and names every difference with what it is worth."""
    if accepting is not None:
        _accept(context, accepted, accepting, reason)
        return
    known, stays = prices_of(price or [], prices), accepted_in(accepted)
    session = session_of(context)
    start, end = walks.hours(session, first, last)
    if report is not None and trail is not None:
        raise RefusedError("--report and --trail exclude each other")
    found = (
        with_cloudtrail(session, start, end, known, stays, trail)
        if report is None
        else with_report(session, report, start, end, known, stays)
    )
    rows = [one.as_json() for one in found.differences]
    session.output.show(
        {
            "from": iso(start),
            "to": iso(end),
            "compared": found.compared,
            "counts": found.counts,
            "differences": rows,
            "of_other_buyers": found.strangers,
            "events_left_out": len(found.gaps),
        },
        f"{iso(start)} to {iso(end)}: {counted(found.compared, 'metering record')} compared with "
        f"{'CloudTrail' if report is None else report.name}",
        table(rows, "period", "kind", "dimension", "ours", "theirs", "units", "money", "our_state", "id", "accepted")
        if rows
        else "no difference",
        *evidence_lines(found, rows),
    )
    raise typer.Exit(TROUBLE if found.open else FINE)


def evidence_lines(found: Outcome, rows: list[dict[str, Any]]) -> list[str]:
    """What could not be compared and why, and whose each difference is."""
    told = []
    if found.strangers:
        told.append(f"not compared: {counted(found.strangers, 'record')} of buyers who have no subscription here")
    if found.gaps:
        told.append(f"CloudTrail left out the records of {counted(len(found.gaps), 'call')}: too large for an event")
    return told + [f"{row['id']}: {where}" for row in rows if (where := _where(row))]


def _where(row: dict[str, Any]) -> str:
    """Whose a difference is, and who sent it."""
    sent = f", sent by {', '.join(row['senders'])}" if row.get("senders") else ""
    return f"{row['payer']}{sent}"


def _accept(context: typer.Context, file: Path | None, difference_id: str, reason: str | None) -> None:
    if file is None or reason is None or not reason.strip():
        raise RefusedError("--accept needs --accepted FILE and --reason")
    output = session_of(context).output
    output.confirm({"accept": difference_id, "reason": reason}, f"{difference_id} stays: {reason}")
    output.show({"changed": True, **accept(file, difference_id, reason.strip())}, f"noted in {file}")
