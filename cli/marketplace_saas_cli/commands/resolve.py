"""`resolve`: an hour of which another sender has metered another quantity, put right with numbers."""

import getpass
import time
from typing import Annotated, Any

import typer

from marketplace.commands.conflicts import Conflicts, Plan
from marketplace.commands.refusal import CommandRefusedError
from marketplace.ledger import conflict
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import MINUTE, iso
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.usage.booking import UsageStore
from marketplace.usage.recorder import UsageRecorder
from marketplace_saas_cli import trail, walks
from marketplace_saas_cli.commands.options import Identifier
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.session import Session


def resolve(
    context: typer.Context,
    subscription_id: Identifier,
    hour: Annotated[str, typer.Option(help="the hour, such as 2026-11-23T10:00:00Z")],
    dimension: Annotated[str, typer.Option(help="the dimension")],
    aws: Annotated[int | None, typer.Option(help="what AWS has of the hour; without it CloudTrail is asked")] = None,
) -> None:
    """Resolves a conflict: what AWS has too little is recorded in a later hour, what it has too much is to be given
    back."""
    session = session_of(context)
    walks.subscription(session, subscription_id)
    if session.stack.metering_starts_at > session.now:
        raise RefusedError(
            f"nothing is metered before {iso(session.stack.metering_starts_at)}, so missing units would not be billed"
        )
    conflicts = Conflicts(session.usage, session.subscriptions, _recorder(session), session.queue, session.clock)
    try:
        record = conflicts.find(subscription_id, walks.hour(hour), dimension)
        given = record.aws_quantity if aws is None else aws
        plan = conflicts.plan(record, trail.accepted_of(session, record) if given is None else given)
        changed = not plan.is_made
        if changed:
            session.output.confirm({"resolution": _previewed(plan)}, *_preview(plan))
        record = conflicts.resolve(plan, getpass.getuser())
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error
    shown = {"changed": changed, "metering_record": record.described(), "to_credit": conflict.to_credit(record)}
    session.output.show(shown, *_lines(record))


def _recorder(session: Session) -> UsageRecorder:
    """Records usage as the seller API does, but against no contract."""
    given = session.stack.parameters
    return UsageRecorder(
        store=UsageStore(session.usage, int(given["UsageRecordTtlDays"])),
        subscriptions=SubscriptionReader(session.subscriptions),
        clock=session.clock,
        seal_delay=int(given["SealDelayMinutes"]) * MINUTE,
        sleep=session.sleep,
        monotonic=time.monotonic,
        metering_enabled=session.stack.metering_enabled,
    )


def _previewed(plan: Plan) -> dict[str, Any]:
    numbers = {"aws_quantity": plan.aws_quantity, "missing": plan.missing, "excess": plan.excess}
    return {"metering_record": plan.record.described(), **numbers}


def _preview(plan: Plan) -> list[str]:
    said = [
        f"{plan.record.quantity:,} {plan.record.dimension} of {iso(plan.record.hour)} were used, and AWS Marketplace "
        f"has {plan.aws_quantity:,}"
    ]
    if plan.missing:
        said.append(f"{plan.missing:,} units are recorded in the next hour that is open, to be billed")
    if plan.excess:
        said.append(f"{plan.excess:,} units are to be given back; nothing is asked of AWS Marketplace now")
    return said


def _lines(record: MeteringRecord) -> list[str]:
    who, when = record.resolved_by, iso(record.settled_at or record.hour)
    said = [f"resolved by {who} at {when}: AWS Marketplace has {record.billed:,} of {record.quantity:,} units"]
    if record.carried_to is not None:
        name = conflict.carrying_id(record)
        said.append(f"{conflict.missing(record):,} units were recorded as {name} in {iso(record.carried_to)}")
    if units := conflict.to_credit(record):
        said.append(
            f"{units:,} units are to be given back once the month is invoiced: marketplace-saas correct "
            f"{record.subscription_id} --hour {iso(record.hour)} --dimension {record.dimension} --reference conflict "
            "--price PRICE"
        )
    return said
