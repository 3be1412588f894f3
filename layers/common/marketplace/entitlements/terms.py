"""The terms of an entitlement: from when to when AWS granted how much in one dimension, as the readings showed it.

GetEntitlements answers what holds now, without a start. So each reading is compared with the term that is known:

| the reading | what it means |
|---|---|
| the same ExpirationDate | the term goes on; a changed value moves its limit |
| another date, while the term is running | an upgrade that moves the end: the term goes on |
| a later date, once the term has ended, or in its last hour | a renewal: a new term begins where the old one ended |
| nothing | taken back, or not shown for a moment: the term stays known, and what holds now is awaited |
| another date, after an hour or more of nothing | bought again: a new term begins where the old one was taken back |

Assumption: AWS shows a renewal around the end of the term, not sooner than an hour before it (Seller Guide,
saas-notification: notifications of agreements that are signed ahead come on their start date). A renewal shown sooner
would be taken for an upgrade that moves the end. An upgrade that moves the end and is first read after the old end is
taken for a renewal, which includes more, not less.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from marketplace.entitlements.rules import PENDING_FOR, Entitlement, ValueType
from marketplace.platform.clock import DAY, HOUR, MINUTE

RENEWAL_LEAD = HOUR
"""How long before a term's end a later ExpirationDate is taken for its renewal."""

LAST_READING_LEAD = 30
"""How long before a term's end AWS is asked once more what it grants: within the shortest EntitlementMaxAgeMinutes."""

RENEWAL_READING_AFTER = 2 * MINUTE
"""How long after a term's end AWS is asked for its renewal. Without that, a term that no notification and no usage told
of would be taken for a part of the next one."""

AWAITED_FOR = 12 * HOUR
"""How long after a term's end a reading without its renewal means "not yet", and after an activation a reading without
any entitlement. ExpirationDate is the minimum date through which an entitlement is valid (botocore model), and usage
can wait 24 hours."""

MAX_TERMS = 10
"""How many terms of a dimension are kept, the newest. Usage is at most a day old; the others keep the names of counters
apart."""

LOOK_AHEAD = DAY + HOUR
"""How long before they are due the readings around a term's end are requested: something reads each subscription once
a day."""

type Standing = Literal["held", "awaited", "over"]
"""Whether a term is what holds at a moment; awaited: it was, and what holds now is not known yet; over: nothing is
granted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedTerm:
    """A period in which AWS granted a value. Times are seconds since the epoch; `ends_at` is its ExpirationDate.

    `first_end`, the ExpirationDate that the term was first read with, names it for good, whatever happens to the end;
    `counted_from` tells it from an earlier term with the same `first_end`. The first term that was read is taken to
    hold before `starts_at` too. `read_until`: when AWS showed the term last; None while it shows it.
    """

    starts_at: int
    ends_at: int | None
    first_end: int | None
    value_type: ValueType
    value: int | bool | str
    counted_from: int | None = None
    read_until: int | None = None

    @classmethod
    def of(cls, granted: Entitlement, starts_at: int, counted_from: int | None = None) -> Self:
        return cls(
            starts_at=starts_at,
            ends_at=granted.expires_at,
            first_end=granted.expires_at,
            value_type=granted.value_type,
            value=granted.value,
            counted_from=counted_from,
        )

    def as_values(self) -> dict[str, Any]:
        """Plain values for an item."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{name: values.get(name) for name in cls.__slots__})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class History:
    """The terms of one dimension, the oldest first. Each but the last holds until the next one starts.

    `withdrawn_at`: since when AWS lists the dimension no more; `wholly`: nor anything else. `revision` is another one
    whenever the stored history has changed; None before it is stored.
    """

    terms: tuple[GrantedTerm, ...] = ()
    withdrawn_at: int | None = None
    wholly: bool = False
    revision: int | None = field(default=None, compare=False)

    def after_reading(
        self, granted: Entitlement | None, now: int, *, empty: bool, read_before: int | None
    ) -> "History":
        """The history once AWS has answered at `now` that it grants this. `empty`: its answer listed nothing at all;
        `read_before`: when AWS was asked the time before."""
        if granted is None:
            if not self.terms:
                return self
            withdrawn_at = now if self.withdrawn_at is None else self.withdrawn_at
            return replace(self, terms=self._all_read_until(read_before), withdrawn_at=withdrawn_at, wholly=empty)
        if not self.terms:
            seen = now if granted.expires_at is None else min(now, granted.expires_at - 1)
            return History((GrantedTerm.of(granted, seen),))
        starts_at = self._new_term_starts_at(granted.expires_at, now)
        if starts_at is None:
            moved = replace(
                self.terms[-1],
                ends_at=granted.expires_at,
                value_type=granted.value_type,
                value=granted.value,
                read_until=None,
            )
            return History((*self.terms[:-1], moved))
        starts_at = max(starts_at, self.terms[-1].starts_at + 1)
        again = any(term.first_end == granted.expires_at for term in self.terms)
        begun = GrantedTerm.of(granted, starts_at, counted_from=starts_at if again else None)
        return History((*self._all_read_until(read_before), begun)[-MAX_TERMS:])

    def _all_read_until(self, read_before: int | None) -> tuple[GrantedTerm, ...]:
        """The terms once AWS doesn't show the last one any more."""
        last = self.terms[-1]
        return (
            self.terms if self.withdrawn_at is not None else (*self.terms[:-1], replace(last, read_until=read_before))
        )

    def _new_term_starts_at(self, expires_at: int | None, now: int) -> int | None:
        """When the term of a reading with this date began; None if it is the last one still."""
        ends_at = self.terms[-1].ends_at
        if expires_at == ends_at:
            return None
        later = ends_at is not None and (expires_at is None or expires_at > ends_at)
        if later and ends_at is not None and now >= ends_at - RENEWAL_LEAD:
            return ends_at
        if self.withdrawn_at is not None and now - self.withdrawn_at >= PENDING_FOR:
            return self.withdrawn_at
        return None

    def at(self, moment: int) -> GrantedTerm | None:
        """The term that usage of this moment counts against; None if there never was one."""
        begun = (term for term in reversed(self.terms) if term.starts_at <= moment)
        return next(begun, self.terms[0] if self.terms else None)

    def standing(self, moment: int, now: int) -> Standing:
        """Whether the term of this moment is known, as of now, to hold then."""
        term = self.at(moment)
        if term is None:
            return "over"
        if term is not self.terms[-1]:
            return "held"
        ended = term.ends_at is not None and moment >= term.ends_at
        awaited_until = None if term.ends_at is None else term.ends_at + AWAITED_FOR
        awaited = awaited_until is None or now < awaited_until
        if self.withdrawn_at is None:
            return "awaited" if ended and awaited else "held"
        if self.wholly:
            return "over" if ended and not awaited else "awaited"
        return "held" if moment < self.withdrawn_at and not ended else "over"

    def is_known_to_its_end(self, term: GrantedTerm, max_age: int) -> bool:
        """Whether AWS was asked within the last `max_age` seconds of this term, so that its last value is known. AWS
        shows a term no more once it has ended."""
        if term.read_until is None:
            return True
        following = self.terms[self.terms.index(term) + 1 :]
        ended_at = following[0].starts_at if following else self.withdrawn_at
        return ended_at is None or ended_at - term.read_until <= max_age

    def ended_since(self, synced_at: int, now: int) -> bool:
        """Whether the last term has reached its end since AWS was asked at `synced_at`."""
        ends_at = self.terms[-1].ends_at if self.terms else None
        return ends_at is not None and synced_at < ends_at <= now

    def as_values(self) -> dict[str, Any]:
        """Plain values for an item."""
        return {
            "terms": [term.as_values() for term in self.terms],
            "withdrawn_at": self.withdrawn_at,
            "withdrawn_wholly": self.wholly or None,
        }

    @classmethod
    def from_values(cls, dimension: str, values: Mapping[str, Any]) -> Self:
        """From the item of an entitlement; one that was written before terms were kept has the term that it grants."""
        terms = tuple(GrantedTerm.from_values(one) for one in values.get("terms", ()))
        if not terms and "value" in values:
            terms = (GrantedTerm.of(Entitlement.from_values(dimension, values), values.get("synced_at", 0)),)
        return cls(terms, values.get("withdrawn_at"), bool(values.get("withdrawn_wholly")), values.get("revision"))


def next_reading_at(granted: Iterable[Entitlement], now: int) -> int | None:
    """When AWS has to be asked again because a term ends within LOOK_AHEAD: shortly before its end, for its last value,
    and shortly after, for its renewal. None when no such term is known."""
    ends = [one.expires_at for one in granted if one.expires_at is not None]
    moments = [at for end in ends for at in (end - LAST_READING_LEAD, end + RENEWAL_READING_AFTER)]
    return min((at for at in moments if now < at <= now + LOOK_AHEAD), default=None)
