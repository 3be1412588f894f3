"""What is not a sale of ours is known not to be: purchases of the seller's own account, and agreements of other
products, whatever comes first, comes late or is lost."""

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.lifecycle.notifications import FindLicenses
from marketplace.lifecycle.outcomes import WARNED_OF
from marketplace.platform.clock import DAY, MINUTE
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import LicenseIdentity
from tests.support.lifecycle_world import AGREEMENT, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, told
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import create_tables

OTHER_ARN = "arn:aws:license-manager::294406891311:license:l-ffffffffffffffffffffffffffffffff"
OTHER = "agmt-other"
BUYER: dict[str, Any] = {"accountId": "111122223333"}
SELLER: dict[str, Any] = {"accountId": "222233334444"}


def selling(find_licenses: Callable[[str], list[str]] = lambda _: []) -> LifecycleWorld:
    """A deployment for PRODUCT, whose buyer holds an active licence. The agreement API answers `find_licenses`, by
    default as it does when it is refused."""
    dynamodb: Any = MemoryDynamoDB()
    tables = create_tables(dynamodb)
    made = LifecycleWorld(dynamodb, tables, product_codes=frozenset({PRODUCT}), find_licenses=find_licenses)
    made.receive("eventbridge_license_updated")
    made.sqs.asked.clear()
    return made


@pytest.fixture
def world() -> LifecycleWorld:
    return selling()


def of_others(world: LifecycleWorld, title: str = "License Updated", seconds: int = 0, **detail: Any) -> str:
    named: dict[str, Any] = {"agreement": {"id": OTHER}, "license": {"arn": OTHER_ARN}, "product": {"code": "another"}}
    return world.lifecycle.receive(told(title, world.time.seconds + seconds, **{**named, "acceptor": BUYER, **detail}))


def ended(world: LifecycleWorld, agreement_id: str = OTHER, seconds: int = 60, **detail: Any) -> str:
    agreement = {"id": agreement_id, "status": "CANCELLED"}
    content: dict[str, Any] = {"agreement": agreement, "acceptor": BUYER, **detail}
    return world.lifecycle.receive(told("Purchase Agreement Ended", world.time.seconds + seconds, **content))


def asked_to_the_end(world: LifecycleWorld) -> list[str]:
    """The outcomes of all that is asked about agreements from now on."""
    outcomes: list[str] = []
    while found := [message for message, _ in world.sqs.asked if message[recheck.REQUEST] == recheck.FIND_LICENSES]:
        world.sqs.asked.clear()
        for message in found:
            request = FindLicenses(agreement_id=message["agreement_id"], last=message.get("last", False))
            outcomes.append(world.lifecycle.find_licenses(request))
    return outcomes


def test_a_buyer_who_cancels_another_product_troubles_nobody(world: LifecycleWorld) -> None:
    assert of_others(world) == "other_product"
    assert ended(world) == "other_product"
    assert of_others(world, "License Deprovisioned", 90) == "other_product"
    assert world.sqs.asked == []
    assert world.subscription().status == "active"


def test_a_licence_that_is_named_after_the_end_of_its_agreement_settles_what_was_asked(world: LifecycleWorld) -> None:
    assert ended(world) == "waiting"
    of_others(world)
    assert asked_to_the_end(world) == ["other_product"]


def test_a_licence_that_is_named_between_the_two_questions_settles_the_second(world: LifecycleWorld) -> None:
    ended(world)
    assert world.answer() == ["waiting"]
    assert world.waiting(recheck.FIND_LICENSES) == [world.time.seconds + 5 * MINUTE]
    of_others(world)
    assert asked_to_the_end(world) == ["other_product"]


def test_an_end_that_nothing_explains_has_a_person_look(world: LifecycleWorld) -> None:
    ended(world)
    assert asked_to_the_end(world) == ["waiting", "ambiguous"]


@pytest.mark.parametrize("title", ["Purchase Agreement Amended", "Purchase Agreement Ending", "Something New"])
def test_nothing_about_an_agreement_of_others_is_a_warning(world: LifecycleWorld, title: str) -> None:
    of_others(world)
    about: dict[str, Any] = {"agreement": {"id": OTHER, "status": "ACTIVE"}, "acceptor": BUYER}
    assert world.lifecycle.receive(told(title, world.time.seconds, **about)) == "other_product"
    assert "other_product" not in WARNED_OF


def test_an_end_with_a_status_nobody_knows_is_nothing_to_us_either(world: LifecycleWorld) -> None:
    of_others(world)
    assert ended(world, agreement={"id": OTHER, "status": "VANISHED"}) == "other_product"


def test_an_advisory_about_another_product_is_not_passed_on(world: LifecycleWorld) -> None:
    of_others(world)
    about: dict[str, Any] = {"agreement": {"id": OTHER}, "advisory": {"reason": "FRAUD"}}
    outcome = world.lifecycle.receive(told("Purchase Agreement Advisory Issued", world.time.seconds, **about))
    assert outcome == "other_product"
    assert "Advisory Issued" not in world.bus.kinds()


def test_licences_that_aws_names_and_nobody_here_has_are_no_sale_of_ours() -> None:
    world = selling(lambda _: [OTHER_ARN])
    assert ended(world) == "waiting"
    assert asked_to_the_end(world) == ["other_product"]
    assert ended(world, seconds=61) == "other_product"


def test_what_is_known_of_an_agreement_is_answered_without_aws() -> None:
    def silent(_: str) -> list[str]:
        raise NoAnswerError("ReadTimeoutError")

    world = selling(silent)
    of_others(world)
    assert world.lifecycle.find_licenses(FindLicenses(agreement_id=OTHER)) == "other_product"


def test_an_agreement_of_others_that_turns_out_to_be_ours_is_ours_with_all_its_events() -> None:
    """The licence of ours is made known by its registration after AWS was asked about the agreement."""
    world = selling(lambda _: [OTHER_ARN])
    ended(world)
    assert asked_to_the_end(world) == ["other_product"]
    late: dict[str, Any] = {
        "agreement": {"id": OTHER},
        "license": {"arn": OTHER_ARN},
        "product": {"code": PRODUCT},
        "acceptor": BUYER,
    }
    assert world.lifecycle.receive(told("License Updated", world.time.seconds, **late)) == "applied"
    assert world.subscription(LicenseIdentity(OTHER_ARN).subscription_id).status == "closing"
    assert not world.lifecycle._joins.is_of_other_product(OTHER)


def test_an_agreement_of_both_products_counts_as_ours(world: LifecycleWorld) -> None:
    of_others(world, agreement={"id": AGREEMENT})
    assert ended(world, AGREEMENT) == "applied"
    assert world.subscription().status == "closing"


def test_an_agreement_of_others_is_remembered_as_long_as_it_lasts_and_then_for_400_days(world: LifecycleWorld) -> None:
    def remembered() -> dict[str, Any]:
        return next(item for item in world.items(f"AGREEMENT#{OTHER}") if item["sk"] == "OTHER_PRODUCT")

    of_others(world)
    assert "expires_at" not in remembered()
    ended(world)
    assert remembered()["expires_at"] == world.time.seconds + 60 + 400 * DAY
    of_others(world, seconds=30)
    assert remembered()["expires_at"] == world.time.seconds + 60 + 400 * DAY


def test_the_legacy_messages_of_another_product_make_no_subscription(world: LifecycleWorld) -> None:
    assert world.receive("sns_subscribe_success", "sns_unsubscribe_success") == ["other_product", "other_product"]


@pytest.mark.parametrize(
    "title",
    [
        "Purchase Agreement Created",
        "Purchase Agreement Amended",
        "Purchase Agreement Ended",
        "Purchase Agreement Ending",
        "Purchase Agreement Advisory Issued",
        "License Deprovisioned",
        "Something New",
    ],
)
@pytest.mark.parametrize("agreement_id", ["agmt-bought", AGREEMENT])
def test_what_the_sellers_account_buys_is_dropped(world: LifecycleWorld, title: str, agreement_id: str) -> None:
    """Also when it has bought its own product: the licence lives by the events for its seller."""
    agreement = {"id": agreement_id, "status": "CANCELLED"}
    about: dict[str, Any] = {
        "agreement": agreement,
        "license": {"arn": LICENSE_ARN},
        "product": {"code": PRODUCT},
        "acceptor": SELLER,
    }
    before = world.attributes(), len(world.items(f"AGREEMENT#{agreement_id}"))
    outcome = world.lifecycle.receive(told(title, world.time.seconds, "Acceptor", **about))
    assert outcome == "own_purchase"
    assert (world.attributes(), len(world.items(f"AGREEMENT#{agreement_id}"))) == before
    assert world.bus.kinds() == ["Subscription Activated"]
    assert "own_purchase" not in WARNED_OF


def test_the_end_of_a_purchase_without_a_role_closes_no_licence_of_the_sellers_own(world: LifecycleWorld) -> None:
    outcome = world.lifecycle.receive(
        told(
            "Purchase Agreement Ended",
            world.time.seconds,
            None,
            agreement={"id": "agmt-bought", "status": "CANCELLED"},
            acceptor=SELLER,
            proposer={"accountId": "999988887777"},
        )
    )
    assert outcome == "own_purchase"


def test_a_test_licence_of_the_sellers_own_follows_its_events_as_a_seller(world: LifecycleWorld) -> None:
    agreement = {"id": AGREEMENT, "status": "CANCELLED"}
    about: dict[str, Any] = {"agreement": agreement, "acceptor": SELLER, "proposer": SELLER}
    roles = ("Acceptor", "Proposer", "Acceptor")
    outcomes = [
        world.lifecycle.receive(told("Purchase Agreement Ended", world.time.seconds, role, **about)) for role in roles
    ]
    assert outcomes == ["own_purchase", "applied", "own_purchase"]
    assert world.subscription().status == "closing"


def test_a_sale_of_ours_to_the_sellers_own_account_without_a_role_is_a_sale(world: LifecycleWorld) -> None:
    agreement = {"id": AGREEMENT, "status": "CANCELLED"}
    about: dict[str, Any] = {"agreement": agreement, "acceptor": SELLER, "proposer": SELLER}
    assert world.lifecycle.receive(told("Purchase Agreement Ended", world.time.seconds, None, **about)) == "applied"
    assert world.subscription(LICENSED).status == "closing"


def test_a_licence_of_ours_that_the_sellers_own_account_holds_is_ours_whoever_sold_it(world: LifecycleWorld) -> None:
    """Through a channel partner somebody else proposes, and the licence event is for its manufacturer."""
    named: dict[str, Any] = {"license": {"arn": LICENSE_ARN}, "product": {"code": PRODUCT}, "acceptor": SELLER}
    seller: dict[str, Any] = {"proposer": {"accountId": "999988887777"}}
    gone = told("License Deprovisioned", world.time.seconds, None, **named, **seller)
    assert world.lifecycle.receive(gone) == "applied"
    assert world.subscription(LICENSED).status == "closing"
