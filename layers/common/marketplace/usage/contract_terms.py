"""Which contract term usage counts against: the one that holds at the usage's own time, as AWS states it.

AWS is asked first (GetEntitlements) when it was last asked longer ago than EntitlementMaxAgeMinutes, when a term has
ended since, and when what holds at the time of some usage is not known; once for each request and subscription. What is
still not known then is rejected as `entitlements_pending`, to be sent again: overage that was charged can't be taken
back. Nothing is read for a dimension that is not in the mapping of overage dimensions.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key
from marketplace.entitlements.store import EntitlementStore
from marketplace.entitlements.terms import AWAITED_FOR, GrantedTerm, History
from marketplace.platform.clock import MINUTE, EpochSeconds
from marketplace.platform.settings import OverageDimensions
from marketplace.subscriptions.model import Subscription
from marketplace.usage.overage import Term
from marketplace.usage.record import Rejection
from marketplace.usage.results import ENTITLEMENTS_PENDING, not_a_quantity

type Usage = tuple[Subscription, str, EpochSeconds]
"""The subscription, the dimension and the time of some usage."""

type Place = tuple[str, str, EpochSeconds]
"""The same by the subscription's id."""


class ReadBack(Protocol):
    """Reads entitlements back from AWS; see marketplace.entitlements.entitlements."""

    @property
    def max_age(self) -> int: ...

    def read_back(self, subscription_ids: Collection[str]) -> Mapping[str, int]: ...


@dataclass(slots=True)
class _Side:
    """One subscription of a contract: when AWS was last asked about it, and what it has granted."""

    subscription: Subscription
    synced_at: int | None
    history: History = field(default_factory=History)

    def age(self, now: int) -> float:
        return float("inf") if self.synced_at is None else now - self.synced_at


@dataclass(slots=True)
class _Contract:
    """The subscription that is billed and, across a migration, the one on the other side: both are one contract and
    share its terms."""

    dimension: str
    included: str
    sides: list[_Side]
    moments: set[EpochSeconds] = field(default_factory=set)

    @property
    def owner(self) -> str:
        billed = self.sides[0].subscription
        return billed.migrated_from or billed.id

    @property
    def grants(self) -> tuple[tuple[Key, int | None], ...]:
        return tuple(
            (keys.entitlement(side.subscription.id, self.included), side.history.revision) for side in self.sides
        )

    @property
    def nothing(self) -> Term:
        """The term of usage that nothing is granted for."""
        return Term(self.owner, self.dimension, self.included, 0, grants=self.grants)

    @property
    def closing(self) -> bool:
        return self.sides[0].subscription.status == "closing"

    def to_read(self, now: int, max_age: int) -> list[str]:
        """The subscriptions of which AWS has to be asked before the terms can be told."""
        return [side.subscription.id for side in self.sides if self._must_read(side, now, max_age)]

    def _must_read(self, side: _Side, now: int, max_age: int) -> bool:
        age = side.age(now)
        if side.synced_at is None or age > max_age or side.history.ended_since(side.synced_at, now):
            return True
        return not self.closing and age >= MINUTE and any(self.awaits(side, moment, now) for moment in self.moments)

    def awaits(self, side: _Side, moment: EpochSeconds, now: int) -> bool:
        """Whether what AWS grants at this moment may still be shown."""
        if side.history.terms:
            return side.history.standing(moment, now) == "awaited"
        activated_at = side.subscription.activated_at
        return activated_at is not None and now - activated_at < AWAITED_FOR

    def term(self, moment: EpochSeconds, now: int, max_age: int) -> Term | Rejection | None:
        """The term of this moment, or why it can't be told; None when nothing was ever granted and that may change."""
        young = [side for side in self.sides if self.closing or side.age(now) <= max_age]
        found: list[tuple[GrantedTerm, bool]] = []
        for side in young:
            standing = side.history.standing(moment, now)
            term = side.history.at(moment)
            if term is not None and (standing == "held" or (standing == "awaited" and self.closing)):
                # Of a contract that closes, the usage of its last hour can't wait for anything.
                known = self.closing or side.history.is_known_to_its_end(term, max_age)
                found.append((term, known))
        if found:
            return self._counted(*max(found, key=lambda one: _strength(one[0])))
        if len(young) < len(self.sides) or all(side.synced_at is None for side in self.sides):
            return ENTITLEMENTS_PENDING
        if not self.closing and any(side.history.terms and self.awaits(side, moment, now) for side in self.sides):
            return ENTITLEMENTS_PENDING
        # Of a contract that closes before anything was read AWS shows nothing any more.
        if any(not side.history.terms and (self.closing or self.awaits(side, moment, now)) for side in self.sides):
            return None
        return self.nothing

    def _counted(self, granted: GrantedTerm, known_to_its_end: bool) -> Term | Rejection:
        if granted.value_type not in {"integer", "double"}:
            return not_a_quantity(self.included)
        named = granted
        for side in self.sides:
            if side.subscription.id == self.owner:
                same = (term for term in side.history.terms if term.ends_at == granted.ends_at)
                named = next(same, granted)
        # Whole units: usage is counted in them, so of a double only the whole part can be used.
        limit = max(0, int(Decimal(granted.value)))
        return Term(
            self.owner,
            self.dimension,
            self.included,
            limit,
            granted.ends_at,
            named.first_end,
            named.counted_from,
            self.grants,
            known_to_its_end,
        )


class ContractTerms:
    """Finds the terms of contracts with consumption."""

    def __init__(self, store: EntitlementStore, entitlements: ReadBack, overage_dimensions: OverageDimensions) -> None:
        self._store = store
        self._entitlements = entitlements
        self._mapping = overage_dimensions

    def find(
        self, wanted: Iterable[Usage], known: Mapping[str, Subscription], now: EpochSeconds
    ) -> dict[Place, Term | Rejection]:
        """The term of each usage in a mapped dimension, or why it can't be taken yet. `known` holds the subscriptions
        that any of them was migrated to or from.

        Raises AwsError when DynamoDB gives no answer.
        """
        contracts: dict[tuple[str, str], _Contract] = {}
        for subscription, dimension, moment in wanted:
            included = self._mapping.get((subscription.product_code, dimension))
            if included is None:
                continue
            place = (subscription.id, dimension)
            if place not in contracts:
                contracts[place] = _Contract(dimension, included, _sides(subscription, known))
            contracts[place].moments.add(moment)
        if not contracts:
            return {}
        self._load(contracts.values())
        max_age = self._entitlements.max_age
        to_read = {one for contract in contracts.values() for one in contract.to_read(now, max_age)}
        if to_read:
            self._read_back(contracts.values(), to_read)
        return {
            (*place, moment): term
            for place, contract in contracts.items()
            for moment, term in self._terms(contract, now).items()
        }

    def _terms(self, contract: _Contract, now: EpochSeconds) -> dict[EpochSeconds, Term | Rejection]:
        found = {moment: contract.term(moment, now, self._entitlements.max_age) for moment in contract.moments}
        if None in found.values() and self._grants_anything(contract):
            unknown: Term | Rejection = contract.nothing
        else:
            unknown = ENTITLEMENTS_PENDING
        return {moment: unknown if term is None else term for moment, term in found.items()}

    def _grants_anything(self, contract: _Contract) -> bool:
        return any(self._store.grants_anything(side.subscription.id) for side in contract.sides)

    def _load(self, contracts: Collection[_Contract]) -> None:
        sides = [(side, (side.subscription.id, contract.included)) for contract in contracts for side in contract.sides]
        found = self._store.histories(place for _, place in sides)
        for side, place in sides:
            side.history = found.get(place, History())

    def _read_back(self, contracts: Collection[_Contract], subscription_ids: Collection[str]) -> None:
        asked = self._entitlements.read_back(subscription_ids)
        if not asked:
            return
        self._load(contracts)
        for contract in contracts:
            for side in contract.sides:
                side.synced_at = asked.get(side.subscription.id, side.synced_at)


def _sides(subscription: Subscription, known: Mapping[str, Subscription]) -> list[_Side]:
    other = known.get(subscription.migrated_to or subscription.migrated_from or "")
    family = (subscription,) if other is None else (subscription, other)
    return [_Side(one, one.entitlements_synced_at) for one in family]


def _strength(term: GrantedTerm) -> tuple[float, Decimal]:
    """Of the terms of both sides of a migration, which are one contract, the longer counts, then the larger."""
    amount = Decimal(term.value) if term.value_type in {"integer", "double"} else Decimal(0)
    return (float("inf") if term.ends_at is None else term.ends_at), amount
