"""Registration: who a buyer is comes from AWS alone, is stored once, and may be asked again."""

import json
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.platform.errors import (
    AwsError,
    ExpiredTokenError,
    InvalidTokenError,
    NoAnswerError,
    SystemicError,
    ThrottledError,
)
from marketplace.registration.register import MarketplaceResolver, ProductNotOfferedError
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Subscription
from tests.support.storefront import Storefront


def test_a_buyer_of_a_licensed_product_becomes_a_pending_subscription(shop: Storefront) -> None:
    purchase = shop.subscribe()

    registered = shop.register(purchase)

    assert registered.subscription_id == LicenseIdentity(purchase.license_arn).subscription_id
    assert shop.subscription(registered.subscription_id) == Subscription(
        id=registered.subscription_id,
        integration="license",
        license_arn=purchase.license_arn,
        account_id="111122223333",
        product_code=purchase.product.code,
        agreement_ids=(purchase.agreement_id,),
        status="pending",
        registered_at=shop.seconds(),
        version=1,
    )


def test_a_buyer_of_a_legacy_product_is_known_by_customer_identifier(shop: Storefront) -> None:
    purchase = shop.subscribe(product="legacysubscriptionproduct")

    registered = shop.register(purchase)

    subscription = shop.subscription(registered.subscription_id)
    identity = LegacyIdentity("legacysubscriptionproduct", purchase.customer_identifier)
    assert registered.subscription_id == identity.subscription_id
    assert subscription.integration == "legacy"
    assert subscription.license_arn is None
    assert subscription.customer_identifier == purchase.customer_identifier


def test_the_same_token_gives_the_same_subscription_and_a_fresh_code(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    first = shop.registration().register(token)
    shop.later(minutes=10)

    second = shop.registration().register(token)

    assert second.subscription_id == first.subscription_id
    assert second.code != first.code
    assert shop.codes.subscription_of(first.code) == shop.codes.subscription_of(second.code) == first.subscription_id
    subscription = shop.subscription(first.subscription_id)
    assert subscription.registered_at == shop.seconds() - 600
    assert subscription.version == 2
    assert len(subscription.agreement_ids) == 1


def test_what_the_lifecycle_and_the_tenant_wrote_stays(shop: Storefront) -> None:
    purchase = shop.subscribe()
    subscription_id = LicenseIdentity(purchase.license_arn).subscription_id
    known = {
        "id": subscription_id,
        "integration": "license",
        "status": "active",
        "activated_at": 1_795_000_000,
        "tenant_id": "acme",
        "agreement_ids": ["agmt-earlier"],
        "entitlements_synced_at": 1_795_000_100,
        "version": 7,
    }
    shop.update(subscription_id, **known)

    shop.register(purchase)

    stored = shop.stored(keys.subscription(subscription_id))
    assert stored is not None
    assert {name: stored[name] for name in known} == {**known, "version": 8}
    assert stored["account_id"] == "111122223333"


@pytest.mark.parametrize("named", [True, False])
def test_the_agreement_that_the_answer_names_is_joined_to_the_subscription(shop: Storefront, named: bool) -> None:
    shop.marketplace.settings.resolve_metadata = named
    purchase = shop.subscribe()

    registered = shop.register(purchase)

    joined = [item["pk"]["S"] for item in shop.everything() if item["pk"]["S"].startswith("AGREEMENT#")]
    assert joined == ([keys.agreement_subscription(purchase.agreement_id, registered.subscription_id).pk] * named)
    assert shop.subscription(registered.subscription_id).agreement_ids == (purchase.agreement_id,) * named
    assert shop.queue.sent == [(registered.subscription_id, "registered", purchase.agreement_id if named else None)]


def test_the_seller_is_told_once_however_often_the_buyer_registers(shop: Storefront) -> None:
    token = shop.token(purchase := shop.subscribe())
    shop.registration().register(token)
    registered = shop.registration().register(token)

    (event,) = shop.announced()

    assert event.kind == "Registration Resolved"
    assert event.detail["subscription_id"] == registered.subscription_id
    assert event.detail["license_arn"] == purchase.license_arn
    assert event.detail["account_id"] == "111122223333"


def test_neither_token_nor_code_is_stored(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())

    registered = shop.registration().register(token)

    stored = json.dumps(shop.everything())
    assert token not in stored
    assert registered.code not in stored


def test_a_product_of_another_seller_is_refused_and_nothing_is_stored(shop: Storefront) -> None:
    shop.product_codes = frozenset({"another"})

    with pytest.raises(ProductNotOfferedError):
        shop.register()

    assert shop.everything() == []
    assert shop.queue.sent == []


def test_an_expired_token_is_told_from_an_invalid_one(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    shop.later(hours=5)

    with pytest.raises(ExpiredTokenError):
        shop.registration().register(token)
    for invalid in ("not-a-token", ""):
        with pytest.raises(InvalidTokenError):
            shop.registration().register(invalid)
    assert shop.everything() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("throttle", ThrottledError),
        ("internal_error", NoAnswerError),
        ("unavailable", NoAnswerError),
        ("drop_before", NoAnswerError),
        ("drop_after", NoAnswerError),
        ("timeout_before", NoAnswerError),
        ("timeout_after", NoAnswerError),
        ("truncate", NoAnswerError),
        ("disabled_api", SystemicError),
        ("access_denied", SystemicError),
        ("unrecognized_credentials", SystemicError),
        ("malformed", AwsError),
    ],
)
def test_an_outage_blames_nobody_and_the_same_token_works_afterwards(
    shop: Storefront, fault: str, error: type[AwsError]
) -> None:
    token = shop.token(shop.subscribe())
    shop.marketplace.faults.plan([{"fault": fault, "operation": "ResolveCustomer"}])

    with pytest.raises(error) as raised:
        shop.registration().register(token)

    assert not isinstance(raised.value, ExpiredTokenError | InvalidTokenError)
    assert shop.everything() == []
    assert shop.registration().register(token).code


def test_a_queue_that_is_down_leaves_a_registration_that_the_next_attempt_completes(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    shop.queue.down = True
    with pytest.raises(NoAnswerError):
        shop.registration().register(token)
    shop.queue.down = False

    registered = shop.registration().register(token)

    assert [sent[0] for sent in shop.queue.sent] == [registered.subscription_id]


class Answering:
    """ResolveCustomer with an answer of choice, for shapes that the emulator doesn't give."""

    def __init__(self, **answer: Any) -> None:
        self._answer = answer

    def resolve_customer(self, *, RegistrationToken: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        return self._answer


LICENSE = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"


def resolved(**answer: Any) -> Any:
    return MarketplaceResolver(Answering(**answer)).resolve("token")  # type: ignore[arg-type]


def test_where_the_answer_names_a_licence_and_a_customer_the_licence_decides() -> None:
    customer = resolved(
        ProductCode="code", LicenseArn=LICENSE, CustomerIdentifier="customer1", CustomerAWSAccountId="111122223333"
    )

    assert customer.identity == LicenseIdentity(LICENSE)
    assert customer.values["customer_identifier"] == "customer1"
    assert customer.values["integration"] == "license"


def test_an_empty_customer_identifier_is_as_good_as_none() -> None:
    customer = resolved(ProductCode="code", LicenseArn=LICENSE, CustomerIdentifier="", Metadata=None)

    assert "customer_identifier" not in customer.values
    assert customer.agreement_id is None


@pytest.mark.parametrize("answer", [{}, {"ProductCode": "code"}, {"LicenseArn": LICENSE}, {"CustomerIdentifier": "c"}])
def test_an_answer_that_names_no_product_or_no_buyer_is_no_answer(answer: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError):
        resolved(**answer)
