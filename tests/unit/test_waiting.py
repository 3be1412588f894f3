"""No wait without an end: what waits for AWS Marketplace stands in an index from the write that begins the wait to the
write that ends it, and a gauge shows the oldest."""

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Update
from marketplace.lifecycle.joins import Joins
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.platform.clock import DAY, HOUR, MINUTE, iso
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.waiting import AWAITED_UNTIL, WITHOUT_END, Kind
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, at, told
from tests.support.storefront import Storefront
from tests.support.tables import Tables

NOTHING = dict.fromkeys(GAUGE_OF_WAITING.values(), 0)
CREATED = "eventbridge_purchase_agreement_created"
UPDATED = "eventbridge_license_updated"
ENDED = "eventbridge_purchase_agreement_ended"
LEGACY_BUYER = {
    "integration": "legacy",
    "product_code": "n0123EXAMPLEXXXXXXXXXXXX",
    "customer_identifier": "X01EXAMPLEX",
}


@pytest.fixture
def world() -> LifecycleWorld:
    return LifecycleWorld.in_memory()


def register(world: LifecycleWorld, subscription_id: str = LEGACY, **values: Any) -> None:
    """A registration whose recheck is done."""
    world.register(subscription_id, None, **(LEGACY_BUYER if subscription_id == LEGACY else {}), **values)
    update = Update(keep={"registered_at": world.time.seconds})
    world.store._table.update_if(keys.subscription(subscription_id), update)
    world.look_again(subscription_id, recheck.REGISTERED)


def waited(world: LifecycleWorld, kind: Kind) -> int | None:
    """How long the oldest of a kind has waited; None when nothing waits."""
    oldest = world.waiting_items.oldest(kind)
    return None if oldest is None else world.time.seconds - oldest.since


def created(seconds: int, agreement_id: str = AGREEMENT, **agreement: Any) -> Any:
    detail = {"id": agreement_id, "status": "ACTIVE", "intent": "NEW", **agreement}
    return told("Purchase Agreement Created", seconds, agreement=detail, acceptor={"accountId": "111122223333"})


def ended(seconds: int, status: str = "CANCELLED", agreement_id: str = AGREEMENT) -> Any:
    detail = {"id": agreement_id, "status": status}
    return told("Purchase Agreement Ended", seconds, agreement=detail, acceptor={"accountId": "111122223333"})


# Pending subscriptions


def test_nothing_waits_at_first(world: LifecycleWorld) -> None:
    assert world.gauges.measure().seconds == NOTHING


def test_a_legacy_buyer_whose_subscribe_success_was_lost_is_seen_until_it_comes(world: LifecycleWorld) -> None:
    register(world)
    world.waiting_items.note_reconciliation(at("2026-08-20T14:30:00Z"))
    for hours in (1, 26, 30 * 24):
        world.time.seconds = at("2026-08-20T14:30:00Z") + hours * HOUR
        measured = world.gauges.measure()
        assert measured.seconds == NOTHING | {
            "OldestPendingRegistrationSeconds": hours * HOUR,
            "SecondsSinceReconciliation": hours * HOUR,
        }
        assert measured.oldest["oldest_registration"] == keys.subscription_pk(LEGACY)
    world.receive("sns_subscribe_success")
    assert world.gauges.measure().seconds["OldestPendingRegistrationSeconds"] == 0


@pytest.mark.parametrize("end", ["sns_subscribe_fail", "sns_unsubscribe_success", "sns_subscribe_success"])
def test_whatever_settles_a_registration_ends_its_wait(world: LifecycleWorld, end: str) -> None:
    register(world)
    world.receive(end)
    assert waited(world, "registration") is None


def test_a_buyer_of_whom_only_the_entitlements_were_announced_waits_from_then_on(world: LifecycleWorld) -> None:
    world.receive("sns_entitlement_updated")
    begun = world.subscription(LEGACY).last_event_at
    assert begun is not None
    world.time.seconds = begun + DAY
    assert waited(world, "registration") == DAY


def test_a_licence_whose_license_updated_was_lost_is_seen(world: LifecycleWorld) -> None:
    register(world, LICENSED)
    world.time.seconds += DAY
    assert waited(world, "registration") == DAY
    world.receive(UPDATED)
    assert waited(world, "registration") is None


def test_the_oldest_of_many_is_shown(world: LifecycleWorld) -> None:
    register(world)
    world.time.seconds += HOUR
    register(world, LICENSED)
    assert waited(world, "registration") == HOUR
    world.receive("sns_subscribe_success")
    assert waited(world, "registration") == 0


def test_a_subscription_that_starts_later_waits_from_its_start_on(world: LifecycleWorld) -> None:
    register(world, LICENSED)
    start = world.time.seconds + 20 * DAY
    agreement = {"startTime": iso(start)}
    world.lifecycle.receive(created(world.time.seconds, **agreement))
    world.look_again(LICENSED, recheck.REGISTERED, agreement_id=AGREEMENT)
    assert waited(world, "registration") == -20 * DAY
    assert world.gauges.measure().seconds == NOTHING
    world.time.seconds = start + 3 * HOUR
    assert world.gauges.measure().seconds["OldestPendingRegistrationSeconds"] == 3 * HOUR


def test_a_scheduled_activation_ends_its_wait_at_the_start(world: LifecycleWorld) -> None:
    now = at("2026-08-20T14:30:00Z")
    start = now + 2 * DAY
    world.lifecycle.receive(created(now, startTime=iso(start)))
    world.receive(UPDATED)
    world.look_again(LICENSED, recheck.RECONCILED)
    assert world.subscription().status in {"pending", "active"}
    world.time.seconds = start + MINUTE
    world.look_again(LICENSED, recheck.START_TIMER)
    assert world.subscription().status == "active"
    assert waited(world, "registration") is None


def test_a_pending_subscription_from_before_the_index_is_entered_by_the_next_recheck(world: LifecycleWorld) -> None:
    register(world)
    unmarked = Update(remove=("waiting", "waiting_since"))
    world.store._table.update_if(keys.subscription(LEGACY), unmarked)
    world.time.seconds += 3 * DAY
    assert waited(world, "registration") is None
    world.look_again(LEGACY, recheck.COMPARED)
    assert waited(world, "registration") == 3 * DAY


# Registration itself


@pytest.fixture
def shop(moto_dynamodb: Any, moto_tables: Tables) -> Storefront:
    return Storefront(moto_dynamodb, moto_tables)


@pytest.mark.parametrize("product", ["legacysubscriptionproduct", "ca2payasyougoproduct00000", None])
def test_a_registration_waits_from_its_own_transaction_on(shop: Storefront, product: str | None) -> None:
    """So a crash before the recheck is requested leaves nobody unseen."""
    shop.queue.down = True
    with pytest.raises(NoAnswerError):
        shop.register(shop.subscribe(product=product))
    (stored,) = [item for item in shop.everything() if item["sk"]["S"] == "SUBSCRIPTION"]
    assert stored["waiting"] == {"S": "registration"}
    assert stored["waiting_since"] == {"N": str(shop.seconds())}


def test_a_second_registration_waits_since_the_first(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    first = shop.registration().register(token)
    shop.later(minutes=30)
    shop.registration().register(token)
    stored = shop.stored(keys.subscription(first.subscription_id))
    assert stored is not None
    assert stored["waiting_since"] == shop.seconds() - 30 * MINUTE


def test_a_buyer_who_comes_again_waits_anew_whatever_was_expected(shop: Storefront) -> None:
    token = shop.token(shop.subscribe())
    subscription_id = shop.registration().register(token).subscription_id
    shop.update(subscription_id, **{AWAITED_UNTIL: WITHOUT_END})
    shop.registration().register(token)
    stored = shop.stored(keys.subscription(subscription_id))
    assert stored is not None
    assert AWAITED_UNTIL not in stored


def test_a_registration_after_the_activation_waits_until_its_recheck_only(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.store._table.update_if(
        keys.subscription(LICENSED), Update(set={"waiting": "registration", "waiting_since": 1})
    )
    assert waited(world, "registration") is not None
    world.look_again(LICENSED, recheck.REGISTERED)
    assert waited(world, "registration") is None


# Agreements


def test_an_agreement_whose_licence_never_comes_is_seen(world: LifecycleWorld) -> None:
    world.receive(CREATED)
    world.time.seconds = at("2026-08-20T14:23:22Z") + 5 * HOUR
    measured = world.gauges.measure()
    assert measured.seconds == NOTHING | {"OldestWaitingAgreementSeconds": 5 * HOUR}
    assert measured.oldest == {"oldest_agreement": keys.agreement_pk(AGREEMENT)}


def test_the_licence_ends_the_wait_of_its_agreement(world: LifecycleWorld) -> None:
    world.receive(CREATED)
    world.receive(UPDATED)
    assert waited(world, "agreement") is None


def test_the_registration_that_names_the_agreement_ends_its_wait(world: LifecycleWorld) -> None:
    world.receive(CREATED)
    world.register(LICENSED)
    world.look_again(LICENSED, recheck.REGISTERED, agreement_id=AGREEMENT)
    assert waited(world, "agreement") is None


@pytest.mark.parametrize("status", ["CANCELLED", "TERMINATED", "ROLLED_BACK", "REPLACED"])
@pytest.mark.parametrize("reverse", [False, True])
def test_an_agreement_that_is_over_before_its_licence_came_waits_no_more(
    world: LifecycleWorld, status: str, reverse: bool
) -> None:
    now = world.time.seconds
    events = [created(now - 60), ended(now, status)]
    for event in reversed(events) if reverse else events:
        world.lifecycle.receive(event)
    assert waited(world, "agreement") is None


@pytest.mark.parametrize("reverse", [False, True])
def test_an_end_that_may_concern_the_buyers_licence_waits_for_somebody_to_look(
    world: LifecycleWorld, reverse: bool
) -> None:
    world.receive(UPDATED)
    now = world.time.seconds
    events = [created(now - 60, "agmt-other"), ended(now, agreement_id="agmt-other")]
    for event in reversed(events) if reverse else events:
        world.lifecycle.receive(event)
    world.wait(now + DAY)
    assert waited(world, "agreement") == DAY


def test_an_agreement_that_starts_later_waits_from_its_start_on(world: LifecycleWorld) -> None:
    start = world.time.seconds + 9 * DAY
    world.lifecycle.receive(created(world.time.seconds, startTime=iso(start)))
    assert world.gauges.measure().seconds == NOTHING
    world.time.seconds = start + HOUR
    assert waited(world, "agreement") == HOUR


def test_an_event_that_claims_to_come_from_the_future_waits_from_now_on(world: LifecycleWorld) -> None:
    world.lifecycle.receive(created(world.time.seconds + 400 * DAY))
    assert waited(world, "agreement") == 0


@pytest.mark.parametrize("operation", ["await_join", "keep", "joined"])
def test_a_crash_on_the_way_is_made_good_by_the_next_delivery(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    event = created(world.time.seconds)
    with monkeypatch.context() as patched:
        patched.setattr(world.store, operation, _raising)
        with pytest.raises(NoAnswerError):
            world.lifecycle.receive(event)
    world.lifecycle.receive(event)
    assert waited(world, "agreement") == 0


@pytest.mark.parametrize("meanwhile", ["ended", "licence"])
def test_who_ends_the_wait_while_it_is_begun_leaves_no_mark(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Between the look at what has come and the mark."""
    others: list[Callable[[], object]] = [
        lambda: world.receive(UPDATED) if meanwhile == "licence" else world.lifecycle.receive(ended(world.time.seconds))
    ]
    mark = world.store.await_join

    def late(agreement_id: str, since: int) -> None:
        if others:
            others.pop()()
        mark(agreement_id, since)

    monkeypatch.setattr(world.store, "await_join", late)
    world.lifecycle.receive(created(world.time.seconds - 60))
    assert others == []
    assert waited(world, "agreement") is None


def test_an_operators_expectation_holds_for_later_events_of_the_agreement(world: LifecycleWorld) -> None:
    world.lifecycle.receive(created(world.time.seconds))
    until = world.time.seconds + 30 * DAY
    world.store._table.update_if(keys.agreement_waiting(AGREEMENT), Update(set={AWAITED_UNTIL: until}))
    world.lifecycle.receive(created(world.time.seconds + 60, intent="AMEND"))
    assert waited(world, "agreement") == -30 * DAY


def licence_of_others(seconds: int, agreement_id: str = AGREEMENT) -> Any:
    licence = {"license": {"arn": "arn:aws:license-manager::294406891311:license:l-9"}, "product": {"code": "another"}}
    return told("License Updated", seconds, agreement={"id": agreement_id}, **licence)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_agreement_of_another_product_waits_for_nobody(world: LifecycleWorld, reverse: bool) -> None:
    world.lifecycle._product_codes = frozenset({PRODUCT})
    events = [created(world.time.seconds - 60), licence_of_others(world.time.seconds)]
    for event in reversed(events) if reverse else events:
        world.lifecycle.receive(event)
    assert world.gauges.measure().seconds == NOTHING
    assert waited(world, "agreement") is None


def test_an_end_whose_licences_aws_names_and_nobody_knows_waits_no_more(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.lifecycle._joins._find_licenses = lambda _: ["arn:aws:license-manager::294406891311:license:l-9"]
    world.lifecycle.receive(ended(world.time.seconds, agreement_id="agmt-other"))
    assert waited(world, "agreement") == 0
    assert world.answer()[-1] == "other_product"
    assert waited(world, "agreement") is None


# Licences without their buyer's account


@pytest.mark.parametrize("named_by", ["registration", "another notification", "the agreement API"])
def test_a_licence_whose_buyers_account_nobody_names_is_seen_until_somebody_does(
    world: LifecycleWorld, named_by: str
) -> None:
    start = world.time.seconds
    licence = {"license": {"arn": LICENSE_ARN}, "product": {"code": PRODUCT}, "agreement": {"id": AGREEMENT}}
    world.lifecycle.receive(told("License Updated", start, **licence))
    world.time.seconds = start + 5 * HOUR
    assert world.subscription().status == "active"
    assert world.gauges.measure().seconds == NOTHING | {"OldestUnknownAccountSeconds": 5 * HOUR}
    match named_by:
        case "registration":
            world.register(LICENSED, account_id="111122223333")
            world.look_again(LICENSED, recheck.REGISTERED, agreement_id=AGREEMENT)
        case "another notification":
            world.lifecycle.receive(created(start))
        case _:
            stored = world.store.read(LICENSED)
            world.store.write(LICENSED, read=stored, changes={}, defaults={"account_id": "111122223333"})
            world.look_again(LICENSED, recheck.COMPARED)
    assert world.gauges.measure().seconds == NOTHING


def test_what_was_expected_of_the_activation_is_not_expected_of_the_account(world: LifecycleWorld) -> None:
    register(world, LICENSED)
    mark = Update(set={AWAITED_UNTIL: WITHOUT_END})
    world.store._table.update_if(keys.subscription(LICENSED), mark)
    licence = {"license": {"arn": LICENSE_ARN}, "product": {"code": PRODUCT}, "agreement": {"id": AGREEMENT}}
    world.lifecycle.receive(told("License Updated", world.time.seconds, **licence))
    assert waited(world, "account") == 0


# Notifications that nothing here understands


@pytest.mark.parametrize(
    "event",
    [
        told("Something New", at("2026-08-20T14:29:00Z")),
        told("License Updated", at("2026-08-20T14:29:00Z"), license={"arn": "arn:aws:l-1"}),
        told("Purchase Agreement Created", at("2026-08-20T14:29:00Z")),
    ],
    ids=["a new type", "a licence without its product", "an agreement without its id"],
)
def test_a_notification_that_nothing_understands_is_seen_until_a_person_has_looked(
    world: LifecycleWorld, event: Any
) -> None:
    assert world.lifecycle.receive(event) == "unknown"
    world.time.seconds += 2 * DAY
    assert waited(world, "unassigned") == 2 * DAY + MINUTE
    assert world.gauges.measure().seconds == NOTHING | {"OldestUnassignedSeconds": 2 * DAY + MINUTE}


def test_warnings_that_are_passed_on_and_other_products_wait_for_nobody(world: LifecycleWorld) -> None:
    world.lifecycle._product_codes = frozenset({"another"})
    world.receive("eventbridge_purchase_agreement_advisory_issued", UPDATED)
    assert waited(world, "unassigned") is None


def test_joins_give_up_after_many_rounds_of_others(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark too many is seen by a person; the next event settles it."""
    answers = iter(range(100))
    joins = Joins(world.store, lambda _: [])
    monkeypatch.setattr(joins, "_waits_since", lambda *_: next(answers))
    joins.await_join(AGREEMENT, world.time.seconds)
    assert waited(world, "agreement") is not None


def _raising(*_: Any, **__: Any) -> None:
    raise NoAnswerError("InternalServerError")
