"""Licence events that lack the product's code, the agreement or the buyer's account: applied to the licence that they
name as soon as it is known, and metered as soon as its buyer is."""

import itertools
from typing import Any

import pytest

from marketplace.lifecycle.agreement_api import Agreement
from marketplace.lifecycle.notifications import Notification, Reconcile
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.platform.clock import HOUR, MINUTE
from marketplace.platform.errors import SystemicError
from marketplace.subscriptions import recheck
from tests.support.lifecycle_world import AGREEMENT, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, told
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import create_tables

ACCOUNT = "001122223333"
BUYER: dict[str, Any] = {"acceptor": {"accountId": ACCOUNT}}
CODE: dict[str, Any] = {"product": {"code": PRODUCT}}
IN_AGREEMENT: dict[str, Any] = {"agreement": {"id": AGREEMENT}}


@pytest.fixture
def world() -> LifecycleWorld:
    dynamodb: Any = MemoryDynamoDB()
    return LifecycleWorld(dynamodb, create_tables(dynamodb), product_codes=frozenset({PRODUCT}))


def licence(world: LifecycleWorld, title: str, seconds: int = 0, **detail: Any) -> Notification:
    return told(title, world.time.seconds + seconds, license={"arn": LICENSE_ARN}, **detail)


def receive(world: LifecycleWorld, title: str, seconds: int = 0, **detail: Any) -> str:
    return world.lifecycle.receive(licence(world, title, seconds, **detail))


def registered(world: LifecycleWorld, agreement_id: str | None = None) -> None:
    world.register(agreement_id=agreement_id, account_id=ACCOUNT)
    world.look_again(LICENSED, recheck.REGISTERED)


@pytest.mark.parametrize("named", [{}, IN_AGREEMENT])
@pytest.mark.parametrize("product", [{}, {"product": {"id": "prod-1"}}, {"product": {"code": None}}])
def test_an_event_without_a_product_code_is_applied_to_a_licence_that_is_known(
    world: LifecycleWorld, named: dict[str, Any], product: dict[str, Any]
) -> None:
    receive(world, "License Updated", **CODE, **BUYER)
    assert receive(world, "License Deprovisioned", 60, **named, **product) == "applied"
    assert world.subscription().status == "closing"


def test_an_event_without_a_product_code_makes_no_subscription(world: LifecycleWorld) -> None:
    assert receive(world, "License Updated", **IN_AGREEMENT) == "waiting"
    assert world.store.read(LICENSED) is None


def test_an_event_that_names_a_licence_alone_has_a_person_look(world: LifecycleWorld) -> None:
    assert receive(world, "License Updated") == "unknown"


@pytest.mark.parametrize("named", [{}, IN_AGREEMENT])
@pytest.mark.parametrize("agreement_id", [None, AGREEMENT])
def test_a_registration_makes_it_count(world: LifecycleWorld, named: dict[str, Any], agreement_id: str | None) -> None:
    receive(world, "License Updated", **named)
    registered(world, agreement_id)
    assert world.subscription().status == "active"
    assert world.bus.kinds() == ["Subscription Activated"]


def test_any_order_of_whole_and_incomplete_events_ends_the_same(world: LifecycleWorld) -> None:
    whole = licence(world, "License Updated", 0, **CODE, **BUYER, **IN_AGREEMENT)
    again = licence(world, "License Updated", 60)
    over = licence(world, "License Deprovisioned", 120, **IN_AGREEMENT)
    states = []
    for order in itertools.permutations([whole, again, over]):
        dynamodb: Any = MemoryDynamoDB()
        another = LifecycleWorld(dynamodb, create_tables(dynamodb), product_codes=frozenset({PRODUCT}))
        for notification in order:
            another.lifecycle.receive(notification)
        states.append({**another.attributes(), "activation_seen_at": None})
    assert states[0]["status"] == "closing"
    assert all(state == states[0] for state in states)


@pytest.mark.parametrize("late", [{}, IN_AGREEMENT])
def test_an_incomplete_event_that_comes_while_the_licence_becomes_known_is_not_lost(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, late: dict[str, Any]
) -> None:
    """It is handled just before the write that makes the licence known, after everything was read."""
    write = world.store.write
    meanwhile = [licence(world, "License Deprovisioned", 60, **late)]

    def writing(subscription_id: str, **given: Any) -> Any:
        while meanwhile:
            world.lifecycle.receive(meanwhile.pop())
        return write(subscription_id, **given)

    monkeypatch.setattr(world.store, "write", writing)
    receive(world, "License Updated", **CODE, **BUYER, **IN_AGREEMENT)
    assert world.subscription().status == "closing"


def test_a_licence_that_becomes_known_while_its_event_is_kept_takes_it(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registration and its recheck come between the first look for the licence and the keeping."""
    keep = world.store.keep
    others = [lambda: registered(world)]

    def keeping(*given: Any) -> None:
        while others:
            others.pop()()
        keep(*given)

    monkeypatch.setattr(world.store, "keep", keeping)
    assert receive(world, "License Updated") == "applied"
    assert world.subscription().status == "active"


def test_the_end_of_an_agreement_that_comes_while_its_licence_becomes_known_is_not_lost(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = world.store.write
    ended: dict[str, Any] = {"agreement": {"id": AGREEMENT, "status": "CANCELLED"}, **BUYER}
    meanwhile = [told("Purchase Agreement Ended", world.time.seconds + 60, **ended)]

    def writing(subscription_id: str, **given: Any) -> Any:
        while meanwhile:
            world.lifecycle.receive(meanwhile.pop())
        return write(subscription_id, **given)

    monkeypatch.setattr(world.store, "write", writing)
    receive(world, "License Updated", **CODE, **BUYER, **IN_AGREEMENT)
    assert world.subscription().status == "closing"


def test_an_event_about_another_licence_of_the_same_agreement_is_not_applied(world: LifecycleWorld) -> None:
    other: dict[str, Any] = {"license": {"arn": LICENSE_ARN[:-1] + "0"}, **IN_AGREEMENT}
    assert world.lifecycle.receive(told("License Deprovisioned", world.time.seconds + 60, **other)) == "waiting"
    receive(world, "License Updated", **CODE, **BUYER, **IN_AGREEMENT)
    assert world.subscription().status == "active"
    assert world.lifecycle.receive(told("License Deprovisioned", world.time.seconds + 61, **other)) == "waiting"
    assert world.subscription().status == "active"


# The buyer's account


class Agreements:
    """An agreement API that names this account, or refuses."""

    def __init__(self, account_id: str | None, error: SystemicError | None = None) -> None:
        self.account_id, self.error = account_id, error

    def of_license(self, _: str) -> list[Agreement]:
        if self.error is not None:
            raise self.error
        return [Agreement(id=AGREEMENT, status="ACTIVE", starts_at=1, updated_at=1, account_id=self.account_id)]

    def provisioning(self, _: str) -> Any:
        return []

    def has_free_trial(self, _: str) -> bool:
        return False


def reconciled(world: LifecycleWorld, agreements: Agreements) -> str:
    reconciliation = Reconciliation(
        store=world.store, agreements=agreements, lifecycle=world.lifecycle, queue=world.queue, clock=world.time.now
    )
    return reconciliation.reconcile(Reconcile(subscription_id=LICENSED))


def activated_without_account(world: LifecycleWorld) -> None:
    receive(world, "License Updated", **CODE, **IN_AGREEMENT)
    assert (world.subscription().status, world.subscription().account_id) == ("active", None)


def test_aws_is_asked_for_the_account_of_an_activated_licence(world: LifecycleWorld) -> None:
    activated_without_account(world)
    assert world.waiting(recheck.RECONCILE) == [world.time.seconds + 2 * MINUTE]
    world.time.seconds += HOUR
    assert reconciled(world, Agreements(ACCOUNT)) == "agrees"
    assert world.subscription().account_id == ACCOUNT


@pytest.mark.parametrize("agreements", [Agreements(None), Agreements(ACCOUNT, SystemicError("AccessDeniedException"))])
def test_an_account_that_nobody_names_has_a_person_look_every_day(
    world: LifecycleWorld, agreements: Agreements
) -> None:
    activated_without_account(world)
    for _ in range(2):
        world.time.seconds += 24 * HOUR
        assert reconciled(world, agreements) == "account_unknown"


def test_an_account_that_is_known_is_not_asked_for(world: LifecycleWorld) -> None:
    receive(world, "License Updated", **CODE, **IN_AGREEMENT, **BUYER)
    assert world.waiting(recheck.RECONCILE) == []


def test_a_registration_names_the_account(world: LifecycleWorld) -> None:
    activated_without_account(world)
    registered(world)
    assert world.subscription().account_id == ACCOUNT


def test_a_later_event_of_the_licence_names_the_account(world: LifecycleWorld) -> None:
    activated_without_account(world)
    receive(world, "License Updated", 60, **CODE, **BUYER)
    assert world.subscription().account_id == ACCOUNT


@pytest.mark.parametrize("seconds", [-60, 60])
@pytest.mark.parametrize("title", ["Purchase Agreement Created", "Purchase Agreement Amended"])
def test_an_event_of_its_agreement_names_the_account_before_or_after(
    world: LifecycleWorld, title: str, seconds: int
) -> None:
    about: dict[str, Any] = {"agreement": {"id": AGREEMENT, "status": "ACTIVE"}, **BUYER}
    agreed = told(title, world.time.seconds + seconds, **about)
    if seconds < 0:
        world.lifecycle.receive(agreed)
    receive(world, "License Updated", **CODE, **IN_AGREEMENT)
    if seconds > 0:
        world.lifecycle.receive(agreed)
    assert world.subscription().account_id == ACCOUNT


def test_the_account_that_was_named_first_stays(world: LifecycleWorld) -> None:
    receive(world, "License Updated", **CODE, **IN_AGREEMENT, **BUYER)
    receive(world, "License Updated", 60, **CODE, **IN_AGREEMENT, acceptor={"accountId": "999988887777"})
    assert world.subscription().account_id == ACCOUNT


def test_the_licences_own_event_names_its_buyer_rather_than_its_agreements(world: LifecycleWorld) -> None:
    about: dict[str, Any] = {"agreement": {"id": AGREEMENT, "status": "ACTIVE"}, "acceptor": {"accountId": "9" * 12}}
    world.lifecycle.receive(told("Purchase Agreement Created", world.time.seconds - 60, **about))
    receive(world, "License Updated", **IN_AGREEMENT, **BUYER)
    world.register(agreement_id=AGREEMENT)
    world.look_again(LICENSED, recheck.REGISTERED)
    assert world.subscription().account_id == ACCOUNT


def test_an_account_id_that_is_none_is_not_stored(world: LifecycleWorld) -> None:
    receive(world, "License Updated", **CODE, **IN_AGREEMENT, acceptor={"accountId": "1122223333"})
    assert world.subscription().account_id is None


def test_a_legacy_customer_needs_no_account(world: LifecycleWorld) -> None:
    other = LifecycleWorld.in_memory()
    other.receive("sns_subscribe_success")
    assert other.waiting(recheck.RECONCILE) == []
