"""`shadow`: what would be other than it is, if this deployment had metered the hours that another meter still bills."""

from collections import Counter
from typing import Any

import typer

from marketplace.platform.clock import DAY, HOUR, hour_of, iso
from marketplace.reconcile.evidence import period_of
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.finance import Price, PriceFile, TrailFiles, evidence_lines
from marketplace_saas_cli.commands.options import From, To
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.prices import prices_of
from marketplace_saas_cli.reconciling import Outcome, with_cloudtrail

DAYS = 7
SENT_WITHIN = 3 * HOUR
"""How long after its end an hour is compared, unless --to says otherwise: the other meter has sent it by then."""


def shadow(
    context: typer.Context,
    first: From = None,
    last: To = None,
    trail: TrailFiles = None,
    price: Price = None,
    prices: PriceFile = None,
) -> None:
    """Compares the usage of hours before MeteringStartsAt with what the other meter has sent, day by day."""
    known = prices_of(price or [], prices)
    session = session_of(context)
    starts_at = session.stack.metering_starts_at
    if not starts_at:
        raise RefusedError("this deployment has no MeteringStartsAt: it meters every hour itself")
    latest = min(starts_at, hour_of(session.now - SENT_WITHIN))
    start, end = walks.hours(session, first, last or iso(latest), days=DAYS)
    if end > starts_at:
        raise RefusedError(f"from {iso(starts_at)} on this deployment meters itself; `reconcile` compares those hours")
    found = with_cloudtrail(session, start, end, known, [], trail)
    days = _by_day(found, start, end)
    rows = [one.as_json() for one in found.differences]
    session.output.show(
        {
            "from": iso(start),
            "to": iso(end),
            "metering_starts_at": iso(starts_at),
            "compared": found.compared,
            "days": days,
            "differences": rows,
            "of_other_buyers": found.strangers,
            "events_left_out": len(found.gaps),
        },
        f"{iso(start)} to {iso(end)}: {counted(found.compared, 'metering record')} in shadow compared with CloudTrail; "
        f"this deployment meters from {iso(starts_at)} on",
        table(days, "day", "ours", "theirs", "units", "differences") if days else "no usage, here or there",
        table(rows, "period", "kind", "dimension", "ours", "theirs", "units", "money", "id")
        if rows
        else "no difference",
        *evidence_lines(found, rows),
    )
    raise typer.Exit(TROUBLE if rows else FINE)


def _by_day(found: Outcome, start: int, end: int) -> list[dict[str, Any]]:
    """Each day's units here and there, and how many differences it has; days without either are left out."""
    differing = Counter(period_of(one.period, "day") for one in found.differences)
    return [
        {
            "day": iso(day)[:10],
            "ours": found.ours[day],
            "theirs": found.theirs.get(day, 0),
            "units": found.theirs.get(day, 0) - found.ours[day],
            "differences": differing[day],
        }
        for day in range(period_of(start, "day"), end, DAY)
        if differing[day] or found.ours[day] or found.theirs.get(day)
    ]
