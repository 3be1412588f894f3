"""The free trial of a buyer, as it is known when the seller's application opens or claims the registration."""

import pytest

from marketplace.platform.clock import DAY, iso
from marketplace.seller_api.views import details_view
from marketplace_emulator import Purchase
from tests.support.storefront import Storefront

PRODUCT = "ca2payasyougoproduct00000"


def trial(shop: Storefront, days: int = 14) -> Purchase:
    return shop.marketplace.purchases.subscribe(PRODUCT, free_trial_days=days)


def opened(shop: Storefront, purchase: Purchase) -> str:
    """The id of a subscription whose registration the seller's application has opened."""
    subscription_id = shop.register(purchase).subscription_id
    shop.look_up_free_trial(subscription_id)
    return subscription_id


def asked(shop: Storefront) -> int:
    return sum(call.operation == "DescribeAgreement" for call in shop.marketplace.calls)


@pytest.mark.parametrize("days", [7, 14, 90])
def test_a_free_trial_is_known_with_its_end(shop: Storefront, days: int) -> None:
    found = shop.subscription(opened(shop, trial(shop, days)))
    assert (found.free_trial, found.free_trial_ends_at) == (True, shop.seconds() + days * DAY)
    assert found.free_trial_at(shop.seconds() + days * DAY - 1) is True
    assert found.free_trial_at(shop.seconds() + days * DAY) is False


def test_the_sellers_view_says_that_it_is_a_trial_and_until_when(shop: Storefront) -> None:
    details = shop.queries.details(opened(shop, trial(shop)))
    assert details is not None
    view = details_view(details, shop.seconds())
    assert (view["free_trial"], view["free_trial_ends_at"]) == (True, iso(shop.seconds() + 14 * DAY))
    assert details_view(details, shop.seconds() + 15 * DAY)["free_trial"] is False


@pytest.mark.parametrize("product", ["ca1contractandconsumption", PRODUCT])
def test_a_purchase_without_a_trial_is_known_as_such(shop: Storefront, product: str) -> None:
    found = shop.subscription(opened(shop, shop.subscribe(product=product)))
    assert (found.free_trial, found.free_trial_ends_at) == (False, None)


@pytest.mark.parametrize("fault", ["throttle", "timeout_after", "drop_after", "malformed", "access_denied"])
def test_what_aws_does_not_say_stays_unknown_and_is_asked_again(shop: Storefront, fault: str) -> None:
    shop.marketplace.faults.plan([{"operation": "DescribeAgreement", "fault": fault, "times": None}])
    subscription_id = opened(shop, trial(shop))
    found = shop.subscription(subscription_id)
    assert (found.free_trial, found.free_trial_ends_at) == (None, None)
    shop.marketplace.faults.clear()
    shop.look_up_free_trial(subscription_id)
    assert shop.subscription(subscription_id).free_trial is True


def test_aws_is_asked_once_for_each_agreement(shop: Storefront) -> None:
    subscription_id = opened(shop, trial(shop))
    shop.look_up_free_trial(subscription_id)
    assert asked(shop) == 1


def test_a_buyer_who_registers_is_kept_waiting_by_no_question_about_it(shop: Storefront) -> None:
    shop.register(trial(shop))
    assert asked(shop) == 0


def test_a_trial_that_has_become_a_paid_agreement_is_none(shop: Storefront) -> None:
    purchase = trial(shop)
    subscription_id = opened(shop, purchase)
    shop.later(days=1)
    paid = shop.marketplace.purchases.replace(purchase.id)
    shop.update(subscription_id, agreement_ids=[*shop.subscription(subscription_id).agreement_ids, paid.agreement_id])
    shop.look_up_free_trial(subscription_id)
    found = shop.subscription(subscription_id)
    assert (found.free_trial, found.free_trial_ends_at) == (False, None)


def test_a_buyer_without_an_agreement_is_asked_nothing_about(shop: Storefront) -> None:
    opened(shop, shop.subscribe(product="legacysubscriptionproduct"))
    assert asked(shop) == 0


def test_an_unknown_subscription_is_no_error(shop: Storefront) -> None:
    shop.look_up_free_trial("sub-" + "0" * 26)
    assert asked(shop) == 0


def test_a_change_that_comes_between_is_not_overwritten(shop: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription_id = shop.register(trial(shop)).subscription_id
    answer = shop.marketplace.handle

    def changing(*args: object, **kwargs: object) -> object:
        shop.update(subscription_id, free_trial=False, version=9)
        return answer(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.marketplace, "handle", changing)
    shop.look_up_free_trial(subscription_id)
    found = shop.subscription(subscription_id)
    assert (found.free_trial, found.version) == (False, 9)
