"""`approvals`: unusual usage that waits for the seller's approval, listed, approved and refused."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

import marketplace_saas_client.operations as api
from marketplace.dynamodb.keys import metering_record
from marketplace.ledger.due_index import Unreadable
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import EpochSeconds, epoch, hour_of, iso
from marketplace.platform.moments import moment_of
from marketplace.usage.approval import Choice
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import Identifier, OfDimension, OfSubscription
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.session import Session

APP = typer.Typer(help="Unusual usage that waits for your approval.", no_args_is_help=True)

_LISTED = ("hour", "dimension", "quantity", "reason", "approval", "approval_ends_at")
OfHour = Annotated[str | None, typer.Option("--hour", help="only this hour, such as 2026-11-23T10:00:00Z")]


@APP.command("list")
def list_(context: typer.Context, subscription: OfSubscription = None) -> None:
    """The metering records of all subscriptions that await approval, and until when."""
    session = session_of(context)
    shown = [
        {"subscription_id": record.subscription_id, **record.described()} for record in _awaiting(session, subscription)
    ]
    session.output.show(
        {"metering_records": shown},
        table(shown, "subscription_id", *_LISTED) if shown else "nothing awaits approval",
    )
    raise typer.Exit(TROUBLE if any(record["approval"] == "awaited" for record in shown) else FINE)


@APP.command()
def approve(
    context: typer.Context, subscription_id: Identifier, dimension: OfDimension = None, hour: OfHour = None
) -> None:
    """Has unusual usage sent by the next run. With --dimension and --hour, what was refused before, too."""
    _decide(context, "approve", subscription_id, dimension, hour)


@APP.command()
def refuse(
    context: typer.Context, subscription_id: Identifier, dimension: OfDimension = None, hour: OfHour = None
) -> None:
    """Never sends unusual usage: the buyer is not billed for it. With --dimension and --hour, what was approved but is
    not sent yet, too."""
    _decide(context, "refuse", subscription_id, dimension, hour)


def _awaiting(session: Session, subscription_id: str | None) -> list[MeteringRecord]:
    """What awaits approval, by the end of its wait."""
    keys = [
        entry.key
        for entry in walks.unsettled(session)
        if not isinstance(entry, Unreadable) and entry.state == "awaiting_approval"
    ]
    records = (MeteringRecord.from_item(item) for item in session.usage.get_many(keys).values())
    found = [
        record
        for record in records
        if record.state == "awaiting_approval" and subscription_id in {None, record.subscription_id}
    ]
    return sorted(found, key=lambda record: (record.refuse_at, record.key))


def _decide(
    context: typer.Context, choice: Choice, subscription_id: str, dimension: str | None, hour: str | None
) -> None:
    session = session_of(context)
    walks.subscription(session, subscription_id)
    at = None if hour is None else _hour(hour)
    wanted = [record.described() for record in _wanted(session, subscription_id, dimension, at)]
    if not wanted:
        nothing: dict[str, Any] = {"changed": False, "decided": [], "undecided": []}
        session.output.show(nothing, "there is nothing to decide")
        raise typer.Exit(FINE)
    units = sum(record["quantity"] for record in wanted)
    session.output.confirm(
        {"decision": choice, "metering_records": wanted},
        table(wanted, *_LISTED),
        "the next metering run sends them, to be billed" if choice == "approve" else "they are not billed",
        question=f"{choice.capitalize()} {counted(units, 'unit')}?",
    )
    body: Any = {"decision": choice}
    if dimension is not None:
        body["dimension"] = dimension
    if at is not None:
        body["hour"] = iso(at)
    decided, undecided = _decided(session, subscription_id, body)
    session.output.show(
        {"changed": bool(decided), "decided": decided, "undecided": undecided},
        f"{choice}d: {counted(len(decided), 'metering record')}",
        *([table(undecided, "hour", "dimension", "quantity", "state", title="too late")] if undecided else []),
    )
    raise typer.Exit(TROUBLE if undecided else FINE)


def _wanted(
    session: Session, subscription_id: str, dimension: str | None, hour: EpochSeconds | None
) -> Iterable[MeteringRecord]:
    """What the decision is about: one record by its name, whatever it is, or what nobody has decided."""
    if dimension is not None and hour is not None:
        item = session.usage.get(metering_record(subscription_id, hour, dimension))
        return [] if item is None else [MeteringRecord.from_item(item)]
    return (
        record
        for record in _awaiting(session, subscription_id)
        if record.approval == "awaited" and dimension in {None, record.dimension} and hour in {None, record.hour}
    )


def _decided(session: Session, subscription_id: str, body: Any) -> tuple[list[Any], list[Any]]:
    """What carries the decision now, and what it came too late for."""
    decided: dict[tuple[str, str], Any] = {}
    undecided: dict[tuple[str, str], Any] = {}
    while True:
        answer = session.call(api.decide_usage(subscription_id, body))
        for found, into in ((answer["decided"], decided), (answer["undecided"], undecided)):
            into.update({(one["hour"], one["dimension"]): one for one in found})
        if not answer["more"]:
            return list(decided.values()), list(undecided.values())


def _hour(text: str) -> EpochSeconds:
    try:
        return hour_of(epoch(moment_of(text)))
    except ValueError as error:
        raise RefusedError(f"--hour {error}") from error
