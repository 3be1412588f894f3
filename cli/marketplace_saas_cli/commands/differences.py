"""`differences`: what the daily reconciliation has found between the ledger and CloudTrail, listed and accepted."""

import getpass
from typing import Annotated, Any

import typer

from marketplace.platform.clock import iso
from marketplace.reconcile.schedule import SHOWN_FOR
from marketplace.reconcile.store import ReconciliationStore, StoredDifference
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.session import Session

APP = typer.Typer(help="What the daily reconciliation has found.", no_args_is_help=True)

_LISTED = ("day", "kind", "dimension", "period", "ours", "theirs", "units", "id", "accepted")


@APP.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="those that were accepted, too")] = False,
) -> None:
    """The differences of the last 62 days that nobody has accepted."""
    session = session_of(context)
    found = stored(session)
    rows = [_row(one) for one in found if everything or one.reason is None]
    session.output.show(
        {"differences": [{**one.values, **_row(one)} for one in found if everything or one.reason is None]},
        table(rows, *_LISTED) if rows else "no difference",
        *(f"{row['id']}: {row['payer']}" for row in rows),
    )
    raise typer.Exit(TROUBLE if unaccepted(found) else FINE)


@APP.command()
def accept(
    context: typer.Context,
    difference_id: Annotated[str, typer.Argument(help="the id of a difference, dif-...", metavar="DIFFERENCE")],
    reason: Annotated[str, typer.Option(help="why it stays")],
) -> None:
    """Notes why a difference stays; it counts no more. A later reconciliation of its day keeps the note."""
    if not reason.strip():
        raise RefusedError("--reason says why the difference stays")
    session = session_of(context)
    found = [one for one in stored(session) if one.id == difference_id]
    if not found:
        raise RefusedError(f"there is no difference {difference_id} of the last 62 days")
    if found[0].reason is not None:
        raise RefusedError(f"{difference_id} was accepted before: {found[0].reason}")
    session.output.confirm(
        {"accept": difference_id, "reason": reason}, table([_row(one) for one in found], *_LISTED), f"reason: {reason}"
    )
    store = ReconciliationStore(session.usage)
    noted = [store.accept(one, reason.strip(), getpass.getuser(), session.now) for one in found]
    if not all(noted):
        raise RefusedError(f"{difference_id} was accepted or removed meanwhile; look again")
    done = {"changed": True, "id": difference_id, "reason": reason.strip()}
    session.output.show(done, f"{difference_id} is accepted")


def stored(session: Session) -> list[StoredDifference]:
    """What is stored of the last 62 days, but for calls that CloudTrail shows nothing of."""
    found = ReconciliationStore(session.usage).differences(since=session.now - SHOWN_FOR)
    return [one for one in found if one.values["kind"] != "unproven"]


def unaccepted(found: list[StoredDifference]) -> list[StoredDifference]:
    """Those that somebody has to look at."""
    return [one for one in found if one.reason is None]


def summary(found: list[StoredDifference]) -> str:
    """How many there are, of how much, since when."""
    units = sum(abs(int(one.values["units"])) for one in found)
    return f"{counted(len(found), 'difference')} of {counted(units, 'unit')}, the first of {_day(found[0])}"


def _row(one: StoredDifference) -> dict[str, Any]:
    names = ("kind", "dimension", "period", "ours", "theirs", "units", "payer")
    return {"day": _day(one), **{name: one.values.get(name) for name in names}, "id": one.id, "accepted": one.reason}


def _day(one: StoredDifference) -> str:
    return iso(one.day)[:10]
