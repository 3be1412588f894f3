"""The tenant that is proposed for a subscription that nobody has claimed: the tenant of what it continues.

A buyer who replaces an agreement may get another licence, which is another subscription. AWS names the agreement that
came before (`previousAgreementId` of Purchase Agreement Created) or the first one of the chain (`initialAgreementId` of
SearchAgreements); a licence that a legacy customer was moved to continues that customer. The proposal is never applied
by itself: the seller's application claims, or does not.
"""

from collections.abc import Iterable

from marketplace.dynamodb.table import Table
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader, joined_subscriptions

_MAX_STEPS = 5
"""How many replacements are followed back to a tenant."""


class Predecessors:
    """Finds it, with the tenants as they are now. A subscription that continues nothing, or has a tenant, costs no
    read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._reader = SubscriptionReader(table)

    def proposed_tenant(self, subscription: Subscription) -> str | None:
        """The tenant of the nearest predecessor that has one; None when there is none, or when predecessors at the
        same distance have different ones. Raises AwsError."""
        if subscription.tenant_id is not None:
            return None
        generation = [subscription]
        for _ in range(_MAX_STEPS):
            ids = {found for one in generation for found in self._before(one)} - {subscription.id}
            if not ids:
                return None
            generation = [one for one in self._reader.get_many(sorted(ids)).values() if _same_buyer(one, subscription)]
            tenants = {one.tenant_id for one in generation if one.tenant_id is not None}
            if tenants:
                return tenants.pop() if len(tenants) == 1 else None
        return None

    def _before(self, subscription: Subscription) -> Iterable[str]:
        """The ids of the subscriptions that this one may continue."""
        yield from filter(None, [subscription.migrated_from, subscription.migrated_to])
        # The agreement before this one's says more than the first one of the chain, which may be long ago.
        initial = [subscription.initial_agreement_id] if subscription.initial_agreement_id else []
        for agreement_id in subscription.predecessor_agreement_ids or initial:
            yield from joined_subscriptions(self._table, agreement_id)


def _same_buyer(one: Subscription, other: Subscription) -> bool:
    """Whether two subscriptions may be one buyer's: AWS has not said that they are of different accounts."""
    return None in {one.account_id, other.account_id} or one.account_id == other.account_id
