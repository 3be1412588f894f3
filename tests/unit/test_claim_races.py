"""Claims at the same time, on DynamoDB Local with real threads: the rules hold whoever is first."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.platform.errors import ThrottledError
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError
from marketplace.registration.claim import ClaimChangedError, ClaimedByAnotherTenantError, UnknownRegistrationError
from marketplace.registration.contacts import Contact, EnteredContact
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


def outcome(request: Callable[[], object]) -> str:
    """How a request ends for a caller who repeats what was busy."""
    for _ in range(20):
        try:
            request()
        except ThrottledError:
            continue
        except ClaimedByAnotherTenantError:
            return "claimed_by_another_tenant"
        except AccountLinkedToAnotherTenantError:
            return "account_linked_to_another_tenant"
        except ClaimChangedError:
            return "claim_changed"
        except UnknownRegistrationError:
            return "registration_unknown"
        return "done"
    raise AssertionError("busy all the time")


def attempt(shop: Storefront, code: str, tenant: str) -> str:
    found = outcome(lambda: shop.claim(code, tenant))
    return "claimed" if found == "done" else found


def is_consistent(shop: Storefront, subscription_id: str) -> bool:
    """Whether tenant, links, account and audit trail of a subscription say the same."""
    subscription, trail = shop.subscription(subscription_id), shop.changes(subscription_id)
    linked = {
        item["tenant_id"]["S"]
        for item in shop.everything()
        if item["pk"]["S"].startswith("TENANT#") and item["sk"]["S"] == f"SUB#{subscription_id}"
    }
    tenants = {subscription.tenant_id} - {None}
    return (
        linked == tenants
        and set(shop.tenants_of(subscription.account_id or "")) == tenants
        and [change.revision for change in trail] == list(range(1, subscription.claim_revision + 1))
        and (trail[-1].tenant_id if trail else None) == subscription.tenant_id
        and all(later.previous_tenant_id == one.tenant_id for one, later in itertools.pairwise(trail))
    )


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


def test_a_release_and_a_claim_with_an_old_code_end_released_or_still_claimed(shop: Storefront) -> None:
    for number in range(ROUNDS):
        registered = shop.register(shop.subscribe(f"{number:012d}"))
        one, code = registered.subscription_id, registered.code
        shop.claim(code, "acme")

        released, repeated, other = together(
            lambda one=one: outcome(lambda: shop.release(one, "acme", 1)),  # type: ignore[misc]
            lambda code=code: attempt(shop, code, "acme"),  # type: ignore[misc]
            lambda code=code: attempt(shop, code, "globex"),  # type: ignore[misc]
        )

        assert released == "done"
        assert repeated in {"claimed", "registration_unknown"}
        assert other in {"claimed_by_another_tenant", "registration_unknown"}
        assert shop.subscription(one).tenant_id is None
        assert is_consistent(shop, one)


def test_of_a_release_and_two_transfers_of_one_claim_one_is_made(shop: Storefront) -> None:
    for number in range(ROUNDS):
        registered = shop.register(shop.subscribe(f"{number:012d}"))
        one = registered.subscription_id
        shop.claim(registered.code, "acme")

        results = together(
            lambda one=one: outcome(lambda: shop.release(one, "acme", 1)),  # type: ignore[misc]
            lambda one=one: outcome(lambda: shop.transfer(one, "acme", "globex", 1)),  # type: ignore[misc]
            lambda one=one: outcome(lambda: shop.transfer(one, "acme", "initech", 1)),  # type: ignore[misc]
        )

        assert sorted(results) == ["claim_changed", "claim_changed", "done"]
        assert shop.subscription(one).tenant_id == (None, "globex", "initech")[results.index("done")]
        assert is_consistent(shop, one)


def test_one_release_many_times_at_once_is_one_release(shop: Storefront) -> None:
    registered = shop.register()
    shop.claim(registered.code, "acme")

    results = together(*[lambda: outcome(lambda: shop.release(registered.subscription_id, "acme", 1))] * 6)

    assert results == ["done"] * 6
    assert [change.action for change in shop.changes(registered.subscription_id)] == ["claimed", "released"]
    assert len([event for event in shop.announced() if event.kind == "Claim Released"]) == 1


def test_a_release_leaves_the_account_to_a_claim_of_another_subscription_at_the_same_time(shop: Storefront) -> None:
    for number in range(ROUNDS):
        account = f"{number:012d}"
        first = shop.register(shop.subscribe(account))
        second = shop.register(shop.subscribe(account, "ca2payasyougoproduct00000"))
        shop.claim(first.code, "acme")

        results = together(
            lambda one=first.subscription_id: outcome(lambda: shop.release(one, "acme", 1)),  # type: ignore[misc]
            lambda code=second.code: attempt(shop, code, "acme"),  # type: ignore[misc]
        )

        assert results == ["done", "claimed"]
        assert shop.tenants_of(account) == ["acme"]


def test_the_last_two_releases_of_an_account_at_the_same_time_unlink_it(shop: Storefront) -> None:
    for number in range(ROUNDS):
        account = f"{number:012d}"
        pair = [shop.register(shop.subscribe(account)) for _ in range(2)]
        for registered in pair:
            shop.claim(registered.code, "acme")

        results = together(
            *(
                lambda one=registered.subscription_id: outcome(lambda: shop.release(one, "acme", 1))
                for registered in pair
            )
        )

        assert results == ["done", "done"]
        assert shop.tenants_of(account) == []


def test_both_subscriptions_of_a_contract_claimed_at_once_by_two_tenants_get_one(shop: Storefront) -> None:
    for number in range(ROUNDS):
        account = f"{number:012d}"
        legacy, licence = (shop.register(shop.subscribe(account)).subscription_id for _ in range(2))
        shop.update(legacy, migrated_to=licence, cutover_at=7200)
        shop.update(licence, migrated_from=legacy, cutover_at=7200)

        results = together(
            lambda one=legacy: outcome(lambda: shop.claim_subscription(one, "acme", share_account=True)),  # type: ignore[misc]
            lambda one=licence: outcome(lambda: shop.claim_subscription(one, "globex", share_account=True)),  # type: ignore[misc]
        )

        assert sorted(results) == ["claimed_by_another_tenant", "done"]
        assert len({shop.subscription(one).tenant_id for one in (legacy, licence)} - {None}) == 1


def test_contacts_that_are_entered_at_once_are_all_kept_and_told(shop: Storefront) -> None:
    registered = shop.register()
    people = [Contact(f"person{number}@buyer.example") for number in range(5)]

    results = together(
        *(
            lambda person=person: outcome(
                lambda: shop.contacts.save(registered.subscription_id, person, f"code-of-{person.email}")
            )
            for person in people
        )
    )

    stored = EnteredContact.all_in(shop.stored(keys.contact(registered.subscription_id)) or {})
    told = [event.detail for event in shop.announced() if event.kind == "Contact Provided"]
    assert results == ["done"] * 5
    assert sorted(one.contact.email for one in stored) == [person.email for person in people]
    assert sorted(detail["contact"]["email"] for detail in told) == [person.email for person in people]
    assert sorted(detail["contact_number"] for detail in told) == [1, 2, 3, 4, 5]
