"""Which tenants a buyer's AWS account belongs to.

An account has one tenant, unless the seller says that several share it. Its item keeps the set of tenants and a version
that every claim and release of the account's subscriptions changes. So a release that finds no other subscription of
the tenant takes the tenant off the account only if none is claimed in the meantime.
"""

from collections.abc import Sequence
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table, Update
from marketplace.dynamodb.transactions import Write
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader


class AccountLinkedToAnotherTenantError(Exception):
    """The buyer's account is linked to `tenants`, and sharing it was not allowed."""

    def __init__(self, subscription_id: str, tenants: tuple[str, ...]) -> None:
        super().__init__(subscription_id)
        self.subscription_id = subscription_id
        self.tenants = tenants


class AccountLinks:
    """The account items of the subscriptions table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._subscriptions = SubscriptionReader(table)

    def writes(
        self, moved: Sequence[Subscription], *, leaving: str | None, joining: str | None, share_account: bool
    ) -> list[Write]:
        """The members of the transaction in which the subscriptions `moved` leave one tenant, join another, or both.
        They are refused when an account has changed since it was read here.

        Raises AccountLinkedToAnotherTenantError, and AwsError.
        """
        accounts = dict.fromkeys(account for subscription in moved for account in _accounts(subscription))
        stored = self._table.get_many(map(keys.account_tenants, accounts))
        # Read after the accounts: what is claimed in between changes their versions.
        kept = self._accounts_of(leaving, [subscription.id for subscription in moved])
        writes: list[Write] = []
        for account in accounts:
            key = keys.account_tenants(account)
            values: dict[str, Any] = from_item(stored.get(key, {}))
            before = frozenset(values.get("tenants", ()))
            after = before if account in kept else before - {leaving}
            if joining is not None:
                if after and joining not in after and not share_account:
                    raise AccountLinkedToAnotherTenantError(moved[0].id, tuple(sorted(after)))
                after |= {joining}
            link = Update(set={"tenants": after or None}, add={"version": 1}, **_unchanged(values.get("version")))
            writes.append(self._table.update_action(key, link))
        return writes

    def _accounts_of(self, tenant_id: str | None, without: Sequence[str]) -> set[str]:
        """The accounts of a tenant's subscriptions, but for some."""
        if tenant_id is None:
            return set()
        items = self._table.items_under(keys.tenant_pk(tenant_id), "SUB#")
        ids = {keys.subscription_id_of(item["sk"]["S"]) for item in items} - set(without)
        found = self._subscriptions.get_many(sorted(ids)).values()
        return {account for one in found if one.tenant_id == tenant_id for account in _accounts(one)}


def _accounts(subscription: Subscription) -> list[str]:
    """The names by which AWS knows the buyer, as far as AWS has said."""
    return [name for name in (subscription.account_id, subscription.customer_identifier) if name]


def _unchanged(version: int | None) -> dict[str, Any]:
    """The condition that an account still has this version."""
    if version is None:
        return {"condition": "attribute_not_exists(version)"}
    return {"condition": "version = :read", "given": {"read": version}}
