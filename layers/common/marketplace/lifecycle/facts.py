"""The state of a subscription as a pure function of what AWS said about it, whatever the order of arrival.

A subscription keeps a list of facts. Its state is `folded` from them in the order of the times that AWS gave them. So
notifications that are repeated, late or out of order lead to the same state.

| fact | effect |
|---|---|
| License Updated, subscribe-success | active; from `closing` the activation stays, from `ended` it is a new one |
| License Updated for an agreement that starts later | active from that start on |
| Purchase Agreement Created | alone nothing; a renewal or replacement takes over as the current agreement, and undoes |
| | a closing that came from the end of the agreement before |
| Purchase Agreement Ended | closing, if the current agreement was cancelled, expired or terminated |
| License Deprovisioned, unsubscribe-pending | closing; up to a day after the final hour, closing once more |
| unsubscribe-success | ended |
| subscribe-fail | failed, unless active or closing |

Sources: Seller Guide: "EventBridge events for SaaS" and "Amazon SNS notifications for SaaS products" (meanings, the
final hour; a buyer who subscribes again before unsubscribe-success gets subscribe-success instead); botocore model of
marketplace-agreement (agreement statuses). The guide's editions differ on which event opens the final hour: work starts
at the first, and it lasts until an hour after the later one, even if the first one's hour is over by then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from marketplace.lifecycle.notifications import Kind, Notification
from marketplace.platform.clock import DAY
from marketplace.subscriptions.model import CLOSING_WINDOW, Status

ENDING_STATUSES = frozenset({"CANCELLED", "EXPIRED", "TERMINATED"})
"""Agreement statuses after which nothing follows. RENEWED, REPLACED and SUPERSEDED mean that another agreement does."""
KNOWN_STATUSES = ENDING_STATUSES | {"ACTIVE", "ARCHIVED", "RENEWED", "REPLACED", "ROLLED_BACK", "SUPERSEDED"}
_SUCCESSOR_INTENTS = frozenset({"RENEW", "REPLACE"})

# Facts of the same instant (EventBridge counts in seconds) take the order of a subscription's life, so that a tie is
# decided the same way everywhere, and against access rather than for it.
_RANK: dict[Kind, int] = {
    "agreement_created": 0,
    "agreement_amended": 1,
    "subscribe_fail": 2,
    "license_updated": 3,
    "subscribe_success": 3,
    "entitlement_updated": 4,
    "agreement_ended": 5,
    "license_deprovisioned": 6,
    "unsubscribe_pending": 6,
    "unsubscribe_success": 7,
}
ACTIVATING: frozenset[Kind] = frozenset({"license_updated", "subscribe_success"})
CHANGES_ENTITLEMENTS: frozenset[Kind] = frozenset(
    {"license_updated", "license_deprovisioned", "entitlement_updated", "subscribe_success", "unsubscribe_success"}
)

MAX_FACTS = 200
_KEPT_WHOLE = 15 * DAY * 1000
"""Facts younger than this are never compacted away: SQS keeps a message for 14 days at most, so nothing older than the
newest fact by more than this can still arrive in between."""

_LATER_CLOSING_WITHIN = DAY
"""How long after the final hour another closing event opens it again. AWS refuses usage that is older than a day."""

_HANDOVER = 60 * 1000
"""A renewal that starts this soon after the end of the agreement before it continues it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """The part of a notification that the state depends on. Times are milliseconds since the epoch."""

    id: str
    at_ms: int
    kind: Kind
    agreement_id: str | None = None
    agreement_status: str | None = None
    intent: str | None = None
    previous_agreement_id: str | None = None
    starts_at_ms: int | None = None
    offer_id: str | None = None
    free_trial: bool | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        return self.at_ms, _RANK[self.kind], self.id

    @classmethod
    def of(cls, notification: Notification) -> Self | None:
        """None for a notification that no state depends on."""
        if notification.kind not in _RANK:
            return None
        return cls(**{name: getattr(notification, name) for name in _NAMES})

    def as_stored(self) -> dict[str, Any]:
        """Plain values under short names: the history is read and written whole with its subscription."""
        values = ((short, getattr(self, name)) for name, short in _NAMES.items())
        return {short: value for short, value in values if value is not None}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**{name: stored[short] for name, short in _NAMES.items() if short in stored})


_NAMES = {
    "id": "id",
    "at_ms": "t",
    "kind": "k",
    "agreement_id": "a",
    "agreement_status": "s",
    "intent": "i",
    "previous_agreement_id": "p",
    "starts_at_ms": "b",
    "offer_id": "o",
    "free_trial": "f",
}


@dataclass(slots=True)
class State:
    """What the facts add up to. Times without a unit in the name are seconds since the epoch.

    `cause` is the id of the fact that led to the status, `last_activating_at` the time of the newest activating fact.
    `predecessors` are the agreements before this licence's, as far as they are not its own: their licence is another.
    `scheduled` holds the activations that wait for the start of their agreement, by agreement: a fact about one leaves
    the others waiting. `successors` are the agreements of renewals that start later.
    """

    status: Status = "pending"
    activated_at: int | None = None
    closing_deadline: int | None = None
    current_agreement_id: str | None = None
    agreement_ids: list[str] = field(default_factory=list)
    predecessors: list[str] = field(default_factory=list)
    offer_id: str | None = None
    free_trial: bool | None = None
    last_event_at: int | None = None
    last_activating_at: int | None = None
    cause: str = ""
    changed_at: int | None = None
    scheduled: dict[str, Fact] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    successors: list[str] = field(default_factory=list)
    deprovisioned: bool = False

    @property
    def scheduled_start(self) -> int | None:
        """When the next scheduled activation comes about; nothing but the passing of time is needed for it."""
        start = _next_start(self)
        return None if start is None else _second_after(start[0])

    @property
    def expected_start(self) -> int | None:
        """When a pending subscription's agreement starts, as far as the facts say."""
        if self.scheduled:
            return self.scheduled_start
        starts_at_ms = self.starts.get(self.current_agreement_id or "")
        return None if starts_at_ms is None else _second_after(starts_at_ms)


def merged(known: Sequence[Fact], news: Iterable[Fact]) -> list[Fact]:
    """The facts in the order of their times, each once. Of two with one id the known one stays."""
    by_id = {fact.id: fact for fact in news}
    by_id.update((fact.id, fact) for fact in known)
    return sorted(by_id.values(), key=lambda fact: fact.order)


def folded(facts: Iterable[Fact], now: int) -> State:
    """The state as of `now` (seconds since the epoch) that the facts, in any order and repeated at will, lead to."""
    return _folded_until(merged([], facts), now * 1000)


def compacted(facts: Sequence[Fact], now: int) -> list[Fact]:
    """The facts; once they are more than MAX_FACTS, without old ones that the state doesn't depend on. (They share one
    item with their subscription.)

    The state is compared as of the moment before which no more facts can arrive: two histories with the same state then
    have the same state whatever follows. A later moment would hide differences that are still ahead at that one, such
    as a start that has come by now.
    """
    kept = sorted(facts, key=lambda fact: fact.order)
    if len(kept) <= MAX_FACTS:
        return kept
    settled_ms = min(kept[-1].at_ms, now * 1000) - _KEPT_WHOLE
    old = [fact for fact in kept if fact.at_ms < settled_ms]
    young = kept[len(old) :]
    whole = _folded_until(old, settled_ms)
    for fact in list(old):
        without = [other for other in old if other is not fact]
        if _folded_until(without, settled_ms) == whole:
            old = without
        if len(old) + len(young) <= MAX_FACTS // 2:
            break
    return [*old, *young]


def _folded_until(ordered: Iterable[Fact], until_ms: int) -> State:
    state = State()
    for fact in ordered:
        _pass_time(state, fact.at_ms)
        _apply(state, fact)
        state.last_event_at = fact.at_ms // 1000
    _pass_time(state, until_ms)
    return state


def _apply(state: State, fact: Fact) -> None:
    _note_agreements(state, fact)
    match fact.kind:
        case "license_updated":
            _license_updated(state, fact)
        case "subscribe_success":
            state.free_trial = fact.free_trial if fact.free_trial is not None else state.free_trial
            _activate(state, fact, _second_after(fact.at_ms))
        case "agreement_created":
            _agreement_created(state, fact)
        case "agreement_amended":
            if fact.agreement_id is not None and fact.starts_at_ms is not None:
                state.starts[fact.agreement_id] = fact.starts_at_ms
        case "agreement_ended":
            _agreement_ended(state, fact)
        case "license_deprovisioned":
            state.scheduled, state.deprovisioned = {}, True
            _close(state, fact)
        case "unsubscribe_pending":
            _close(state, fact)
        case "unsubscribe_success":
            _unsubscribed(state, fact)
        case "subscribe_fail" if state.status not in {"active", "closing"}:
            _enter(state, "failed", fact.id, fact.at_ms // 1000)
            state.closing_deadline = None
        case _:
            pass


def _note_agreements(state: State, fact: Fact) -> None:
    if fact.agreement_id is not None and fact.agreement_id not in state.agreement_ids:
        state.agreement_ids.append(fact.agreement_id)
    previous = fact.previous_agreement_id
    if previous is not None and previous not in {*state.agreement_ids, *state.predecessors}:
        state.predecessors.append(previous)


def _license_updated(state: State, fact: Fact) -> None:
    if fact.agreement_id is not None and state.starts.get(fact.agreement_id, 0) > fact.at_ms:
        state.scheduled[fact.agreement_id] = fact
        return
    _activate(state, fact, _second_after(fact.at_ms))


def _activate(state: State, fact: Fact, at: int) -> None:
    state.offer_id = fact.offer_id or state.offer_id
    state.current_agreement_id = fact.agreement_id or state.current_agreement_id
    state.last_activating_at = at
    state.deprovisioned, state.closing_deadline = False, None
    state.scheduled.pop(fact.agreement_id or "", None)
    if state.status == "active":
        return
    if state.status != "closing":
        state.activated_at = at
    _enter(state, "active", fact.id, at)


def _agreement_created(state: State, fact: Fact) -> None:
    if fact.agreement_id is None:
        return
    if fact.starts_at_ms is not None:
        state.starts[fact.agreement_id] = fact.starts_at_ms
    if state.current_agreement_id is None:
        state.current_agreement_id = fact.agreement_id
        return
    if fact.intent not in _SUCCESSOR_INTENTS:
        return
    if (fact.starts_at_ms or 0) > fact.at_ms:
        state.successors.append(fact.agreement_id)
        return
    # A deprovisioned licence is brought back by a License Updated of its own only: the successor may have another.
    if state.status == "closing" and not state.deprovisioned:
        _activate(state, fact, _second_after(fact.at_ms))
    elif state.status == "active":
        state.current_agreement_id = fact.agreement_id
        state.offer_id = fact.offer_id or state.offer_id


def _agreement_ended(state: State, fact: Fact) -> None:
    if fact.agreement_status not in ENDING_STATUSES:
        return
    state.scheduled.pop(fact.agreement_id or "", None)
    state.successors = [successor for successor in state.successors if successor != fact.agreement_id]
    if state.current_agreement_id not in {None, fact.agreement_id}:
        return
    started = [successor for successor in state.successors if state.starts[successor] <= fact.at_ms + _HANDOVER]
    if started:
        state.current_agreement_id = started[-1]
        state.successors.remove(started[-1])
        return
    _close(state, fact)


def _close(state: State, fact: Fact) -> None:
    at = fact.at_ms // 1000
    match state.status:
        case "pending":  # never active, so nothing can be open
            state.closing_deadline = at
            _enter(state, "ended", fact.id, at)
        case "active":
            state.closing_deadline = at + CLOSING_WINDOW
            _enter(state, "closing", fact.id, at)
        case "closing":
            state.closing_deadline = max(state.closing_deadline or 0, at + CLOSING_WINDOW)
        case "ended" if _may_close_again(state, at):
            state.closing_deadline = at + CLOSING_WINDOW
            _enter(state, "closing", fact.id, at)
        case "ended" | "failed":
            pass


def _may_close_again(state: State, at: int) -> bool:
    """Whether an ended subscription's final hour ran out within the last day. After unsubscribe-success AWS has said
    itself that it takes no more, and a subscription that was never active has no usage."""
    ran_out = state.activated_at is not None and state.changed_at == state.closing_deadline
    return ran_out and at <= (state.closing_deadline or 0) + _LATER_CLOSING_WITHIN


def _unsubscribed(state: State, fact: Fact) -> None:
    """AWS says that it takes no more usage. The deadline of open usage stays as it is: sending it costs nothing, and a
    refusal is recorded."""
    at = fact.at_ms // 1000
    if state.status in {"ended", "failed"}:
        return
    if state.status == "pending":
        state.closing_deadline = at
    elif state.closing_deadline is None:
        state.closing_deadline = at + CLOSING_WINDOW
    _enter(state, "ended", fact.id, at)


def _pass_time(state: State, until_ms: int) -> None:
    """Applies what the passing of time does up to this moment: scheduled activations, the end of a closing."""
    while (start := _next_start(state)) is not None and start[0] <= until_ms:
        starts_at_ms, agreement_id = start
        _end_if_over(state, starts_at_ms)
        _activate(state, state.scheduled[agreement_id], _second_after(starts_at_ms))
    _end_if_over(state, until_ms)


def _next_start(state: State) -> tuple[int, str] | None:
    """The soonest start that an activation waits for, in milliseconds, and its agreement. Of several at one instant the
    one that AWS reported last comes last, so it is the current agreement from then on."""
    waiting = ((state.starts[name], fact.order, name) for name, fact in state.scheduled.items())
    found = min(waiting, default=None)
    return None if found is None else (found[0], found[2])


def _end_if_over(state: State, at_ms: int) -> None:
    if state.status == "closing" and state.closing_deadline is not None and state.closing_deadline * 1000 <= at_ms:
        _enter(state, "ended", state.cause, state.closing_deadline)


def _enter(state: State, status: Status, cause: str, at: int) -> None:
    state.status, state.cause, state.changed_at = status, cause, at


def _second_after(at_ms: int) -> int:
    """The first whole second not before this moment: usage must not be stamped before the activation."""
    return -(-at_ms // 1000)
