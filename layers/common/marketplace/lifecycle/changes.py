"""What the facts of a subscription change: its attributes, and the events that the seller is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.lifecycle.facts import (
    ACTIVATING,
    Fact,
    State,
)
from marketplace.lifecycle.notifications import Notification
from marketplace.lifecycle.store import Stored
from marketplace.platform.clock import iso
from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Status
from marketplace.subscriptions.seller_events import Kind as SellerEventKind
from marketplace.subscriptions.seller_events import SellerEvent, stable_id

_FIRST_TIMER = 60
"""Catches usage that was booked by a request which had read the state from before the closing, or from before the
return from it."""


_CLOCK_SKEW = 60
"""How far the clocks of two functions, and AWS's, may be apart."""


_RELEASE_DUE = "release_due"
"""On a subscription from the write that makes it active until its held usage is released and a later look is asked for:
whatever made it active, and whoever crashed in between, the next look at it knows. Once done it costs nothing more."""


_START_LOOK_AT = "start_look_at"
"""On a subscription that waits for a scheduled start: when the next look at it comes, in seconds since the epoch."""


_CHANGED: dict[Status, SellerEventKind] = {
    "active": "Subscription Activated",
    "closing": "Subscription Closing",
    "ended": "Subscription Ended",
    "failed": "Subscription Failed",
}


@dataclass(frozen=True, slots=True)
class _Standing:
    """A subscription after the facts were applied."""

    stored: Stored
    state: State


def _who(subscription_id: str, identity: Identity | None, notification: Notification | None) -> dict[str, Any]:
    """What a notification says of whose subscription it is; set only where nothing is known yet."""
    if identity is None or notification is None:
        return {}
    who = {"id": subscription_id, "product_code": notification.product_code, "account_id": notification.account_id}
    match identity:
        case LicenseIdentity(license_arn):
            return {**who, "integration": "license", "license_arn": license_arn}
        case LegacyIdentity(_, customer_identifier):
            return {**who, "integration": "legacy", "customer_identifier": customer_identifier}


def state_changes(
    state: State, history: Sequence[Fact], read: Stored | None, agreement_id: str | None = None
) -> dict[str, Any]:
    """The attributes that the state decides, None for one that it leaves empty."""
    listed = [*(read.subscription.agreement_ids if read is not None else ()), *filter(None, [agreement_id])]
    changes: dict[str, Any] = {
        "status": state.status,
        "activated_at": state.activated_at,
        "closing_deadline": state.closing_deadline,
        "current_agreement_id": state.current_agreement_id,
        "agreement_ids": list(dict.fromkeys([*state.agreement_ids, *listed])),
        "offer_id": state.offer_id,
        "last_event_at": state.last_event_at,
        "last_activating_at": state.last_activating_at,
        "history": [fact.as_stored() for fact in history],
    }
    if state.free_trial is not None:
        changes["free_trial"] = state.free_trial
    if state.scheduled_start is None:
        changes[_START_LOOK_AT] = None
    if state.status == "active" and (read is None or read.subscription.status != "active"):
        changes[_RELEASE_DUE] = True
    return changes


def _deadlines(standing: _Standing) -> tuple[Status, int | None]:
    """The part of a subscription that its usage is adjusted to."""
    return standing.state.status, standing.state.closing_deadline


def _release_due(standing: _Standing) -> bool:
    return standing.state.status == "active" and _RELEASE_DUE in standing.stored.values


def _any_activation(history: Sequence[Fact], known: Sequence[Fact]) -> bool:
    ids = {fact.id for fact in known}
    return any(fact.kind in ACTIVATING and fact.id not in ids for fact in history)


def _is_settled(read: Stored, changes: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether all of it is stored already."""
    unset: dict[str, list[Any]] = {"agreement_ids": [], "history": []}
    return all(read.values.get(name, unset.get(name)) == value for name, value in changes.items()) and all(
        name in read.values for name, value in defaults.items() if value is not None
    )


def state_events(subscription_id: str, before: Status, state: State, values: Mapping[str, Any]) -> list[SellerEvent]:
    """What the seller is told of a change of the status: where the subscription has got to. The id is made of the fact
    that brought it there, so it doesn't depend on the order of arrival."""
    if state.status in {before, "pending"}:
        return []
    kind = _CHANGED[state.status]
    at = state.changed_at or 0
    times = {"activated_at": state.activated_at, "closing_deadline": state.closing_deadline}
    detail: dict[str, Any] = {
        "subscription_id": subscription_id,
        "status": state.status,
        **{name: values.get(name) for name in _TOLD},
        "agreement_id": state.current_agreement_id,
        "offer_id": state.offer_id,
        **{name: None if time is None else iso(time) for name, time in times.items()},
    }
    return [SellerEvent(kind, stable_id(kind, subscription_id, state.cause), at, detail)]


_TOLD = ("tenant_id", "product_code", "integration", "license_arn", "customer_identifier")
