"""What the facts of a subscription change: its attributes, and the events that the seller is sent. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.lifecycle.facts import ACTIVATING, Fact, State, compacted, folded, merged
from marketplace.lifecycle.notifications import Notification
from marketplace.lifecycle.store import Stored
from marketplace.platform.clock import iso
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Status
from marketplace.subscriptions.seller_events import Kind as SellerEventKind
from marketplace.subscriptions.seller_events import SellerEvent, stable_id
from marketplace.subscriptions.waiting import AWAITED_UNTIL, NOT_WAITING, waits
from marketplace.subscriptions.waiting import Kind as WaitingKind

RELEASE_DUE = "release_due"
"""An attribute that the write which makes a subscription active sets. It is removed once the held usage is released and
a later recheck is requested. Until then every message about the subscription releases it, so a crash in between, or an
activation by the passing of time alone, leaves no usage held."""

START_RECHECK_AT = "start_look_at"
"""An attribute of a subscription that waits for a scheduled start: when its next recheck is due, in seconds since the
epoch."""

ACTIVATION_SEEN_AT = "activation_seen_at"
"""An attribute: when the newest activation arrived here, in seconds since the epoch."""

ANNOUNCED_ATTRIBUTES = ("tenant_id", "product_code", "integration", "license_arn", "customer_identifier")
"""The attributes of a subscription that every event about its status carries."""

_BEGINNINGS = ("registered_at", "imported_at")

_EVENT_OF_STATUS: dict[Status, SellerEventKind] = {
    "active": "Subscription Activated",
    "closing": "Subscription Closing",
    "ended": "Subscription Ended",
    "failed": "Subscription Failed",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription as stored, and the state that its facts add up to."""

    stored: Stored
    state: State

    @property
    def id(self) -> str:
        return self.stored.subscription.id

    @property
    def closing(self) -> tuple[Status, int | None]:
        """The part of the state that the subscription's usage is adjusted to: the status and the closing deadline."""
        return self.state.status, self.state.closing_deadline

    @property
    def release_due(self) -> bool:
        return self.state.status == "active" and RELEASE_DUE in self.stored.values


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written of a subscription. `attributes` are set (None removes), `defaults` only where there is no
    value yet; `events` go to the seller."""

    state: State
    attributes: Mapping[str, Any]
    defaults: Mapping[str, Any]
    events: Sequence[SellerEvent]

    def is_stored_in(self, read: Stored) -> bool:
        """Whether nothing of it has to be written."""
        unset: dict[str, list[Any]] = {"agreement_ids": [], "history": []}
        return all(read.values.get(name, unset.get(name)) == value for name, value in self.attributes.items()) and all(
            name in read.values for name, value in self.defaults.items() if value is not None
        )


def change(
    subscription_id: str,
    read: Stored | None,
    notifications: Iterable[Notification],
    now: int,
    *,
    agreement_id: str | None = None,
) -> Change:
    """What these notifications about the subscription change, beside those whose facts it has.

    read: the subscription as stored, None when there is none yet. now: seconds since the epoch. agreement_id: an
    agreement that a registration named, of which no fact may be known yet.
    """
    told = [(notification, fact) for notification in notifications if (fact := Fact.of(notification)) is not None]
    known = () if read is None else read.facts
    whole = merged(known, [fact for _, fact in told])
    state, history = folded(whole, now), compacted(whole, now)
    defaults = identity_attributes(subscription_id, [notification for notification, _ in told])
    attributes = state_changes(state, history, read, agreement_id, defaults)
    if _holds_new_activation(history, known):
        attributes[ACTIVATION_SEEN_AT] = now
    status: Status = "pending" if read is None else read.subscription.status
    values = defaults if read is None else {**defaults, **read.values}
    return Change(state, attributes, defaults, state_events(subscription_id, status, state, values))


def identity_attributes(subscription_id: str, notifications: Iterable[Notification]) -> dict[str, Any]:
    """What the notifications say about whose subscription it is; of several values the first counts, and that of one
    which names the subscription before that of an agreement's, which names at most the buyer's account."""
    found: dict[str, Any] = {}
    for notification in sorted(notifications, key=lambda one: one.identity is None):
        for name, value in _identity_of(subscription_id, notification).items():
            found.setdefault(name, value)
    return found


def _identity_of(subscription_id: str, notification: Notification) -> dict[str, Any]:
    who: dict[str, Any] = {"account_id": notification.account_id}
    match notification.identity:
        case LicenseIdentity(license_arn):
            who |= {"id": subscription_id, "integration": "license", "license_arn": license_arn}
        case LegacyIdentity(_, customer_identifier):
            who |= {"id": subscription_id, "integration": "legacy", "customer_identifier": customer_identifier}
    if notification.identity is not None:
        who["product_code"] = notification.product_code
    return {name: value for name, value in who.items() if value is not None}


def state_changes(
    state: State,
    history: Sequence[Fact],
    read: Stored | None,
    agreement_id: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The attributes that the state decides, None for one that it leaves empty. `defaults`: what else is written where
    there is no value yet."""
    listed = [*(read.subscription.agreement_ids if read is not None else ()), *filter(None, [agreement_id])]
    changes: dict[str, Any] = {
        "status": state.status,
        "activated_at": state.activated_at,
        "closing_deadline": state.closing_deadline,
        "current_agreement_id": state.current_agreement_id,
        "agreement_ids": list(dict.fromkeys([*state.agreement_ids, *listed])),
        "predecessor_agreement_ids": state.predecessors or None,
        "offer_id": state.offer_id,
        "last_event_at": state.last_event_at,
        "last_activating_at": state.last_activating_at,
        "history": [fact.as_stored() for fact in history],
        **_waiting(state, history, {**(defaults or {}), **({} if read is None else read.values)}),
    }
    if state.free_trial is not None:
        changes["free_trial"] = state.free_trial
    if state.scheduled_start is None:
        changes[START_RECHECK_AT] = None
    if state.status == "active" and (read is None or read.subscription.status != "active"):
        changes[RELEASE_DUE] = True
    return changes


def _waiting(state: State, history: Sequence[Fact], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Since when a pending subscription has waited for its activation, or from when on: not before its agreement
    starts. Of a licence that is active or closing: since when its buyer's account has been missing."""
    if state.status == "pending":
        begun = [fact.at_ms // 1000 for fact in history[:1]] + [values[name] for name in _BEGINNINGS if name in values]
        return _waits("registration", max(min(begun, default=0), state.expected_start or 0), values)
    if state.status in {"active", "closing"} and values.get("license_arn") and not values.get("account_id"):
        return _waits("account", state.activated_at or 0, values)
    return {**NOT_WAITING, AWAITED_UNTIL: None}


def _waits(kind: WaitingKind, since: int, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of a subscription that waits. What an operator expected of another wait is over with that."""
    if values.get("waiting") != kind:
        return {**waits(kind, since), AWAITED_UNTIL: None}
    return waits(kind, since, values.get(AWAITED_UNTIL))


def state_events(subscription_id: str, before: Status, state: State, values: Mapping[str, Any]) -> list[SellerEvent]:
    """The event for a change of the status from `before`: none when it is the same. `values` are the attributes of the
    subscription. The event's id is made of the fact that caused the status, so it is the same in whatever order the
    facts arrive."""
    if state.status in {before, "pending"}:
        return []
    kind = _EVENT_OF_STATUS[state.status]
    at = state.changed_at or 0
    times = {"activated_at": state.activated_at, "closing_deadline": state.closing_deadline}
    detail: dict[str, Any] = {
        "subscription_id": subscription_id,
        "status": state.status,
        **{name: values.get(name) for name in ANNOUNCED_ATTRIBUTES},
        "agreement_id": state.current_agreement_id,
        "offer_id": state.offer_id,
        **{name: None if time is None else iso(time) for name, time in times.items()},
    }
    return [SellerEvent(kind, stable_id(kind, subscription_id, state.cause), at, detail)]


def _holds_new_activation(history: Sequence[Fact], known: Sequence[Fact]) -> bool:
    ids = {fact.id for fact in known}
    return any(fact.kind in ACTIVATING and fact.id not in ids for fact in history)
