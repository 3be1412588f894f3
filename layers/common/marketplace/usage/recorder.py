"""Recording usage: what a seller's application reports is checked, booked to an hour and answered one by one."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from marketplace.dynamodb.keys import Key
from marketplace.platform.backoff import pause
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.platform.errors import UnavailableError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.booking import Booked, UsageStore, capacity
from marketplace.usage.contract_terms import Place, Usage
from marketplace.usage.overage import Term, included_parts
from marketplace.usage.placement import (
    Bundle,
    Entry,
    Results,
    answer,
    at_next_hour,
    bookings_of,
    bundles_of,
    entry_for,
    groups_of,
    job_for,
    lanes_of,
    moment_of,
    names_of,
    reject_all,
    without_known,
)
from marketplace.usage.record import RecordName, Rejection
from marketplace.usage.report import UsageReport, parsed
from marketplace.usage.results import (
    BUSY,
    ENTITLEMENTS_PENDING,
    NOT_METERED,
    UNAVAILABLE,
    Rejected,
    as_json,
    id_of,
    known,
    repetition,
)

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
        self, wanted: Iterable[Usage], known: Mapping[str, Subscription], now: EpochSeconds
    ) -> Mapping[Place, Term | Rejection]: ...


@dataclass(frozen=True, slots=True)
class _Request:
    """One request under way: the moment it is of, when it stops waiting (monotonic), and by place in the request its
    valid reports, their names, the repetitions of a name with the place of the first, and the results."""

    now: EpochSeconds
    wait_until: float
    reports: dict[int, UsageReport] = field(default_factory=dict)
    names: dict[int, RecordName] = field(default_factory=dict)
    repeated: dict[int, int] = field(default_factory=dict)
    results: Results = field(default_factory=dict)

    def read(self, records: Sequence[object]) -> None:
        """Takes in the records: valid ones, and rejections of what is no usage record."""
        for index, raw in enumerate(records):
            report = parsed(raw)
            if isinstance(report, Rejection):
                self.results[index] = Rejected(id_of(raw), report)
                continue
            self.reports[index] = report

    def name(self, subscriptions: Iterable[Subscription]) -> None:
        """Names the reports, and finds the repetitions among them."""
        self.names.update(zip(self.reports, names_of(self.reports.values(), subscriptions), strict=True))
        first_with: dict[RecordName, int] = {}
        for index, name in self.names.items():
            original = first_with.setdefault(name, index)
            if original != index:
                self.repeated[index] = original

    @property
    def firsts(self) -> list[int]:
        """The places of valid reports that repeat none before them."""
        return [index for index in self.reports if index not in self.repeated]


@dataclass(slots=True)
class UsageRecorder:
    """Records usage. `sleep`, `monotonic` (seconds) and `jitter` (0 to 1) are what a retry waits with; without `terms`
    all usage is metered. Unless `metering_enabled`, nothing new is recorded: what is recorded is to be billed, but for
    hours before `metering_starts_at`, which another meter bills."""

    store: UsageStore
    subscriptions: Subscriptions
    clock: Clock
    seal_delay: int
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    jitter: Callable[[], float] = random.random
    parallel: int = _PARALLEL
    terms: Terms | None = None
    metering_enabled: bool = True
    metering_starts_at: int = 0

    def record(self, records: Sequence[object], *, validate: bool = False) -> list[dict[str, object]]:
        """One result per record, in order: recorded, duplicate, conflict or rejected (docs/integration.md describes
        them). With `validate` nothing is written, and `recorded` means that it would be.

        Raises AwsError when the subscriptions can't be read; nothing is recorded then.
        """
        request = _Request(epoch(self.clock()), self.monotonic() + _PATIENCE)
        request.read(records)
        entries = self._entries(request)
        if validate:
            self._predict(entries, request.results)
        else:
            self._book_all(entries, request)
        self._recognise(request)
        reports, results = request.reports, request.results
        for index, original in request.repeated.items():
            results[index] = repetition(reports[index], reports[original], results[original])
        return [as_json(results[index]) for index in range(len(records))]

    def _entries(self, request: _Request) -> list[Entry]:
        """The reports that can be booked; the others are rejected."""
        named = {report.named_subscription for report in request.reports.values()}
        subscriptions = self._with_counterparts(sorted(named))
        request.name(subscriptions.values())
        entries: list[Entry] = []
        for index in request.firsts:
            report = request.reports[index]
            entry = entry_for(
                index, report, request.names[index], subscriptions, request.now, starts_at=self.metering_starts_at
            )
            if isinstance(entry, Rejection):
                request.results[index] = Rejected(report.id, entry)
            elif not self.metering_enabled:
                request.results[index] = Rejected(report.id, NOT_METERED)
            else:
                entries.append(entry)
        return self._with_terms(entries, subscriptions, request)

    def _with_counterparts(self, ids: Sequence[str]) -> dict[str, Subscription]:
        """The subscriptions, and those that they were migrated to or from."""
        found = dict(self.subscriptions.get_many(ids))
        others = {other for one in found.values() for other in (one.migrated_to, one.migrated_from) if other}
        missing = sorted(others - set(found))
        return found | dict(self.subscriptions.get_many(missing)) if missing else found

    def _with_terms(
        self, entries: list[Entry], subscriptions: Mapping[str, Subscription], request: _Request
    ) -> list[Entry]:
        """The entries with their contract terms; those whose term can't be known now are rejected."""
        if self.terms is None:
            return entries
        moments = {entry.index: moment_of(entry.report, request.now) for entry in entries}
        usage = ((entry.subscription, entry.report.dimension, moments[entry.index]) for entry in entries)
        found = self.terms.find(usage, subscriptions, request.now)
        taken: list[Entry] = []
        for entry in entries:
            term = found.get((entry.subscription.id, entry.report.dimension, moments[entry.index]))
            if isinstance(term, Rejection):
                request.results[entry.index] = Rejected(entry.report.id, term)
            else:
                entry.term = term
                taken.append(entry)
        return taken

    def _recognise(self, request: _Request) -> None:
        """Answers `duplicate` for what is refused now but was recorded before, by an attempt whose answer was lost,
        whatever has become of its hour and its subscription since."""
        results = request.results
        refused = {
            index: request.names[index]
            for index in request.firsts
            if isinstance(result := results[index], Rejected) and not result.may_be_recorded
        }
        if not refused:
            return
        try:
            stored = self.store.known(refused.values())
        except UnavailableError:
            results |= {index: Rejected(name.id, UNAVAILABLE) for index, name in refused.items()}
            return
        for index, name in refused.items():
            if name in stored:
                results[index] = known(request.reports[index], stored[name])

    def _predict(self, entries: Sequence[Entry], results: Results) -> None:
        stored = self.store.known(entry.name for entry in entries)
        used = self.store.used(entry.term for entry in entries if entry.term is not None)
        results |= {one.index: known(one.report, stored[one.name]) for one in entries if one.name in stored}
        fresh = (entry for entry in entries if entry.name not in stored)
        for bundle in bundles_of(groups_of(fresh, results)):
            for entry in chain.from_iterable(bundle):
                part = _predicted_part(entry, used)
                term = entry.term
                if term is not None and not term.known_to_its_end and part != entry.report.quantity:
                    results[entry.index] = Rejected(entry.report.id, ENTITLEMENTS_PENDING)
                else:
                    results[entry.index] = entry.recorded(included=part)

    def _book_all(self, entries: Sequence[Entry], request: _Request) -> None:
        lanes = lanes_of(bundles_of(groups_of(entries, request.results)))
        if self.parallel == 1 or len(lanes) < 2:
            for lane in lanes:
                self._book_lane(lane, request)
            return
        with ThreadPoolExecutor(min(self.parallel, len(lanes))) as pool:
            for done in [pool.submit(self._book_lane, lane, request) for lane in lanes]:
                done.result()

    def _book_lane(self, lane: Sequence[Bundle], request: _Request) -> None:
        for bundle in lane:
            self._book_bundle(bundle, request)

    def _book_bundle(self, bundle: Bundle, request: _Request) -> None:
        """Books groups in one transaction; those that could not be booked go on by themselves."""
        pending = list(bundle)
        while len(pending) > 1:
            try:
                jobs = [job_for(group, self.seal_delay, request.now) for group in pending]
                outcomes = self.store.book(jobs, request.now)
            except UnavailableError:
                reject_all(chain.from_iterable(pending), UNAVAILABLE, request.results)
                return
            alone: list[list[Entry]] = []
            together: list[list[Entry]] = []
            for group, outcome in zip(pending, outcomes, strict=True):
                if isinstance(outcome, Booked):
                    answer(group, outcome, request.results)
                    continue
                left = without_known(group, outcome, request.results)
                if left:
                    (together if outcome.obstacle is None else alone).append(left)
            for group in alone:
                self._book(group, request)
            pending = together
        for group in pending:
            self._book(group, request)

    def _book(self, group: Sequence[Entry], request: _Request) -> None:
        """Books entries of one metering record; those that find it sealed or full move on, each to its next hour."""
        waiting = [list(group)]
        while waiting:
            entries = waiting.pop()
            room = capacity(bookings_of(entries))
            if room < len(entries):
                waiting.append(entries[room:])
            moved: dict[tuple[str, EpochSeconds], list[Entry]] = {}
            for entry in self._book_chunk(entries[:room], request):
                moved.setdefault(entry.place, []).append(entry)
            waiting += moved.values()

    def _book_chunk(self, chunk: list[Entry], request: _Request) -> list[Entry]:
        """Books the chunk; returns the entries that are to be tried again at the hour they now name."""
        refusal = BUSY
        for attempt in range(_ATTEMPTS):
            try:
                (outcome,) = self.store.book([job_for(chunk, self.seal_delay, request.now)], request.now)
            except UnavailableError:
                refusal = UNAVAILABLE
                break
            if isinstance(outcome, Booked):
                answer(chunk, outcome, request.results)
                return []
            chunk = without_known(chunk, outcome, request.results)
            if not chunk:
                return []
            if outcome.obstacle in {"full", "not_known"} and len(chunk) > 1:
                self._book_halves(chunk, request)
                return []
            if outcome.obstacle in {"regranted", "not_known"}:
                refusal = ENTITLEMENTS_PENDING
                break
            if outcome.obstacle in {"sealed", "full"}:
                return at_next_hour(chunk, request.results)
            if outcome.obstacle is not None:
                if self.monotonic() >= request.wait_until:
                    break
                self.sleep(pause(attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self.jitter()))
        reject_all(chunk, refusal, request.results)
        return []

    def _book_halves(self, chunk: list[Entry], request: _Request) -> None:
        middle = len(chunk) // 2
        for half in (chunk[:middle], chunk[middle:]):
            self._book(half, request)


def _predicted_part(entry: Entry, used: dict[Key, int]) -> int | None:
    """How much of the entry is included after those before it, which `used` keeps."""
    if entry.term is None:
        return None
    before = used.get(entry.term.counter, 0)
    (part,) = included_parts([entry.report.quantity], entry.term.left(before))
    used[entry.term.counter] = before + part
    return part
