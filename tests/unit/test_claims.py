"""Claiming: one tenant per subscription, one tenant per buyer's account unless shared, safe to repeat."""

from typing import Any
from unicodedata import normalize

import pytest
from pydantic import ValidationError

from marketplace.dynamodb import keys
from marketplace.platform.errors import NoAnswerError
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError
from marketplace.registration.claim import (
    Claim,
    ClaimedByAnotherTenantError,
    Transfer,
    UnknownRegistrationError,
)
from marketplace.seller_api.requests import SubscriptionsQuery
from marketplace.seller_api.subscription_queries import SubscriptionQueries
from marketplace.subscriptions.seller_events import SellerEvent
from tests.support.storefront import CALLER, Storefront


def completed(shop: Storefront) -> list[SellerEvent]:
    return [event for event in shop.announced() if event.kind == "Registration Completed"]


def test_a_claim_gives_the_subscription_to_the_tenant(shop: Storefront) -> None:
    registered = shop.register()

    subscription_id = shop.claim(registered.code, "acme")

    assert subscription_id == registered.subscription_id
    assert shop.subscription(subscription_id).tenant_id == "acme"
    assert shop.stored(keys.tenant_subscription("acme", subscription_id)) is not None
    linked = shop.stored(keys.account_tenants("111122223333"))
    assert linked is not None
    assert linked["tenants"] == ["acme"]
    assert shop.queue.sent[-1][:2] == (subscription_id, "claimed")


def test_repeating_a_claim_changes_nothing_tells_nobody_and_asks_for_another_look(shop: Storefront) -> None:
    registered = shop.register()
    shop.claim(registered.code, "acme")
    before = shop.subscription(registered.subscription_id)

    assert shop.claim(registered.code, "acme") == registered.subscription_id

    assert shop.subscription(registered.subscription_id) == before
    assert [reason for _, reason, _ in shop.queue.sent] == ["registered", "claimed", "claimed"]
    (event,) = completed(shop)
    assert event.detail["tenant_id"] == "acme"
    assert event.detail["subscription_id"] == registered.subscription_id


def test_a_claim_whose_message_was_lost_is_completed_by_repeating_it(shop: Storefront) -> None:
    registered = shop.register()
    shop.queue.down = True
    with pytest.raises(NoAnswerError):
        shop.claim(registered.code, "acme")
    shop.queue.down = False

    shop.claim(registered.code, "acme")

    assert shop.queue.sent[-1][1] == "claimed"
    assert len(completed(shop)) == 1


def test_another_tenant_is_refused(shop: Storefront) -> None:
    registered = shop.register()
    shop.claim(registered.code, "acme")

    with pytest.raises(ClaimedByAnotherTenantError):
        shop.claim(registered.code, "globex", share_account=True)

    assert shop.subscription(registered.subscription_id).tenant_id == "acme"
    assert shop.stored(keys.tenant_subscription("globex", registered.subscription_id)) is None


def test_an_unknown_or_expired_code_or_one_of_nothing_claims_nothing(shop: Storefront) -> None:
    registered, orphan = shop.register(), shop.register(shop.subscribe("444455556666"))
    shop.dynamodb.delete_item(TableName=shop.table, Key=keys.subscription(orphan.subscription_id).item())
    for code in ("never-given-out-abcdefgh", registered.subscription_id, orphan.code):
        with pytest.raises(UnknownRegistrationError):
            shop.claim(code, "acme")
    shop.later(hours=1)

    with pytest.raises(UnknownRegistrationError):
        shop.claim(registered.code, "acme")

    assert shop.subscription(registered.subscription_id).tenant_id is None


@pytest.mark.parametrize(("account", "tenant"), [("111122223333", "acme"), ("444455556666", "globex")])
def test_a_licence_more_attaches_to_the_tenant_of_its_account_or_another_account_to_its_own(
    shop: Storefront, account: str, tenant: str
) -> None:
    first, second = shop.register(), shop.register(shop.subscribe(account, "ca2payasyougoproduct00000"))

    shop.claim(first.code, "acme")
    shop.claim(second.code, tenant)

    assert shop.subscription(first.subscription_id).tenant_id == "acme"
    assert shop.subscription(second.subscription_id).tenant_id == tenant


def test_the_same_account_under_two_tenants_is_refused_unless_shared(shop: Storefront) -> None:
    first, second = shop.register(shop.subscribe()), shop.register(shop.subscribe(product="ca2payasyougoproduct00000"))
    shop.claim(first.code, "acme")

    with pytest.raises(AccountLinkedToAnotherTenantError) as refused:
        shop.claim(second.code, "globex")
    assert refused.value.tenants == ("acme",)
    assert shop.subscription(second.subscription_id).tenant_id is None

    shop.claim(second.code, "globex", share_account=True)
    linked = shop.stored(keys.account_tenants("111122223333"))
    assert linked is not None
    assert sorted(linked["tenants"]) == ["acme", "globex"]


def test_both_tenants_of_a_shared_account_may_attach_more(shop: Storefront) -> None:
    for tenant in ("acme", "globex", "acme", "globex"):
        registered = shop.register(shop.subscribe(product="ca2payasyougoproduct00000"))
        shop.claim(registered.code, tenant, share_account=tenant == "globex")

    registered = shop.register(shop.subscribe())
    shop.claim(registered.code, "acme")

    assert shop.subscription(registered.subscription_id).tenant_id == "acme"


def test_a_legacy_buyer_without_an_account_is_known_by_customer_identifier(shop: Storefront) -> None:
    registered = shop.register(shop.subscribe(product="legacysubscriptionproduct"))
    shop.update(registered.subscription_id, account_id=None)
    identifier = shop.subscription(registered.subscription_id).customer_identifier
    assert identifier is not None

    shop.claim(registered.code, "acme")

    assert shop.stored(keys.account_tenants(identifier)) is not None


def test_a_buyer_that_aws_does_not_name_is_linked_to_nobody(shop: Storefront) -> None:
    registered = shop.register()
    shop.update(registered.subscription_id, account_id=None)

    shop.claim(registered.code, "acme")

    assert not [item for item in shop.everything() if item["pk"]["S"].startswith("ACCOUNT#")]


@pytest.mark.parametrize("tenant_id", ["acme", "a", "Acme & Söhne", "tenant/1#2", "x" * 128, "租户"])
def test_a_tenant_id_is_any_printable_text(tenant_id: str, shop: Storefront) -> None:
    registered = shop.register()

    shop.claim(registered.code, tenant_id)

    assert shop.subscription(registered.subscription_id).tenant_id == tenant_id


@pytest.mark.parametrize("tenant_id", ["", " ", " acme", "acme ", "a\nb", "a\x00b", "x" * 129, "\u202eacme", 7, None])
def test_other_tenant_ids_are_refused(tenant_id: Any) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate({"tenant_id": tenant_id})


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
"""One name in Unicode's two spellings, which look alike."""


@pytest.mark.parametrize("tenant_id", [DECOMPOSED, "\u212b", "\u1112\u1161\u11ab", "xa\u0323\u0307y"])
def test_a_new_tenant_id_in_another_spelling_than_nfc_is_refused(tenant_id: str) -> None:
    """So that no two tenants differ in nothing that a person can see."""
    given = {"tenant_id": "acme", "claim_revision": 1, "reason": "a merger"}
    for model, asked in ((Claim, {"tenant_id": tenant_id}), (Transfer, {**given, "to_tenant_id": tenant_id})):
        with pytest.raises(ValidationError, match="NFC"):
            model.model_validate(asked)
        composed = {name: normalize("NFC", value) if isinstance(value, str) else value for name, value in asked.items()}
        model.model_validate(composed)


def test_a_tenant_that_was_stored_in_another_spelling_is_found_and_transferred_to_the_composed_one(
    shop: Storefront,
) -> None:
    registered = shop.register()
    before = Claim.model_construct(tenant_id=DECOMPOSED)
    subscription_id = shop.claims().claim(registered.code, before, CALLER).subscription_id
    queries = SubscriptionQueries(shop.subscriptions, shop.now)

    def found(tenant_id: str) -> list[str]:
        query = SubscriptionsQuery.model_validate({"tenant_id": tenant_id})
        return [one.id for one in queries.find(query.filter).items]

    assert (found(DECOMPOSED), found(COMPOSED)) == ([subscription_id], [])

    shop.transfer(subscription_id, DECOMPOSED, COMPOSED, 1)

    assert (found(DECOMPOSED), found(COMPOSED)) == ([], [subscription_id])


def test_a_tenant_that_was_stored_in_another_spelling_can_be_released(shop: Storefront) -> None:
    registered = shop.register()
    shop.claims().claim(registered.code, Claim.model_construct(tenant_id=DECOMPOSED), CALLER)

    shop.release(registered.subscription_id, DECOMPOSED, 1)

    assert shop.subscription(registered.subscription_id).tenant_id is None
