"""Writes what became of metering records, and publishes an event for what can't be billed.

Only `metered` is written whatever is stored, because AWS said so; every other outcome is written on the condition that
the record still carries the token of the attempt, so that of two runs only the later one's view is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from marketplace.dynamodb.keys import Key, hour_and_dimension, subscription_id_of
from marketplace.ledger.deadlines import SENDING_MARGIN, held_due_at
from marketplace.ledger.record import DueEntry, MeteringRecord, RecordChange, cleared
from marketplace.metering.outcomes import Conflict, Held, Metered, Outcome, Rejected, StaysDue
from marketplace.metering.report import MeteringReport, Note
from marketplace.metering.store import MeteringStore
from marketplace.metering.wire import Sendable
from marketplace.platform.clock import HOUR, Clock, EpochSeconds, epoch, iso
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.seller_events import Kind, SellerEvent, stable_id

ANNOUNCED: dict[str, Kind] = {"conflict": "Usage Conflict", "unbillable": "Usage Not Billable"}
"""The states that an event announces to the seller's application, and its kind."""


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
    """Writes the outcomes of one run. `settled` holds the keys of the records that an outcome was written of."""

    store: MeteringStore
    bus: SellerBus
    requests: SubscriptionRequests
    clock: Clock
    report: MeteringReport
    settled: set[Key] = field(default_factory=set)

    def leave(self, records: Iterable[Sendable], token: str) -> None:
        """Leaves records due. Clears the seals of those of which AWS can have accepted no attempt; the others stay in
        doubt."""
        for record in records:
            if not record.doubtful:
                self.store.change_if(record.key, token, RecordChange(seal=cleared(token)))

    def settle(self, outcomes: Sequence[tuple[Sendable, Outcome]], token: str) -> None:
        """Writes every outcome of one call. Conflicts come first: AWS repeats any other answer, but a second
        DuplicateRecord, for a record that is in doubt by then, would be read as our own earlier success."""
        now = epoch(self.clock())
        to_announce = [
            written
            for record, outcome in outcomes
            if isinstance(outcome, Conflict) and (written := self._conflict(record, token, now)) is not None
        ]
        accepted = [(record, one) for record, one in outcomes if isinstance(one, Metered) and not one.earlier]
        self._settle_metered(accepted, now)
        held: list[Sendable] = []
        left: list[Sendable] = []
        for record, outcome in outcomes:
            match outcome:
                case Metered(earlier=True):
                    self._settle_earlier(record, outcome, token, now)
                case Held():
                    if self._hold(record, token, now):
                        held.append(record)
                case Rejected():
                    self.reject(record.key, token, outcome.reason, record.quantity, doubtful=record.doubtful)
                case StaysDue():
                    record.doubtful = outcome.doubtful
                    self.report.count(outcome.reason, record.quantity)
                    if outcome.reason == "unknown_refusal":
                        self._postpone(record, token, now)
                    elif outcome.reason != "unprocessed":
                        left.append(record)
        if left:
            self.leave(left, token)
        # All answers are written by now, so that a request or an event that fails costs none of them.
        for record in held:
            self.requests.look_again(record.subscription_id, "not_subscribed", since=now)
        self._announce(to_announce)

    def _conflict(self, record: Sendable, token: str, now: EpochSeconds) -> MeteringRecord | None:
        """The record as it stands then; None when another run has got further."""
        change = RecordChange(state="conflict", reason="DuplicateRecord", settled_at=now, seal=cleared(token))
        try:
            written = self._write_outcome(record.key, token, change, record.quantity)
        except AwsError:
            # Only this run's log and metric show the conflict: the record is in doubt from now on.
            self._count(record.key, record.quantity, "conflict", state="conflict", reason="DuplicateRecord, not kept")
            raise
        return change.applied_to(record.record) if written else None

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
        self._write_outcome(record.key, token, change, record.quantity, outcome="metered_earlier", settled=True)

    def _hold(self, record: Sendable, token: str, now: EpochSeconds) -> bool:
        """Holds a record: it is due again on activation, or else at its next try or when it is to be written off."""
        change = RecordChange(
            state="held",
            reason="CustomerNotSubscribed",
            due_at=held_due_at(now, record.refuse_at),
            seal=_seal_after(token, doubtful=record.doubtful),
        )
        if not self._write_outcome(record.key, token, change, record.quantity):
            return False
        self.report.wait(record.quantity, record.refuse_at, now)
        return True

    def _postpone(self, record: Sendable, token: str, now: EpochSeconds) -> None:
        """Keeps a record due that AWS refuses with an unknown code, but later, still in time before its refusal:
        isolating it takes several calls of each run."""
        due_at = max(EpochSeconds(min(now + HOUR, record.refuse_at - SENDING_MARGIN)), now)
        change = RecordChange(due_at=due_at, seal=_seal_after(token, doubtful=record.doubtful))
        self.store.change_if(record.key, token, change)

    def _write_outcome(
        self,
        key: Key,
        token: str,
        change: RecordChange,
        quantity: int,
        *,
        outcome: str | None = None,
        settled: bool = False,
        refused_by: EpochSeconds | None = None,
    ) -> bool:
        """Writes an outcome and counts it under `outcome`, by default the state that it sets. False, and nothing is
        written or counted, when another run has got further."""
        if not self.store.change_if(key, token, change, settled=settled, refused_by=refused_by):
            return False
        self.settled.add(key)
        state = str(change.state)
        self._count(key, quantity, outcome or state, state=state, reason=str(change.reason))
        return True

    def _count(self, key: Key, quantity: int, outcome: str, *, state: str, reason: str) -> None:
        self.report.count(outcome, quantity)
        if state != "metered":
            hour, dimension = hour_and_dimension(key.sk)
            self.report.note(Note(subscription_id_of(key.pk), hour, dimension, quantity, state, reason))

    def reject(self, key: Key, token: str, reason: str, quantity: int, *, doubtful: bool) -> None:
        """Writes that the record is refused for good, by AWS with the error code `reason` or by this application."""
        change = RecordChange(
            state="rejected",
            reason=reason,
            settled_at=epoch(self.clock()),
            seal=_seal_after(token, doubtful=doubtful),
        )
        self._write_outcome(key, token, change, quantity, settled=True)

    def expire(self, records: Iterable[tuple[MeteringRecord, bool]], token: str) -> None:
        """Marks records that AWS takes no more as unbillable; each comes with whether an attempt may have been
        accepted. One that has got a later deadline meanwhile, because its subscription was reopened, is left for the
        next run."""
        now = epoch(self.clock())
        to_announce: list[MeteringRecord] = []
        for record, doubtful in records:
            change = RecordChange(
                state="unbillable",
                reason="deadline_passed_in_doubt" if doubtful else "deadline_passed",
                settled_at=now,
                seal=_seal_after(token, doubtful=doubtful),
            )
            if self._write_outcome(record.key, token, change, record.quantity, refused_by=now):
                to_announce.append(change.applied_to(record))
            elif not doubtful:
                self.store.change_if(record.key, token, RecordChange(seal=cleared(token)))
        self._announce(to_announce)

    def announce_entries(self, entries: list[DueEntry]) -> None:
        """Publishes events that an earlier run decided on and may not have published."""
        items = self.store.read([entry.key for entry in entries])
        stored = [(entry, MeteringRecord.from_item(items[entry.key])) for entry in entries if entry.key in items]
        decided = [record for entry, record in stored if record.state in ANNOUNCED and record.seal == entry.seal]
        self._announce(decided)
        self.settled.update(record.key for record in decided)

    def _announce(self, decided: Sequence[MeteringRecord]) -> None:
        """Publishes first and takes the record out of the index after, so an event can repeat but not be missing."""
        if not decided:
            return
        self.bus.publish([_event(record) for record in decided])
        for record in decided:
            self.store.change_if(record.key, record.seal, RecordChange(), settled=True)


def _seal_after(token: str, *, doubtful: bool) -> str:
    """The seal of a record whose outcome is written down: in doubt only if an attempt has stayed without an answer."""
    return token if doubtful else cleared(token)


def _event(record: MeteringRecord) -> SellerEvent:
    assert record.settled_at is not None
    return SellerEvent(
        kind=ANNOUNCED[record.state],
        id=stable_id(record.state, record.key.pk, record.key.sk),
        time=record.settled_at,
        detail={
            "subscription_id": record.subscription_id,
            "dimension": record.dimension,
            "hour": iso(record.hour),
            "quantity": record.quantity,
            "reason": record.reason,
        },
    )
