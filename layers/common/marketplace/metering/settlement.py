"""Writes what became of metering records, and tells it. Every outcome that is not simply metered stands in the `due`
index until it is told: at the end of the run, or, whoever died, at the beginning of the next.

Only `metered` is written whatever is stored, because AWS said so; every other outcome is written on the condition that
the record still carries the token of the attempt, so that of two runs only the later one's view is kept.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from marketplace.dynamodb.keys import Key, hour_and_dimension, subscription_id_of
from marketplace.ledger import due_time
from marketplace.ledger.deadlines import SCHEDULE_INTERVAL, SENDING_MARGIN, SHOWN_FOR, held_due_at, window_closes_at
from marketplace.ledger.due_index import Decision, DueEntry
from marketplace.ledger.record import SENDABLE, Approval, RecordChange, State
from marketplace.ledger.seal import UNSEALED, cleared, in_doubt, withdrawn
from marketplace.metering.outcomes import (
    AwaitsApproval,
    Conflict,
    Held,
    Metered,
    Outcome,
    Rejected,
    StaysDue,
    Unbillable,
)
from marketplace.metering.report import MeteringReport, Note
from marketplace.metering.store import MeteringStore
from marketplace.metering.wire import Sendable
from marketplace.platform.clock import HOUR, Clock, EpochSeconds, epoch, iso
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.seller_events import Kind, SellerEvent, stable_id

_EVENTS: dict[str, Kind] = {
    "rejected": "Usage Rejected",
    "conflict": "Usage Conflict",
    "unbillable": "Usage Not Billable",
    "awaiting_approval": "Usage Awaiting Approval",
}
"""The states that the seller's application hears of, and the event that tells it. For `held`, the subscription is
looked at again instead."""


class SellerBus(Protocol):
    """The seller's event bus; `publish` raises AwsError when an event was not accepted."""

    def publish(self, events: Sequence[SellerEvent]) -> None: ...


class SubscriptionRequests(Protocol):
    """Requests a recheck of a subscription; see marketplace.subscriptions.recheck_queue."""

    def look_again(
        self, subscription_id: str, reason: str, *, since: int | None = None, delay_seconds: int = 0
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcomes of one run; one that does not send, unless `metering_enabled`. `settled` holds the keys of the records
    that it is done with, `untold` what it has decided and not told yet, `announced` the usage whose release it has
    told. `releases` says whether usage that has awaited approval is sent."""

    store: MeteringStore
    bus: SellerBus
    requests: SubscriptionRequests
    clock: Clock
    report: MeteringReport
    metering_enabled: bool = True
    releases: Callable[[Approval | None], bool] = lambda _: True
    announced: set[Key] = field(default_factory=set)
    settled: set[Key] = field(default_factory=set)
    untold: list[Decision] = field(default_factory=list)

    def leave(self, records: Iterable[Sendable], token: str) -> None:
        """Records that stay due. What no attempt can have reached is marked so, and opened again if it was unsealed
        before: usage may still join it. The others stay in doubt."""
        for record in records:
            if not record.doubtful:
                seal = UNSEALED if record.was_unsealed else cleared(token)
                self.store.change_if(record.key, token, RecordChange(seal=seal))

    def settle(self, outcomes: Sequence[tuple[Sendable, Outcome]], token: str) -> None:
        """Writes down every outcome of one call. Conflicts first: any other answer is given again to a repetition, but
        a second DuplicateRecord, for a record that is in doubt by then, would be taken for our own."""
        now = epoch(self.clock())
        for record, outcome in outcomes:
            if isinstance(outcome, Conflict):
                self._conflict(record, token, now)
        accepted = [(record, one) for record, one in outcomes if isinstance(one, Metered) and not one.earlier]
        self._settle_metered(accepted, now)
        left: list[Sendable] = []
        for record, outcome in outcomes:
            match _when_closed(record, outcome, now):
                case Metered(earlier=True) as metered:
                    self._settle_earlier(record, metered, token, now)
                case Held(reason):
                    self._decide(record, token, "held", reason, now)
                case AwaitsApproval(reason):
                    self._decide(record, token, "awaiting_approval", reason, now)
                case Rejected(reason):
                    self._decide(record, token, "rejected", reason, now)
                case Unbillable(reason):
                    in_doubt_too = f"{reason}_in_doubt" if record.doubtful else reason
                    self._decide(record, token, "unbillable", in_doubt_too, now)
                case StaysDue() as stays:
                    record.doubtful = stays.doubtful
                    self.report.count(stays.reason, record.quantity)
                    if stays.reason == "unknown_refusal":
                        self._postpone(record, token, now)
                    elif stays.reason != "unprocessed":
                        left.append(record)
        if left:
            self.leave(left, token)

    def _conflict(self, record: Sendable, token: str, now: EpochSeconds) -> None:
        try:
            self._decide(record, token, "conflict", "DuplicateRecord", now, doubtful=False)
        except AwsError:
            # Nothing but this run's log and metric will say so: the record is in doubt from now on.
            self.report.count("conflict", record.quantity)
            self._note(record.key, record.quantity, "conflict", "DuplicateRecord, not kept")
            raise

    def _settle_metered(self, accepted: Sequence[tuple[Sendable, Metered]], now: EpochSeconds) -> None:
        items = [sent.record.as_metered(now, outcome.metering_record_id) for sent, outcome in accepted]
        untaken = self.store.settle(items)
        for record, _ in accepted:
            if record.key in untaken:
                self.report.count("metered_unwritten", record.quantity)
            else:
                self.settled.add(record.key)
                self.report.count("metered", record.quantity)

    def _settle_earlier(self, record: Sendable, outcome: Metered, token: str, now: EpochSeconds) -> None:
        change = RecordChange(
            state="metered",
            reason="answered_as_duplicate",
            settled_at=now,
            metering_record_id=outcome.metering_record_id or None,
        )
        if self.store.change_if(record.key, token, change, settled=True):
            self.settled.add(record.key)
            self.report.count("metered_earlier", record.quantity)

    def _postpone(self, record: Sendable, token: str, now: EpochSeconds) -> None:
        """AWS refuses the record with an unknown code: it stays due, but not in everybody's way at every run, because
        finding it takes several calls. Usage that was in trouble before stays told, and in the gauges."""
        due_at = max(EpochSeconds(min(now + HOUR, record.record.refuse_at - SENDING_MARGIN)), now)
        if record.record.state != "open":
            due_at = due_time.of_next_step(due_at)
        change = RecordChange(due_at=due_at, seal=_seal_after(token, doubtful=record.doubtful))
        self.store.change_if(record.key, token, change)

    def _decide(
        self,
        record: Sendable,
        token: str,
        state: State,
        reason: str,
        now: EpochSeconds,
        *,
        doubtful: bool | None = None,
    ) -> None:
        """Writes the state, to be told; nothing is written or counted when another run has got further."""
        decision = Decision(
            key=record.key,
            state=state,
            seal=_seal_after(token, doubtful=record.doubtful if doubtful is None else doubtful),
            quantity=record.quantity,
            refuse_at=record.record.refuse_at,
            decided_at=now,
            reason=reason,
            closes_at=window_closes_at(record.timestamp),
            approval="awaited" if state == "awaiting_approval" else None,
        )
        self._write(decision, token)

    def _write(
        self, decision: Decision, seal: str, seen_state: str | None = None, seen_approval: Approval | None = None
    ) -> None:
        change = decision.change()
        if not self.store.change_if(decision.key, seal, change, seen_state=seen_state, seen_approval=seen_approval):
            return
        self.untold.append(decision)
        self.settled.add(decision.key)
        self.report.count(decision.state, decision.quantity)
        self._note(decision.key, decision.quantity, decision.state, decision.reason)
        self.report.stand(
            decision.state, decision.quantity, decision.refuse_at, decision.decided_at, doubtful=in_doubt(decision.seal)
        )

    def _note(self, key: Key, quantity: int, state: str, reason: str) -> None:
        hour, dimension = hour_and_dimension(key.sk)
        self.report.note(Note(subscription_id_of(key.pk), hour, dimension, quantity, state, reason))

    def refuse_tags(self, record: Sendable, token: str, reason: str) -> bool:
        """Notes on the record that it is sent without its allocations from now on, so that each later attempt is the
        same bytes. False when another run has got further."""
        if not self.store.change_if(record.key, token, RecordChange(tags_refused=reason)):
            return False
        record.drop_allocations(reason)
        self.report.count("tags_refused", record.quantity)
        self._note(record.key, record.quantity, "open", f"tags refused: {reason}")
        return True

    def reject_unsendable(self, entry: DueEntry, token: str) -> None:
        """Writes that the stored record can't be sent."""
        now = epoch(self.clock())
        decision = Decision(
            key=entry.key,
            state="rejected",
            seal=_seal_after(token, doubtful=in_doubt(entry.seal)),
            quantity=entry.quantity,
            refuse_at=entry.refuse_at,
            decided_at=now,
            reason="unsendable",
            closes_at=window_closes_at(entry.hour),
        )
        self._write(decision, token)

    def write_off(self, entries: Sequence[DueEntry]) -> None:
        """Makes records unbillable that can't be sent, once AWS's window has closed. The index knows the hour of a
        record; its Timestamp, by which AWS decides, may be later."""
        now = epoch(self.clock())
        items = self.store.read([entry.key for entry in entries])
        for entry in entries:
            seen = entry.decision(items[entry.key]) if entry.key in items else None
            if seen is not None and seen.closes_at <= now:
                unsent = seen.state in SENDABLE and not self.metering_enabled
                reason = "not_metered" if unsent else seen.reason or "deadline_passed"
                self._write(seen.then("unbillable", _with_doubt(reason, seen.seal), now), seen.seal, seen.state)

    def tell_entries(self, entries: Sequence[DueEntry]) -> None:
        """Tells what an earlier run has decided and may not have told."""
        items = self.store.read([entry.key for entry in entries])
        self.tell([seen for one in entries if one.key in items and (seen := one.decision(items[one.key])) is not None])
        self.settled.update(entry.key for entry in entries if entry.key in items)

    def tell(self, decisions: Sequence[Decision]) -> None:
        """Publishes the events first and notes it after, so an event can repeat but not be missing; then has the
        subscriptions of held usage looked at again."""
        announced = [decision for decision in decisions if decision.state in _EVENTS]
        if announced:
            self.bus.publish([_event(decision) for decision in announced])
        for decision in announced:
            self.store.told(decision, self._next_step(decision))
        for decision in decisions:
            if decision.state == "held":
                subscription_id = subscription_id_of(decision.key.pk)
                self.requests.look_again(subscription_id, "not_subscribed", since=decision.decided_at)
                self.store.told(decision, self._next_step(decision))

    def end_approvals(self, entries: Sequence[DueEntry]) -> None:
        """Usage that awaits approval no more. Tells of what is about to be sent: it may be told again, but is told
        before it is sent as long as there is time. Writes off what is not to be sent, unless the seller decides
        otherwise at this moment."""
        now = epoch(self.clock())
        items = self.store.read([entry.key for entry in entries])
        seen = [one for entry in entries if entry.key in items and (one := entry.decision(items[entry.key]))]
        released = [one for one in seen if self.releases(one.approval)]
        if released:
            self.bus.publish([_release_event(one) for one in released])
        self.announced.update(one.key for one in released)
        for one in seen:
            if one.key not in self.announced:
                reason = "refused_by_seller" if one.approval == "refused" else "not_approved"
                refused = one.then("unbillable", _with_doubt(reason, one.seal), now)
                written = replace(refused, approval="refused", seal=withdrawn(one.seal))
                self._write(written, one.seal, one.state, one.approval)

    def is_to_be_sent(self, entry: DueEntry, now: EpochSeconds) -> bool:
        """Whether a due record is to be sent by this run: all but usage that has awaited approval and was written off,
        or whose release could not be told while another scheduled run comes before AWS refuses it."""
        if entry.state != "awaiting_approval" or entry.key in self.announced:
            return True
        return entry.key not in self.settled and entry.refuse_at - now < SENDING_MARGIN + SCHEDULE_INTERVAL

    def _next_step(self, decision: Decision) -> EpochSeconds:
        now = epoch(self.clock())
        match decision.state:
            case "held":
                return held_due_at(now, decision.refuse_at, decision.closes_at)
            case "rejected":
                return decision.closes_at
            case "awaiting_approval":
                return decision.approval_ends_at if decision.approval == "awaited" else now
            case _:
                return EpochSeconds(now + SHOWN_FOR)

    def keep_in_shadow(self, entries: Sequence[DueEntry]) -> None:
        """Settles usage of hours that are another meter's since they were recorded; it stays unsealed, so it takes what
        is reported late."""
        change = RecordChange(state="shadow", settled_at=epoch(self.clock()))
        for entry in entries:
            if self.store.change_if(entry.key, entry.seal, change, seen_state=entry.state, settled=True):
                self.settled.add(entry.key)
                self.report.count("shadow", entry.quantity)

    def forget(self, entries: Sequence[DueEntry]) -> None:
        """Takes what was told long enough ago out of the index."""
        for entry in entries:
            self.store.change_if(entry.key, entry.seal, RecordChange(), seen_state=entry.state, settled=True)
            self.settled.add(entry.key)


def _when_closed(record: Sendable, outcome: Outcome, now: EpochSeconds) -> Outcome:
    """A refusal of whatever kind after AWS's window has closed is the last one."""
    match outcome:
        case Held(reason) | Rejected(reason) | StaysDue("unknown_refusal" as reason):
            return Unbillable(reason) if now >= window_closes_at(record.timestamp) else outcome
    return outcome


def _seal_after(token: str, *, doubtful: bool) -> str:
    """The seal of a record whose outcome is written down: in doubt only if an attempt has stayed without an answer."""
    return token if doubtful else cleared(token)


def _with_doubt(reason: str, seal: str) -> str:
    """The reason why a record is not billed, which says whether it may be billed all the same."""
    return f"{reason}_in_doubt" if in_doubt(seal) and not reason.endswith("_in_doubt") else reason


def _release_event(decision: Decision) -> SellerEvent:
    """A record is released once at most, so the event has the same id however often."""
    hour, dimension = hour_and_dimension(decision.key.sk)
    return SellerEvent(
        kind="Usage Released",
        id=stable_id("released", decision.key.pk, decision.key.sk),
        time=decision.decided_at,
        detail={
            "subscription_id": subscription_id_of(decision.key.pk),
            "dimension": dimension,
            "hour": hour,
            "quantity": decision.quantity,
            "reason": "approved" if decision.approval == "approved" else "deadline",
        },
    )


def _event(decision: Decision) -> SellerEvent:
    """What the seller is told of a decision: with the same id however often, and with another one when AWS has refused
    the record anew, once the seller has made it due again."""
    hour, dimension = hour_and_dimension(decision.key.sk)
    waits = {"until": iso(decision.approval_ends_at)} if decision.state == "awaiting_approval" else {}
    return SellerEvent(
        kind=_EVENTS[decision.state],
        id=stable_id(decision.state, decision.key.pk, decision.key.sk, cleared(decision.seal)),
        time=decision.decided_at,
        detail={
            "subscription_id": subscription_id_of(decision.key.pk),
            "dimension": dimension,
            "hour": hour,
            "quantity": decision.quantity,
            "reason": decision.reason,
            **waits,
        },
    )
