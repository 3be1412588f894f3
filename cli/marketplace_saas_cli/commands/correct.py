"""`void` and `correct`: usage that was reported by mistake, taken back while its hour is open, and given back by a
billing adjustment afterwards."""

import getpass
from typing import Annotated, Any

import typer

import marketplace_saas_client.operations as api
from marketplace.corrections.adjustments import REASONS, CorrectionRefusedError, Corrections, Preview, Wanted
from marketplace.corrections.billing_api import BillingApi
from marketplace.ledger.correction import Correction
from marketplace.platform.clock import iso
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import Identifier
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.prices import price_in
from marketplace_saas_cli.session import Session

_RECORD = "the id of the usage record that was reported wrong"


def void(
    context: typer.Context,
    subscription_id: Identifier,
    record: Annotated[str, typer.Argument(help=_RECORD)],
) -> None:
    """Takes a usage record back, exactly, while its hour is open."""
    session = session_of(context)
    proof = session.queries.proof(walks.subscription(session, subscription_id).id, record)
    if proof is None:
        raise RefusedError(f"no usage is recorded under the id {record}")
    reported = proof["record"]
    session.output.confirm(
        {"subscription_id": subscription_id, "record": reported, "hour": proof["hour"]},
        f"{reported['quantity']:,} {reported['dimension']} of {proof['hour']} are taken back; the id can't be used "
        "again",
    )
    named: Any = {"records": [{"id": record, "subscription_id": subscription_id}]}
    (result,) = session.call(api.void_usage(named))["results"]
    if result["status"] != "voided":
        raise RefusedError(f"{result['reason']}: {result['message']}")
    session.output.show({"changed": True, "result": result}, f"{record} is voided")


def correct(
    context: typer.Context,
    subscription_id: Identifier,
    price: Annotated[str, typer.Option(help="of one unit, in the currency of the invoice")],
    record: Annotated[str | None, typer.Option(help=_RECORD)] = None,
    hour: Annotated[str | None, typer.Option(help="or the hour, such as 2026-11-23T10:00:00Z")] = None,
    dimension: Annotated[str | None, typer.Option(help="with --hour: the dimension")] = None,
    units: Annotated[int | None, typer.Option(help="how many units too many; all of a record's by default")] = None,
    reference: Annotated[str | None, typer.Option(help="with --hour: a name that tells corrections apart")] = None,
    agreement: Annotated[str | None, typer.Option(help="where several have an invoice for the month")] = None,
    reason: Annotated[str, typer.Option(help=f"one of {', '.join(REASONS)}")] = REASONS[0],
    description: Annotated[str | None, typer.Option(help="what the buyer is told, up to 500 characters")] = None,
) -> None:
    """Asks AWS Marketplace for a billing adjustment of usage that it has accepted, and follows it to its end."""
    session = session_of(context)
    wanted = Wanted(
        price=price_in(price, "--price"),
        record_id=record,
        hour=None if hour is None else walks.hour(hour),
        dimension=dimension,
        units=units,
        reference=reference,
        agreement_id=agreement,
        reason=reason,
        description=description,
    )
    try:
        made, changed = _made(session, subscription_id, wanted)
    except CorrectionRefusedError as error:
        raise RefusedError(str(error)) from error
    session.output.show({"changed": changed, "correction": made.described()}, *_lines(made))
    raise typer.Exit(TROUBLE if made.state == "refused" else FINE)


def _made(session: Session, subscription_id: str, wanted: Wanted) -> tuple[Correction, bool]:
    """The correction as far as AWS is, and whether this command asked for it. What AWS was asked for before is followed
    without a question."""
    subscription = walks.subscription(session, subscription_id)
    billing = BillingApi(session.seller.client("marketplace-agreement"))
    corrections = Corrections(session.usage, billing, session.clock)
    found = corrections.preview(subscription, wanted, getpass.getuser())
    if isinstance(found, Correction):
        return corrections.follow(found), False
    session.output.confirm({"correction": found.correction.described()}, *_previewed(found))
    return corrections.request(found), True


def _previewed(found: Preview) -> list[str]:
    left = f"{found.invoice.left} {found.invoice.currency} of the invoice can be given back"
    return [_what(found.correction), f"{found.hour.quantity:,} units were metered; {left}"]


def _lines(made: Correction) -> list[str]:
    request = "" if made.request_id is None else f", {made.request_id}"
    return [
        _what(made),
        f"{made.state} since {iso(made.ended_at or made.prepared_at)}{request}",
        *([made.message] if made.message else []),
    ]


def _what(one: Correction) -> str:
    return (
        f"{one.units:,} {one.dimension} of {iso(one.hour)} at {one.price} are {one.amount} {one.currency} of invoice "
        f"{one.invoice_id}, agreement {one.agreement_id}, as {one.reason}"
    )
