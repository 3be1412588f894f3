"""The tenant that is proposed for a licence which continues another one: found, told, and never taken by itself."""

from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.lifecycle.facts import Fact, folded
from marketplace.lifecycle.notifications import Notification
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import LicenseIdentity
from marketplace.subscriptions.predecessors import Predecessors
from marketplace.subscriptions.reader import SubscriptionReader
from tests.support.lifecycle_world import AGREEMENT, LICENSED, PRODUCT, LifecycleWorld, at, told
from tests.support.storefront import Storefront

ACCOUNT = "111122223333"
START = at("2026-08-20T14:00:00Z")


def arn(number: int) -> str:
    return f"arn:aws:license-manager::294406891311:license:l-{number:032d}"


def subscription_of(number: int) -> str:
    return LicenseIdentity(arn(number)).subscription_id


def created(agreement: str, previous: str | None, seconds: int = START, intent: str = "REPLACE") -> Notification:
    about = {"id": agreement, "intent": intent, "status": "ACTIVE"}
    named = {} if previous is None else {"previousAgreementId": previous}
    return told("Purchase Agreement Created", seconds, agreement={**about, **named}, acceptor={"accountId": ACCOUNT})


def updated(agreement: str, number: int, seconds: int = START + 60, account: str = ACCOUNT) -> Notification:
    return told(
        "License Updated",
        seconds,
        agreement={"id": agreement},
        license={"arn": arn(number)},
        product={"code": PRODUCT},
        acceptor={"accountId": account},
    )


@pytest.fixture
def world() -> LifecycleWorld:
    """The licence of agreement agmt-1, which `acme` has claimed."""
    world = LifecycleWorld.in_memory()
    world.lifecycle.receive(updated("agmt-1", 1, START - 3600))
    claim(world, 1, "acme")
    return world


def claim(world: LifecycleWorld, number: int, tenant_id: str | None) -> None:
    stored = world.store.read(subscription_of(number))
    assert stored is not None
    world.store.write(subscription_of(number), read=stored, changes={"tenant_id": tenant_id}, defaults={})


def proposed(world: LifecycleWorld, number: int) -> str | None:
    return world.store.predecessors.proposed_tenant(world.subscription(subscription_of(number)))


def activations(world: LifecycleWorld, number: int) -> list[str | None]:
    """The tenants that events of activations have proposed."""
    details = world.bus.details("Subscription Activated")
    return [one["proposed_tenant_id"] for one in details if one["subscription_id"] == subscription_of(number)]


def test_the_tenant_of_the_agreement_before_is_proposed_and_not_assigned(world: LifecycleWorld) -> None:
    for notification in (created("agmt-2", "agmt-1"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)

    assert proposed(world, 2) == "acme"
    assert activations(world, 2) == ["acme"]
    assert world.subscription(subscription_of(2)).tenant_id is None


def test_the_order_of_the_notifications_makes_no_difference_but_to_the_event(world: LifecycleWorld) -> None:
    for notification in (updated("agmt-2", 2), created("agmt-2", "agmt-1")):
        world.lifecycle.receive(notification)

    assert proposed(world, 2) == "acme"
    assert activations(world, 2) == [None]


def test_the_proposal_is_of_the_tenant_as_of_now(world: LifecycleWorld) -> None:
    for notification in (created("agmt-2", "agmt-1"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)

    claim(world, 1, "globex")
    assert proposed(world, 2) == "globex"
    claim(world, 1, None)
    assert proposed(world, 2) is None
    claim(world, 2, "initech")
    claim(world, 1, "acme")
    assert proposed(world, 2) is None


def test_a_chain_of_replacements_is_followed_to_the_nearest_tenant(world: LifecycleWorld) -> None:
    for number in (2, 3, 4):
        world.lifecycle.receive(created(f"agmt-{number}", f"agmt-{number - 1}", START + number))
        world.lifecycle.receive(updated(f"agmt-{number}", number, START + 60 + number))

    assert [proposed(world, number) for number in (2, 3, 4)] == ["acme"] * 3
    claim(world, 3, "globex")
    assert proposed(world, 4) == "globex"


def test_a_renewal_of_the_same_licence_continues_nothing_else(world: LifecycleWorld) -> None:
    claim(world, 1, None)
    world.lifecycle.receive(created("agmt-2", "agmt-1", intent="RENEW"))
    world.lifecycle.receive(updated("agmt-2", 1))

    assert world.subscription(subscription_of(1)).predecessor_agreement_ids == ()
    assert proposed(world, 1) is None


@pytest.mark.parametrize(
    ("account", "found"), [(ACCOUNT, "acme"), ("999988887777", None)], ids=["the same account", "another account"]
)
def test_only_a_subscription_of_the_same_buyer_is_continued(
    world: LifecycleWorld, account: str, found: str | None
) -> None:
    world.lifecycle.receive(created("agmt-2", "agmt-1"))
    world.lifecycle.receive(updated("agmt-2", 2, account=account))

    assert proposed(world, 2) == found


def test_two_tenants_at_the_same_distance_propose_nobody(world: LifecycleWorld) -> None:
    world.lifecycle.receive(updated("agmt-1", 3, START - 3000))
    for notification in (created("agmt-2", "agmt-1"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)
    assert proposed(world, 2) == "acme"

    claim(world, 3, "globex")

    assert proposed(world, 2) is None


def test_agreements_that_name_each_other_end(world: LifecycleWorld) -> None:
    claim(world, 1, None)
    for notification in (
        created("agmt-2", "agmt-1"),
        updated("agmt-2", 2),
        created("agmt-1", "agmt-2"),
        updated("agmt-1", 1),
    ):
        world.lifecycle.receive(notification)

    assert [proposed(world, 1), proposed(world, 2)] == [None, None]


def test_an_agreement_that_nobody_knows_proposes_nobody(world: LifecycleWorld) -> None:
    for notification in (created("agmt-2", "agmt-elsewhere"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)

    assert proposed(world, 2) is None
    assert activations(world, 2) == [None]


def test_a_replacement_that_names_no_agreement_before_has_aws_asked(world: LifecycleWorld) -> None:
    for notification in (created("agmt-2", None), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)
    asked = [message for message, _ in world.sqs.asked if message["marketplace_request"] == recheck.RECONCILE]
    assert asked == [{"marketplace_request": "reconcile", "subscription_id": subscription_of(2)}]

    stored = world.store.read(subscription_of(2))
    world.store.write(subscription_of(2), read=stored, changes={"initial_agreement_id": "agmt-1"}, defaults={})
    assert proposed(world, 2) == "acme"


def test_the_agreement_before_goes_before_the_first_of_the_chain(world: LifecycleWorld) -> None:
    world.lifecycle.receive(updated("agmt-0", 9, START - 9000))
    claim(world, 9, "long-ago")
    for notification in (created("agmt-2", "agmt-1"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)
    stored = world.store.read(subscription_of(2))
    world.store.write(subscription_of(2), read=stored, changes={"initial_agreement_id": "agmt-0"}, defaults={})

    assert proposed(world, 2) == "acme"


@pytest.mark.parametrize("claimed", [0, 1])
def test_of_a_moved_customer_each_side_proposes_the_others_tenant(shop: Storefront, claimed: int) -> None:
    pair = [shop.register(shop.subscribe(product=code)).subscription_id for code in ("legacysubscriptionproduct", None)]
    shop.update(pair[0], migrated_to=pair[1], cutover_at=7200)
    shop.update(pair[1], migrated_from=pair[0], cutover_at=7200)
    shop.claim_subscription(pair[claimed], "acme")

    shown = [shop.queries.details(one) for one in pair]

    assert [one and one.proposed_tenant_id for one in shown] == [
        None if number == claimed else "acme" for number in range(2)
    ]
    assert shop.subscription(pair[1 - claimed]).tenant_id is None


def test_what_continues_nothing_costs_no_read(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(world, 1, None)

    def read(*_: Any) -> None:
        raise AssertionError("a read")

    found = world.subscription(subscription_of(1))
    monkeypatch.setattr(SubscriptionReader, "get_many", read)

    assert Predecessors(world.store._table).proposed_tenant(found) is None


def test_the_history_keeps_the_agreement_before_when_it_is_shortened() -> None:
    first = Fact.of(created("agmt-2", "agmt-1"))
    assert first is not None
    again = Fact.from_stored(first.as_stored())

    assert again == first
    assert folded([again], START).predecessors == ["agmt-1"]


def test_the_join_to_a_subscription_that_is_gone_proposes_nobody(world: LifecycleWorld) -> None:
    world.dynamodb.delete_item(TableName=world.tables.subscriptions, Key=keys.subscription(subscription_of(1)).item())
    for notification in (created("agmt-2", "agmt-1"), updated("agmt-2", 2)):
        world.lifecycle.receive(notification)

    assert proposed(world, 2) is None


def test_a_subscription_without_a_replacement_is_activated_as_ever(world: LifecycleWorld) -> None:
    world.receive("eventbridge_license_updated")

    assert world.subscription(LICENSED).agreement_ids == (AGREEMENT,)
    assert [one["proposed_tenant_id"] for one in world.bus.details("Subscription Activated")][-1] is None
