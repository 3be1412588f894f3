"""A metering run: everything that is due is sealed, read, sent and settled, soonest refusal first.

What is sent comes from sealed records alone, so a record is the same bytes in every attempt and AWS's own removal of
duplicates makes repeating it safe. Whatever happens in between, a record stays in the due index until an answer about
it is written down; the next run goes on from there.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from marketplace.dynamodb.attributes import Item
from marketplace.ledger.record import (
    SENDABLE,
    DueEntry,
    Group,
    InvalidRecordError,
    MeteringRecord,
    Unreadable,
    in_doubt,
    is_sealed_for_sending,
)
from marketplace.metering.api import MeteringApi
from marketplace.metering.backlog import Backlog
from marketplace.metering.breaker import Breaker
from marketplace.metering.likely_refusals import LikelyRefusals
from marketplace.metering.outcomes import Outcome, StaysDue, outcome_of, outcome_of_refusal
from marketplace.metering.rate import CallRate
from marketplace.metering.report import MeteringReport
from marketplace.metering.settlement import ANNOUNCED, SellerBus, Settlement, SubscriptionRequests
from marketplace.metering.store import IncompleteAllocationsError, MeteringStore
from marketplace.metering.wire import Sendable, UnsendableError, batches, split_by_size, wire_record, wire_size
from marketplace.platform.backoff import pause
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import AwsError, NoAnswerError, RefusedError, UnavailableError

_RESERVE = 30.0
"""Seconds a run keeps for the call that is under way and for settling it."""

_UNPROCESSED_TRIES = 3
_QUERIES_AT_ONCE = 8
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 4.0

type _Sealed = tuple[Group, list[Sendable], str]
"""Records of one group that carry a token of ours."""


@dataclass(slots=True)
class MeteringRun:
    """One run over what is due. `time_left` gives the seconds until the function is ended; `workers` batches are under
    way at once; `new_token` names an attempt and never repeats."""

    store: MeteringStore
    api: MeteringApi
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
    report: MeteringReport = field(default_factory=MeteringReport, init=False)
    _breaker: Breaker = field(init=False)
    _settlement: Settlement = field(init=False)
    _likely_refusals: LikelyRefusals = field(default_factory=LikelyRefusals, init=False)
    _set_aside: list[DueEntry] = field(default_factory=list, init=False)
    _unanswered: list[_Sealed] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._breaker = Breaker(self.monotonic, self.jitter)
        self._settlement = Settlement(self.store, self.bus, self.requests, self.clock, self.report)

    def run(self) -> MeteringReport:
        """Works on what is due until it is done, AWS stops working, or time runs out.

        Raises AwsError when DynamoDB gives no answer to the first question; nothing is lost then.
        """
        now = epoch(self.clock())
        backlog = Backlog(now, lambda entry: self.report.leave(entry, now))
        for found in self.store.due(now):
            if isinstance(found, Unreadable):
                self.report.unreadable.append(found.key)
            else:
                backlog.add(found)
        entries = backlog.entries()
        self.report.due = self.report.left + len(entries)
        sendable = [entry for entry in entries if backlog.can_be_sent(entry)]
        expired = [entry for entry in entries if entry.state in SENDABLE and entry.refuse_at <= now]
        to_announce = [entry for entry in entries if entry.state in ANNOUNCED]
        self._each(self._meter, batches(sendable), self._breaker)
        self._each(self._send, batches(self._set_aside), self._breaker)
        # AWS Marketplace takes no part in these, so they don't wait for it to work.
        store_breaker = Breaker(self.monotonic, self.jitter)
        self._each(self._write_off, batches(expired), store_breaker)
        self._each(self._settlement.announce_entries, batches(to_announce), store_breaker)
        self._send_unanswered()
        self.report.breaker_opened = self._breaker.is_open or store_breaker.is_open
        for entry in entries:
            if entry.key not in self._settlement.settled:
                self.report.leave(entry, epoch(self.clock()))
        return self.report

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
        """Seals the entries with a token of our own; returns it with the records that carry it now. The others were
        taken by another run, or have changed since the index was read; an invalid record is rejected."""
        token = self.new_token()
        for code in self.store.seal(entries, token).elements():
            self.report.count_error(code)
        items = self.store.read([entry.key for entry in entries])
        taken: list[tuple[DueEntry, MeteringRecord]] = []
        for entry in entries:
            item = items.get(entry.key)
            if item is None or not is_sealed_for_sending(item, token):
                continue
            record = _record(item)
            if record is None:
                self._reject_unsendable(entry, token)
            else:
                taken.append((entry, record))
        return token, taken

    def _reject_unsendable(self, entry: DueEntry, token: str) -> None:
        self._settlement.reject(entry.key, token, "unsendable", entry.quantity, doubtful=in_doubt(entry.seal))

    def _meter(self, entries: list[DueEntry]) -> None:
        """Sends those of a batch that nothing is known against; the others come after all batches."""
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
                self._reject_unsendable(entry, token)
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
        try:
            wire = wire_record(record, self.store.allocations(record) if record.tag_sets else [])
        except IncompleteAllocationsError:
            return Sendable(record, {}, 0, in_doubt(entry.seal), lacks_allocations=True)
        except (KeyError, UnsendableError):  # KeyError: an allocation without its tags
            return None
        return Sendable(record, wire, wire_size(wire), in_doubt(entry.seal))

    def _send_unanswered(self) -> None:
        """What AWS gave no answer to is sent again after all else; what stays without one is halved, so that a record
        that AWS can't cope with costs nobody else an hour. Nothing is marked bad: it stays due, in doubt."""
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
            pending = self._in_time(pending, token)
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

    def _in_time(self, records: list[Sendable], token: str) -> list[Sendable]:
        """The records that AWS still takes; those whose deadline has passed since the run began are written off."""
        now = epoch(self.clock())
        late = [record for record in records if record.refuse_at <= now]
        if not late:
            return records
        self._settlement.expire([(record.record, record.doubtful) for record in late], token)
        return [record for record in records if record.refuse_at > now]

    def _isolate(self, group: Group, records: list[Sendable], token: str, error: RefusedError) -> None:
        """AWS refuses a call whole for one bad record, so halves of it find the record and let the others through.
        Once one is found, those that are likely to be refused for the same cause are separated first; where all are,
        each is sent alone at once."""
        if len(records) == 1:
            self._likely_refusals.learn(error.code, group, records[0].key)
            self._settlement.settle([(records[0], outcome_of_refusal(records[0], error))], token)
            return
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

    def _write_off(self, entries: list[DueEntry]) -> None:
        token, taken = self._take(entries)
        self._settlement.expire([(record, in_doubt(entry.seal)) for entry, record in taken], token)


def _record(item: Item) -> MeteringRecord | None:
    """None for an invalid record: nothing in this application writes one."""
    try:
        return MeteringRecord.from_item(item)
    except InvalidRecordError:
        return None


def _halves(part: _Sealed) -> list[_Sealed]:
    """The records in two parts; one record stays whole."""
    group, records, token = part
    middle = (len(records) + 1) // 2
    return [(group, half, token) for half in (records[:middle], records[middle:]) if half]


def _was_unprocessed(outcome: Outcome) -> bool:
    return isinstance(outcome, StaysDue) and outcome.reason == "unprocessed"
