"""Whether contracts were charged as AWS's side says: by what the emulator granted at the time of the usage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.entitlements.terms import AWAITED_FOR
from marketplace_emulator import Purchase

FOREVER = float("inf")


@dataclass(frozen=True)
class AwsTerm:
    """One agreement of a licence: from when to when its usage happens, and what AWS showed of its grant, when."""

    starts_at: float
    until: float
    grants: tuple[tuple[float, int], ...]

    def holds(self, moment: float) -> bool:
        return self.starts_at <= moment < self.until

    @property
    def largest(self) -> int:
        return max((quantity for _, quantity in self.grants), default=0)

    @property
    def last(self) -> int:
        return self.grants[-1][1] if self.grants else 0

    @property
    def settled_at(self) -> float:
        """Since when AWS has shown what it grants for this term to the end."""
        since = FOREVER
        for at, quantity in reversed(self.grants):
            if quantity != self.last:
                break
            since = at
        return since

    def smallest(self, since: float, until: float) -> int:
        """The least that AWS showed for this term between two moments: a reading that is still good may be of any."""
        shown = [quantity for at, quantity in self.grants if since <= at <= until]
        before = [quantity for at, quantity in self.grants if at < since]
        return min([*shown, *before[-1:]], default=0)


def terms_of(purchase: Purchase, dimension: str) -> list[AwsTerm]:
    """The terms of a purchase, the first of which takes usage from before it too."""
    starts = [agreement.starts_at for agreement in purchase.agreements]
    terms: list[AwsTerm] = []
    for agreement, starts_at, until in zip(purchase.agreements, starts, [*starts[1:], FOREVER], strict=True):
        grants = [
            (grant.at, int(grant.entitlements.get(dimension, 0)))
            for grant in purchase.grants
            if grant.agreement_id == agreement.id and grant.at < (purchase.deprovisioned_at or FOREVER)
        ]
        terms.append(AwsTerm(starts_at if terms else -FOREVER, until, tuple(grants)))
    return terms


@dataclass
class Charged:
    """What became of a term's usage: all of it, the part that the contract included, and what was charged and is listed
    to be corrected; and how much may have been charged, and may stay so. `first`: when the first of it happened."""

    usage: int = 0
    included: int = 0
    corrected: int = 0
    first: float = FOREVER
    may_be_charged: int = 0
    may_stay_charged: int = 0
    _used: int = 0

    def add(self, moment: float, record: Mapping[str, Any], limit: int) -> None:
        """The records are added in the order in which they were booked. What is listed to be corrected of an earlier
        one may have taken the room of this one."""
        quantity = int(record["quantity"])
        self.usage += quantity
        self.included += record["included"]
        self.first = min(self.first, moment)
        free = max(0, min(quantity, limit - self._used))
        self.may_stay_charged += quantity - free
        self.may_be_charged += quantity - max(0, min(free, limit - self._used - self.corrected))
        self._used += free
        self.corrected += record.get("correction_due", 0)

    @property
    def charged(self) -> int:
        return self.usage - self.included


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which AWS listed nothing of a licence that grants something."""

    began: int
    ended: int

    @property
    def seconds(self) -> int:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Shown:
    """What the product can know of one contract. `max_age`: for how many seconds a reading is good; `ended_at`: when
    the contract ended at AWS; `silences`: when AWS listed nothing of it; `expires_at`: the last ExpirationDate of a
    contract that has ended."""

    max_age: int
    ended_at: float | None = None
    silences: Sequence[Silence] = ()
    expires_at: float = FOREVER

    def since(self, booked: float) -> float:
        """From when on what AWS showed may be what a record was booked by. AWS is asked when a contract ends, for the
        last time that it can answer. If it lists nothing then, the usage of the last hour is booked by what was shown
        whenever it was asked before: it can't wait."""
        ended = self.ended_at
        if (
            ended is None
            or booked < ended
            or not any(one.began <= booked and one.ended >= ended for one in self.silences)
        ):
            return booked - self.max_age
        return -FOREVER

    def limit(self, term: AwsTerm, moment: float, booked: float) -> int:
        """How much is included of a term, as of usage of this moment that is booked then. Nothing once the renewal of a
        contract that has ended is awaited no more."""
        if moment >= self.expires_at and booked >= self.expires_at + AWAITED_FOR:
            return 0
        return term.smallest(self.since(booked), booked)


def charges(
    terms: Iterable[AwsTerm], records: Iterable[tuple[float, Mapping[str, Any]]], shown: Shown
) -> Iterator[tuple[AwsTerm, Charged]]:
    """The usage of each term. `records`: the stored usage records of one contract's dimension, each with the moment of
    its usage. A record may be charged only beyond the least that AWS showed while the reading that it was booked by
    could still be good."""
    ordered = sorted(records, key=lambda one: one[1]["recorded_at"])
    for term in terms:
        charged = Charged()
        for moment, record in ordered:
            if term.holds(moment):
                booked = record["recorded_at"]
                charged.add(moment, record, shown.limit(term, moment, booked))
        yield term, charged
