"""Booking usage in the usage table: a transaction, so that a report is counted once or not at all.

    put    RECORD#<id>               on condition that the id is new, under each subscription of the record's name
    update HOUR#<hour>#<dimension>   add the quantity, on condition that it is unsealed and the sum fits
    update ...#TAGS#<digest>         add to the allocation of the tag set
    update INCLUDED#<dim>#<term>     what the contract's term includes is used up by so much
    check  ENTITLEMENT#<dimension>   what the contract grants is what the term was told from
    put    CHARGED#<dim>#<hour>#...  which records were charged
    update DAY#<day>#<dimension>     how much of the day's usage is included

The last four are for contracts with consumption: what the term includes is counted and only the rest goes to the
metering record and the allocations; a report without such a rest touches neither, nor the check and the list.

All of it happens or none of it does; repeating it after a lost answer fails on the first condition and reads as a
duplicate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write, condition_failed
from marketplace.dynamodb.update import Update
from marketplace.entitlements.store import unchanged
from marketplace.ledger.record import MAX_QUANTITY, Addition, MeteringRecord, why_not_added
from marketplace.platform.clock import DAY, EpochSeconds, epoch
from marketplace.platform.errors import RefusedError
from marketplace.usage.included_days import Share, included_of_days
from marketplace.usage.overage import Term, counted_in
from marketplace.usage.record import RecordName, TagSet, tag_set
from marketplace.usage.report import UsageReport
from marketplace.usage.tag_sets import Tagging, allocation_key
from marketplace.usage.term_counter import TermCounter, used_of

MAX_ACTIONS = 100
"""DynamoDB API reference, TransactWriteItems."""
_CANCELLED = "TransactionCanceledException"
"""DynamoDB's answer when a transaction was cancelled for reasons that it does not give."""
_CHARGED_FOR = 3 * DAY
"""How long charged usage can be found: longer than AWS takes it."""
_NEW_ID = "attribute_not_exists(pk)"


@dataclass(frozen=True, slots=True)
class Booking:
    """One report, its name, and the hour it is of. The name is the same whichever subscription is billed. `term`: the
    contract's term that it counts against first; None where all usage is metered."""

    report: UsageReport
    name: RecordName
    own_hour: EpochSeconds
    term: Term | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Bookings for one metering record. `record`: as it is created where it does not exist yet. `moves_deadlines`: its
    times replace those of an existing record, while the subscription is closing."""

    record: MeteringRecord
    bookings: Sequence[Booking]
    moves_deadlines: bool = False

    @property
    def shared(self) -> set[Key]:
        """What other jobs of a transaction may depend on too: the counters of terms, and the grants behind them."""
        terms = [one.term for one in self.bookings if one.term is not None]
        return {term.counter for term in terms} | {key for term in terms for key, _ in term.grants}


type Obstacle = Literal["sealed", "full", "changed", "busy", "regranted", "not_known"]


@dataclass(frozen=True, slots=True)
class Booked:
    """The transaction went through. `untagged` names the records whose tags found no room; `included` says how much of
    the quantity the contract includes, for each record with a term."""

    untagged: frozenset[RecordName] = frozenset()
    included: Mapping[RecordName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotBooked:
    """Nothing of the transaction was written. `known` holds the records that exist already, as they are stored;
    `obstacle` says what else was in the way: the hour is sealed or full; another writer was there (changed, busy: try
    again); AWS was heard to grant something else meanwhile (regranted: the terms have to be read again); more may be
    included than is known (not_known)."""

    known: dict[RecordName, dict[str, Any]]
    obstacle: Obstacle | None


class UsageStore:
    """The usage table as recording sees it. Usage records expire after `ttl_days`. `grants`: the subscriptions table,
    which holds what contracts include.

    Its methods raise AwsError when DynamoDB gives no answer; what was asked may have happened then.
    """

    def __init__(self, table: Table, ttl_days: int, grants: Table | None = None) -> None:
        self._table = table
        self._grants = grants
        self._ttl = ttl_days * DAY

    def known(self, names: Iterable[RecordName]) -> dict[RecordName, dict[str, Any]]:
        """The stored records among these, each as it is kept under one of its subscriptions."""
        by_key = {key: name for name in names for key in name.keys}
        return {by_key[key]: from_item(item) for key, item in self._table.get_many(by_key).items()}

    def used(self, terms: Iterable[Term]) -> dict[Key, int]:
        """How much of each term is used, by the key of its counter; nothing is read without a term."""
        return {key: used_of(item) for key, item in self._table.get_many(term.counter for term in terms).items()}

    def book(self, jobs: Sequence[Job], now: EpochSeconds) -> list[Booked | NotBooked]:
        """Counts all the reports of all the jobs in their metering records, or none of them; one outcome per job.

        The jobs have different metering records, and ids that differ within a subscription; together they fit a
        transaction.
        """
        stored = self._look(jobs)
        counters: dict[Key, TermCounter] = {}
        parts = [_part(job, counters, stored) for job in jobs]
        refusals = [part.refusal for part in parts]
        if any(refusals):
            return [NotBooked({}, refusal) for refusal in refusals]
        writes = [self._writes(part, now) for part in parts]
        touched = [counter for counter in counters.values() if counter.matters]
        uses = [counter.action(self._table) for counter in touched]
        checks = self._checks(parts)
        lists = [self._charged(part, now) for part in parts if part.charged]
        shares = (share for part in parts for share in part.shares)
        days = [self._table.update_action(*change) for change in included_of_days(shares)]
        together = [write for group in (*writes, uses, checks.values(), lists, days) for write in group]
        try:
            reasons = iter(self._table.try_together(together))
        except RefusedError as error:
            if error.code != _CANCELLED:
                raise
            return [NotBooked({}, "busy") for _ in parts]
        by_part = [[reason for _, reason in zip(group, reasons, strict=False)] for group in writes]
        return _outcomes(parts, by_part, _in_use(touched, list(checks), list(reasons)))

    def _writes(self, part: "_Part", now: EpochSeconds) -> list[Write]:
        records = [
            self._table.put_action(self._usage_record(part, one, key, now), _NEW_ID)
            for one in part.job.bookings
            for key in one.name.keys
        ]
        if not part.metered:
            return records
        job, tagging = part.job, part.tagging
        update = job.record.addition(part.addition, moves_deadlines=job.moves_deadlines)
        added = _by_tag_set(part.metered)
        return [
            *records,
            self._table.update_action(job.record.key, update, tell=True),
            *(self._allocate(job.record, tags, added[tags], tags in tagging.new) for tags in tagging.accepted),
        ]

    def _checks(self, parts: Sequence["_Part"]) -> dict[Key, Write]:
        """Usage is charged only while what the contract grants is what its term was told from: what AWS was heard to
        grant since then has the charged usage compared with it (marketplace.usage.rerating), and this must not come
        after that."""
        if self._grants is None:
            return {}
        found: dict[Key, Write] = {}
        for key, revision in {grant for part in parts for one in part.charged if one.term for grant in one.term.grants}:
            found[key] = self._grants.check_action(key, *unchanged(revision))
        return found

    def _charged(self, part: "_Part", now: EpochSeconds) -> Write:
        """Where a re-rating finds the records that were charged."""
        first, record = part.charged[0], part.job.record
        owner = record.subscription_id if first.term is None else first.term.owner
        key = keys.charged(owner, record.dimension, record.hour, "\0".join([*first.name.subscriptions, first.name.id]))
        charged = [[one.name.id, *one.name.subscriptions] for one in part.charged]
        latest = max(_moment(one, now) for one in part.charged)
        values = {**key._asdict(), "charged": charged, "latest": latest, "expires_at": now + _CHARGED_FOR}
        return self._table.put_action(to_item(values))

    def _look(self, jobs: Sequence[Job]) -> dict[Key, Item]:
        """What the decisions about these jobs depend on, read at once: their terms' counters, and what there is of
        their tag sets. Nothing is read for usage without either."""
        asked: list[Key] = []
        for job in jobs:
            asked += {one.term.counter for one in job.bookings if one.term is not None and one.term.limit}
            if tag_sets := {tag_set(booking.report.tags) for booking in job.bookings} - {()}:
                asked += [job.record.key, *(allocation_key(job.record, tags) for tags in sorted(tag_sets))]
        return self._table.get_many(asked)

    def _usage_record(self, part: "_Part", booking: Booking, key: Key, now: EpochSeconds) -> Item:
        """The usage record as it is kept under this key, which is one of its name's."""
        record, report = part.job.record, booking.report
        kept_under, billed_to = keys.subscription_id_of(key.pk), record.subscription_id
        return to_item(
            {
                "pk": key.pk,
                "sk": key.sk,
                "record_id": report.id,
                "digest": report.digest_for(kept_under),
                "dimension": report.dimension,
                "quantity": report.quantity,
                "tags": report.tags or None,
                "untagged": booking.name in part.untagged or None,
                **_split(part, booking, now),
                "own_hour": booking.own_hour,
                "billed_to": None if kept_under == billed_to else billed_to,
                "hour": record.hour,
                "recorded_at": now,
                "expires_at": now + self._ttl,
            }
        )

    def _allocate(self, record: MeteringRecord, tags: TagSet, quantity: int, new: bool) -> Write:
        update = Update(
            set={"tags": dict(tags)} if new else {},
            add={"quantity": quantity},
            condition="attribute_not_exists(pk)" if new else "attribute_exists(pk)",
        )
        return self._table.update_action(allocation_key(record, tags), update)


def actions(bookings: Sequence[Booking]) -> int:
    """How many actions of a transaction booking these takes."""
    records = sum(len(booking.name.subscriptions) for booking in bookings)
    tag_sets = {tag_set(booking.report.tags) for booking in bookings} - {()}
    return records + 1 + len(tag_sets) + _of_terms(bookings)


def capacity(bookings: Sequence[Booking]) -> int:
    """How many of these, from the start, fit a transaction."""
    sets: set[TagSet] = set()
    terms: dict[tuple[Term, TagSet], Booking] = {}
    records = 0
    for count, booking in enumerate(bookings):
        tags = tag_set(booking.report.tags)
        sets.add(tags)
        records += len(booking.name.subscriptions)
        if booking.term is not None:
            terms.setdefault((booking.term, tags), booking)
        if records + 1 + len(sets - {()}) + _of_terms(terms.values()) > MAX_ACTIONS:
            return count
    return len(bookings)


def _of_terms(bookings: Iterable[Booking]) -> int:
    """How many actions the terms of one metering record's bookings take: their counters, the grants that are checked,
    the list of what was charged, and the day's included units of each tag set."""
    found = [(booking.term, tag_set(booking.report.tags)) for booking in bookings if booking.term is not None]
    grants = {key for term, _ in found for key, _ in term.grants}
    counters, tag_sets = {term.counter for term, _ in found}, {tags for _, tags in found}
    return len(counters) + len(grants) + bool(found) + len(tag_sets)


@dataclass(frozen=True, slots=True)
class _Part:
    """A job decided: what of each report is included in a term, and what is left for the metering record."""

    job: Job
    included: Mapping[RecordName, int]
    metered: Sequence[tuple[Booking, int]]
    tagging: Tagging

    @property
    def charged(self) -> list[Booking]:
        """The bookings that a contract does not include, or not whole."""
        return [booking for booking, _ in self.metered if booking.term is not None]

    @property
    def shares(self) -> list[Share]:
        own, split = self.job.record, self.included
        place, named = (own.subscription_id, own.hour, own.dimension), (b for b in self.job.bookings if b.name in split)
        return [(*place, tag_set(one.report.tags), split[one.name]) for one in named]

    @property
    def total(self) -> int:
        return sum(quantity for _, quantity in self.metered)

    @property
    def refusal(self) -> Obstacle | None:
        """What can be said to be in the way before anything is written."""
        if any(one.term is not None and not one.term.known_to_its_end for one in self.charged):
            return "not_known"
        return "full" if self.total > MAX_QUANTITY else None

    @property
    def untagged(self) -> frozenset[RecordName]:
        """The records whose tags found no room."""
        refused = self.tagging.refused
        if not refused:
            return frozenset()
        return frozenset(one.name for one, _ in self.metered if tag_set(one.report.tags) in refused)

    @property
    def addition(self) -> Addition:
        tagging = self.tagging
        return Addition(
            quantity=self.total,
            records=len(self.metered),
            untagged_records=len(self.untagged),
            tagged_quantity=sum(added for tags, added in _by_tag_set(self.metered).items() if tags in tagging.accepted),
            tag_sets=len(tagging.new),
            tag_bytes=tagging.new_bytes,
            tag_keys=tagging.new_keys,
            seen_tag_sets=tagging.seen_sets,
        )


def _part(job: Job, counters: dict[Key, TermCounter], stored: Mapping[Key, Item]) -> _Part:
    included: dict[RecordName, int] = {}
    metered: list[tuple[Booking, int]] = []
    for booking in job.bookings:
        beyond = booking.report.quantity
        if booking.term is not None:
            key = booking.term.counter
            counter = counters.setdefault(key, TermCounter(booking.term, used_of(stored.get(key, {}))))
            included[booking.name] = counter.take(beyond)
            beyond -= included[booking.name]
        if beyond or booking.term is None:
            metered.append((booking, beyond))
    tag_sets = sorted(tags for tags in _by_tag_set(metered) if tags)
    return _Part(job, included, metered, Tagging.of(job.record, tag_sets, stored) if tag_sets else Tagging())


def _by_tag_set(metered: Iterable[tuple[Booking, int]]) -> dict[TagSet, int]:
    added: dict[TagSet, int] = {}
    for booking, quantity in metered:
        tags = tag_set(booking.report.tags)
        added[tags] = added.get(tags, 0) + quantity
    return added


def _moment(booking: Booking, now: EpochSeconds) -> EpochSeconds:
    return now if booking.report.timestamp is None else epoch(booking.report.timestamp)


def _split(part: _Part, booking: Booking, now: EpochSeconds) -> dict[str, Any]:
    """What a usage record keeps of the term that it was counted against."""
    term = booking.term
    if term is None:
        return {}
    included = part.included[booking.name]
    return {
        "at": _moment(booking, now),
        "included": included,
        "counted": counted_in(term, included) or None,
        "included_dimension": term.included_dimension,
        "term_limit": term.limit,
        "term_end": term.ends_at,
    }


def _outcomes(
    parts: Sequence[_Part], reasons: Sequence[Sequence[Mapping[str, Any]]], in_use: Mapping[Key, Obstacle]
) -> list[Booked | NotBooked]:
    """What became of each part, from the reasons of its actions; without any reason all were booked."""
    if not any(reasons):
        return [Booked(part.untagged, part.included) for part in parts]
    outcomes: list[Booked | NotBooked] = [
        _obstacles(part, its_reasons, in_use) for part, its_reasons in zip(parts, reasons, strict=True)
    ]
    unexplained = all(outcome == NotBooked({}, None) for outcome in outcomes)
    return [NotBooked({}, "busy") for _ in parts] if unexplained else outcomes


def _in_use(
    counters: Sequence[TermCounter], grants: Sequence[Key], reasons: Sequence[Mapping[str, Any]]
) -> dict[Key, Obstacle]:
    """The counters that another writer changed or is changing, and the grants that are others by now."""
    shared: list[tuple[Key, Obstacle]] = [(counter.term.counter, "changed") for counter in counters]
    shared += [(key, "regranted") for key in grants]
    return {
        key: refused if condition_failed(reason) else "busy"
        for (key, refused), reason in zip(shared, reasons, strict=False)
        if _stopped(reason)
    }


def _obstacles(part: _Part, reasons: Sequence[Mapping[str, Any]], in_use: Mapping[Key, Obstacle]) -> NotBooked:
    """Why a job's part of a transaction that was cancelled could not be: in the order of its actions. A part without
    a reason of its own was cancelled with the others."""
    job = part.job
    names = [booking.name for booking in job.bookings for _ in booking.name.subscriptions]
    known: dict[RecordName, dict[str, Any]] = {}
    obstacle: Obstacle | None = _first_of(in_use, job.shared)
    for index, reason in enumerate(reasons):
        if not _stopped(reason):
            continue
        if not condition_failed(reason):
            obstacle = obstacle or "busy"
        elif index < len(names):
            known[names[index]] = from_item(reason["Item"])
        elif index == len(names):
            obstacle = why_not_added(reason.get("Item"), part.total, shadow=job.record.state == "shadow")
        else:
            obstacle = obstacle or "changed"
    return NotBooked(known, obstacle)


def _first_of(in_use: Mapping[Key, Obstacle], shared: set[Key]) -> Obstacle | None:
    found = [in_use[key] for key in shared if key in in_use]
    return "regranted" if "regranted" in found else next(iter(found), None)


def _stopped(reason: Mapping[str, Any]) -> bool:
    """Whether this action is why the transaction was cancelled (DynamoDB API reference, CancellationReason)."""
    return bool(reason.get("Code", "None") != "None")
