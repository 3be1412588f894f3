"""Undoing claims: who holds an old code, repeats an old request or comes second changes nothing; all is on record."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.paging import InvalidCursorError, cursor_of
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError
from marketplace.registration.claim import (
    Claim,
    ClaimChangedError,
    ClaimedByAnotherTenantError,
    Claims,
    NotSubscribedError,
    Release,
    SubscriptionClaim,
    Transfer,
    UnknownRegistrationError,
)
from marketplace.registration.claim_history import MAX_CALLER
from marketplace.registration.codes import Opened, code_item
from marketplace.subscriptions.seller_events import SellerEvent
from tests.support.seller_schemas import check
from tests.support.storefront import CALLER, Storefront

ACCOUNT = "111122223333"
NOBODY = "sub-" + "a" * 26
OTHER_PRODUCT = "ca2payasyougoproduct00000"


@pytest.fixture
def claimed(shop: Storefront) -> str:
    """The id of a subscription that `acme` has claimed with a code that is alive."""
    return shop.claim(shop.register().code, "acme")


def told(shop: Storefront, kind: str) -> list[SellerEvent]:
    """The events of a kind in the outbox, each as documented, by the revision of the claim."""
    events = [event for event in shop.announced() if event.kind == kind]
    for event in events:
        check(event.kind, event.published_detail)
    return sorted(events, key=lambda event: event.detail["claim_revision"])


def unclaimed_again(shop: Storefront, subscription_id: str, tenant_id: str) -> bool:
    """Whether nothing of the tenant's claim is left but the audit trail."""
    subscription = shop.subscription(subscription_id)
    return (
        subscription.tenant_id is None
        and subscription.claimed_at is None
        and shop.stored(keys.tenant_subscription(tenant_id, subscription_id)) is None
    )


class TestRelease:
    def test_a_released_subscription_is_nobodys(self, shop: Storefront, claimed: str) -> None:
        shop.release(claimed, "acme", 1, "claimed by a lured user")

        assert unclaimed_again(shop, claimed, "acme")
        assert shop.tenants_of(ACCOUNT) == []
        assert shop.queue.sent[-1][:2] == (claimed, "claimed")
        (event,) = told(shop, "Claim Released")
        assert event.detail == {
            "subscription_id": claimed,
            "tenant_id": None,
            "previous_tenant_id": "acme",
            "product_code": shop.subscription(claimed).product_code,
            "claim_revision": 2,
            "reason": "claimed by a lured user",
        }

    def test_the_right_tenant_claims_with_a_code_from_after_the_release(self, shop: Storefront) -> None:
        purchase = shop.subscribe()
        claimed = shop.claim(shop.register(purchase).code, "victim")
        shop.later(minutes=1)
        shop.release(claimed, "victim", 1)
        shop.later(seconds=1)

        assert shop.claim(shop.register(purchase).code, "mallory") == claimed
        assert shop.subscription(claimed).tenant_id == "mallory"
        assert shop.tenants_of(ACCOUNT) == ["mallory"]

    @pytest.mark.parametrize("tenant", ["victim", "mallory"])
    def test_a_code_from_before_the_release_claims_nothing(self, shop: Storefront, tenant: str) -> None:
        purchase = shop.subscribe()
        codes = [shop.register(purchase).code, shop.register(purchase).code]
        claimed = shop.claim(codes[0], "victim")
        shop.later(minutes=1)
        codes.append(shop.register(purchase).code)
        shop.release(claimed, "victim", 1)

        for code in codes:
            with pytest.raises(UnknownRegistrationError):
                shop.claim(code, tenant)
            with pytest.raises(UnknownRegistrationError):
                shop.claims().subscription_of(code)
        assert unclaimed_again(shop, claimed, "victim")

    def test_an_old_code_stays_spent_when_the_subscription_is_claimed_again(self, shop: Storefront) -> None:
        purchase = shop.subscribe()
        old = shop.register(purchase).code
        claimed = shop.claim(old, "acme")
        shop.release(claimed, "acme", 1)
        shop.later(seconds=1)
        shop.claim(shop.register(purchase).code, "acme")

        with pytest.raises(UnknownRegistrationError):
            shop.claim(old, "acme")

    def test_a_repeated_release_is_answered_the_same_and_told_once(self, shop: Storefront, claimed: str) -> None:
        for _ in range(3):
            shop.release(claimed, "acme", 1)

        assert len(told(shop, "Claim Released")) == 1
        assert [change.action for change in shop.changes(claimed)] == ["claimed", "released"]
        assert [reason for _, reason, _ in shop.queue.sent] == ["registered"] + ["claimed"] * 4

    def test_a_release_that_comes_late_or_again_leaves_a_newer_claim_alone(self, shop: Storefront) -> None:
        purchase = shop.subscribe()
        claimed = shop.claim(shop.register(purchase).code, "acme")
        shop.release(claimed, "acme", 1)
        shop.later(seconds=1)
        shop.claim(shop.register(purchase).code, "acme")

        shop.release(claimed, "acme", 1)

        assert shop.subscription(claimed).tenant_id == "acme"
        assert shop.subscription(claimed).claim_revision == 3
        with pytest.raises(ClaimChangedError):
            shop.release(claimed, "acme", 2)

    @pytest.mark.parametrize(("tenant", "revision"), [("globex", 1), ("acme", 0), ("acme", 2), ("ACME", 1)])
    def test_a_release_of_another_claim_changes_nothing(
        self, shop: Storefront, claimed: str, tenant: str, revision: int
    ) -> None:
        with pytest.raises(ClaimChangedError) as refused:
            shop.release(claimed, tenant, revision)

        assert (refused.value.tenant_id, refused.value.claim_revision) == ("acme", 1)
        assert shop.subscription(claimed).tenant_id == "acme"
        assert told(shop, "Claim Released") == []

    def test_nothing_is_released_of_a_subscription_that_nobody_has(self, shop: Storefront) -> None:
        registered = shop.register()

        with pytest.raises(ClaimChangedError):
            shop.release(registered.subscription_id, "acme", 0)
        with pytest.raises(NotSubscribedError):
            shop.release(NOBODY, "acme", 0)

    def test_the_account_stays_linked_while_the_tenant_has_another_subscription_of_it(self, shop: Storefront) -> None:
        first, second = shop.register(), shop.register(shop.subscribe(product=OTHER_PRODUCT))
        for registered in (first, second):
            shop.claim(registered.code, "acme")

        shop.release(first.subscription_id, "acme", 1)
        assert shop.tenants_of(ACCOUNT) == ["acme"]
        with pytest.raises(AccountLinkedToAnotherTenantError):
            shop.claim_subscription(first.subscription_id, "globex", claim_revision=2)

        shop.release(second.subscription_id, "acme", 1)
        assert shop.tenants_of(ACCOUNT) == []
        shop.claim_subscription(first.subscription_id, "globex", claim_revision=2)
        assert shop.tenants_of(ACCOUNT) == ["globex"]

    def test_other_accounts_and_tenants_keep_their_links(self, shop: Storefront) -> None:
        mine = shop.claim(shop.register().code, "acme")
        shop.claim(shop.register(shop.subscribe("444455556666")).code, "acme")
        shop.claim(shop.register(shop.subscribe(product=OTHER_PRODUCT)).code, "globex", share_account=True)

        shop.release(mine, "acme", 1)

        assert shop.tenants_of(ACCOUNT) == ["globex"]
        assert shop.tenants_of("444455556666") == ["acme"]

    def test_a_claim_from_before_revisions_were_counted_can_be_released(self, shop: Storefront) -> None:
        registered = shop.register()
        shop.update(registered.subscription_id, tenant_id="acme", claimed_at=7)
        shop.put(keys.tenant_subscription("acme", registered.subscription_id), {"tenant_id": "acme"})
        shop.put(keys.account_tenants(ACCOUNT), {"tenants": frozenset({"acme"})})

        shop.release(registered.subscription_id, "acme", 0)

        assert unclaimed_again(shop, registered.subscription_id, "acme")
        assert shop.tenants_of(ACCOUNT) == []
        assert [change.revision for change in shop.changes(registered.subscription_id)] == [1]

    @pytest.mark.parametrize("status", ["ended", "failed", "closing", "active"])
    def test_a_subscription_of_any_status_can_be_released(self, shop: Storefront, claimed: str, status: str) -> None:
        shop.update(claimed, status=status, closing_deadline=7)

        shop.release(claimed, "acme", 1)

        assert unclaimed_again(shop, claimed, "acme")
        assert shop.subscription(claimed).status == status

    def test_a_release_whose_message_was_lost_is_completed_by_repeating_it(
        self, shop: Storefront, claimed: str
    ) -> None:
        shop.queue.down = True
        with pytest.raises(NoAnswerError):
            shop.release(claimed, "acme", 1)
        shop.queue.down = False

        shop.release(claimed, "acme", 1)

        assert shop.queue.sent[-1][:2] == (claimed, "claimed")
        assert len(told(shop, "Claim Released")) == 1

    def test_a_legacy_buyer_is_unlinked_by_both_names(self, shop: Storefront) -> None:
        registered = shop.register(shop.subscribe(product="legacysubscriptionproduct"))
        identifier = shop.subscription(registered.subscription_id).customer_identifier or ""
        shop.update(registered.subscription_id, account_id=None)
        shop.claim(registered.code, "acme")
        assert shop.tenants_of(identifier) == ["acme"]
        shop.update(registered.subscription_id, account_id=ACCOUNT)  # AWS names it later

        shop.release(registered.subscription_id, "acme", 1)

        assert shop.tenants_of(identifier) == shop.tenants_of(ACCOUNT) == []


class TestTransfer:
    def test_a_transfer_puts_another_tenant_in_the_place_of_the_first(self, shop: Storefront, claimed: str) -> None:
        shop.later(minutes=1)
        shop.transfer(claimed, "acme", "globex", 1)

        subscription = shop.subscription(claimed)
        assert (subscription.tenant_id, subscription.claimed_at) == ("globex", shop.seconds())
        assert shop.stored(keys.tenant_subscription("acme", claimed)) is None
        assert shop.stored(keys.tenant_subscription("globex", claimed)) is not None
        assert shop.tenants_of(ACCOUNT) == ["globex"]
        (event,) = told(shop, "Claim Transferred")
        assert (event.detail["previous_tenant_id"], event.detail["tenant_id"]) == ("acme", "globex")

    def test_a_code_of_before_opens_the_new_tenants_subscription_to_nobody_else(self, shop: Storefront) -> None:
        registered = shop.register()
        shop.claim(registered.code, "acme")
        shop.transfer(registered.subscription_id, "acme", "globex", 1)

        for tenant in ("acme", "initech"):
            with pytest.raises(ClaimedByAnotherTenantError):
                shop.claim(registered.code, tenant)

    def test_a_repeated_transfer_is_answered_the_same(self, shop: Storefront, claimed: str) -> None:
        for _ in range(3):
            shop.transfer(claimed, "acme", "globex", 1)

        assert len(told(shop, "Claim Transferred")) == 1
        assert shop.subscription(claimed).claim_revision == 2

    def test_a_transfer_that_comes_again_after_the_way_back_changes_nothing(
        self, shop: Storefront, claimed: str
    ) -> None:
        shop.transfer(claimed, "acme", "globex", 1)
        shop.transfer(claimed, "globex", "acme", 2)

        shop.transfer(claimed, "acme", "globex", 1)

        assert shop.subscription(claimed).tenant_id == "acme"
        assert shop.tenants_of(ACCOUNT) == ["acme"]

    def test_another_target_under_the_same_revision_is_no_repetition(self, shop: Storefront, claimed: str) -> None:
        shop.transfer(claimed, "acme", "globex", 1)

        with pytest.raises(ClaimChangedError) as refused:
            shop.transfer(claimed, "acme", "initech", 1)
        with pytest.raises(ClaimChangedError):
            shop.release(claimed, "acme", 1)

        assert (refused.value.tenant_id, refused.value.claim_revision) == ("globex", 2)

    def test_a_transfer_would_share_the_account_only_if_that_is_meant(self, shop: Storefront, claimed: str) -> None:
        shop.claim(shop.register(shop.subscribe(product=OTHER_PRODUCT)).code, "acme")

        with pytest.raises(AccountLinkedToAnotherTenantError) as refused:
            shop.transfer(claimed, "acme", "globex", 1)
        assert refused.value.tenants == ("acme",)
        assert shop.subscription(claimed).tenant_id == "acme"

        shop.transfer(claimed, "acme", "globex", 1, share_account=True)
        assert shop.tenants_of(ACCOUNT) == ["acme", "globex"]

    def test_all_subscriptions_of_an_account_move_one_by_one(self, shop: Storefront) -> None:
        ids = [shop.claim(shop.register(shop.subscribe()).code, "acme") for _ in range(3)]

        for number, subscription_id in enumerate(ids):
            shop.transfer(subscription_id, "acme", "globex", 1, share_account=number == 0)

        assert shop.tenants_of(ACCOUNT) == ["globex"]

    def test_a_transfer_to_the_same_tenant_is_no_request(self) -> None:
        with pytest.raises(ValidationError, match="another tenant"):
            Transfer(tenant_id="acme", to_tenant_id="acme", claim_revision=1, reason="why")


class TestClaimBySubscriptionId:
    def test_a_seller_with_the_built_in_page_claims_without_a_code(self, shop: Storefront) -> None:
        registered = shop.register()

        shop.claim_subscription(registered.subscription_id, "acme")

        assert shop.subscription(registered.subscription_id).tenant_id == "acme"
        assert shop.tenants_of(ACCOUNT) == ["acme"]
        (event,) = told(shop, "Registration Completed")
        assert event.detail["tenant_id"] == "acme"

    def test_it_may_be_repeated_and_refuses_another_tenant(self, shop: Storefront) -> None:
        subscription_id = shop.register().subscription_id
        for _ in range(2):
            shop.claim_subscription(subscription_id, "acme")

        with pytest.raises(ClaimedByAnotherTenantError):
            shop.claim_subscription(subscription_id, "globex", share_account=True)

        assert len(told(shop, "Registration Completed")) == 1

    def test_repeated_after_a_release_it_claims_nothing(self, shop: Storefront) -> None:
        subscription_id = shop.register().subscription_id
        shop.claim_subscription(subscription_id, "acme")
        shop.release(subscription_id, "acme", 1)

        with pytest.raises(ClaimChangedError):
            shop.claim_subscription(subscription_id, "acme")
        assert unclaimed_again(shop, subscription_id, "acme")

        shop.claim_subscription(subscription_id, "acme", claim_revision=2)
        assert shop.subscription(subscription_id).claim_revision == 3

    def test_claimed_again_the_same_tenant_is_told_of_by_another_event(self, shop: Storefront) -> None:
        subscription_id = shop.register().subscription_id
        shop.claim_subscription(subscription_id, "acme")
        shop.release(subscription_id, "acme", 1)
        shop.claim_subscription(subscription_id, "acme", claim_revision=2)

        assert len({event.id for event in told(shop, "Registration Completed")}) == 2

    def test_the_account_of_another_tenant_is_refused_unless_shared(self, shop: Storefront) -> None:
        shop.claim(shop.register().code, "acme")
        second = shop.register(shop.subscribe(product=OTHER_PRODUCT)).subscription_id

        with pytest.raises(AccountLinkedToAnotherTenantError):
            shop.claim_subscription(second, "globex")
        shop.claim_subscription(second, "globex", share_account=True)

        assert shop.tenants_of(ACCOUNT) == ["acme", "globex"]

    def test_what_does_not_exist_is_not_claimed(self, shop: Storefront) -> None:
        with pytest.raises(NotSubscribedError):
            shop.claim_subscription(NOBODY, "acme")

        assert shop.everything() == []


class TestContractOfTwoSubscriptions:
    """A legacy customer and the licence that they were moved to."""

    @pytest.fixture
    def pair(self, shop: Storefront) -> tuple[str, str]:
        legacy = shop.register(shop.subscribe(product="legacysubscriptionproduct")).subscription_id
        licence = shop.register(shop.subscribe()).subscription_id
        shop.update(legacy, migrated_to=licence, cutover_at=7200)
        shop.update(licence, migrated_from=legacy, cutover_at=7200)
        return legacy, licence

    @pytest.mark.parametrize("first", [0, 1])
    def test_both_have_one_tenant(self, shop: Storefront, pair: tuple[str, str], first: int) -> None:
        shop.claim_subscription(pair[first], "acme")

        with pytest.raises(ClaimedByAnotherTenantError):
            shop.claim_subscription(pair[1 - first], "globex", share_account=True)
        shop.claim_subscription(pair[1 - first], "acme")

        assert [shop.subscription(one).tenant_id for one in pair] == ["acme", "acme"]

    @pytest.mark.parametrize("named", [0, 1])
    def test_a_release_of_one_releases_both(self, shop: Storefront, pair: tuple[str, str], named: int) -> None:
        for one in pair:
            shop.claim_subscription(one, "acme")

        for _ in range(2):
            shop.release(pair[named], "acme", 1)

        assert all(unclaimed_again(shop, one, "acme") for one in pair)
        assert shop.tenants_of(ACCOUNT) == []
        assert {event.detail["subscription_id"] for event in told(shop, "Claim Released")} == set(pair)
        assert [len(shop.changes(one)) for one in pair] == [2, 2]
        assert {one for one, _, _ in shop.queue.sent[-2:]} == set(pair)

    @pytest.mark.parametrize("named", [0, 1])
    def test_a_transfer_of_one_transfers_both(self, shop: Storefront, pair: tuple[str, str], named: int) -> None:
        for one in pair:
            shop.claim_subscription(one, "acme")
        shop.release(pair[0], "acme", 1)
        shop.claim_subscription(pair[0], "acme", claim_revision=2)
        shop.claim_subscription(pair[1], "acme", claim_revision=2)

        shop.transfer(pair[named], "acme", "globex", 3)

        assert [shop.subscription(one).tenant_id for one in pair] == ["globex", "globex"]
        assert [shop.subscription(one).claim_revision for one in pair] == [4, 4]
        assert shop.tenants_of(ACCOUNT) == ["globex"]

    def test_the_one_that_nobody_claimed_stays_so(self, shop: Storefront, pair: tuple[str, str]) -> None:
        shop.claim_subscription(pair[0], "acme")

        shop.transfer(pair[0], "acme", "globex", 1)
        shop.release(pair[0], "globex", 2)

        assert shop.subscription(pair[1]).claim_revision == 0
        assert [shop.subscription(one).tenant_id for one in pair] == [None, None]

    @pytest.mark.parametrize("lured", [0, 1])
    def test_a_code_of_either_from_before_a_release_claims_nothing(
        self, shop: Storefront, pair: tuple[str, str], lured: int
    ) -> None:
        codes = ["c" * 32, "d" * 32]
        for code, one in zip(codes, pair, strict=True):
            opened = Opened(one, shop.subscription(one).product_code)
            shop.dynamodb.put_item(TableName=shop.table, Item=code_item(code, opened, shop.seconds()))
        shop.claim(codes[lured], "victim")
        shop.later(minutes=1)

        shop.release(pair[lured], "victim", 1)

        for code in codes:
            with pytest.raises(UnknownRegistrationError):
                shop.claim(code, "victim")
        assert [shop.subscription(one).claim_revision for one in pair][1 - lured] == 0

    def test_two_tenants_of_one_contract_are_made_one_by_a_transfer(
        self, shop: Storefront, pair: tuple[str, str]
    ) -> None:
        shop.claim_subscription(pair[0], "acme")
        shop.update(pair[1], tenant_id="globex")

        with pytest.raises(ClaimedByAnotherTenantError):
            shop.transfer(pair[0], "acme", "initech", 1)
        shop.transfer(pair[0], "acme", "globex", 1, share_account=True)

        assert [shop.subscription(one).tenant_id for one in pair] == ["globex", "globex"]


class TestAuditTrail:
    def test_every_change_says_what_when_who_and_why(self, shop: Storefront) -> None:
        registered = shop.register()
        shop.claim(registered.code, "acme")
        shop.later(minutes=1)
        shop.transfer(registered.subscription_id, "acme", "globex", 1, reason="merged")
        shop.later(minutes=1)
        shop.release(registered.subscription_id, "globex", 2, "gone")
        shop.claim_subscription(registered.subscription_id, "initech", claim_revision=3)
        at = shop.seconds()

        assert [tuple(asdict(change).values()) for change in shop.changes(registered.subscription_id)] == [
            (1, "claimed", "acme", None, at - 120, CALLER, "registration", None),
            (2, "transferred", "globex", "acme", at - 60, CALLER, "subscription", "merged"),
            (3, "released", None, "globex", at, CALLER, "subscription", "gone"),
            (4, "claimed", "initech", None, at, CALLER, "subscription", None),
        ]

    def test_it_is_read_in_pages_the_newest_first(self, shop: Storefront) -> None:
        subscription_id = shop.register().subscription_id
        for round_ in range(6):
            shop.claim_subscription(subscription_id, "acme", claim_revision=2 * round_)
            shop.release(subscription_id, "acme", 2 * round_ + 1)

        revisions: list[int] = []
        cursor: str | None = None
        for _ in range(4):
            page = shop.claims().changes(subscription_id, cursor=cursor, limit=5)
            revisions += [change.revision for change in page.changes]
            cursor = page.cursor
            if cursor is None:
                break

        assert revisions == list(range(12, 0, -1))

    @pytest.mark.parametrize(
        "cursor", ["x", cursor_of("1"), cursor_of(0), cursor_of(-3), cursor_of(10**9), cursor_of()]
    )
    def test_a_cursor_of_another_list_is_refused(self, shop: Storefront, cursor: str) -> None:
        with pytest.raises(InvalidCursorError):
            shop.claims().changes(NOBODY, cursor=cursor, limit=5)

    def test_a_refused_request_leaves_no_trace_in_it(self, shop: Storefront, claimed: str) -> None:
        before = shop.everything()
        requests: list[Callable[[], None]] = [
            lambda: shop.release(claimed, "globex", 1),
            lambda: shop.transfer(claimed, "globex", "acme", 1),
            lambda: shop.claim_subscription(claimed, "globex"),
        ]
        for request in requests:
            with pytest.raises((ClaimChangedError, ClaimedByAnotherTenantError)):
                request()

        assert shop.everything() == before

    @pytest.mark.parametrize("length", [0, 20, MAX_CALLER, 10_000])
    def test_an_entry_is_bounded(self, shop: Storefront, claimed: str, length: int) -> None:
        request = Release(tenant_id="acme", claim_revision=1, reason="ü" * 500)
        shop.claims().release(claimed, request, "c" * length)

        (entry,) = [item for item in shop.everything() if item["sk"]["S"] == "CLAIM#00000002"]

        assert from_item(entry)["caller"] == "c" * min(length, MAX_CALLER)
        assert sum(len(str(value)) for value in entry.values()) < 4096

    @pytest.mark.parametrize("reason", ["", " ", "x" * 501, " why", "a\nb", "a\x00", "\u202ewhy", 7, None])
    def test_a_reason_is_printable_text_on_one_line(self, reason: Any) -> None:
        with pytest.raises(ValidationError):
            Release.model_validate({"tenant_id": "acme", "claim_revision": 1, "reason": reason})

    @pytest.mark.parametrize("revision", [-1, 10**8, "1", 1.0, True, None])
    def test_a_revision_is_a_whole_number(self, revision: Any) -> None:
        with pytest.raises(ValidationError):
            SubscriptionClaim.model_validate({"tenant_id": "acme", "claim_revision": revision})


def test_a_crowd_of_writers_is_to_be_asked_again(
    shop: Storefront, claimed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Claims, "_write", lambda *_, **__: False)

    with pytest.raises(ThrottledError):
        shop.release(claimed, "acme", 1)


def test_following_the_guide_leads_nobody_into_anothers_tenant(shop: Storefront) -> None:
    """A user of `victim` confirms a stranger's link; the operator finds out, releases, and gives it to the stranger."""
    purchase = shop.subscribe("666677778888")
    lure = shop.register(purchase)
    assert shop.subscription(shop.claims().subscription_of(lure.code)).account_id == "666677778888"
    shop.claim(lure.code, "victim")
    with pytest.raises(ClaimedByAnotherTenantError):
        shop.claim(shop.register(purchase).code, "mallory")

    shop.later(minutes=1)
    shop.release(lure.subscription_id, "victim", 1, "a user was lured, ticket 4711")
    with pytest.raises(UnknownRegistrationError):
        shop.claims().claim(lure.code, Claim(tenant_id="victim"), CALLER)
    shop.later(minutes=1)
    shop.claim(shop.register(purchase).code, "mallory")

    assert shop.tenants_of("666677778888") == ["mallory"]
    assert [change.tenant_id for change in shop.changes(lure.subscription_id)] == ["victim", None, "mallory"]
