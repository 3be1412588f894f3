"""`subscriptions`: who bought what, whose it is, and what happened to it."""

from typing import Annotated, Any

import typer

import marketplace_saas_client.operations as api
from marketplace.commands.waiting import WaitingList
from marketplace.dynamodb import keys
from marketplace.platform.clock import epoch, iso
from marketplace.platform.moments import moment_of
from marketplace.seller_api.subscription_queries import Attribute, Filter, SubscriptionQueries
from marketplace.seller_api.views import details_view, subscription_view
from marketplace.subscriptions import recheck
from marketplace.subscriptions.waiting import WITHOUT_END
from marketplace_saas_cli import customers
from marketplace_saas_cli.commands.options import Identifier, Reason
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.patience import overdue
from marketplace_saas_cli.timeline import timeline
from marketplace_saas_cli.walks import STATUSES, subscription, subscriptions

APP = typer.Typer(help="Who bought what, whose it is, and what happened to it.", no_args_is_help=True)

_LISTED = ("subscription_id", "status", "tenant_id", "product_code", "integration", "account_id", "activated_at")


@APP.command("list")
def list_(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help=f"one of {', '.join(STATUSES)}")] = None,
    tenant: Annotated[str | None, typer.Option(help="what this tenant has claimed")] = None,
    account: Annotated[str | None, typer.Option(help="of this AWS account, twelve digits")] = None,
) -> None:
    """All subscriptions, or those of a status, a tenant or an AWS account."""
    given: list[tuple[Attribute, str | None]] = [("status", status), ("tenant_id", tenant), ("account_id", account)]
    filters = [Filter(name, value) for name, value in given if value is not None]
    if len(filters) > 1:
        raise RefusedError("give one of --status, --tenant and --account")
    if status is not None and status not in STATUSES:
        raise RefusedError(f"there is no status {status}; there are {', '.join(STATUSES)}")
    session = session_of(context)
    found = [subscription_view(one, session.now) for one in subscriptions(session, *filters)]
    session.output.show({"subscriptions": found}, table(found, *_LISTED))


@APP.command()
def show(context: typer.Context, subscription_id: Identifier) -> None:
    """One subscription: what AWS says of it, whose it is, and all that happened to it."""
    session = session_of(context)
    details = SubscriptionQueries(session.subscriptions, session.clock).details(subscription_id)
    if details is None:
        raise RefusedError(f"there is no subscription {subscription_id} in {session.stack.name}")
    shown = {**details_view(details, session.now), "timeline": timeline(session, details.subscription)}
    plain = [{"": name, " ": value} for name, value in shown.items() if _is_plain(value)]
    session.output.show(
        shown,
        table(plain, "", " "),
        table(shown["entitlements"], "dimension", "value", "value_type", "expires_at", title="entitlements"),
        table(shown["timeline"], "at", "what", "detail", title="timeline"),
    )


@APP.command()
def claim(
    context: typer.Context,
    subscription_id: Identifier,
    tenant: Annotated[str, typer.Argument(help="whose it is to be")],
    reason: Annotated[str | None, typer.Option(help="why; kept in the audit trail")] = None,
    share_account: Annotated[bool, typer.Option(help="other tenants may belong to the same AWS account")] = False,
) -> None:
    """Claims a subscription for a tenant."""
    session = session_of(context)
    found = subscription(session, subscription_id)
    body: Any = {"tenant_id": tenant, "claim_revision": found.claim_revision, "share_account": share_account}
    preview = {"subscription_id": subscription_id, "tenant_id": found.tenant_id, "to_tenant_id": tenant}
    session.output.confirm(preview, f"{subscription_id}: {found.tenant_id or 'nobody'} -> {tenant}")
    _claimed(
        context, session.call(api.claim_subscription(subscription_id, body | ({"reason": reason} if reason else {})))
    )


@APP.command()
def release(context: typer.Context, subscription_id: Identifier, reason: Reason) -> None:
    """Takes a subscription away from its tenant; nobody has it then."""
    session = session_of(context)
    found = subscription(session, subscription_id)
    if found.tenant_id is None:
        raise RefusedError(f"nobody has claimed {subscription_id}")
    preview = {"subscription_id": subscription_id, "tenant_id": found.tenant_id, "to_tenant_id": None}
    session.output.confirm(preview, f"{subscription_id}: {found.tenant_id} -> nobody")
    body: Any = {"tenant_id": found.tenant_id, "claim_revision": found.claim_revision, "reason": reason}
    _claimed(context, session.call(api.release_claim(subscription_id, body)))


@APP.command()
def transfer(
    context: typer.Context,
    subscription_id: Identifier,
    tenant: Annotated[str, typer.Argument(help="whose it is to be")],
    reason: Reason,
    share_account: Annotated[bool, typer.Option(help="other tenants may belong to the same AWS account")] = False,
) -> None:
    """Takes a subscription from its tenant and gives it to another one."""
    session = session_of(context)
    found = subscription(session, subscription_id)
    if found.tenant_id is None:
        raise RefusedError(f"nobody has claimed {subscription_id}; claim it")
    preview = {"subscription_id": subscription_id, "tenant_id": found.tenant_id, "to_tenant_id": tenant}
    session.output.confirm(preview, f"{subscription_id}: {found.tenant_id} -> {tenant}")
    body: Any = {
        "tenant_id": found.tenant_id,
        "to_tenant_id": tenant,
        "claim_revision": found.claim_revision,
        "reason": reason,
        "share_account": share_account,
    }
    _claimed(context, session.call(api.transfer_claim(subscription_id, body)))


@APP.command("import")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="the customers, comma-separated (docs/integration.md, section 13)")],
    activate: Annotated[bool, typer.Option("--activate", help="activate every customer of the file")] = False,
    reason: Annotated[str | None, typer.Option(help="with --activate: why they are known to be active")] = None,
) -> None:
    """Takes over customers who subscribed before this deployment."""
    raise typer.Exit(customers.imported(session_of(context), file, activate=activate, reason=reason))


@APP.command()
def activate(context: typer.Context, subscription_id: Identifier, reason: Reason) -> None:
    """Activates a customer on your word, when AWS's own notification was lost."""
    raise typer.Exit(customers.activated(session_of(context), subscription_id, reason))


@APP.command("recheck")
def recheck_(context: typer.Context, subscription_id: Identifier) -> None:
    """Has a subscription examined again: held usage is released if it is active, unpublished events are published."""
    session = session_of(context)
    found = subscription(session, subscription_id)
    session.output.confirm({"recheck": found.id}, f"{found.id} ({found.status}) is examined again within seconds")
    session.queue.look_again(found.id, recheck.NOT_SUBSCRIBED, since=0)
    session.output.show({"changed": True, "recheck": found.id}, "requested")


@APP.command()
def reconcile(
    context: typer.Context,
    subscription_id: Annotated[str | None, typer.Argument(help="one subscription; without it all open ones")] = None,
) -> None:
    """Has subscriptions compared with AWS's agreement API and entitlements, and corrected."""
    session = session_of(context)
    if subscription_id is not None:
        subscription(session, subscription_id)
    which = subscription_id or "every open subscription"
    session.output.confirm({"reconcile": which}, f"{which} is compared with AWS and corrected within minutes")
    if subscription_id is not None:
        session.queue.reconcile(subscription_id)
    else:
        session.queue.reconcile_all(STATUSES[0])
    session.output.show({"changed": True, "reconcile": which}, "requested")


@APP.command()
def waiting(
    context: typer.Context,
    expect: Annotated[str | None, typer.Option(help="what is expected to wait, as it is listed")] = None,
    until: Annotated[str | None, typer.Option(help="until when; without it, nothing more is expected")] = None,
    reason: Annotated[str | None, typer.Option(help="why; it is kept")] = None,
) -> None:
    """What waits for AWS, a person or this application itself; with --expect, until when that is right."""
    if expect is None and (until is not None or reason is not None):
        raise RefusedError("--until and --reason belong to --expect")
    session = session_of(context)
    waiting_list = WaitingList(session.subscriptions, session.clock)
    if expect is None:
        found = list(waiting_list.all())
        rows = [
            {
                "kind": one.waiting.kind,
                "name": one.name,
                "title": one.title,
                "since": iso(one.waiting.since),
                "overdue": overdue(one.waiting, session.now),
            }
            for one in found
        ]
        late = any(row["overdue"] for row in rows)
        session.output.show({"waiting": rows}, *(map(waiting_list.shown, found) if found else ["nothing waits"]))
        raise typer.Exit(TROUBLE if late else FINE)
    if reason is None or not reason.strip():
        raise RefusedError("--expect needs --reason")
    try:
        moment = WITHOUT_END if until is None else epoch(moment_of(until))
    except ValueError as error:
        raise RefusedError(f"--until {error}") from error
    listed = waiting_list.find(expect)
    session.output.confirm(
        {"name": listed.name, "until": until, "reason": reason.strip()},
        waiting_list.shown(listed),
        f"it is expected to wait {f'until {until}' if until else 'for good'}: {reason.strip()}",
    )
    waiting_list.expect(listed, moment, reason.strip())
    session.output.show(
        {"changed": True, "name": listed.name, "until": until}, waiting_list.shown(waiting_list.find(expect))
    )


@APP.command("forget-contact")
def forget_contact(context: typer.Context, subscription_id: Identifier) -> None:
    """Deletes every contact that a buyer has entered for a subscription."""
    session = session_of(context)
    found = subscription(session, subscription_id)
    details = SubscriptionQueries(session.subscriptions, session.clock).details(subscription_id)
    count = len(details.contacts) if details is not None else 0
    session.output.confirm({"contacts": count}, f"deletes {counted(count, 'contact')} of {found.id} for good")
    session.subscriptions.delete(keys.contact(found.id))
    session.output.show({"changed": True, "contacts": count}, "deleted")


def _claimed(context: typer.Context, shown: Any) -> None:
    text = f"{shown['subscription_id']}: {shown['tenant_id'] or 'nobody'} (revision {shown['claim_revision']})"
    session_of(context).output.show({"changed": True, **shown}, text)


def _is_plain(value: Any) -> bool:
    return value is not None and value != [] and not isinstance(value, dict) and not _is_rows(value)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)
