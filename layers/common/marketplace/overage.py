"""Contracts with consumption: usage counts against what the contract includes, and only what exceeds it is metered.

Seller Guide, SaaS contracts with pay-as-you-go: the seller meters usage beyond the entitlement, AWS does not subtract
it. These are the pure rules; marketplace.contract_terms finds a subscription's term, marketplace.usage_store counts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marketplace import keys
from marketplace.keys import Key

type OverageDimensions = Mapping[tuple[str, str], str]
"""(product code, overage dimension) -> the dimension whose entitlement is used up first."""

_PART = re.compile(r"(?P<product>[^,/=\s]+)/(?P<overage>[^,=\s]+)=(?P<included>[^,=\s]+)")


def parsed_overage_dimensions(value: object) -> object:
    """`<product code>/<overage dimension>=<included dimension>`, several separated by commas, as OverageDimensions.

    Raises ValueError that names the part which is wrong. Values other than text are handed on.
    """
    if not isinstance(value, str):
        return value
    found: dict[tuple[str, str], str] = {}
    given: dict[tuple[str, str], str] = {}
    for part in filter(None, (one.strip() for one in value.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not of the form <product code>/<overage dimension>=<included dimension>")
        product, overage, included = match.group("product", "overage", "included")
        if (product, overage) in found:
            raise ValueError(f"{part!r}: the overage dimension {overage} of {product} is there twice")
        if (product, included) in given:
            other = given[product, included]
            raise ValueError(f"{part!r}: what {included} of {product} includes is used up by {other} already")
        found[product, overage] = included
        given[product, included] = overage
    return found


@dataclass(frozen=True, slots=True)
class Term:
    """A contract period, and how many units of an overage dimension it includes.

    `owner`: the subscription under which it is counted. `ends_at`: the entitlement's ExpirationDate, in seconds since
    the epoch; a renewal moves it and so begins a new term.
    """

    owner: str
    dimension: str
    included_dimension: str
    limit: int
    ends_at: int | None

    @property
    def counter(self) -> Key:
        return keys.included(self.owner, self.dimension, self.ends_at)

    def left(self, used: int) -> int:
        """Units that are still included; none when an entitlement was lowered below what was used."""
        return max(0, self.limit - used)


def included_parts(quantities: Iterable[int], left: int) -> tuple[int, ...]:
    """How much of each quantity is included while `left` units are; the rest of each is overage."""
    parts: list[int] = []
    for quantity in quantities:
        parts.append(min(quantity, left))
        left -= parts[-1]
    return tuple(parts)
