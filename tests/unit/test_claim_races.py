"""Claims at the same time, on DynamoDB Local with real threads: the rules hold whoever is first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.platform.errors import ThrottledError
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError
from marketplace.registration.claim import ClaimedByAnotherTenantError
from tests.support.storefront import Storefront
from tests.support.tables import Tables

pytestmark = pytest.mark.dynamodb_local

ROUNDS = 15


@pytest.fixture
def shop(local_dynamodb: Any, local_tables: Tables) -> Storefront:
    return Storefront(local_dynamodb, local_tables)


def together[T](*actions: Callable[[], T]) -> list[T]:
    """The results of actions that start at the same moment."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def attempt(shop: Storefront, code: str, tenant: str) -> str:
    """Claims as a caller does who repeats what was busy."""
    for _ in range(20):
        try:
            shop.claim(code, tenant)
        except ThrottledError:
            continue
        except ClaimedByAnotherTenantError:
            return "claimed_by_another_tenant"
        except AccountLinkedToAnotherTenantError:
            return "account_linked_to_another_tenant"
        return "claimed"
    raise AssertionError("busy all the time")


def test_two_tenants_claim_one_subscription(shop: Storefront) -> None:
    for number in range(ROUNDS):
        registered = shop.register(shop.subscribe(f"{number:012d}"))

        results = together(
            lambda code=registered.code: attempt(shop, code, "acme"),  # type: ignore[misc]
            lambda code=registered.code: attempt(shop, code, "globex"),  # type: ignore[misc]
        )

        assert sorted(results) == ["claimed", "claimed_by_another_tenant"]
        winner = "acme" if results[0] == "claimed" else "globex"
        loser = "globex" if winner == "acme" else "acme"
        assert shop.subscription(registered.subscription_id).tenant_id == winner
        assert shop.stored(keys.tenant_subscription(winner, registered.subscription_id)) is not None
        assert shop.stored(keys.tenant_subscription(loser, registered.subscription_id)) is None


def test_two_tenants_claim_two_subscriptions_of_one_account(shop: Storefront) -> None:
    for number in range(ROUNDS):
        account = f"{number:012d}"
        first = shop.register(shop.subscribe(account))
        second = shop.register(shop.subscribe(account, "ca2payasyougoproduct00000"))

        results = together(
            lambda code=first.code: attempt(shop, code, "acme"),  # type: ignore[misc]
            lambda code=second.code: attempt(shop, code, "globex"),  # type: ignore[misc]
        )

        assert sorted(results) == ["account_linked_to_another_tenant", "claimed"]
        linked = shop.stored(keys.account_tenants(account))
        assert linked is not None
        assert linked["tenants"] == ["acme" if results[0] == "claimed" else "globex"]


def test_one_tenant_claims_many_times_at_once(shop: Storefront) -> None:
    registered = shop.register()

    results = together(*[lambda: attempt(shop, registered.code, "acme")] * 6)

    assert results == ["claimed"] * 6
    assert shop.subscription(registered.subscription_id).tenant_id == "acme"


def test_a_buyer_who_clicks_many_times_registers_once(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    registration = shop.registration()

    def register() -> str:
        for _ in range(20):
            try:
                return registration.register(token).subscription_id
            except ThrottledError:
                continue
        raise AssertionError("busy all the time")

    ids = together(*[register] * 6)

    assert len(set(ids)) == 1
    assert shop.subscription(ids[0]).version == 6
    assert len(shop.subscription(ids[0]).agreement_ids) == 1


def test_a_claim_and_a_second_registration_do_not_undo_each_other(shop: Storefront) -> None:
    for number in range(ROUNDS):
        purchase = shop.subscribe(f"{number:012d}")
        token = shop.token(purchase)
        registered = shop.register(purchase)

        def again(token: str = token) -> str:
            for _ in range(20):
                try:
                    return shop.registration().register(token).subscription_id
                except ThrottledError:
                    continue
            raise AssertionError("busy all the time")

        together(lambda code=registered.code: attempt(shop, code, "acme"), again)  # type: ignore[misc]

        subscription = shop.subscription(registered.subscription_id)
        assert subscription.tenant_id == "acme"
        assert subscription.version == 3
