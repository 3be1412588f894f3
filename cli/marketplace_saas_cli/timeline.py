"""What happened to one subscription, in the order of time."""

from typing import Any

from marketplace.commands.history import usage_history
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.platform.clock import iso
from marketplace.registration.claim_history import MAX_PAGE, ClaimHistory
from marketplace.subscriptions.model import Subscription
from marketplace_saas_cli.session import Session


def timeline(session: Session, subscription: Subscription) -> list[dict[str, Any]]:
    """Notifications of AWS and operators' words, changes of the claim and of its usage, and the moments
    that the subscription itself keeps, the oldest first."""
    moments = [
        ("registered", subscription.registered_at),
        ("activated", subscription.activated_at),
        ("final hour ends", subscription.closing_deadline),
        ("entitlements read", subscription.entitlements_synced_at),
        ("billed to the other integration from here", subscription.cutover_at),
    ]
    found = [{"at": iso(at), "what": what, "detail": ""} for what, at in moments if at is not None]
    for part in (_notifications, _claims, _usage):
        found += part(session, subscription.id)
    return sorted(found, key=_at)


def _at(entry: dict[str, Any]) -> str:
    return str(entry["at"])


def _notifications(session: Session, subscription_id: str) -> list[dict[str, Any]]:
    found = []
    for item in session.subscriptions.items_under(keys.subscription_pk(subscription_id), keys.EVENT_PREFIX):
        values = from_item(item)
        at = values["sk"].removeprefix(keys.EVENT_PREFIX).partition("#")[0]
        found.append(
            {"at": f"{at[:19]}Z", "what": values["title"] or values["kind"], "detail": values.get("event_id", "")}
        )
    return found


def _usage(session: Session, subscription_id: str) -> list[dict[str, Any]]:
    """What people have changed about the usage, and AWS's decisions about corrections."""
    found = []
    for one in usage_history(session.usage, subscription_id):
        by = f", by {one.by}" if one.by else ""
        found.append({"at": iso(one.at), "what": one.what, "detail": f"{one.detail}{by}"})
    return found


def _claims(session: Session, subscription_id: str) -> list[dict[str, Any]]:
    """The changes of the claim, the oldest first."""
    history, found, cursor = ClaimHistory(session.subscriptions), [], None
    while True:
        page = history.page(subscription_id, cursor=cursor, limit=MAX_PAGE)
        for change in page.changes:
            tenants = " -> ".join(filter(None, (change.previous_tenant_id, change.tenant_id)))
            why = f", {change.reason}" if change.reason else ""
            found.append({"at": iso(change.at), "what": change.action, "detail": f"{tenants} by {change.caller}{why}"})
        cursor = page.cursor
        if cursor is None:
            return found[::-1]
