"""A metering run: everything that is due is sealed, read, sent and settled, soonest refusal first.

What is sent comes from sealed records alone, so a record is the same bytes in every attempt and AWS's own removal of
duplicates makes repeating it safe. Whatever happens in between, a record stays in the due index until an answer about
it is written down; the next run goes on from there.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from marketplace.backoff import pause
from marketplace.breaker import Breaker
from marketplace.clock import HOUR, Clock, epoch, iso
from marketplace.errors import AwsError, NoAnswerError, RefusedError, UnavailableError
from marketplace.items import Item, from_item, to_attribute
from marketplace.keys import Key, hour_and_dimension, subscription_id_of
from marketplace.metering_api import MeteringApi
from marketplace.metering_backlog import SENDABLE, Backlog
from marketplace.metering_outcomes import (
    Conflict,
    Held,
    Metered,
    Outcome,
    Rejected,
    StaysDue,
    outcome_of,
    outcome_of_refusal,
)
from marketplace.metering_record import (
    DueEntry,
    Group,
    Sendable,
    Unreadable,
    batches,
    cleared,
    in_doubt,
    split_by_size,
    wire_record,
    wire_size,
)
from marketplace.metering_report import MeteringReport, Note
from marketplace.metering_store import MeteringStore
from marketplace.rate import CallRate
from marketplace.seller_events import Kind, SellerEvent, stable_id
from marketplace.suspects import Suspects
from marketplace.usage_rules import SENDING_MARGIN, held_due_at

_RESERVE = 30.0
"""Seconds a run keeps for the call that is under way and for settling it."""

_UNPROCESSED_TRIES = 3
_QUERIES_AT_ONCE = 8
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 4.0

type _Sealed = tuple[Group, list[Sendable], str]
"""Records of one group that carry a token of ours."""

_ANNOUNCED: dict[str, Kind] = {"conflict": "Usage Conflict", "unbillable": "Usage Not Billable"}


class SellerBus(Protocol):
    """Where the seller's application hears of what can't be billed; raises when an event wasn't taken."""

    def publish(self, events: Sequence[SellerEvent]) -> None: ...


class SubscriptionRequests(Protocol):
    """Asks for another look at a subscription."""

    def look_again(
        self, subscription_id: str, reason: str, *, since: int | None = None, delay_seconds: int = 0
    ) -> None: ...


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
    _settled: set[Key] = field(default_factory=set, init=False)
    _suspects: Suspects = field(default_factory=Suspects, init=False)
    _set_aside: list[DueEntry] = field(default_factory=list, init=False)
    _unanswered: list[_Sealed] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._breaker = Breaker(self.monotonic, self.jitter)

    def run(self) -> MeteringReport:
        """Works on what is due until it is done, AWS stops working, or time runs out.

        Raises marketplace.errors.AwsError when DynamoDB gives no answer to the first question; nothing is lost then.
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
        to_announce = [entry for entry in entries if entry.state in _ANNOUNCED]
        self._each(self._meter, batches(sendable), self._breaker)
        self._each(self._send, batches(self._set_aside), self._breaker)
        # AWS Marketplace takes no part in these, so they don't wait for it to work.
        at_home = Breaker(self.monotonic, self.jitter)
        self._each(self._write_off, batches(expired), at_home)
        self._each(self._announce_entries, batches(to_announce), at_home)
        self._send_unanswered()
        self.report.breaker_opened = self._breaker.is_open or at_home.is_open
        for entry in entries:
            if entry.key not in self._settled:
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

    def _take(self, entries: Sequence[DueEntry]) -> tuple[str, list[tuple[DueEntry, Item]]]:
        """Seals the entries with a token of our own; returns it with the records that carry it now. The others were
        taken by another run, or have changed since the index was read."""
        token = self.new_token()
        for code in self.store.seal(entries, token).elements():
            self.report.count_error(code)
        items = self.store.read([entry.key for entry in entries])
        return token, [(entry, items[entry.key]) for entry in entries if _is_ours(items.get(entry.key), token)]

    def _meter(self, entries: list[DueEntry]) -> None:
        """Sends those of a batch that nothing is known against; the others come after all batches."""
        trusted = [entry for entry in entries if not self._suspects.include(entry.group, entry.key)]
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
                self._reject(entry.key, token, "unsendable", entry.quantity, doubtful=in_doubt(entry.seal))
            else:
                records.append(sendable)
        for request in split_by_size(records):
            self._deliver(group, request, token)

    def _sendables(self, taken: Sequence[tuple[DueEntry, Item]]) -> list[Sendable | None]:
        """What is sent of each, in order; None where the stored data can't be a UsageRecord. Allocations are a query
        for each record that has some: several are under way at once, or waiting for them would cost the quota."""
        tagged = sum("tag_sets" in item for _, item in taken)
        if self.workers == 1 or tagged < 2:
            return [self._sendable(entry, item) for entry, item in taken]
        with ThreadPoolExecutor(min(_QUERIES_AT_ONCE, tagged)) as pool:
            return list(pool.map(self._sendable, *zip(*taken, strict=True)))

    def _sendable(self, entry: DueEntry, item: Item) -> Sendable | None:
        try:
            tagged = int(item.get("tag_sets", {"N": "0"})["N"]) > 0
            wire = wire_record(item, self.store.allocations(entry.key) if tagged else [])
            refuse_at = int(item["refuse_at"]["N"])
        except (KeyError, ValueError):
            return None
        return Sendable(entry.key, item, wire, wire_size(wire), in_doubt(entry.seal), refuse_at)

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
                self._leave(pending, token)
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
            self._settle(outcomes, token)
            pending = [record for record, outcome in outcomes if _was_unprocessed(outcome)]
            tries += 1
            if pending and tries == _UNPROCESSED_TRIES:
                self._leave(pending, token)
                return
            if pending:
                self.sleep(pause(tries - 1, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self.jitter()))

    def _in_time(self, records: list[Sendable], token: str) -> list[Sendable]:
        """The records that AWS still takes; those whose deadline has passed since the run began are written off."""
        now = epoch(self.clock())
        late = [record for record in records if record.refuse_at <= now]
        if not late:
            return records
        self._expire([(record.key, record.item, record.doubtful) for record in late], token)
        return [record for record in records if record.refuse_at > now]

    def _isolate(self, group: Group, records: list[Sendable], token: str, error: RefusedError) -> None:
        """AWS refuses a call whole for one bad record, so halves of it find the record and let the others through.
        Once one is found, suspects are told apart first; where all are suspect, each stands alone at once."""
        if len(records) == 1:
            self._suspects.blame(error.code, group, records[0].key)
            self._settle([(records[0], outcome_of_refusal(records[0], error))], token)
            return
        suspect = [record for record in records if self._suspects.include(group, record.key)]
        if not suspect:
            middle = len(records) // 2
            parts = [records[:middle], records[middle:]]
        elif len(suspect) < len(records):
            parts = [[record for record in records if record not in suspect], suspect]
        else:
            parts = [[record] for record in records]
        for part in parts:
            self._deliver(group, part, token)

    def _leave(self, records: Iterable[Sendable], token: str) -> None:
        """Records that stay due. Those that no attempt can have reached are marked so; the others stay in doubt."""
        for record in records:
            if not record.doubtful:
                self.store.change_if(record.key, token, {"seal": cleared(token)})

    def _settle(self, outcomes: Sequence[tuple[Sendable, Outcome]], token: str) -> None:
        """Writes down every outcome of one call. Conflicts first: any other answer is given again to a repetition, but
        a second DuplicateRecord, for a record that is in doubt by then, would be taken for our own."""
        now = epoch(self.clock())
        to_announce = [
            (record.key, item)
            for record, outcome in outcomes
            if isinstance(outcome, Conflict) and (item := self._conflict(record, token, now)) is not None
        ]
        accepted = [(r, o) for r, o in outcomes if isinstance(o, Metered) and not o.earlier]
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
                    self._reject(record.key, token, outcome.reason, record.quantity, doubtful=record.doubtful)
                case StaysDue():
                    record.doubtful = outcome.doubtful
                    self.report.count(outcome.reason, record.quantity)
                    if outcome.reason == "unknown_refusal":
                        self._postpone(record, token, now)
                    elif outcome.reason != "unprocessed":
                        left.append(record)
        if left:
            self._leave(left, token)
        # What AWS answered is all written down by now: asking and telling may fail without costing any of it.
        for record in held:
            self.requests.look_again(record.subscription_id, "not_subscribed", since=now)
        self._announce(to_announce)

    def _conflict(self, record: Sendable, token: str, now: int) -> Item | None:
        """The record as it stands then; None when another run has got further."""
        values: dict[str, str | int] = {
            "state": "conflict",
            "reason": "DuplicateRecord",
            "settled_at": now,
            "seal": cleared(token),
        }
        try:
            decided = self._decide(record.key, token, values, record.quantity)
        except AwsError:
            # Nothing but this run's log and metric will say so: the record is in doubt from now on.
            self._count(record.key, record.quantity, "conflict", state="conflict", reason="DuplicateRecord, not kept")
            raise
        return _with(record.item, values) if decided else None

    def _settle_metered(self, accepted: Sequence[tuple[Sendable, Outcome]], now: int) -> None:
        items = []
        for record, outcome in accepted:
            assert isinstance(outcome, Metered)
            values: dict[str, str | int] = {"state": "metered", "settled_at": now}
            if outcome.metering_record_id:
                values["metering_record_id"] = outcome.metering_record_id
            items.append(_with(_without_reason(record.item), values))
        untaken = self.store.settle(items)
        for record, _ in accepted:
            if record.key in untaken:
                self.report.count("metered_unwritten", record.quantity)
            else:
                self._settled.add(record.key)
                self.report.count("metered", record.quantity)

    def _settle_earlier(self, record: Sendable, outcome: Metered, token: str, now: int) -> None:
        values: dict[str, str | int] = {"state": "metered", "reason": "answered_as_duplicate", "settled_at": now}
        if outcome.metering_record_id:
            values["metering_record_id"] = outcome.metering_record_id
        self._decide(record.key, token, values, record.quantity, outcome="metered_earlier", settled=True)

    def _hold(self, record: Sendable, token: str, now: int) -> bool:
        """Due again on activation; until then it waits in the index for its next try, and for being written off."""
        values: dict[str, str | int] = {
            "state": "held",
            "reason": "CustomerNotSubscribed",
            "due_at": held_due_at(now, record.refuse_at),
            "seal": _seal_after(token, doubtful=record.doubtful),
        }
        if not self._decide(record.key, token, values, record.quantity):
            return False
        self.report.wait(record.quantity, record.refuse_at, now)
        return True

    def _postpone(self, record: Sendable, token: str, now: int) -> None:
        """AWS refuses the record with a code that nobody here knows: it stays due, but not in everybody's way at every
        run, because finding it takes several calls."""
        due_at = max(min(now + HOUR, record.refuse_at - SENDING_MARGIN), now)
        values: dict[str, str | int] = {"due_at": due_at, "seal": _seal_after(token, doubtful=record.doubtful)}
        self.store.change_if(record.key, token, values)

    def _decide(
        self,
        key: Key,
        token: str,
        values: dict[str, str | int],
        quantity: int,
        *,
        outcome: str | None = None,
        settled: bool = False,
        refused_by: int | None = None,
    ) -> bool:
        """Writes and counts an outcome, if no other run has got further; says whether it did."""
        if not self.store.change_if(key, token, values, settled=settled, refused_by=refused_by):
            return False
        self._settled.add(key)
        state = str(values["state"])
        self._count(key, quantity, outcome or state, state=state, reason=str(values.get("reason")))
        return True

    def _count(self, key: Key, quantity: int, outcome: str, *, state: str, reason: str) -> None:
        self.report.count(outcome, quantity)
        if state != "metered":
            hour, dimension = hour_and_dimension(key.sk)
            self.report.note(Note(subscription_id_of(key.pk), hour, dimension, quantity, state, reason))

    def _reject(self, key: Key, token: str, reason: str, quantity: int, *, doubtful: bool) -> None:
        values: dict[str, str | int] = {
            "state": "rejected",
            "reason": reason,
            "settled_at": epoch(self.clock()),
            "seal": _seal_after(token, doubtful=doubtful),
        }
        self._decide(key, token, values, quantity, settled=True)

    def _write_off(self, entries: list[DueEntry]) -> None:
        token, taken = self._take(entries)
        self._expire([(entry.key, item, in_doubt(entry.seal)) for entry, item in taken], token)

    def _expire(self, records: Iterable[tuple[Key, Item, bool]], token: str) -> None:
        """AWS takes these no more: they are marked unbillable, with whether an attempt may have been accepted. One
        that has got a later deadline meanwhile, its subscription having been reopened, is left for the next run."""
        now = epoch(self.clock())
        to_announce: list[tuple[Key, Item]] = []
        for key, item, doubtful in records:
            values: dict[str, str | int] = {
                "state": "unbillable",
                "reason": "deadline_passed_in_doubt" if doubtful else "deadline_passed",
                "settled_at": now,
                "seal": _seal_after(token, doubtful=doubtful),
            }
            if self._decide(key, token, values, int(item["quantity"]["N"]), refused_by=now):
                to_announce.append((key, _with(item, values)))
            elif not doubtful:
                self.store.change_if(key, token, {"seal": cleared(token)})
        self._announce(to_announce)

    def _announce_entries(self, entries: list[DueEntry]) -> None:
        """Events that an earlier run decided on and may not have published."""
        items = self.store.read([entry.key for entry in entries])
        decided = [
            (entry.key, item)
            for entry in entries
            if (item := items.get(entry.key)) is not None
            and item["state"]["S"] in _ANNOUNCED
            and item["seal"]["S"] == entry.seal
        ]
        self._announce(decided)
        self._settled |= {key for key, _ in decided}

    def _announce(self, decided: Sequence[tuple[Key, Item]]) -> None:
        """Publishes first and takes the record out of the index after, so an event can repeat but not be missing."""
        if not decided:
            return
        self.bus.publish([_event(key, item) for key, item in decided])
        for key, item in decided:
            self.store.change_if(key, item["seal"]["S"], {}, settled=True)


def _is_ours(item: Item | None, token: str) -> bool:
    return item is not None and item["seal"]["S"] == token and item["state"]["S"] in SENDABLE and "due_shard" in item


def _halves(part: _Sealed) -> list[_Sealed]:
    """The records in two parts; one record stays whole."""
    group, records, token = part
    middle = (len(records) + 1) // 2
    return [(group, half, token) for half in (records[:middle], records[middle:]) if half]


def _seal_after(token: str, *, doubtful: bool) -> str:
    """The seal of a record whose outcome is written down: in doubt only if an attempt has stayed without an answer."""
    return token if doubtful else cleared(token)


def _was_unprocessed(outcome: Outcome) -> bool:
    return isinstance(outcome, StaysDue) and outcome.reason == "unprocessed"


def _with(item: Item, values: dict[str, str | int]) -> Item:
    return {**item, **{name: to_attribute(value) for name, value in values.items()}}


def _without_reason(item: Item) -> Item:
    return {name: value for name, value in item.items() if name != "reason"}


def _event(key: Key, item: Item) -> SellerEvent:
    values = from_item(item)
    subscription_id = subscription_id_of(key.pk)
    return SellerEvent(
        kind=_ANNOUNCED[values["state"]],
        id=stable_id(values["state"], key.pk, key.sk),
        time=values["settled_at"],
        detail={
            "subscription_id": subscription_id,
            "dimension": values["dimension"],
            "hour": iso(values["hour"]),
            "quantity": values["quantity"],
            "reason": values["reason"],
        },
    )
