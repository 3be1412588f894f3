"""Zero records for hours without usage: only for hours that are due, once, and never in the way of usage."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from marketplace import keys
from marketplace.clock import DAY, HOUR
from marketplace.errors import ThrottledError
from marketplace.heartbeat import ActiveByStatus, Heartbeat
from marketplace.subscription import Subscription
from marketplace.subscription_reader import SubscriptionReader
from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import Tables
from tests.support.world import NOON, SEAL_DELAY, World

DUE = HOUR + SEAL_DELAY


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def world(calls: Calls) -> World:
    return World.on(MemoryDynamoDB(), wrap=calls.wrap)


@pytest.fixture(params=["memory", "moto"])
def either_world(request: pytest.FixtureRequest) -> World:
    """On the in-memory store and on moto."""
    if request.param == "memory":
        return World.on(MemoryDynamoDB())
    tables: Tables = request.getfixturevalue("moto_tables")
    return World(request.getfixturevalue("moto_dynamodb"), tables)


def fill(world: World) -> int:
    client = world.wrap(world.dynamodb)
    reader = SubscriptionReader(client, world.tables.subscriptions)
    active = ActiveByStatus(client, world.tables.subscriptions, reader)
    return Heartbeat(client, world.tables.usage, active, "api_calls", SEAL_DELAY).fill(world.time.seconds())


def hours(world: World, buyer: Subscription | None = None) -> list[int]:
    return sorted(record["hour"] for record in world.stored() if buyer is None or record["pk"].endswith(buyer.id))


def test_an_hour_without_usage_is_metered_as_zero(either_world: World) -> None:
    world = either_world
    legacy = world.subscribe("444455556666", "legacysubscriptionproduct")
    buyer = world.subscribe()
    world.put_subscription(replace(legacy, status="ended"))
    world.time.advance(DUE)
    assert fill(world) == 1
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 0}
    assert fill(world) == 0


def test_an_hour_is_filled_only_once_it_is_due(world: World) -> None:
    world.subscribe()
    world.time.advance(DUE - 1)
    assert fill(world) == 0
    assert hours(world) == []
    world.time.advance(1)
    assert fill(world) == 1
    assert hours(world) == [NOON]


def test_an_hour_with_usage_of_any_dimension_is_left_alone(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3, dimension="users")
    world.time.advance(DUE)
    assert fill(world) == 0
    assert [record["dimension"] for record in world.stored()] == ["users"]


def test_late_usage_goes_around_an_hour_that_was_filled(world: World) -> None:
    buyer = world.subscribe()
    world.time.advance(DUE)
    fill(world)
    world.meter()
    assert world.report(buyer, 3, at=NOON)["status"] == "recorded"
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 3}


def test_the_hour_of_activation_is_filled_with_the_moment_of_activation(world: World) -> None:
    world.time.advance(1200)
    world.subscribe()
    world.time.advance(DUE)
    fill(world)
    (record,) = world.stored()
    assert (record["hour"], record["timestamp"]) == (NOON, NOON + 1200)
    assert world.meter().records == {"metered": 1}


def test_hours_before_activation_and_subscriptions_that_are_not_active_are_left_alone(world: World) -> None:
    started = world.subscribe("000000000001")
    world.time.advance(DUE)
    fill(world)
    world.time.advance(4 * HOUR)
    young = world.subscribe("000000000002")
    nobody = world.subscribe("000000000003")
    world.put_subscription(replace(nobody, activated_at=None))
    for n, status in enumerate(("pending", "closing", "ended", "failed")):
        world.put_subscription(replace(world.subscribe(f"1{n:011d}"), status=status))  # type: ignore[arg-type]
    world.time.advance(HOUR)
    fill(world)
    assert hours(world, started) == [NOON + n * HOUR for n in range(6)]
    assert hours(world, young) == [NOON + 5 * HOUR]
    assert len(world.stored()) == 7


def test_across_a_migration_an_hour_is_filled_on_its_own_side_only(world: World) -> None:
    """botocore model, BatchMeterUsage: ProductCode and LicenseArn for one customer and hour are billed twice."""
    legacy = world.subscribe("000000000001", "legacysubscriptionproduct")
    licensed = world.subscribe("000000000001")
    cutover = NOON + 2 * HOUR
    world.put_subscription(replace(legacy, migrated_to=licensed.id, cutover_at=cutover))
    world.put_subscription(replace(licensed, migrated_from=legacy.id, cutover_at=cutover))
    for _ in range(4):
        world.to_due()
        fill(world)
    assert hours(world, legacy) == [NOON, NOON + HOUR]
    assert hours(world, licensed) == [NOON + 2 * HOUR, NOON + 3 * HOUR]


def test_hours_missed_in_an_outage_are_filled_as_far_as_AWS_takes_them(world: World) -> None:  # noqa: N802 - a name
    buyer = world.subscribe()
    world.time.advance(DUE)
    fill(world)
    world.meter()
    world.time.advance(3 * DAY)
    assert fill(world) == 21
    found = hours(world, buyer)[1:]
    assert found == [NOON + 3 * DAY - 20 * HOUR + n * HOUR for n in range(21)]
    assert world.meter().records == {"metered": 21}


def test_last_months_hours_are_not_filled_after_six_on_the_first() -> None:
    from tests.support.world import Timeline

    midnight = NOON + 12 * DAY + 12 * HOUR
    world = World.on(MemoryDynamoDB(), time=Timeline(midnight - 3 * HOUR))
    world.subscribe()
    world.time.to(midnight - 3 * HOUR + DUE)
    fill(world)
    world.time.to(midnight + 6 * HOUR + DUE)
    fill(world)
    assert min(hour for hour in hours(world)[1:]) == midnight


def test_the_first_run_fills_the_last_hour_only(world: World) -> None:
    world.subscribe()
    world.time.advance(10 * HOUR + DUE)
    assert fill(world) == 1
    assert hours(world) == [NOON + 10 * HOUR]


def test_a_filled_hour_costs_one_read(world: World, calls: Calls) -> None:
    for n in range(5):
        world.subscribe(f"{n:012d}")
    world.time.advance(DUE)
    fill(world)
    calls.forget()
    fill(world)
    assert calls.count() == {"get_item": 1}


def test_an_outage_half_way_is_made_good_by_the_next_run(world: World, calls: Calls) -> None:
    for n in range(5):
        world.subscribe(f"{n:012d}")
    world.time.advance(DUE)
    for name, skip in (("put_item", 2), ("query", 3), ("get_item", 0), ("batch_get_item", 0), ("put_item", 3)):
        calls.fail(name, skip=skip)
        with pytest.raises(ThrottledError):
            fill(world)
        calls.heal()
    fill(world)
    assert hours(world) == [NOON] * 5
    assert len(world.dynamodb.items(world.tables.usage)) == 6


def test_usage_that_comes_in_between_keeps_its_hour(world: World, calls: Calls) -> None:
    """Both the look and the write may be overtaken."""
    buyer = world.subscribe()
    twin = World(world.dynamodb, world.tables, time=world.time)
    world.time.advance(DUE)

    def report() -> None:
        twin.report(buyer, 3, at=NOON)

    calls.fail("put_item", report)
    assert fill(world) == 0
    assert [record["quantity"] for record in world.stored()] == [3]


def test_every_page_of_active_subscriptions_is_read(world: World) -> None:
    for n in range(7):
        world.subscribe(f"{n:012d}")
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    world.dynamodb.page_limit = 2
    world.time.advance(DUE)
    assert fill(world) == 7


def test_a_subscription_that_the_index_still_calls_active_is_left_alone(world: World) -> None:
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    buyer = world.subscribe()
    world.dynamodb.index_lag = True
    world.put_subscription(replace(buyer, status="ended"))
    world.time.advance(DUE)
    assert fill(world) == 0


def test_the_mark_stands_apart_from_every_subscription() -> None:
    class Nobody:
        def active(self) -> Iterator[Subscription]:
            return iter(())

    store = MemoryDynamoDB()
    world = World.on(store)
    Heartbeat(store.client, world.tables.usage, Nobody(), "a#b", SEAL_DELAY).fill(NOON)
    (mark,) = store.items(world.tables.usage)
    assert (mark["pk"]["S"], mark["sk"]["S"]) == keys.heartbeat_mark("a#b")
    assert world.meter().due == 0
