"""Registration codes: unguessable, hashed at rest, good for an hour."""

import pytest

from marketplace.dynamodb import keys
from marketplace.registration.codes import LIFETIME, new_code
from tests.support.storefront import Storefront


def test_codes_differ_and_are_safe_in_a_url() -> None:
    codes = {new_code() for _ in range(100)}

    assert len(codes) == 100
    assert all(len(code) >= 22 and code.replace("-", "").replace("_", "").isalnum() for code in codes)


def test_a_code_opens_its_subscription_until_an_hour_has_passed(shop: Storefront) -> None:
    registered = shop.register()

    shop.later(seconds=LIFETIME - 1)
    assert shop.codes.subscription_of(registered.code) == registered.subscription_id
    shop.later(seconds=1)
    assert shop.codes.subscription_of(registered.code) is None


def test_ttl_deletes_the_code_at_the_same_moment(shop: Storefront) -> None:
    registered = shop.register()

    stored = shop.stored(keys.registration(registered.code))

    assert stored is not None
    assert stored["expires_at"] == shop.seconds() + 3600


@pytest.mark.parametrize("code", ["", "short", "x" * 65, "ö" * 30, "a" * 30 + "/", "never-given-out-abcdefgh"])
def test_what_was_never_given_out_opens_nothing(shop: Storefront, code: str) -> None:
    assert shop.codes.subscription_of(code) is None
