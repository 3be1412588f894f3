"""Contracts with consumption: usage counts against what the contract includes, and only what exceeds it is metered.

Seller Guide, SaaS contracts with pay-as-you-go: the seller meters usage beyond the entitlement, AWS does not subtract
it. These are the pure rules; marketplace.usage.contract_terms finds a subscription's term, marketplace.usage.booking
counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key


@dataclass(frozen=True, slots=True)
class Term:
    """A contract period, and how many units of an overage dimension it includes.

    `owner`: the subscription under which it is counted. `ends_at`: the entitlement's ExpirationDate, in seconds since
    the epoch. `first_end` and `counted_from` name its counter (marketplace.entitlements.terms): they stay when the end
    moves, so an upgrade adds to what is used, and a renewal begins anew. `grants`: the items of the subscriptions table
    that this was told from, with their revisions; usage is charged only while they are the newest. `known_to_its_end`:
    False when AWS may have granted more before the term ended, and doesn't show it any more; nothing is charged then.
    """

    owner: str
    dimension: str
    included_dimension: str
    limit: int
    ends_at: int | None = None
    first_end: int | None = None
    counted_from: int | None = None
    grants: tuple[tuple[Key, int | None], ...] = ()
    known_to_its_end: bool = True

    @property
    def counter(self) -> Key:
        return keys.included(self.owner, self.dimension, self.first_end, self.counted_from)

    def left(self, used: int) -> int:
        """Units that are still included; none when an entitlement was lowered below what was used."""
        return max(0, self.limit - used)


def counted_in(term: Term, units: int, before: Sequence[Sequence[Any]] = ()) -> list[list[Any]]:
    """What a usage record keeps of the counters that its included units stand in: each with its key and the units.
    `before`: what it kept so far."""
    counted = {Key(pk, sk): count for pk, sk, count in before}
    counted[term.counter] = counted.get(term.counter, 0) + units
    return [[*key, count] for key, count in counted.items() if count]


def included_parts(quantities: Iterable[int], left: int) -> tuple[int, ...]:
    """How much of each quantity is included while `left` units are; the rest of each is overage."""
    parts: list[int] = []
    for quantity in quantities:
        parts.append(min(quantity, left))
        left -= parts[-1]
    return tuple(parts)
