"""Moves what is closed and final out of the usage table: a month of a subscription at a time.

    1. the month's statement is frozen; every metering record is settled, and told
    2. its items are written to files, then the manifest; both only if they are not there
    3. everything is read back and its hashes are compared
    4. the month is marked as archived: from now on readers read the bucket too
    5. what is in the table as it is in the archive gets a time to live; what is not the same stays, and is told
    6. the subscription is marked as done up to this month

Each step can be repeated, and whatever was cut off begins again with the first step that is not done. A file that is
there keeps its content; so a table that was put back from a backup finds its months archived and goes on with step 3.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import batched
from typing import Any

from marketplace.archive.bucket import Objects
from marketplace.archive.content import (
    EXPIRY,
    ArchiveDamagedError,
    Manifest,
    Totals,
    hours_of,
    joined,
    line_of,
    manifest_name,
    month_at,
    month_of,
    part_of,
    place_of,
)
from marketplace.archive.marks import Mark, Marks, State
from marketplace.archive.reader import archived_items, manifest_of
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction
from marketplace.ledger.record import EXPIRING, InvalidRecordError, MeteringRecord, is_metering_record
from marketplace.platform.clock import DAY, Clock, epoch

GRACE = 7 * DAY
"""How long the table keeps an item after it is archived."""
PART_ITEMS = 20_000
"""How many items a file has at most: about 10 MB in memory."""
_AT_ONCE = 500
ALLOCATION_EXPIRING = "SET expires_at=? WHERE pk=? AND sk=? AND quantity=?"
"""PartiQL clauses that have DynamoDB remove an allocation, unless it was changed."""


@dataclass(slots=True)
class ArchiveReport:
    """What a run did, and what stands. `held_back`: months that can't be archived, or not all of them, because
    something in them is not final, or the table says something else than the archive. `damaged`: those with an object
    that is not what its hash says. `seconds_behind`: how long ago runs began with months that are not all archived."""

    months: int = 0
    items: int = 0
    held_back: int = 0
    damaged: int = 0
    seconds_behind: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The metrics of the unit Count by name, zeros included."""
        return {
            "UsageMonthsArchived": self.months,
            "UsageItemsArchived": self.items,
            "UsageArchiveHeldBack": self.held_back,
            "UsageArchiveDamaged": self.damaged,
        }


class _OutOfTimeError(Exception):
    """The rest is for the next run."""


def _nothing_told(_what: str, _details: dict[str, Any]) -> None:
    pass


@dataclass(slots=True)
class UsageArchiver:
    """`subscription_ids`: all that may have usage. `close` freezes the statement of a subscription's month and says
    whether all of it is closed. `tell` is called with each month that is held back, and why."""

    usage: Table
    objects: Objects
    clock: Clock
    after_months: int
    subscription_ids: Callable[[], Iterable[str]]
    close: Callable[[str, str], bool]
    tell: Callable[[str, dict[str, Any]], None] = _nothing_told
    part_items: int = PART_ITEMS
    _time_left: Callable[[], float] = field(default=lambda: 1.0, init=False)

    def run(self, time_left: Callable[[], float], *, again: bool = False) -> ArchiveReport:
        """Archives what is ready, until `time_left` gives no more seconds. `again`: whatever is marked as done. Raises
        AwsError: the next run goes on."""
        self._time_left = time_left
        marks, report, now = Marks(self.usage), ArchiveReport(), epoch(self.clock())
        target, state = month_at(self.clock(), self.after_months + 1), marks.state()
        if state.month >= target and not again:
            return report
        if state.next != target:
            state = State(state.month, target, now)
            marks.put_state(state)
        if self._archive_all(target, again, report):
            marks.put_state(State(target, target, now))
        else:
            report.seconds_behind = now - state.since
        return report

    def _archive_all(self, target: str, again: bool, report: ArchiveReport) -> bool:
        """Whether every subscription is archived up to the target."""
        marks, finished = Marks(self.usage), True
        try:
            for some in batched(self.subscription_ids(), 100, strict=False):
                known = marks.of_many(some)
                for subscription_id in some:
                    mark = known.get(subscription_id, Mark())
                    since = "" if again else mark.until
                    if since < target:
                        finished &= self._archive(subscription_id, mark, since, target, report)
        except _OutOfTimeError:
            return False
        return finished

    def _archive(self, subscription_id: str, mark: Mark, since: str, target: str, report: ArchiveReport) -> bool:
        """Archives the months of a subscription after `since`, up to the target. False when one is held back."""
        while (month := self._next(subscription_id, since, target)) is not None:
            self._check_time()
            problem = None
            try:
                if month not in mark.months:
                    manifest = self._written(subscription_id, month)
                    mark = replace(mark, months={**mark.months, month: manifest.sha256})
                    Marks(self.usage).put(subscription_id, mark)
                self._expire(subscription_id, month, mark.months[month], report)
            except (_HeldBackError, InvalidRecordError) as error:
                problem = str(error)
                report.held_back += 1
            except ArchiveDamagedError as error:
                problem = str(error)
                report.damaged += 1
            if problem is not None:
                self.tell(
                    "month not archived", {"subscription_id": subscription_id, "month": month, "problem": problem}
                )
                return False
            report.months += 1
            since = month
            mark = replace(mark, until=max(mark.until, month))
            Marks(self.usage).put(subscription_id, mark)
        if mark.until < target:
            Marks(self.usage).put(subscription_id, replace(mark, until=target))
        return True

    def _next(self, subscription_id: str, since: str, target: str) -> str | None:
        """The first month after `since`, up to the target, of which the table has something."""
        first, last = hours_of(since)[1] if since else keys.HOUR_PREFIX, hours_of(target)[1]
        if first >= last:
            return None
        span = {"pk": keys.subscription_pk(subscription_id), "first": first, "last": last}
        found = self.usage.page("pk = :pk AND sk BETWEEN :first AND :last", span, limit=1).items
        return month_of(found[0]["sk"]["S"]) if found else None

    def _stored(self, subscription_id: str, month: str) -> Iterator[Item]:
        first, last = hours_of(month)
        span = {"pk": keys.subscription_pk(subscription_id), "first": first, "last": last}
        return self.usage.items("pk = :pk AND sk BETWEEN :first AND :last", span)

    def _written(self, subscription_id: str, month: str) -> Manifest:
        """The manifest of a month, once the archive holds all that it names. One that is there stays."""
        if not self.close(subscription_id, month):
            raise _HeldBackError("its statement is not closed")
        place, totals, parts = place_of(subscription_id, month), Totals(), []
        for some in batched(self._stored(subscription_id, month), self.part_items, strict=False):
            self._check_time()
            for item in some:
                if is_metering_record(item):
                    self._require_final(MeteringRecord.from_item(item))
                totals.add(item)
            part, content = part_of(place, some)
            self.objects.put_new(part.name, content)
            parts.append(part)
        manifest = Manifest.new(subscription_id, month, parts, totals)
        self.objects.put_new(manifest_name(subscription_id, month), manifest.content)
        kept = manifest_of(self.objects, subscription_id, month)
        self._verify(subscription_id, month, kept)
        return kept

    def _require_final(self, record: MeteringRecord) -> None:
        """Raises _HeldBackError."""
        if not record.is_final:
            raise _HeldBackError(f"{record.key.sk} is not settled, or not told")
        if record.corrected:
            prefix = keys.corrections_prefix(record.hour, record.dimension)
            for item in self.usage.items_under(record.key.pk, prefix):
                if Correction.from_item(item).is_open:
                    raise _HeldBackError(f"AWS Marketplace has not decided about a correction of {record.key.sk}")

    def _verify(self, subscription_id: str, month: str, manifest: Manifest) -> None:
        """Reads everything back. Raises ArchiveDamagedError."""
        totals = Totals()
        for item in archived_items(self.objects, manifest):
            totals.add(item)
        if totals.as_json() != manifest.totals:
            raise ArchiveDamagedError(manifest_name(subscription_id, month), "its sums are not those of its files")

    def _expire(self, subscription_id: str, month: str, sha256: str, report: ArchiveReport) -> None:
        """Gives a time to live to what the table has as the archive has it."""
        manifest = manifest_of(self.objects, subscription_id, month, sha256)
        expires_at, other = epoch(self.clock()) + GRACE, ""

        def equal() -> Iterator[Item]:
            nonlocal other
            for stored, kept in joined(self._stored(subscription_id, month), archived_items(self.objects, manifest)):
                if stored is None:
                    continue
                if kept is None or line_of(kept) != line_of(stored):
                    other = other or stored["sk"]["S"]
                elif EXPIRY not in stored:
                    yield stored

        for some in batched(equal(), _AT_ONCE, strict=False):
            self._check_time()
            records = [MeteringRecord.from_item(item).expiring(expires_at) for item in some if is_metering_record(item)]
            others = [
                (expires_at, item["pk"]["S"], item["sk"]["S"], int(item["quantity"]["N"]))
                for item in some
                if not is_metering_record(item)
            ]
            failed = self.usage.update_all(EXPIRING, records) + self.usage.update_all(ALLOCATION_EXPIRING, others)
            if failed:
                raise _OutOfTimeError
            report.items += len(some)
        if other:
            raise _HeldBackError(f"{other} is another in the table than in the archive, or only in the table")

    def _check_time(self) -> None:
        if self._time_left() <= 0:
            raise _OutOfTimeError


class _HeldBackError(Exception):
    """A month can't be archived; the text says why."""
