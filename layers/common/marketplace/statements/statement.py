"""A statement: what one subscription used in a month, by day, dimension and tag set, and what became of it.

Of every line and of every total, what was recorded is what is included in a contract, metered, refused, still open and
in shadow, together. Days are days in UTC of the hours that the usage was booked to, as AWS bills them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

from marketplace.ledger.conflict import excess, is_resolved, to_carry
from marketplace.ledger.correction import Correction as Adjustment
from marketplace.ledger.deadlines import window_closes_at
from marketplace.ledger.record import MeteringRecord, State
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, epoch

type TagSet = tuple[tuple[str, str], ...]

_PLACE: Mapping[State, str] = {
    "metered": "metered",
    "open": "open",
    "held": "open",
    "awaiting_approval": "open",
    "rejected": "refused",
    "conflict": "refused",
    "unbillable": "refused",
    "shadow": "shadow",
}
"""Where the units of a metering record count, by its state. What was refused may be sent again until AWS's window
closes."""

_UNSETTLED = frozenset({"open", "held", "rejected", "awaiting_approval"})


@dataclass(frozen=True, slots=True)
class Units:
    """Units of usage. `credit` is what of `metered` has to be credited to the buyer: a contract includes it, as turned
    out later, or another sender has metered it. `adjusted` is what of `metered` billing adjustments have given back.
    `shadow` is of hours before metering starts, which another meter bills."""

    included: int = 0
    metered: int = 0
    refused: int = 0
    open: int = 0
    credit: int = 0
    adjusted: int = 0
    shadow: int = 0

    @property
    def recorded(self) -> int:
        return self.included + self.metered + self.refused + self.open + self.shadow

    def __add__(self, other: "Units") -> "Units":
        return Units(*(getattr(self, name) + getattr(other, name) for name in COLUMNS))

    def as_json(self) -> dict[str, int]:
        return {"recorded": self.recorded, **{name: getattr(self, name) for name in COLUMNS}}

    @classmethod
    def from_json(cls, values: Mapping[str, int]) -> Self:
        """What was frozen by an earlier version lacks the columns that have come since."""
        return cls(*(values.get(name, 0) for name in COLUMNS))


COLUMNS = tuple(field.name for field in fields(Units))


@dataclass(frozen=True, slots=True)
class Line:
    """One dimension and tag set of a day; () is usage without tags."""

    dimension: str
    tags: TagSet
    units: Units

    def as_json(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "tags": dict(self.tags), **self.units.as_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(values["dimension"], tuple(sorted(values["tags"].items())), Units.from_json(values))


@dataclass(frozen=True, slots=True)
class Correction:
    """A line that changed after its day was frozen, and how many units more or less it has now."""

    day: str
    dimension: str
    tags: TagSet
    change: Units

    def as_json(self) -> dict[str, Any]:
        return {"day": self.day, "dimension": self.dimension, "tags": dict(self.tags), **self.change.as_json()}


@dataclass(frozen=True, slots=True)
class Day:
    """One day, such as `2026-11-18`. `closed`: its lines stay as they are for good; what changed since is in
    `corrections`."""

    day: str
    lines: Sequence[Line]
    closed: bool = False
    corrections: Sequence[Correction] = ()

    @property
    def totals(self) -> list[tuple[str, Units]]:
        return totals_of(self.lines)


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole month, such as `2026-11`, of one subscription."""

    subscription_id: str
    month: str
    days: Sequence[Day]

    @property
    def totals(self) -> list[tuple[str, Units]]:
        return totals_of(line for day in self.days for line in day.lines)

    @property
    def corrections(self) -> list[Correction]:
        return [one for day in self.days for one in day.corrections]

    @property
    def settled(self) -> bool:
        """Whether no day of it is open; true of a month without usage."""
        return all(day.closed for day in self.days)

    @property
    def closed(self) -> bool:
        return bool(self.days) and self.settled


@dataclass(frozen=True, slots=True)
class Part:
    """Units of one tag set that a day's items hold."""

    dimension: str
    tags: TagSet
    units: Units


def parts_of(record: MeteringRecord, allocations: Iterable[tuple[TagSet, int]]) -> Iterator[Part]:
    """What a metering record and its allocations hold, by tag set; what no allocation has is usage without tags. Of a
    resolved conflict that is what AWS has, whose tags are another sender's; what a later hour has taken is not part of
    it."""
    if is_resolved(record):
        yield Part(record.dimension, (), Units(metered=record.billed, refused=to_carry(record), credit=excess(record)))
        return
    place, left = _PLACE[record.state], record.quantity
    for tags, quantity in allocations:
        left -= quantity
        yield Part(record.dimension, tags, Units(**{place: quantity}))
    yield Part(record.dimension, (), Units(**{place: left}))


def adjusted_parts(corrections: Iterable[Adjustment]) -> Iterator[Part]:
    """What billing adjustments have given back."""
    for one in corrections:
        if one.state == "completed":
            yield Part(one.dimension, tuple(sorted((one.tags or {}).items())), Units(adjusted=one.units))


def is_unsettled(record: MeteringRecord) -> bool:
    return record.state in _UNSETTLED


def lines_of(parts: Iterable[Part]) -> list[Line]:
    """The lines of a day, in the order of dimensions and tags; none for what is nothing."""
    found: dict[tuple[str, TagSet], Units] = {}
    for part in parts:
        place = (part.dimension, part.tags)
        found[place] = found.get(place, Units()) + part.units
    return [Line(*place, units) for place, units in sorted(found.items()) if units != Units()]


def totals_of(lines: Iterable[Line]) -> list[tuple[str, Units]]:
    """The units of each dimension, in the order of dimensions."""
    found: dict[str, Units] = {}
    for line in lines:
        found[line.dimension] = found.get(line.dimension, Units()) + line.units
    return sorted(found.items())


def corrections_of(day: str, frozen: Iterable[Line], now: Iterable[Line]) -> list[Correction]:
    """What changed in a day since it was frozen."""
    before = {(line.dimension, line.tags): line.units for line in frozen}
    after = {(line.dimension, line.tags): line.units for line in now}
    return [
        Correction(day, *place, _change(before.get(place, Units()), after.get(place, Units())))
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
    ]


def _change(before: Units, after: Units) -> Units:
    return Units(*(getattr(after, name) - getattr(before, name) for name in COLUMNS))


def month_span(month: str) -> tuple[EpochSeconds, EpochSeconds]:
    """The first second of a month such as `2026-11`, and of the one after it."""
    year, number = int(month[:4]), int(month[5:])
    following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return epoch(datetime(year, number, 1, tzinfo=UTC)), epoch(following)


def closes_at(month: str) -> EpochSeconds:
    """When AWS certainly takes no usage of a month any more."""
    return window_closes_at(EpochSeconds(month_span(month)[1] - HOUR))


def days_of(month: str) -> list[str]:
    start, end = month_span(month)
    return [datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d") for moment in range(start, end, DAY)]
