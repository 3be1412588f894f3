"""One licence, one subscription id, however AWS prints it; different buyers, different ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.subscriptions.identity import (
    SUBSCRIPTION_ID,
    InvalidIdentityError,
    LegacyIdentity,
    LicenseIdentity,
    normalised_license_arn,
)

accounts = st.text("0123456789", min_size=12, max_size=12)
licenses = st.text("0123456789abcdef", min_size=1, max_size=32).map(lambda digits: f"l-{digits}")
regions = st.sampled_from(["", "us-east-1", "eu-central-1"])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


def forms(account: str, license_id: str, region: str) -> list[str]:
    """The printed forms in ResolveCustomer, in the Seller Guide's events and in the metering skill."""
    return [
        f"arn:aws:license-manager::{account}:license:{license_id}",
        f"arn:aws:license-manager:{region}:{account}:license:{license_id}",
        f"arn:aws:license-manager::{account}:license/{license_id}",
        f"aws:license-manager::{account}:license:{license_id}",
        f"aws:license-manager:us-east-1:{account}:{license_id}",
        f"  arn:aws:license-manager::{account}:license:{license_id}\n",
    ]


@given(st.tuples(accounts, accounts), licenses, regions)
def test_all_printed_forms_of_a_licence_are_one_subscription(
    printed: tuple[str, str], license_id: str, region: str
) -> None:
    """The Seller Guide's events show another account in the ARN than ResolveCustomer does."""
    found = {
        LicenseIdentity(form).subscription_id for account in printed for form in forms(account, license_id, region)
    }
    assert len(found) == 1
    assert SUBSCRIPTION_ID.match(found.pop())
    assert {normalised_license_arn(form) for form in forms(printed[0], license_id, region)} == {license_id}


@given(accounts, licenses, licenses, regions)
def test_different_licences_are_different_subscriptions(account: str, one: str, other: str, region: str) -> None:
    ids = [{LicenseIdentity(form).subscription_id for form in forms(account, who, region)} for who in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


@given(texts)
def test_normalising_twice_is_normalising_once(arn: str) -> None:
    if not arn.strip():
        with pytest.raises(InvalidIdentityError):
            normalised_license_arn(arn)
        return
    once = normalised_license_arn(arn)
    assert normalised_license_arn(once) == once


def test_an_arn_of_an_unknown_shape_is_kept_as_it_stands() -> None:
    assert normalised_license_arn(" urn:something:else ") == "urn:something:else"
    assert normalised_license_arn("license/l-0123") == "l-0123"


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_a_legacy_customer_is_a_customer_of_one_product(one: tuple[str, str], other: tuple[str, str]) -> None:
    ids = [LegacyIdentity(*who).subscription_id for who in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
    assert all(SUBSCRIPTION_ID.match(found) for found in ids)


@given(texts, texts)
def test_a_licence_is_never_a_legacy_customer(product: str, customer: str) -> None:
    legacy = LegacyIdentity(product, customer).subscription_id
    for arn in (product, customer, f"{product}\0{customer}"):
        if arn.strip():
            assert LicenseIdentity(arn).subscription_id != legacy


@pytest.mark.parametrize(
    "identity", [LegacyIdentity("", "c"), LegacyIdentity("p", ""), LicenseIdentity(""), LicenseIdentity("  ")]
)
def test_an_empty_identifier_is_nobody(identity: LegacyIdentity | LicenseIdentity) -> None:
    with pytest.raises(InvalidIdentityError):
        _ = identity.subscription_id


def test_ids_stay_what_they_are() -> None:
    """Ids are keys of stored data: another derivation would lose it."""
    arn = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"
    assert LicenseIdentity(arn).subscription_id == "sub-wrw25eu6rm3f2ybiypipjra5qk"
    assert LegacyIdentity("product", "customer").subscription_id == "sub-pcnk7awxpxfwdya4z4ast3ewem"
