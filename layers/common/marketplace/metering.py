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
    UnsendableError,
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

LAST_TRY = HOUR
"""How long before AWS's refusal a held record is sent once more on its own."""

_RESERVE = 30.0
"""Seconds a run keeps for the call that is under way and for settling it."""

_UNPROCESSED_TRIES = 3
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 4.0
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
        self._each(self._meter, batches(sendable))
        self._each(self._send, batches(self._set_aside))
        self._each(self._write_off, batches(expired))
        self._each(self._announce_entries, batches(to_announce))
        self.report.breaker_opened = self._breaker.is_open
        for entry in entries:
            if entry.key not in self._settled:
                self.report.leave(entry, epoch(self.clock()))
        return self.report

    def _each(self, work: Callable[[list[DueEntry]], None], parts: Sequence[list[DueEntry]]) -> None:
        def guarded(part: list[DueEntry]) -> None:
            if self._must_stop():
                return
            started = self.monotonic()
            try:
                work(part)
            except AwsError as error:
                # The store, the queue or the bus did not do it: what was under way stays due, or is in doubt, as it
                # stands there.
                self.report.count_error(error.code)
                self.sleep(self._breaker.failed(started))
            except Exception as error:
                self.report.fail(error)

        if self.workers == 1 or len(parts) < 2:
            for part in parts:
                guarded(part)
            return
        with ThreadPoolExecutor(min(self.workers, len(parts))) as pool:
            for done in [pool.submit(guarded, part) for part in parts]:
                done.result()

    def _must_stop(self) -> bool:
        if self.time_left() < _RESERVE:
            self.report.out_of_time = True
        return self._breaker.is_open or self.report.out_of_time

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
        for entry, item in taken:
            try:
                records.append(self._sendable(entry, item))
            except UnsendableError:
                self._reject(entry.key, token, "unsendable", entry.quantity, doubtful=in_doubt(entry.seal))
        for request in split_by_size(records):
            self._deliver(group, request, token)

    def _sendable(self, entry: DueEntry, item: Item) -> Sendable:
        tagged = int(item.get("tag_sets", {"N": "0"})["N"]) > 0
        wire = wire_record(item, self.store.allocations(entry.key) if tagged else [])
        return Sendable(entry.key, item, wire, wire_size(wire), in_doubt(entry.seal), entry.refuse_at)

    def _deliver(self, group: Group, records: list[Sendable], token: str) -> None:
        """Sends until every record has an outcome, AWS has left some unprocessed too often, or the run must stop."""
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
                if isinstance(error, NoAnswerError):
                    for record in pending:
                        record.doubtful = True
                self.report.count_error(error.code)
                self.sleep(self._breaker.failed(started))
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
        """Writes down every outcome of one call. `metered` first: it is what must not be lost."""
        now = epoch(self.clock())
        accepted = [(r, o) for r, o in outcomes if isinstance(o, Metered) and not o.earlier]
        self._settle_metered(accepted, now)
        to_announce: list[tuple[Key, Item]] = []
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
                case Conflict():
                    values: dict[str, str | int] = {
                        "state": "conflict",
                        "reason": "DuplicateRecord",
                        "settled_at": now,
                        "seal": cleared(token),
                    }
                    if self._decide(record.key, token, values, record.quantity):
                        to_announce.append((record.key, _with(record.item, values)))
                case StaysDue():
                    record.doubtful = outcome.doubtful
                    self.report.count(outcome.reason, record.quantity)
                    if outcome.reason != "unprocessed":
                        left.append(record)
        if left:
            self._leave(left, token)
        # What AWS answered is all written down by now: asking and telling may fail without costing any of it.
        for record in held:
            self.requests.look_again(record.subscription_id, "not_subscribed", since=now)
        self._announce(to_announce)

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
        """Due again on activation; until then it waits in the index for a last try, and for being written off."""
        last_try = record.refuse_at - LAST_TRY
        values: dict[str, str | int] = {
            "state": "held",
            "reason": "CustomerNotSubscribed",
            "due_at": last_try if now < last_try else record.refuse_at,
            "seal": _seal_after(token, doubtful=record.doubtful),
        }
        return self._decide(record.key, token, values, record.quantity)

    def _decide(
        self,
        key: Key,
        token: str,
        values: dict[str, str | int],
        quantity: int,
        *,
        outcome: str | None = None,
        settled: bool = False,
    ) -> bool:
        """Writes and counts an outcome, if no other run has got further; says whether it did."""
        if not self.store.change_if(key, token, values, settled=settled):
            return False
        self._settled.add(key)
        state = str(values["state"])
        self.report.count(outcome or state, quantity)
        if state != "metered":
            hour, dimension = hour_and_dimension(key.sk)
            self.report.note(Note(subscription_id_of(key.pk), hour, dimension, quantity, state, str(values["reason"])))
        return True

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
        """AWS takes these no more: they are marked unbillable, with whether an attempt may have been accepted."""
        now = epoch(self.clock())
        to_announce: list[tuple[Key, Item]] = []
        for key, item, doubtful in records:
            values: dict[str, str | int] = {
                "state": "unbillable",
                "reason": "deadline_passed_in_doubt" if doubtful else "deadline_passed",
                "settled_at": now,
                "seal": _seal_after(token, doubtful=doubtful),
            }
            if self._decide(key, token, values, int(item["quantity"]["N"])):
                to_announce.append((key, _with(item, values)))
        self._announce(to_announce)

    def _announce_entries(self, entries: list[DueEntry]) -> None:
        """Events that an earlier run decided on and may not have published."""
        items = self.store.read([entry.key for entry in entries])
        for entry in entries:
            item = items.get(entry.key)
            if item is not None and item["state"]["S"] in _ANNOUNCED and item["seal"]["S"] == entry.seal:
                self._announce([(entry.key, item)])
                self._settled.add(entry.key)

    def _announce(self, decided: Sequence[tuple[Key, Item]]) -> None:
        """Publishes first and takes the record out of the index after, so an event can repeat but not be missing."""
        if not decided:
            return
        self.bus.publish([_event(key, item) for key, item in decided])
        for key, item in decided:
            self.store.change_if(key, item["seal"]["S"], {}, settled=True)


def _is_ours(item: Item | None, token: str) -> bool:
    return item is not None and item["seal"]["S"] == token and item["state"]["S"] in SENDABLE and "due_shard" in item


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
