"""A metering run: what is decided is told, then everything that is due is sealed, read, sent and settled, soonest
refusal first.

What is sent comes from sealed records alone, so a record is the same bytes in every attempt and AWS's own removal of
duplicates makes repeating it safe. Whatever happens in between, a record stays in the due index until an answer about
it is written down; the next run goes on from there.

What is past its deadline is sent after all else, youngest first, and AWS decides. Where nothing can be saved any more
that takes five calls for each product and worker: halves of a batch find its youngest record, and what is older than
one that AWS called too old is written off without a call.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key, subscription_id_of
from marketplace.ledger.deadlines import window_closes_at
from marketplace.ledger.due_index import Decision, DueEntry, Unreadable, is_sealed_for_sending
from marketplace.ledger.record import SENDABLE, Group, InvalidRecordError, MeteringRecord
from marketplace.ledger.seal import UNSEALED, in_doubt, token_in
from marketplace.metering.api import MeteringApi
from marketplace.metering.approval import Approvals
from marketplace.metering.backlog import Backlog, Phase, phase_of
from marketplace.metering.breaker import Breaker
from marketplace.metering.likely_refusals import LikelyRefusals
from marketplace.metering.outcomes import (
    TOO_OLD,
    AwaitsApproval,
    Outcome,
    StaysDue,
    TagsRefused,
    Unbillable,
    outcome_of,
    outcome_of_refusal,
)
from marketplace.metering.rate import CallRate
from marketplace.metering.report import MeteringReport
from marketplace.metering.settlement import SellerBus, Settlement, SubscriptionRequests
from marketplace.metering.store import IncompleteAllocationsError, MeteringStore
from marketplace.metering.wire import (
    Sendable,
    UnsendableError,
    batches,
    late_batches,
    split_by_size,
    wire_record,
    wire_size,
)
from marketplace.platform.backoff import pause
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.platform.errors import AwsError, NoAnswerError, RefusedError, UnavailableError

_RESERVE = 30.0
"""Seconds a run keeps for the call that is under way and for settling it."""

_UNPROCESSED_TRIES = 3
_QUERIES_AT_ONCE = 8
_TOLD_AT_ONCE = 10
"""EventBridge API reference: PutEvents takes ten entries."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 4.0

_SENDING = frozenset({Phase.SEND, Phase.SEND_LATE})

type _Sealed = tuple[Group, list[Sendable], str]
"""Records of one group, sealed with a token of this run."""


@dataclass(slots=True)
class MeteringRun:
    """One run over what is due. `region` is where `api` sends; `time_left` gives the seconds until the function is
    ended; `workers` batches are under way at once; `new_token` names an attempt and never repeats. Unless
    `metering_enabled`, nothing is sent: what was recorded before waits until AWS's window has closed. Nothing is sent
    of hours before `metering_starts_at` but what AWS may know already. `found_usage`
    takes the ids of the subscriptions that have usage to send, however many records that is. `approvals` says what is
    unusual, and what is sent of it."""

    store: MeteringStore
    api: MeteringApi
    region: str
    rate: CallRate
    bus: SellerBus
    requests: SubscriptionRequests
    clock: Clock
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    time_left: Callable[[], float]
    new_token: Callable[[], str]
    workers: int = 4
    jitter: Callable[[], float] = random.random
    metering_enabled: bool = True
    metering_starts_at: int = 0
    found_usage: Callable[[Collection[str], EpochSeconds], None] = lambda _ids, _now: None
    approvals: Approvals = Approvals()  # noqa: RUF009 - frozen
    report: MeteringReport = field(default_factory=MeteringReport, init=False)
    _breaker: Breaker = field(init=False)
    _settlement: Settlement = field(init=False)
    _likely_refusals: LikelyRefusals = field(default_factory=LikelyRefusals, init=False)
    _set_aside: list[DueEntry] = field(default_factory=list, init=False)
    _unanswered: list[_Sealed] = field(default_factory=list, init=False)
    _used: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._breaker = Breaker(self.monotonic, self.jitter)
        self._settlement = Settlement(
            self.store,
            self.bus,
            self.requests,
            self.clock,
            self.report,
            metering_enabled=self.metering_enabled,
            releases=self.approvals.releases,
        )

    def run(self) -> MeteringReport:
        """Works on what is due until it is done, AWS stops working, or time runs out.

        Raises AwsError when DynamoDB gives no answer to the first question; nothing is lost then.
        """
        now = epoch(self.clock())
        work = self._due(now)
        # AWS Marketplace takes no part in telling and writing off, so they don't wait for it to work.
        store_breaker = Breaker(self.monotonic, self.jitter)
        self._each(self._settlement.tell_entries, batches(work[Phase.TELL]), store_breaker)
        sent = {phase: work[phase] for phase in _SENDING}
        if waited := [entry for phase in _SENDING for entry in work[phase] if entry.state == "awaiting_approval"]:
            self._each(self._settlement.end_approvals, batches(waited), store_breaker)
            sent = {phase: [one for one in sent[phase] if self._settlement.is_to_be_sent(one, now)] for phase in sent}
        self._each(self._meter, batches(sent[Phase.SEND]), self._breaker)
        self._each(self._send, batches(self._set_aside), self._breaker)
        self._each(self._send, late_batches(sent[Phase.SEND_LATE]), self._breaker)
        self._each(self._settlement.write_off, batches(work[Phase.WRITE_OFF]), store_breaker)
        self._each(self._settlement.forget, batches(work[Phase.FORGET]), store_breaker)
        self._each(self._settlement.keep_in_shadow, batches(work[Phase.SHADOW]), store_breaker)
        self._send_unanswered()
        self._each(self._settlement.tell, _few(self._settlement.untold), store_breaker)
        self._each(lambda used: self.found_usage(used, now), [self._used] if self._used else [], store_breaker)
        self.report.breaker_opened = self._breaker.is_open or store_breaker.is_open
        self._take_stock(work)
        return self.report

    def _due(self, now: EpochSeconds) -> dict[Phase, list[DueEntry]]:
        """What the run takes on. What only waits counts in the gauges."""

        def left_over(entry: DueEntry) -> None:
            self.report.leave(entry, now)
            self._stands(entry, now)

        backlog = Backlog(left_over)
        for found in self.store.due(now):
            if isinstance(found, Unreadable):
                self.report.unreadable.append(found.key)
                continue
            phase = phase_of(found, now)
            if phase in _SENDING and found.is_in_shadow(self.metering_starts_at):
                phase = Phase.SHADOW
            if phase in _SENDING and not self.metering_enabled:
                phase = _unless_window_is_open(found, now)
            elif phase in _SENDING and found.waits_for_another_region(self.region):
                self.report.in_other_region += 1
                phase = _unless_window_is_open(found, now)
                if phase is None:
                    self.report.leave(found, now)
            if phase is None:
                self._stands(found, now)
            else:
                backlog.add(found, phase)
                if found.quantity and phase in _SENDING:
                    self._used.add(subscription_id_of(found.key.pk))
        work = backlog.phases()
        self.report.due = self.report.left + sum(map(len, work.values()))
        return work

    def _take_stock(self, work: dict[Phase, list[DueEntry]]) -> None:
        """Counts what the run leaves behind."""
        now = epoch(self.clock())
        for phase, entries in work.items():
            for entry in entries:
                done = entry.key in self._settlement.settled
                if not done and not self._is_unmetered(entry):
                    self.report.leave(entry, now)
                if not done or phase == Phase.TELL:
                    self._stands(entry, now)

    def _stands(self, entry: DueEntry, now: EpochSeconds) -> None:
        """Counts in the gauges what stands in the index as it was found there."""
        if self._is_unmetered(entry):
            self.report.stands_unmetered(entry)
        else:
            self.report.stands_as_seen(entry, now)

    def _is_unmetered(self, entry: DueEntry) -> bool:
        """Whether the record would be sent if this deployment metered."""
        return entry.state in SENDABLE and not self.metering_enabled

    def _each[Part](self, work: Callable[[Part], None], parts: Sequence[Part], breaker: Breaker) -> None:
        def guarded(part: Part) -> None:
            if breaker.is_open or self._out_of_time():
                return
            started = self.monotonic()
            try:
                work(part)
                if breaker is not self._breaker:
                    breaker.succeeded()
            except AwsError as error:
                # The store, the queue or the bus did not do it: what was under way stays due, or is in doubt, as it
                # stands there.
                self.report.count_error(error.code)
                self.sleep(breaker.failed(started))
            except Exception as error:
                self.report.fail(error)

        if self.workers == 1 or len(parts) < 2:
            for part in parts:
                guarded(part)
            return
        with ThreadPoolExecutor(min(self.workers, len(parts))) as pool:
            for done in [pool.submit(guarded, part) for part in parts]:
                done.result()

    def _out_of_time(self) -> bool:
        if self.time_left() < _RESERVE:
            self.report.out_of_time = True
        return self.report.out_of_time

    def _must_stop(self) -> bool:
        return self._breaker.is_open or self._out_of_time()

    def _take(self, entries: Sequence[DueEntry]) -> tuple[str, list[tuple[DueEntry, MeteringRecord]]]:
        """Seals the entries with a token of our own; returns it with the records that carry it now and are to be sent.
        The others were taken by another run, or have changed since the index was read; an invalid record is rejected,
        and unusual usage awaits approval."""
        token = token_in(self.region, self.new_token())
        for code in self.store.seal(entries, token).elements():
            self.report.count_error(code)
        keys = [entry.key for entry in entries]
        items = self.store.read([*keys, *self.approvals.keys(entries)])
        taken: list[tuple[DueEntry, MeteringRecord]] = []
        for entry in entries:
            item = items.get(entry.key)
            if item is None or not is_sealed_for_sending(item, token):
                continue
            record = _record(item)
            if record is None:
                self._settlement.reject_unsendable(entry, token)
            else:
                taken.append((entry, record))
        return token, self._judged(taken, items, token)

    def _judged(
        self, taken: list[tuple[DueEntry, MeteringRecord]], items: Mapping[Key, Item], token: str
    ) -> list[tuple[DueEntry, MeteringRecord]]:
        """The sealed records that are sent: unusual ones await approval, and what the seller has refused at this moment
        is left to the next run."""
        now = epoch(self.clock())
        unusual: list[tuple[Sendable, Outcome]] = []
        sent: list[tuple[DueEntry, MeteringRecord]] = []
        for entry, record in taken:
            unsent = Sendable(record, {}, 0, in_doubt(entry.seal))
            if not self.approvals.sends(record):
                self._settlement.leave([unsent], token)
            elif (found := self.approvals.oddity(record, items, now)) is not None:
                unusual.append((unsent, AwaitsApproval(found)))
            else:
                sent.append((entry, record))
        if unusual:
            self._settlement.settle(unusual, token)
        try:
            self.approvals.learn([record for _, record in sent], items)
        except AwsError as error:
            # What is usual is learned again from the next hour; the usage is not to wait for it.
            self.report.count_error(error.code)
        return sent

    def _meter(self, entries: list[DueEntry]) -> None:
        """Sends the entries of a batch, but for those that are likely to be refused: they come after all batches."""
        trusted = [entry for entry in entries if not self._likely_refusals.covers(entry.group, entry.key)]
        if len(trusted) < len(entries):
            self._set_aside += [entry for entry in entries if entry not in trusted]
        if trusted:
            self._send(trusted)

    def _send(self, entries: list[DueEntry]) -> None:
        group = entries[0].group
        token, taken = self._take(entries)
        records: list[Sendable] = []
        for (entry, _), sendable in zip(taken, self._sendables(taken), strict=True):
            if sendable is None:
                self._settlement.reject_unsendable(entry, token)
            elif sendable.lacks_allocations:
                self.report.count_error("IncompleteAllocations")
                self._settlement.leave([sendable], token)
            else:
                records.append(sendable)
        for request in split_by_size(records):
            self._deliver(group, request, token)

    def _sendables(self, taken: Sequence[tuple[DueEntry, MeteringRecord]]) -> list[Sendable | None]:
        """What is sent of each, in order; None where the stored data can't be a UsageRecord. Allocations are a query
        for each record that has some: several are under way at once, or waiting for them would cost the quota."""
        tagged = sum(record.tag_sets > 0 for _, record in taken)
        if self.workers == 1 or tagged < 2:
            return [self._sendable(entry, record) for entry, record in taken]
        with ThreadPoolExecutor(min(_QUERIES_AT_ONCE, tagged)) as pool:
            return list(pool.map(self._sendable, *zip(*taken, strict=True)))

    def _sendable(self, entry: DueEntry, record: MeteringRecord) -> Sendable | None:
        allocated = record.tag_sets > 0 and record.tags_refused is None
        try:
            wire = wire_record(record, self.store.allocations(record) if allocated else [])
        except IncompleteAllocationsError:
            was_unsealed = entry.seal == UNSEALED
            return Sendable(record, {}, 0, in_doubt(entry.seal), was_unsealed, lacks_allocations=True)
        except (KeyError, UnsendableError):  # KeyError: an allocation without its tags
            return None
        return Sendable(record, wire, wire_size(wire), in_doubt(entry.seal), was_unsealed=entry.seal == UNSEALED)

    def _send_unanswered(self) -> None:
        """Sends again, after all else, the calls that AWS gave no answer to. A call that gets none again is halved, so
        that a record which AWS cannot process delays no other. Nothing is rejected: it stays due, in doubt."""
        parts, self._unanswered = self._unanswered, []
        while parts and not self._must_stop():
            self._each(lambda part: self._deliver(*part), parts, self._breaker)
            still, self._unanswered = self._unanswered, []
            parts = [half for part in still for half in _halves(part)]

    def _deliver(self, group: Group, records: list[Sendable], token: str) -> None:
        """Sends until every record has an outcome, AWS has given no answer or left some unprocessed too often, or the
        run must stop."""
        pending = records
        tries = 0
        while pending:
            if self._must_stop():
                self._settlement.leave(pending, token)
                return
            pending = self._not_too_old(group, pending, token)
            if not pending:
                return
            self.rate.wait()
            self.report.count_call()
            started = self.monotonic()
            try:
                answer = self.api.send(group, pending)
            except RefusedError as error:
                self._breaker.succeeded()
                self.report.count_error(error.code)
                self._isolate(group, pending, token, error)
                return
            except UnavailableError as error:
                self.report.count_error(error.code)
                self.sleep(self._breaker.failed(started))
                if isinstance(error, NoAnswerError):
                    for record in pending:
                        record.doubtful = True
                    self._unanswered.append((group, pending, token))
                    return
                continue
            self._breaker.succeeded()
            outcomes = [(record, outcome_of(record, answer)) for record in pending]
            self._settlement.settle(outcomes, token)
            pending = [record for record, outcome in outcomes if _was_unprocessed(outcome)]
            tries += 1
            if pending and tries == _UNPROCESSED_TRIES:
                self._settlement.leave(pending, token)
                return
            if pending:
                self.sleep(pause(tries - 1, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self.jitter()))

    def _not_too_old(self, group: Group, records: list[Sendable], token: str) -> list[Sendable]:
        """The records that AWS may still take; those that are older than one that it called too old are written off."""
        old = [record for record in records if self._likely_refusals.is_too_old(group, record.timestamp)]
        if not old:
            return records
        self._settlement.settle([(record, Unbillable("deadline_passed")) for record in old], token)
        return [record for record in records if record not in old]

    def _isolate(self, group: Group, records: list[Sendable], token: str, error: RefusedError) -> None:
        """AWS refuses a whole call for one bad record; sending halves of it finds the record and lets the others
        through. Once one is found, those that are likely to be refused for the same cause are separated first; where
        all are, each is sent alone at once."""
        if len(records) == 1:
            self._settle_refusal(group, records[0], token, error)
            return
        if error.code == TOO_OLD:
            records = sorted(records, key=lambda record: record.timestamp, reverse=True)
        likely = [record for record in records if self._likely_refusals.covers(group, record.key)]
        if not likely:
            middle = len(records) // 2
            parts = [records[:middle], records[middle:]]
        elif len(likely) < len(records):
            parts = [[record for record in records if record not in likely], likely]
        else:
            parts = [[record] for record in records]
        for part in parts:
            self._deliver(group, part, token)

    def _settle_refusal(self, group: Group, record: Sendable, token: str, error: RefusedError) -> None:
        """AWS refused the record when it stood alone in a call."""
        self._likely_refusals.learn(error.code, group, record.key)
        outcome = outcome_of_refusal(record, error)
        if isinstance(outcome, TagsRefused):
            if self._settlement.refuse_tags(record, token, outcome.reason):
                self._deliver(group, [record], token)
            return
        if error.code == TOO_OLD:
            self._likely_refusals.learn_age(group, record.timestamp, epoch(self.clock()))
        self._settlement.settle([(record, outcome)], token)


def _unless_window_is_open(entry: DueEntry, now: EpochSeconds) -> Phase | None:
    """What becomes of a record that must not be sent: it waits, and is written off once AWS takes it no more."""
    return Phase.WRITE_OFF if window_closes_at(entry.hour) <= now else None


def _record(item: Item) -> MeteringRecord | None:
    """None for an invalid record: nothing in this application writes one."""
    try:
        return MeteringRecord.from_item(item)
    except InvalidRecordError:
        return None


def _few(decisions: list[Decision]) -> list[list[Decision]]:
    """Decisions as parts that a failure may leave untold."""
    return [decisions[start : start + _TOLD_AT_ONCE] for start in range(0, len(decisions), _TOLD_AT_ONCE)]


def _halves(part: _Sealed) -> list[_Sealed]:
    """The records in two parts; one record stays whole."""
    group, records, token = part
    middle = (len(records) + 1) // 2
    return [(group, half, token) for half in (records[:middle], records[middle:]) if half]


def _was_unprocessed(outcome: Outcome) -> bool:
    return isinstance(outcome, StaysDue) and outcome.reason == "unprocessed"
