"""Which contract term a subscription's usage counts against now, from the entitlements that are stored.

Nothing is read for a dimension that is not in the mapping of overage dimensions.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table
from marketplace.entitlements.rules import PENDING_FOR, Entitlement
from marketplace.ledger.deadlines import MAX_AGE
from marketplace.platform.settings import OverageDimensions
from marketplace.subscriptions.model import Subscription
from marketplace.usage.overage import Term
from marketplace.usage.report import Rejection

_PENDING = Rejection(
    "entitlements_pending",
    "what this contract includes is not known yet, so nothing can be metered beyond it; send this record again with "
    "the same id",
    retryable=True,
)


class ContractTerms:
    """The terms of contracts with consumption, from the subscriptions table and the counters in the usage table.
    Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table, usage_table: Table, overage_dimensions: OverageDimensions) -> None:
        self._table = table
        self._usage_table = usage_table
        self._mapping = overage_dimensions

    def find(
        self, wanted: Iterable[tuple[Subscription, str]], known: Mapping[str, Subscription], now: int
    ) -> dict[tuple[str, str], Term | Rejection]:
        """The term for each (subscription, dimension) of a mapped dimension, or why usage can't be taken yet; by
        subscription id and dimension. `known` holds the subscriptions that any of them was migrated to or from: both
        sides of a migration are one contract and share its terms."""
        mapped: dict[tuple[str, str], tuple[tuple[Subscription, ...], str]] = {}
        for subscription, dimension in wanted:
            included = self._mapping.get((subscription.product_code, dimension))
            if included is not None and (subscription.id, dimension) not in mapped:
                mapped[subscription.id, dimension] = (_family(subscription, known), included)
        if not mapped:
            return {}
        granted = self._granted({(one.id, included) for family, included in mapped.values() for one in family})
        return {
            place: self._term(family, place[1], included, granted, now) for place, (family, included) in mapped.items()
        }

    def _term(
        self,
        family: Sequence[Subscription],
        dimension: str,
        included: str,
        granted: Mapping[tuple[str, str], Entitlement],
        now: int,
    ) -> Term | Rejection:
        owner = family[0].migrated_from or family[0].id
        found = [granted[one.id, included] for one in family if (one.id, included) in granted]
        if found:
            return _strongest_term(owner, dimension, included, found)
        if all(one.entitlements_synced_at is None for one in family):
            return _PENDING
        closing = family[0].status == "closing"
        withdrawn = self._withdrawn(family, included, now - (MAX_AGE if closing else PENDING_FOR))
        if withdrawn:
            return _strongest_term(owner, dimension, included, withdrawn)
        if closing:
            return self._last_term(owner, dimension, now) or Term(owner, dimension, included, 0, None)
        activated_at = family[0].activated_at or now
        if now - activated_at < PENDING_FOR and not any(self._anything_granted(one.id) for one in family):
            return _PENDING
        return Term(owner, dimension, included, 0, None)

    def _granted(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entitlement]:
        places = {keys.entitlement(*place): place for place in wanted}
        found = self._table.get_many(places)
        return {places[key]: Entitlement.from_values(places[key][1], from_item(item)) for key, item in found.items()}

    def _withdrawn(self, family: Sequence[Subscription], included: str, since: int) -> list[Entitlement]:
        """What AWS granted until it took everything back, if that was later than `since`: the contract has ended, and
        usage from before, which may come before the news of the end, is usage of its last term."""
        found = self._table.get_many(keys.withdrawn_entitlement(one.id, included) for one in family)
        items = [from_item(item) for item in found.values()]
        return [Entitlement.from_values(included, item) for item in items if item["withdrawn_at"] > since]

    def _anything_granted(self, subscription_id: str) -> bool:
        return bool(_last(self._table, keys.subscription_pk(subscription_id), keys.ENTITLEMENT_PREFIX))

    def _last_term(self, owner: str, dimension: str, now: int) -> Term | None:
        """The term of a contract that is closing. AWS does not list its entitlements any more, but its last usage
        belongs to that term and is counted there as long as AWS may still take it."""
        prefix = keys.included_prefix(dimension)
        for values in _last(self._usage_table, keys.subscription_pk(owner), prefix):
            ends_at = values.get("term_end")
            if ends_at is None or ends_at > now - MAX_AGE:
                return Term(owner, dimension, values["included_dimension"], values["limit"], ends_at)
        return None


def _last(table: Table, pk: str, prefix: str) -> list[dict[str, Any]]:
    """The last item of those with this prefix, if there is any."""
    condition = "pk = :pk AND begins_with(sk, :prefix)"
    page = table.page(condition, {"pk": pk, "prefix": prefix}, limit=1, last_first=True)
    return [from_item(item) for item in page.items]


def _family(subscription: Subscription, known: Mapping[str, Subscription]) -> tuple[Subscription, ...]:
    """The subscription, and the one on the other side of its migration."""
    other = known.get(subscription.migrated_to or subscription.migrated_from or "")
    return (subscription,) if other is None else (subscription, other)


def _strongest_term(owner: str, dimension: str, included: str, found: Sequence[Entitlement]) -> Term | Rejection:
    strongest = max(found, key=lambda entitlement: entitlement.strength)
    limit = _quantity(strongest)
    return limit if isinstance(limit, Rejection) else Term(owner, dimension, included, limit, strongest.expires_at)


def _quantity(entitlement: Entitlement) -> int | Rejection:
    """Whole units: usage is counted in them, so of a double only the whole part can be used."""
    match entitlement.value_type:
        case "integer" | "double":
            return max(0, int(Decimal(entitlement.value)))
        case "boolean" | "string":
            return Rejection(
                "included_not_a_quantity",
                f"the entitlement {entitlement.dimension} of this contract is no number, so it is not known what "
                "exceeds it; correct the setting OverageDimensions and send this record again with the same id",
                retryable=True,
            )
