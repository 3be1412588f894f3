"""Subscriptions and entitlements as the seller API answers them: plain JSON values, times in ISO 8601."""

from collections.abc import Sequence
from typing import Any

from marketplace.entitlements.rules import Decision, Entitlement
from marketplace.platform.clock import iso
from marketplace.registration.claim_history import ClaimChange
from marketplace.seller_api.subscription_queries import Details
from marketplace.statements.reader import StatementPage
from marketplace.subscriptions.model import Subscription


def subscription_view(subscription: Subscription, now: int) -> dict[str, Any]:
    """A subscription as of `now`. `access` says whether the buyer may use the product at all."""
    status = subscription.status_at(now)
    return {
        "subscription_id": subscription.id,
        "status": status,
        "access": status == "active",
        "tenant_id": subscription.tenant_id,
        "product_code": subscription.product_code,
        "integration": subscription.integration,
        "license_arn": subscription.license_arn,
        "customer_identifier": subscription.customer_identifier,
        "account_id": subscription.account_id,
        "agreement_ids": list(subscription.agreement_ids),
        "offer_id": subscription.offer_id,
        "free_trial": subscription.free_trial_at(now),
        "free_trial_ends_at": _iso(subscription.free_trial_ends_at),
        "claimed_at": _iso(subscription.claimed_at),
        "claim_revision": subscription.claim_revision,
        "registered_at": _iso(subscription.registered_at),
        "activated_at": _iso(subscription.activated_at),
        "closing_deadline": _iso(subscription.closing_deadline),
    }


def details_view(details: Details, now: int) -> dict[str, Any]:
    """A subscription with its stored entitlements, the contacts that its buyer entered, and the last of them."""
    contacts = details.contacts
    return {
        **subscription_view(details.subscription, now),
        "entitlements": [entitlement_view(one) for one in details.entitlements],
        "entitlements_synced_at": _iso(details.subscription.entitlements_synced_at),
        "contact": contacts[-1].contact.values if contacts else None,
        "contacts": [{**one.contact.values, "entered_at": iso(one.entered_at)} for one in contacts],
        "proposed_tenant_id": details.proposed_tenant_id,
    }


def claim_change_view(change: ClaimChange) -> dict[str, Any]:
    """An entry of the audit trail of a subscription's claim."""
    return {
        "claim_revision": change.revision,
        "action": change.action,
        "tenant_id": change.tenant_id,
        "previous_tenant_id": change.previous_tenant_id,
        "at": iso(change.at),
        "caller": change.caller,
        "via": change.via,
        "reason": change.reason,
    }


def entitlements_view(
    subscription: Subscription, entitlements: Sequence[Entitlement], now: int, max_age: int
) -> dict[str, Any]:
    """All entitlements. `stale`: AWS was last asked more than `max_age` seconds ago, or never, and gave no answer
    now."""
    synced_at = subscription.entitlements_synced_at
    return {
        "subscription_id": subscription.id,
        "status": subscription.status_at(now),
        "entitlements": [entitlement_view(one) for one in entitlements],
        "synced_at": _iso(synced_at),
        "stale": synced_at is None or now - synced_at > max_age,
    }


def entitlement_view(entitlement: Entitlement) -> dict[str, Any]:
    """A value of type double is its decimal text."""
    return {
        "dimension": entitlement.dimension,
        "value_type": entitlement.value_type,
        "value": entitlement.value,
        "expires_at": _iso(entitlement.expires_at),
    }


def decision_view(decision: Decision) -> dict[str, Any]:
    """Whether access is allowed and why, as the API answers it; times in ISO 8601."""
    return {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "stale": decision.stale,
        "status": decision.status,
        "entitlement": None if decision.entitlement is None else entitlement_view(decision.entitlement),
        "synced_at": _iso(decision.synced_at),
    }


def statement_view(subscription_id: str, month: str, page: StatementPage) -> dict[str, Any]:
    """A page of a statement: its days with their lines, the totals of the whole day, and what changed since the day was
    closed."""
    return {
        "subscription_id": subscription_id,
        "month": month,
        "days": [
            {
                "day": one.day.day,
                "closed": one.day.closed,
                "lines": [line.as_json() for line in one.lines],
                "totals": [{"dimension": name, **units.as_json()} for name, units in one.day.totals],
                "corrections": [correction.as_json() for correction in one.corrections],
            }
            for one in page.days
        ],
        "cursor": page.cursor,
    }


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else iso(seconds)
