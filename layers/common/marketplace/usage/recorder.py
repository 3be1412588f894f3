"""Recording usage: what a seller's application reports is checked, booked to an hour and answered one by one."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import timestamp_of
from marketplace.platform.backoff import pause
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import UnavailableError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.booking import MAX_ACTIONS, Booked, Job, UsageStore
from marketplace.usage.overage import Term, included_parts
from marketplace.usage.placement import (
    _at_next_hour,
    _bookings,
    _Bundle,
    _counters,
    _Entry,
    _entry,
    _groups,
    _lanes,
    _recorded,
    _subscription_id,
    _without_known,
)
from marketplace.usage.report import Rejection, UsageReport, parsed
from marketplace.usage.results import (
    _BUSY,
    _OPEN,
    _UNAVAILABLE,
    Result,
    _id_of,
    _known,
    _rejected,
    _repetition,
)
from marketplace.usage.tag_sets import Target

_ATTEMPTS = 10
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_PATIENCE = 15.0
"""Seconds from a request's beginning after which it waits for no other writer any more: API Gateway waits for 30."""
_PARALLEL = 4


class Subscriptions(Protocol):
    """Where subscriptions are read from; consistent, several at once."""

    def get_many(self, ids: Sequence[str]) -> Mapping[str, Subscription]: ...


class Terms(Protocol):
    """Finds the contract terms that usage counts against first; see marketplace.usage.contract_terms."""

    def find(
        self, wanted: Iterable[tuple[Subscription, str]], known: Mapping[str, Subscription], now: int
    ) -> Mapping[tuple[str, str], Term | Rejection]: ...


@dataclass(frozen=True, slots=True)
class _Request:
    """One request under way: the moment it is of, when it stops waiting (monotonic), and its results by place."""

    now: int
    wait_until: float
    results: dict[int, Result] = field(default_factory=dict)


@dataclass(slots=True)
class UsageRecorder:
    """Records usage. `sleep`, `monotonic` (seconds) and `jitter` (0 to 1) are what a retry waits with; without `terms`
    all usage is metered."""

    store: UsageStore
    subscriptions: Subscriptions
    clock: Clock
    seal_delay: int
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    jitter: Callable[[], float] = random.random
    parallel: int = _PARALLEL
    terms: Terms | None = None

    def record(self, records: Sequence[object], *, validate: bool = False) -> list[Result]:
        """One result per record, in order: recorded, duplicate, conflict or rejected (docs/integration.md describes
        them). With `validate` nothing is written, and `recorded` means that it would be.

        Raises AwsError when the subscriptions can't be read; nothing is recorded then.
        """
        request = _Request(epoch(self.clock()), self.monotonic() + _PATIENCE)
        results = request.results
        reports, entries, repeated = self._accepted(records, request.now, results)
        if validate:
            self._predict(entries, results)
        else:
            self._book_all(entries, request)
        self._recognise(reports, results)
        for index, original in repeated:
            results[index] = _repetition(parsed(records[index]), parsed(records[original]), results[original])
        return [results[index] for index in range(len(records))]

    def _accepted(
        self, records: Sequence[object], now: int, results: dict[int, Result]
    ) -> tuple[dict[int, tuple[str, UsageReport]], list[_Entry], list[tuple[int, int]]]:
        """The valid reports with the subscription that each names, and of those: the ones that can be booked, and the
        repetitions of an id within the request with the place of the first."""
        reports: dict[int, UsageReport] = {}
        for index, raw in enumerate(records):
            report = parsed(raw)
            if isinstance(report, Rejection):
                results[index] = _rejected(_id_of(raw), report)
            else:
                reports[index] = report
        owners = {index: _subscription_id(report) for index, report in reports.items()}
        subscriptions = self._with_counterparts(sorted(set(owners.values())))
        entries: list[_Entry] = []
        repeated: list[tuple[int, int]] = []
        first_with: dict[tuple[str, str], int] = {}
        for index, report in reports.items():
            original = first_with.setdefault((owners[index], report.id), index)
            if original != index:
                repeated.append((index, original))
                continue
            entry = _entry(index, report, owners[index], subscriptions, now)
            if isinstance(entry, Rejection):
                results[index] = _rejected(report.id, entry)
            else:
                entries.append(entry)
        again = {index for index, _ in repeated}
        named = {index: (owners[index], report) for index, report in reports.items() if index not in again}
        return named, self._with_terms(entries, subscriptions, now, results), repeated

    def _recognise(self, reports: Mapping[int, tuple[str, UsageReport]], results: dict[int, Result]) -> None:
        """What can't be recorded now may have been recorded before, by an attempt whose answer was lost: it is said to
        be a duplicate then, whatever has become of its hour and its subscription since."""
        refused = {
            index: (named, report)
            for index, (named, report) in reports.items()
            if results[index]["status"] == "rejected" and results[index]["reason"] not in _OPEN
        }
        if not refused:
            return
        try:
            known = self.store.known((named, report.id) for named, report in refused.values())
        except UnavailableError:
            for index, (_, report) in refused.items():
                results[index] = _rejected(report.id, _UNAVAILABLE)
            return
        for index, (named, report) in refused.items():
            if (named, report.id) in known:
                results[index] = _known(report, known[named, report.id])

    def _with_terms(
        self,
        entries: list[_Entry],
        subscriptions: Mapping[str, Subscription],
        now: int,
        results: dict[int, Result],
    ) -> list[_Entry]:
        """The entries with their contract terms; those whose term can't be known now are rejected."""
        if self.terms is None:
            return entries
        places = ((entry.subscription, entry.report.dimension) for entry in entries)
        found = self.terms.find(places, subscriptions, now)
        taken: list[_Entry] = []
        for entry in entries:
            term = found.get((entry.subscription.id, entry.report.dimension))
            if isinstance(term, Rejection):
                results[entry.index] = _rejected(entry.report.id, term)
            else:
                entry.term = term
                taken.append(entry)
        return taken

    def _with_counterparts(self, ids: Sequence[str]) -> dict[str, Subscription]:
        """The subscriptions, and those that they were migrated to or from."""
        found = dict(self.subscriptions.get_many(ids))
        others = {other for one in found.values() for other in (one.migrated_to, one.migrated_from) if other}
        missing = sorted(others - set(found))
        return found | dict(self.subscriptions.get_many(missing)) if missing else found

    def _predict(self, entries: Sequence[_Entry], results: dict[int, Result]) -> None:
        known = self.store.known(entry.name for entry in entries)
        used = self.store.used(entry.term for entry in entries if entry.term is not None)
        fresh: list[_Entry] = []
        for entry in entries:
            stored = known.get(entry.name)
            if stored is None:
                fresh.append(entry)
            else:
                results[entry.index] = _known(entry.report, stored)
        for bundle in self._bundles(_groups(fresh, results)):
            for entry in chain.from_iterable(bundle):
                results[entry.index] = _recorded(entry, untagged=False, included=_predicted_part(entry, used))

    def _book_all(self, entries: Sequence[_Entry], request: _Request) -> None:
        lanes = _lanes(self._bundles(_groups(entries, request.results)))
        if self.parallel == 1 or len(lanes) < 2:
            for lane in lanes:
                self._book_lane(lane, request)
            return
        with ThreadPoolExecutor(min(self.parallel, len(lanes))) as pool:
            for done in [pool.submit(self._book_lane, lane, request) for lane in lanes]:
                done.result()

    def _book_lane(self, lane: Sequence[_Bundle], request: _Request) -> None:
        for bundle in lane:
            self._book_bundle(bundle, request)

    def _bundles(self, groups: Sequence[list[_Entry]]) -> list[_Bundle]:
        """Small groups together as far as one transaction goes; a group that needs several stands alone."""
        bundles: list[_Bundle] = []
        room = 0
        for group in sorted(groups, key=len):
            needed = self.store.actions(_bookings(group)) + _counters(group)
            if not bundles or needed > room:
                bundles.append([])
                room = MAX_ACTIONS
            bundles[-1].append(group)
            room -= needed
        return bundles

    def _book_bundle(self, bundle: _Bundle, request: _Request) -> None:
        """Books groups in one transaction; those that something stands in the way of go on by themselves."""
        pending = list(bundle)
        while len(pending) > 1:
            try:
                outcomes = self.store.book([self._job(group, request.now) for group in pending], request.now)
            except UnavailableError:
                for group in pending:
                    _reject_all(group, _UNAVAILABLE, request.results)
                return
            alone: list[list[_Entry]] = []
            together: list[list[_Entry]] = []
            for group, outcome in zip(pending, outcomes, strict=True):
                if isinstance(outcome, Booked):
                    _answer(group, outcome, request.results)
                    continue
                left = _without_known(group, outcome, request.results)
                if left:
                    (together if outcome.obstacle is None else alone).append(left)
            for group in alone:
                self._book(group, request)
            pending = together
        for group in pending:
            self._book(group, request)

    def _book(self, group: Sequence[_Entry], request: _Request) -> None:
        """Books entries of one metering record; those that find it sealed or full move on, each to its next hour."""
        waiting = [list(group)]
        while waiting:
            entries = waiting.pop()
            room = self.store.capacity(_bookings(entries), _counters(entries))
            if room < len(entries):
                waiting.append(entries[room:])
            moved: dict[tuple[str, int], list[_Entry]] = {}
            for entry in self._book_chunk(entries[:room], request):
                moved.setdefault(entry.place, []).append(entry)
            waiting += moved.values()

    def _book_chunk(self, chunk: list[_Entry], request: _Request) -> list[_Entry]:
        """Books the chunk; returns the entries that are to be tried again at the hour they now name."""
        for attempt in range(_ATTEMPTS):
            try:
                (outcome,) = self.store.book([self._job(chunk, request.now)], request.now)
            except UnavailableError:
                return _reject_all(chunk, _UNAVAILABLE, request.results)
            if isinstance(outcome, Booked):
                _answer(chunk, outcome, request.results)
                return []
            chunk = _without_known(chunk, outcome, request.results)
            if not chunk:
                return []
            if outcome.obstacle == "full" and len(chunk) > 1:
                return self._halves(chunk, request)
            if outcome.obstacle in {"sealed", "full"}:
                return _at_next_hour(chunk, request.results)
            if outcome.obstacle is not None:
                if self.monotonic() >= request.wait_until:
                    break
                self.sleep(pause(attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self.jitter()))
        return _reject_all(chunk, _BUSY, request.results)

    def _halves(self, chunk: list[_Entry], request: _Request) -> list[_Entry]:
        middle = len(chunk) // 2
        for half in (chunk[:middle], chunk[middle:]):
            self._book(half, request)
        return []

    def _job(self, group: Sequence[_Entry], now: int) -> Job:
        entry, period = group[0], group[0].billing.period
        target = Target(
            subscription=entry.subscription,
            dimension=entry.report.dimension,
            hour=entry.hour,
            timestamp=timestamp_of(entry.hour, period.activated_at),
            due_at=period.due_at(entry.hour, self.seal_delay, now),
            refuse_at=period.refuse_at(entry.hour),
            override_due=period.closing_deadline is not None,
        )
        return Job(target, _bookings(group), entry.term)


def _predicted_part(entry: _Entry, used: dict[Key, int]) -> int | None:
    """How much of the entry is included after those before it, which `used` keeps."""
    if entry.term is None:
        return None
    before = used.get(entry.term.counter, 0)
    (part,) = included_parts([entry.report.quantity], entry.term.left(before))
    used[entry.term.counter] = before + part
    return part


def _answer(group: Sequence[_Entry], outcome: Booked, results: dict[int, Result]) -> None:
    for entry in group:
        results[entry.index] = _recorded(
            entry, untagged=entry.name in outcome.untagged, included=outcome.included.get(entry.name)
        )


def _reject_all(chunk: Sequence[_Entry], rejection: Rejection, results: dict[int, Result]) -> list[_Entry]:
    for entry in chunk:
        results[entry.index] = _rejected(entry.report.id, rejection)
    return []
