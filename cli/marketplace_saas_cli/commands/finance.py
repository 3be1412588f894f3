"""`forecast`: what this month's usage will come to."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from marketplace.platform.clock import HOUR, iso
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import OfSubscription
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.forecasting import RATE_DAYS, Month, summed
from marketplace_saas_cli.output import table
from marketplace_saas_cli.prices import CENT, price_of, prices_of

Price = Annotated[
    list[str] | None, typer.Option(help="DIMENSION=PRICE of a unit, or PRODUCT/DIMENSION=PRICE; repeatable")
]
PriceFile = Annotated[Path | None, typer.Option(help="a file of lines DIMENSION,PRICE")]


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
    sums, first = summed(((one.product_code, record) for one, record in found), month)
    rows: list[dict[str, Any]] = []
    total, complete = Decimal(0), True
    for (product, dimension), one in sorted(sums.items()):
        expected = month.expected(one.recent, first[product, dimension])
        units = one.metered + one.waiting + expected
        unit_price = price_of(known, product, dimension)
        amount = None if unit_price is None else (unit_price * units).quantize(CENT)
        total, complete = total + (amount or 0), complete and amount is not None
        rows.append(
            {
                "product_code": product,
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
        table(rows, "product_code", "dimension", "metered", "waiting", "expected", "units", "price", "amount"),
        *([f"amount {known_total}{missing}, before discounts"] if known else ["no prices given (--price)"]),
    )
