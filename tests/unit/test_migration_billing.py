"""A customer who moves from the legacy integration to a licence is billed by one of the two for each hour."""

from dataclasses import replace

import pytest

from marketplace.platform.clock import HOUR, hour_of
from marketplace.subscriptions.model import Subscription
from tests.support.world import World

DIMENSION = "emails"


@pytest.fixture
def moving(world: World) -> tuple[Subscription, Subscription]:
    """A legacy customer and their licence, with the cut-over two hours from now."""
    product = next(one for one in world.marketplace.registry.products.values() if one.integration == "legacy")
    purchase = world.marketplace.purchases.subscribe(product.code, provision=True)
    activated = world.time.seconds()
    world.time.advance(3 * HOUR)
    cutover = hour_of(world.time.seconds()) + 2 * HOUR
    legacy = world.store_subscription(purchase, activated_at=activated)
    licensed = replace(legacy, integration="license", license_arn=purchase.license_arn, customer_identifier=None)
    licensed = replace(licensed, id=licensed.identity.subscription_id, migrated_from=legacy.id, cutover_at=cutover)
    legacy = replace(legacy, migrated_to=licensed.id, cutover_at=cutover)
    for one in (legacy, licensed):
        world.put_subscription(one)
    return legacy, licensed


def drained(world: World) -> dict[tuple[int, str], int]:
    """What AWS billed, by hour and integration."""
    for _ in range(30):
        world.meter()
        world.time.advance(HOUR)
    return {(one.hour * HOUR, one.integration): int(one.quantity) for one in world.marketplace.ledger.records}


def test_each_side_of_the_cutover_is_billed_by_its_own_integration(
    world: World, moving: tuple[Subscription, Subscription]
) -> None:
    legacy, licensed = moving
    cutover = legacy.cutover_at or 0
    world.report(legacy, 5, dimension=DIMENSION)
    world.report(licensed, 7, dimension=DIMENSION)
    world.time.to(cutover + 60)
    world.report(legacy, 11, dimension=DIMENSION)
    world.report(licensed, 13, dimension=DIMENSION)
    world.report(licensed, 17, dimension=DIMENSION, at=cutover - 60)
    billed = drained(world)
    assert billed == {
        (cutover - 2 * HOUR, "legacy"): 12,
        (cutover - HOUR, "legacy"): 17,
        (cutover, "license"): 24,
    }


def test_a_report_without_a_timestamp_that_is_repeated_after_the_cutover_counts_once(
    world: World, moving: tuple[Subscription, Subscription]
) -> None:
    legacy, _ = moving
    assert world.report(legacy, 5, id="same", dimension=DIMENSION)["status"] == "recorded"
    world.time.to((legacy.cutover_at or 0) + 60)
    assert world.report(legacy, 5, id="same", dimension=DIMENSION)["status"] == "duplicate"
    assert sum(drained(world).values()) == 5


def test_late_usage_of_before_the_cutover_is_billed_after_it_when_nothing_before_is_left(
    world: World, moving: tuple[Subscription, Subscription]
) -> None:
    legacy, _ = moving
    cutover = legacy.cutover_at or 0
    first = hour_of(legacy.activated_at or 0)
    world.time.to(cutover + 20 * 60)
    for hour in range(first, cutover, HOUR):
        world.report(legacy, 1, dimension=DIMENSION, at=max(hour, legacy.activated_at or 0) + 1)
    world.meter()
    result = world.report(legacy, 9, id="late", dimension=DIMENSION, at=cutover - 30)
    assert result["status"] == "recorded"
    billed = drained(world)
    assert billed[cutover, "license"] == 9
    assert sum(billed.values()) == 9 + (cutover - first) // HOUR
    proof = world.queries().proof(legacy.id, "late")
    assert proof is not None
    assert proof["metering_record"]["state"] == "metered"
    assert proof["billed_to"] != legacy.id


def test_no_hour_is_ever_sent_under_both_integrations(world: World, moving: tuple[Subscription, Subscription]) -> None:
    legacy, _ = moving
    cutover = legacy.cutover_at or 0
    world.time.to(cutover + HOUR + 120)
    for minutes in range(-200, 60, 7):
        for one in moving:
            world.report(one, 1, dimension=DIMENSION, at=cutover + minutes * 60)
        if minutes % 3 == 0:
            world.meter()
    billed = drained(world)
    hours = [hour for hour, _ in billed]
    assert len(hours) == len(set(hours))
    assert {side for hour, side in billed if hour < cutover} == {"legacy"}
    assert {side for hour, side in billed if hour >= cutover} == {"license"}
