"""Compares two sides of any size, entry by entry, and names every difference.

Three passes, each over sorted rows (marketplace.reconcile.sorting):

1. by payer, dimension and period: equal ones are done with; another quantity, another sender and another hour of the
   same payer are told here;
2. what is left, by MeteringRecordId: the same record of AWS under another payer or hour;
3. what is left of that, by dimension, period and quantity, where a side has no MeteringRecordId: another payer.

What still has no counterpart is only ours, or only theirs.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

from marketplace.platform.clock import MINUTE
from marketplace.reconcile.difference import Acceptance, Difference, Kind
from marketplace.reconcile.evidence import FRESH, METERED, RESOLVED, SHADOW, Entry, Gap, Quantity
from marketplace.reconcile.sorting import Sorter

GAP_REACH = 5 * MINUTE
"""How far the moment at which a record was settled may be from the event that would show it."""

type _Rows = Iterator[tuple[Any, ...]]
_OURS, _THEIRS = 0, 1
_EXPECTED = frozenset({METERED, FRESH, RESOLVED, SHADOW})
_MISSED = frozenset({METERED, SHADOW})


def reconcile(
    ours: Iterable[Entry],
    theirs: Iterable[Entry],
    prices: Mapping[str, Decimal] | None = None,
    accepted: Iterable[Acceptance] = (),
    *,
    senders: Collection[str] | None = None,
    others_until: int = 0,
    gaps: Sequence[Gap] = (),
    tolerance: Quantity = 0,
    shows_zeros: bool = True,
) -> Iterator[Difference]:
    """Every difference between our entries and AWS's, in no particular order.

    prices: of a unit, by dimension. accepted: differences that carry a reason from then on; they are found all the
    same. senders: the roles that send for us, by ARN or by name; None asks no entry for its sender. others_until:
    usage of periods before this moment is another meter's to send. gaps: read after `theirs` was, so the reader of
    `theirs` may fill it. tolerance: quantities that differ by no more count as equal, for reports that round.
    shows_zeros: whether `theirs` has an entry for a quantity of 0; reports have none.
    """
    reasons = {one.difference_id: one.reason for one in accepted}
    with ExitStack() as files:
        comparison = _Comparison(
            files, senders=senders, others_until=others_until, gaps=gaps, tolerance=tolerance, shows_zeros=shows_zeros
        )
        for found in comparison.differences(ours, theirs):
            price = None if prices is None else prices.get(found.dimension)
            priced = found if price is None else replace(found, money=price * Decimal(str(found.units)))
            reason = reasons.get(priced.id) if reasons else None
            yield priced if reason is None else replace(priced, accepted=reason)


@dataclass(slots=True)
class _Key:
    """What both sides say of one payer, dimension and period."""

    ours: list[Entry]
    theirs: list[Entry]

    @property
    def recorded(self) -> Quantity:
        return sum(entry.quantity for entry in self.ours)

    @property
    def metered(self) -> Quantity:
        return sum(entry.quantity for entry in self.ours if entry.state in _EXPECTED)

    @property
    def shown(self) -> Quantity:
        return sum(entry.quantity for entry in self.theirs)

    @property
    def state(self) -> str:
        return "+".join(sorted({METERED if entry.state == FRESH else entry.state for entry in self.ours}))

    @property
    def is_metered(self) -> bool:
        return any(entry.state in _EXPECTED for entry in self.ours)

    def told(self, kind: Kind, expected: Quantity) -> Difference:
        """The difference from the quantity that AWS is expected to show."""
        one = (self.ours or self.theirs)[0]
        return Difference(
            kind=kind,
            payer=one.payer,
            dimension=one.dimension,
            period=one.period,
            ours=self.recorded if self.ours else None,
            theirs=self.shown if self.theirs else None,
            units=self.shown - expected,
            our_state=self.state,
            references=_distinct(entry.reference for entry in (*self.ours, *self.theirs)),
            senders=_distinct(entry.sender for entry in self.theirs),
        )


class _Comparison:
    def __init__(
        self,
        files: ExitStack,
        *,
        senders: Collection[str] | None,
        others_until: int,
        gaps: Sequence[Gap],
        tolerance: Quantity,
        shows_zeros: bool,
    ) -> None:
        self._files = files
        self._senders = None if senders is None else frozenset(senders)
        self._others_until = others_until
        self._gaps = gaps
        self._tolerance = tolerance
        self._shows_zeros = shows_zeros

    def differences(self, ours: Iterable[Entry], theirs: Iterable[Entry]) -> Iterator[Difference]:
        """What the three passes tell. Each leaves its rest, sorted, to the next."""
        mine, shown = Sorter(self._files), Sorter(self._files)
        mine.add_all(ours)
        shown.add_all(theirs)
        by_reference, by_place = Sorter(self._files), Sorter(self._files)
        yield from self._by_key(mine.in_order(), shown.in_order(), by_reference)
        yield from _by_reference(by_reference.in_order(), by_place)
        yield from self._by_place(by_place.in_order())

    # -- 1: payer, dimension and period -------------------------------------------------------------------

    def _by_key(self, ours: _Rows, theirs: _Rows, rest: Sorter) -> Iterator[Difference]:
        series: tuple[str, str] | None = None
        missing: list[_Key] = []
        extra: list[_Key] = []
        for place, mine, shown in _joined(ours, theirs):
            if len(mine) == len(shown) == 1 and self._is_equal(mine[0], shown[0]):
                continue
            if place[:2] != series:
                yield from _moved(missing, extra, rest)
                series, missing, extra = place[:2], [], []
            others_first = sorted(
                map(Entry._make, shown), key=lambda entry: self._is_rightful(entry.period, entry.sender)
            )
            key = _Key([Entry._make(row) for row in mine], _once(others_first))
            if not key.theirs:
                if self._is_missing(key):
                    missing.append(key)
            elif found := self._told(key):
                yield found
            elif not key.ours:
                extra.append(key)
        yield from _moved(missing, extra, rest)

    def _is_equal(self, mine: tuple[Any, ...], shown: tuple[Any, ...]) -> bool:
        """The common case, by the places of Entry's members: metered, of the same quantity, and sent by us."""
        return mine[3] == shown[3] and mine[6] in _EXPECTED and self._is_rightful(shown[2], shown[5])

    def _is_rightful(self, period: int, sender: str) -> bool:
        """Whether the sender is one who is to send usage of this period."""
        known = self._senders
        return (
            period < self._others_until
            or known is None
            or not sender
            or sender in known
            or sender.rpartition("/")[2] in known
        )

    def _is_missing(self, key: _Key) -> bool:
        counted = [entry for entry in key.ours if entry.state in _MISSED]
        return bool(counted) and (self._shows_zeros or key.metered != 0)

    def _told(self, key: _Key) -> Difference | None:
        """What differs where AWS shows something; None also where there is nothing of ours at all. Of a resolved
        conflict it is known that somebody else has sent it."""
        is_known = key.state == RESOLVED and key.shown == key.metered
        if not is_known and not all(self._is_rightful(entry.period, entry.sender) for entry in key.theirs):
            return key.told("sent_by_someone_else", key.metered)
        if not key.ours:
            return None
        if not key.is_metered:
            if key.state == "conflict" and key.shown != key.recorded:
                return key.told("other_quantity", key.recorded)
            return key.told("only_theirs", key.metered)
        if abs(key.shown - key.metered) > self._tolerance:
            return key.told("other_quantity", key.metered)
        return None

    # -- 3: dimension, period and quantity ----------------------------------------------------------------

    def _by_place(self, rows: _Rows) -> Iterator[Difference]:
        for _, group in groupby(rows, itemgetter(0, 1, 2)):
            mine: list[Entry] = []
            shown: list[Entry] = []
            for dimension, period, quantity, side, payer, *others in group:
                (shown if side else mine).append(Entry(payer, dimension, period, quantity, *others))
            named = [entry for entry in mine if entry.reference]
            for entry in shown:
                nameless = named if not entry.reference else []
                pair = next((one for one in mine if not one.reference), None) or next(iter(nameless), None)
                if pair is None:
                    yield _Key([], [entry]).told("only_theirs", 0)
                    continue
                mine.remove(pair)
                named = [one for one in named if one is not pair]
                yield _changed("other_identity", pair, entry)
            for entry in mine:
                kind: Kind = "unproven" if self._is_in_gap(entry) else "only_ours"
                yield _Key([entry], []).told(kind, entry.quantity)

    @cached_property
    def _gap_moments(self) -> list[int]:
        return sorted(gap.moment for gap in self._gaps)

    def _is_in_gap(self, entry: Entry) -> bool:
        moments = self._gap_moments
        place = bisect_left(moments, entry.moment - GAP_REACH)
        return place < len(moments) and moments[place] <= entry.moment + GAP_REACH


def _joined(ours: _Rows, theirs: _Rows) -> Iterator[tuple[tuple[Any, ...], list[Any], list[Any]]]:
    """Both sides by payer, dimension and period, in this order."""
    left, right = _groups(ours), _groups(theirs)
    mine, shown = next(left, None), next(right, None)
    while mine is not None or shown is not None:
        if shown is None or (mine is not None and mine[0] < shown[0]):
            assert mine is not None
            yield mine[0], mine[1], []
            mine = next(left, None)
        elif mine is None or shown[0] < mine[0]:
            yield shown[0], [], shown[1]
            shown = next(right, None)
        else:
            yield mine[0], mine[1], shown[1]
            mine, shown = next(left, None), next(right, None)


def _groups(rows: _Rows) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    for place, group in groupby(rows, itemgetter(0, 1, 2)):
        yield place, list(group)


def _once(entries: list[Entry]) -> list[Entry]:
    """Each record of AWS once: the same MeteringRecordId in several events is a repetition, which AWS bills once."""
    found: dict[str, Entry] = {}
    for number, entry in enumerate(entries):
        found.setdefault(entry.reference or f"\0{number}", entry)
    return list(found.values())


def _moved(missing: list[_Key], extra: list[_Key], rest: Sorter) -> Iterator[Difference]:
    """What is missing of one payer and dimension, at another hour of it; the others go to the rest."""
    left = [entry for key in extra for entry in key.theirs]
    for mine in (entry for key in missing for entry in key.ours if entry.state in _MISSED):
        nearest = sorted(left, key=lambda entry: abs(entry.period - mine.period))
        same = next((entry for entry in nearest if _same_record(mine, entry)), None)
        if same is None:
            rest.add(_by_reference_row(_OURS, mine))
        else:
            left.remove(same)
            yield _changed("other_hour", mine, same)
    for entry in left:
        rest.add(_by_reference_row(_THEIRS, entry))


def _same_record(mine: Entry, shown: Entry) -> bool:
    if mine.reference and shown.reference:
        return mine.reference == shown.reference
    return mine.quantity == shown.quantity


def _by_reference_row(side: int, entry: Entry) -> tuple[Any, ...]:
    return (entry.reference, side, tuple(entry))


def _by_reference(rows: _Rows, rest: Sorter) -> Iterator[Difference]:
    """The second pass: one record of AWS that both sides have, under another payer or at another hour."""
    for reference, group in groupby(rows, itemgetter(0)):
        found = [(side, Entry._make(entry)) for _, side, entry in group]
        if reference and found[0][0] == _OURS and found[-1][0] == _THEIRS:
            mine, shown = found[0][1], found[-1][1]
            if mine.dimension == shown.dimension:
                yield _changed("other_identity" if mine.payer != shown.payer else "other_hour", mine, shown)
                found = found[1:-1]
        for side, one in found:
            rest.add((one.dimension, one.period, one.quantity, side, one.payer, *one[4:]))


def _changed(kind: Kind, mine: Entry, shown: Entry) -> Difference:
    """One record that both sides have, in other places."""
    told = _Key([mine], [shown]).told(kind, mine.quantity)
    return replace(
        told,
        their_payer=shown.payer if shown.payer != mine.payer else None,
        their_period=shown.period if shown.period != mine.period else None,
    )


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({text for text in texts if text}))
