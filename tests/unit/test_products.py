"""A product that never has entitlements is known as such, and AWS is asked once about each activation; a contract whose
entitlements come late is read until they come."""

from collections.abc import Iterator

import pytest

from marketplace.entitlements.rules import PENDING_FOR, Entitlement
from marketplace.lifecycle.lifecycle import _PENDING_DELAYS
from marketplace.lifecycle.products import has_usage_pricing_alone
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import LicenseIdentity
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSED, PRODUCT, LifecycleWorld, told

SEATS = Entitlement(dimension="seats", value_type="integer", value=25)
USAGE_ALONE = frozenset({"legalTerm", "supportTerm", "usageBasedPricingTerm"})
UPDATED = "eventbridge_license_updated"
SUCCESS = "sns_subscribe_success"


@pytest.fixture
def world() -> LifecycleWorld:
    return LifecycleWorld.in_memory()


def licences() -> Iterator[str]:
    return (f"arn:aws:license-manager::294406891311:license:l-{number:032x}" for number in range(1000))


def activate(world: LifecycleWorld, license_arn: str, agreement_id: str, product: str = PRODUCT) -> str:
    """Another buyer's License Updated."""
    event = told(
        "License Updated",
        world.time.seconds,
        agreement={"id": agreement_id},
        license={"arn": license_arn},
        product={"code": product},
        acceptor={"accountId": "111122223333"},
    )
    assert world.lifecycle.receive(event) == "applied"
    return LicenseIdentity(license_arn).subscription_id


def calls_of_activation(world: LifecycleWorld, license_arn: str, agreement_id: str, product: str = PRODUCT) -> int:
    before = world.source.calls
    activate(world, license_arn, agreement_id, product)
    world.wait(world.time.seconds + DAY)
    return world.source.calls - before


def test_the_readings_reach_beyond_the_hour_in_which_empty_means_not_yet() -> None:
    assert sum(_PENDING_DELAYS) > PENDING_FOR
    assert max(_PENDING_DELAYS) <= recheck.MAX_DELAY_SECONDS


def test_usage_pricing_alone_is_asked_about_once_from_the_first_activation_on(world: LifecycleWorld) -> None:
    world.terms = USAGE_ALONE
    calls = [calls_of_activation(world, arn, f"agmt-{n}") for n, arn in zip(range(20), licences(), strict=False)]
    assert calls == [1] * 20


def test_without_the_agreement_api_the_first_buyer_teaches_it(world: LifecycleWorld) -> None:
    calls = [calls_of_activation(world, arn, f"agmt-{n}") for n, arn in zip(range(5), licences(), strict=False)]
    assert calls == [1 + len(_PENDING_DELAYS), 1, 1, 1, 1]


def test_a_legacy_product_without_a_contract_is_learned_too(world: LifecycleWorld) -> None:
    world.receive(SUCCESS)
    world.wait(world.time.seconds + DAY)
    assert world.source.calls == 1 + len(_PENDING_DELAYS)
    assert world.attributes(LEGACY)["status"] == "active"
    product = world.subscription(LEGACY).product_code
    assert calls_of_activation(world, next(licences()), "agmt-1", product) == 1


def test_a_buyer_who_registers_after_the_activation_has_nothing_asked_again(world: LifecycleWorld) -> None:
    world.terms = USAGE_ALONE
    world.receive(UPDATED)
    world.wait(world.time.seconds + 21)
    world.register(LICENSED)
    world.look_again(LICENSED, recheck.REGISTERED, agreement_id=AGREEMENT)
    world.wait(world.time.seconds + DAY)
    assert world.source.calls == 1


@pytest.mark.parametrize("late", [3 * MINUTE, 20 * MINUTE, 45 * MINUTE, 60 * MINUTE])
@pytest.mark.parametrize(
    "terms",
    [
        frozenset({"configurableUpfrontPricingTerm"}),
        frozenset({"fixedUpfrontPricingTerm", "usageBasedPricingTerm"}),
        frozenset({"freeTrialPricingTerm", "usageBasedPricingTerm"}),
        frozenset[str](),
    ],
    ids=["contract", "contract with consumption", "free trial", "terms unknown"],
)
def test_entitlements_that_come_late_are_read_when_they_come(
    world: LifecycleWorld, terms: frozenset[str], late: int
) -> None:
    world.terms = terms
    start = world.time.seconds
    world.receive(UPDATED)
    world.wait(start + late)
    world.source.granted[LICENSED] = [SEATS]
    world.wait(start + 70 * MINUTE)
    assert [event["after"]["seats"]["value"] for event in world.bus.details("Entitlements Changed")] == [25]


def test_one_listing_of_any_buyer_makes_it_a_product_with_entitlements_for_good(world: LifecycleWorld) -> None:
    """However sure it was before that there are none."""
    first, second, third = (next(arns) for arns in [licences()] for _ in range(3))
    world.terms = USAGE_ALONE
    assert calls_of_activation(world, first, "agmt-1") == 1
    world.source.granted[LicenseIdentity(first).subscription_id] = [SEATS]
    world.read_back(LicenseIdentity(first).subscription_id)
    assert calls_of_activation(world, second, "agmt-2") == 1 + len(_PENDING_DELAYS)
    assert calls_of_activation(world, third, "agmt-3") == 1 + len(_PENDING_DELAYS)


def test_an_empty_series_is_no_proof_against_a_listing(world: LifecycleWorld) -> None:
    first, second = (next(arns) for arns in [licences()] for _ in range(2))
    world.source.granted[LicenseIdentity(first).subscription_id] = [SEATS]
    assert calls_of_activation(world, first, "agmt-1") == 1
    assert calls_of_activation(world, second, "agmt-2") == 1 + len(_PENDING_DELAYS)
    assert calls_of_activation(world, second, "agmt-3") == 1 + len(_PENDING_DELAYS)


def test_one_product_says_nothing_of_another(world: LifecycleWorld) -> None:
    first, second = (next(arns) for arns in [licences()] for _ in range(2))
    world.terms = USAGE_ALONE
    assert calls_of_activation(world, first, "agmt-1", "usage") == 1
    world.terms = frozenset({"fixedUpfrontPricingTerm"})
    assert calls_of_activation(world, second, "agmt-2", "contract") == 1 + len(_PENDING_DELAYS)


def test_two_thousand_activations_of_an_hour_ask_two_thousand_times(world: LifecycleWorld) -> None:
    world.terms = USAGE_ALONE
    for number in range(200):  # a tenth of them shows it
        activate(world, f"arn:aws:license-manager::294406891311:license:l-{number:032x}", f"agmt-{number}")
    messages = len(world.sqs.asked)
    world.wait(world.time.seconds + 2 * HOUR)
    assert (messages, world.source.calls) == (200, 200)


@pytest.mark.parametrize(
    ("terms", "alone"),
    [
        (USAGE_ALONE, True),
        (USAGE_ALONE | {"freeTrialPricingTerm"}, False),
        (USAGE_ALONE | {"configurableUpfrontPricingTerm"}, False),
        (frozenset({"fixedUpfrontPricingTerm"}), False),
        (frozenset[str](), False),
    ],
)
def test_which_terms_are_usage_pricing_alone(terms: frozenset[str], alone: bool) -> None:
    assert has_usage_pricing_alone(terms) is alone
