"""Statements from the usage table: three bounded queries of the subscription's partition, whatever its history.

    HOUR#<hour>#...           metering records and allocations; those of archived months from the archive
    DAY#<day>#<dimension>...  what a contract includes
    STATEMENT#<day>           a frozen day; its lines are in FROZEN#<day>#<digest>#<number>

and one more, CORRECTION#<hour>#..., for each day with billing adjustments.

A day is frozen by the first reader that finds it closed: AWS takes no usage of its month any more, and every metering
record of it is settled. Its lines are written under their digest first, and the mark that names the digest is written
if there is none, so whoever comes second reads what the first one wrote.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.archive.bucket import Objects
from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.paging import InvalidCursorError, cursor_of
from marketplace.dynamodb.paging import parts_of as cursor_parts
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction as Adjustment
from marketplace.ledger.record import MeteringRecord, is_metering_record
from marketplace.platform.clock import Clock, epoch
from marketplace.statements.statement import (
    Correction,
    Day,
    Line,
    Part,
    Statement,
    Units,
    adjusted_parts,
    closes_at,
    corrections_of,
    days_of,
    is_unsettled,
    lines_of,
    parts_of,
)

MAX_PAGE = 1000
_PART_BYTES = 300_000
"""A DynamoDB item holds 400 KB."""


@dataclass(frozen=True, slots=True)
class DayOnPage:
    """A day, and those of its lines and corrections that are on this page."""

    day: Day
    lines: Sequence[Line]
    corrections: Sequence[Correction]


@dataclass(frozen=True, slots=True)
class StatementPage:
    """Some days of a statement; the last one may go on on the next page."""

    days: list[DayOnPage]
    cursor: str | None


class StatementReader:
    """The usage table as statements see it. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table, clock: Clock, archive: Objects | None = None) -> None:
        self._table = table
        self._clock = clock
        self._history = UsageHistory(table, clock, archive)

    def statement(self, subscription_id: str, month: str) -> Statement:
        """A whole month, such as `2026-11`."""
        return Statement(subscription_id, month, list(self._days(subscription_id, month, days_of(month)[0])))

    def page(
        self, subscription_id: str, month: str, *, cursor: str | None = None, limit: int = MAX_PAGE
    ) -> StatementPage:
        """The days of a month from where the page before ended, until `limit` lines are on the page. Days without usage
        are left out. Raises InvalidCursorError."""
        first, offset = days_of(month)[0], 0
        if cursor is not None:
            first, offset = _place(cursor, month)
        days: list[DayOnPage] = []
        room = limit
        for day in self._days(subscription_id, month, first):
            start = offset if day.day == first else 0
            lines = day.lines[start : start + room]
            days.append(DayOnPage(day, lines, () if start else day.corrections))
            room -= len(lines)
            if start + len(lines) < len(day.lines):
                return StatementPage(days, cursor_of(day.day, start + len(lines)))
            if room <= 0:
                following = next((one for one in days_of(month) if one > day.day), None)
                return StatementPage(days, None if following is None else cursor_of(following, 0))
        return StatementPage(days, None)

    def _days(self, subscription_id: str, month: str, first: str) -> Iterator[Day]:
        """The days with usage, from a day on."""
        pk = keys.subscription_pk(subscription_id)
        now = epoch(self._clock())
        last = days_of(month)[-1]
        recorded = self._history.items(subscription_id, f"{keys.HOUR_PREFIX}{first}", f"{keys.HOUR_PREFIX}{last}~")
        hours = _ByDay(recorded, keys.HOUR_PREFIX)
        included = _ByDay(self._span(pk, keys.day_prefix(first), f"{keys.day_prefix(last)}~"), keys.DAY_PREFIX)
        frozen = _ByDay(
            self._span(pk, keys.STATEMENT_PREFIX + first, f"{keys.STATEMENT_PREFIX}{last}~"), keys.STATEMENT_PREFIX
        )
        for day in (one for one in days_of(month) if one >= first):
            read = hours.of(day)
            records, parts = _hour_parts(read)
            unsettled = any(is_unsettled(record) for record in records)
            adjusted = adjusted_parts(self._adjustments(pk, day) if any(one.corrected for one in records) else ())
            lines = lines_of([*parts, *adjusted, *map(_included_part, included.of(day))])
            mark = next(iter(frozen.of(day)), None)
            if mark is None and lines and now >= closes_at(month) and not unsettled:
                mark = self._freeze(subscription_id, day, lines, now)
            if mark is not None:
                kept = self._content(subscription_id, day, from_item(mark))
                yield Day(day, kept, closed=True, corrections=corrections_of(day, kept, lines))
            elif lines:
                yield Day(day, lines)

    def _span(self, pk: str, first: str, last: str) -> Iterator[Item]:
        return self._table.items("pk = :pk AND sk BETWEEN :first AND :last", {"pk": pk, "first": first, "last": last})

    def _adjustments(self, pk: str, day: str) -> Iterator[Adjustment]:
        return map(Adjustment.from_item, self._table.items_under(pk, f"{keys.CORRECTION_PREFIX}{day}"))

    def _freeze(self, subscription_id: str, day: str, lines: list[Line], now: int) -> Item:
        content = json.dumps([line.as_json() for line in lines], separators=(",", ":"), sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()[:32]
        text = base64.b85encode(zlib.compress(content, 9)).decode()
        pieces = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
        for number, piece in enumerate(pieces):
            key = keys.frozen_part(subscription_id, day, digest, number)
            self._table.put(to_item({**key._asdict(), "content": piece}))
        place = keys.frozen_day(subscription_id, day)
        mark = to_item({**place._asdict(), "digest": digest, "parts": len(pieces), "frozen_at": now})
        if not self._table.put_new(mark):
            return self._table.get(place) or mark
        return mark

    def _content(self, subscription_id: str, day: str, mark: Mapping[str, Any]) -> list[Line]:
        places = [keys.frozen_part(subscription_id, day, mark["digest"], number) for number in range(mark["parts"])]
        found = self._table.get_many(places)
        text = "".join(found[place]["content"]["S"] for place in places)
        return [Line.from_json(values) for values in json.loads(zlib.decompress(base64.b85decode(text)))]


class _ByDay:
    """Items in the order of their keys, taken a day at a time."""

    def __init__(self, items: Iterator[Item], prefix: str) -> None:
        self._items = items
        self._prefix = len(prefix)
        self._next = next(items, None)

    def of(self, day: str) -> list[Item]:
        """The items of a day; days are asked for in their order."""
        found = []
        while self._next is not None and self._next["sk"]["S"][self._prefix : self._prefix + 10] <= day:
            found.append(self._next)
            self._next = next(self._items, None)
        return found


def _hour_parts(items: list[Item]) -> tuple[list[MeteringRecord], list[Part]]:
    """The metering records of a day, and what they and their allocations hold."""
    allocations: dict[str, list[tuple[Any, int]]] = {}
    records: list[MeteringRecord] = []
    for item in items:
        sk = item["sk"]["S"]
        if keys.is_allocation(sk):
            values = from_item(item)
            tags = tuple(sorted(values["tags"].items()))
            allocations.setdefault(sk.partition(keys.TAGS_MARK)[0], []).append((tags, values["quantity"]))
        elif is_metering_record(item):
            records.append(MeteringRecord.from_item(item))
    return records, [part for record in records for part in parts_of(record, allocations.get(record.key.sk, ()))]


def _included_part(item: Item) -> Part:
    values = from_item(item)
    units = Units(included=values.get("included", 0), credit=values.get("correction", 0))
    return Part(values["dimension"], tuple(sorted(values.get("tags", {}).items())), units)


def _place(cursor: str, month: str) -> tuple[str, int]:
    day, offset = cursor_parts(cursor, 2)
    if day not in days_of(month) or type(offset) is not int or offset < 0:
        raise InvalidCursorError("the cursor belongs to another query")
    return day, offset
