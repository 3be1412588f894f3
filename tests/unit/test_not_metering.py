"""A deployment that meters nothing (MeteringEnabled): it takes no usage, sends AWS none, says so, and neither loses nor
sends by surprise what was recorded before."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from marketplace.ledger.deadlines import CLOCK_MARGIN, SHOWN_FOR
from marketplace.metering.heartbeat import ActiveByStatus, Heartbeat
from marketplace.metering.metrics import counts_of
from marketplace.platform.clock import DAY, HOUR, epoch, hour_of
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.parameters import Parameters
from tests.support.world import NOON, World


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"metering_enabled": False}


def recorded_before(world: World, quantity: int = 7, **given: Any) -> Subscription:
    """A subscription with usage from the time when the deployment metered."""
    world.metering_enabled = True
    buyer = world.subscribe()
    assert world.report(buyer, quantity, **given)["status"] == "recorded"
    world.metering_enabled = False
    return buyer


def sent_calls(world: World) -> int:
    return len(world.marketplace.ledger.records)


# -- beside the one that meters ---------------------------------------------------------------------------


def beside(prod: World, **given: Any) -> World:
    """Another deployment in the same account: the same AWS Marketplace and the same clock, tables of its own."""
    stage = World.on(MemoryDynamoDB(), time=prod.time, **given)
    stage.marketplace = prod.marketplace
    return stage


def runs(world: World) -> None:
    """One run and the zeros of idle hours, as functions/meter_usage does it."""
    world.meter()
    now, beat = epoch(world.time.now()), heartbeat(world, "api_calls")
    if world.metering_enabled:
        beat.fill(now, lambda: 900.0)
    else:
        beat.skip(now)


@pytest.mark.parametrize("quantity", [1, 5000])
@pytest.mark.parametrize("hours", [1, 3])
@pytest.mark.parametrize("stage_meters", [False, True])
def test_a_stage_that_does_not_meter_leaves_every_hour_to_the_one_that_does(
    store: MemoryDynamoDB, quantity: int, hours: int, stage_meters: bool
) -> None:
    """If it meters, its zero is first wherever it waits less long for late usage, and AWS keeps that."""
    prod = World.on(store, parameters=Parameters(SealDelayMinutes=60))
    stage = beside(prod, metering_enabled=stage_meters)
    buyer = prod.subscribe()
    stage.put_subscription(buyer)
    for quarter in range(4 * (hours + 4)):
        prod.time.to(NOON + quarter * 15 * 60)
        if quarter % 4 == 0 and quarter < 4 * hours:
            prod.report(buyer, quantity)
        runs(stage)
        runs(prod)
    assert prod.billed()[buyer.id, "api_calls"] == (0 if stage_meters else quantity * hours)
    assert bool(prod.stored("conflict")) is bool(stage.stored()) is stage_meters


# -- reporting --------------------------------------------------------------------------------------------


def test_usage_is_refused_with_the_reason_and_nothing_is_recorded(world: World) -> None:
    result = world.report(world.subscribe(), 5)
    assert (result["status"], result["reason"], result["retryable"]) == ("rejected", "not_metered", True)
    assert "MeteringEnabled" in str(result["message"])
    assert world.stored() == []


def test_a_validation_says_the_same(world: World) -> None:
    (result,) = world.recorder().record([world.usage(world.subscribe(), 5)], validate=True)
    assert result["reason"] == "not_metered"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantity": -1}, "invalid_quantity"),
        ({"subscription_id": "sub-aaaaaaaaaaaaaaaaaaaaaaaaaa"}, "unknown_subscription"),
        ({"timestamp": "2020-01-01T00:00:00Z"}, "too_old"),
        ({}, "not_metered"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_all_the_same(world: World, change: dict[str, Any], reason: str) -> None:
    """A test stage has its seller's application tested, too."""
    (result,) = world.report_all([world.usage(world.subscribe(), 5) | change])
    assert result["reason"] == reason


def test_usage_of_a_subscription_that_is_not_active_waits_for_that_first(world: World) -> None:
    assert world.report(world.subscribe(active=False), 5)["reason"] == "not_active"


def test_what_was_recorded_before_is_a_duplicate(world: World) -> None:
    buyer = recorded_before(world, id="r-1")
    assert world.report(buyer, 7, id="r-1")["status"] == "duplicate"
    assert world.report(buyer, 8, id="r-1")["status"] == "conflict"


def test_the_same_record_is_taken_once_the_deployment_meters(world: World) -> None:
    buyer = world.subscribe()
    assert world.report(buyer, 5, id="r-1")["status"] == "rejected"
    world.metering_enabled = True
    assert world.report(buyer, 5, id="r-1")["status"] == "recorded"
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 5}


# -- what was recorded before -----------------------------------------------------------------------------


def suspended(world: World, buyer: Subscription) -> None:
    """AWS has answered that the buyer is not subscribed: the usage is held."""
    world.metering_enabled = True
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.meter()
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    world.metering_enabled = False
    assert len(world.stored("held")) == 1


def unanswered(world: World, buyer: Subscription) -> None:
    """An attempt has got no answer: AWS may have the usage."""
    world.metering_enabled = True
    world.marketplace.faults.plan([{"fault": "drop_before", "times": None}])
    world.meter()
    world.marketplace.faults.clear()
    world.metering_enabled = False


def nothing_more(world: World, buyer: Subscription) -> None: ...


def closing(world: World, buyer: Subscription) -> None:
    now = world.time.seconds()
    world.put_subscription(replace(buyer, status="closing", closing_deadline=now + HOUR))
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)


BEFORE = [nothing_more, suspended, unanswered, closing]


@pytest.mark.parametrize("before", BEFORE)
def test_what_was_recorded_before_is_not_sent_and_counts_as_such(
    world: World, before: Callable[[World, Subscription], None]
) -> None:
    buyer = recorded_before(world)
    world.to_due()
    before(world, buyer)
    sent = sent_calls(world)
    for _ in range(3):
        world.time.advance(15 * 60)
        metrics = counts_of(report := world.meter())
        assert (metrics["UnitsNotMetered"], metrics["RecordsNotMetered"]) == (7, 1)
        assert [metrics[name] for name in ("UnitsAtRisk", "UnitsHeld", "UnitsRejected", "MeteringCalls")] == [0] * 4
        assert (report.left, report.oldest_unsettled_seconds) == (0, 0)
    assert sent_calls(world) == sent


@pytest.mark.parametrize("before", BEFORE)
def test_it_is_told_as_not_billable_once_and_the_gauges_come_to_rest(
    world: World, before: Callable[[World, Subscription], None]
) -> None:
    buyer = recorded_before(world)
    world.to_due()
    before(world, buyer)
    for _ in range(2 * 24 * 4 + 8):
        world.time.advance(15 * 60)
        world.meter()
    (event,) = (event for event in world.bus.events if event.kind == "Usage Not Billable")
    assert event.detail["quantity"] == 7
    assert event.detail["reason"] == ("not_metered_in_doubt" if before is unanswered else "not_metered")
    assert event.time >= NOON + DAY + CLOCK_MARGIN
    (record,) = world.stored("unbillable")
    assert "due_shard" not in record
    assert world.time.seconds() > event.time + SHOWN_FOR
    metrics = counts_of(world.meter())
    assert {name for name, value in metrics.items() if value} == set()


@pytest.mark.parametrize("before", BEFORE)
def test_it_is_billed_once_if_the_deployment_meters_again_in_time(
    world: World, before: Callable[[World, Subscription], None]
) -> None:
    """It was recorded as usage to be billed; nothing else is sent."""
    buyer = recorded_before(world)
    world.report(buyer, 1000)
    world.to_due()
    before(world, buyer)
    for _ in range(3):
        world.time.advance(15 * 60)
        world.meter()
        world.report(buyer, 1000)
    world.metering_enabled = True
    if before is suspended:
        world.deadlines().release(buyer.id, now=world.time.seconds())
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 7}
    assert world.bus.events == []


@pytest.mark.parametrize("minutes", [1, 30, 59])
def test_the_hour_of_an_activation_waits_as_quietly_as_any_other(world: World, minutes: int) -> None:
    """AWS decides by the Timestamp, which is the activation there; the index knows the hour alone."""
    world.time.advance(minutes * 60)
    recorded_before(world)
    closes = NOON + DAY + minutes * 60 + CLOCK_MARGIN
    for moment in range(NOON + 20 * HOUR, closes, 10 * 60):
        world.time.to(moment)
        metrics = counts_of(report := world.meter())
        assert (metrics["UnitsNotMetered"], report.left, report.oldest_unsettled_seconds) == (7, 0, 0)
    world.time.to(closes)
    assert counts_of(world.meter())["UsageUnbillable"] == 1


def test_what_aws_refused_before_is_still_written_off_for_its_own_reason(world: World) -> None:
    buyer = recorded_before(world, dimension="no_such_dimension")
    world.to_due()
    world.metering_enabled = True
    world.meter()
    world.metering_enabled = False
    world.time.to(NOON + DAY + HOUR)
    world.meter()
    (record,) = world.stored("unbillable")
    assert record["reason"] == "InvalidUsageDimensionException"
    assert {event.detail["subscription_id"] for event in world.bus.events} == {buyer.id}


def test_nothing_is_counted_where_nothing_was_recorded(world: World) -> None:
    world.report(world.subscribe(), 5)
    world.to_due()
    world.time.advance(DAY)
    assert {name for name, value in counts_of(world.meter()).items() if value} == set()


# -- idle hours -------------------------------------------------------------------------------------------


def heartbeat(world: World, dimension: str = "users") -> Heartbeat:
    table = world.table(world.tables.subscriptions)
    active = ActiveByStatus(table, SubscriptionReader(table))
    return Heartbeat(world.usage_table(), active, dimension, world.parameters.seal_delay, workers=1)


def fill(world: World) -> int:
    return heartbeat(world).fill(epoch(world.time.now()), lambda: 900.0).written


def zeros(world: World) -> list[int]:
    return sorted(int(record["hour"]) for record in world.stored())


def skip(world: World) -> None:
    skipped = heartbeat(world).skip(epoch(world.time.now()))
    assert (skipped.written, skipped.complete) == (0, True)


def test_hours_of_the_time_without_metering_never_get_a_zero(world: World) -> None:
    """Another deployment may have metered them: AWS keeps the first quantity of an hour."""
    world.subscribe()
    world.to_due()
    assert fill(world) == 1
    for _ in range(5):
        world.time.advance(HOUR)
        skip(world)
    running = hour_of(world.time.seconds())
    world.time.advance(2 * HOUR)
    fill(world)
    assert zeros(world) == [NOON, running + HOUR]


def test_a_deployment_that_begins_to_meter_fills_from_the_next_full_hour(world: World) -> None:
    world.subscribe()
    skip(world)
    world.to_due()
    assert fill(world) == 0
    world.time.advance(HOUR)
    assert fill(world) == 1
    assert zeros(world) == [NOON + HOUR]


def test_a_walk_that_was_under_way_is_given_up(world: World) -> None:
    for number in range(3):
        world.subscribe(f"{number:012d}")
    world.to_due()
    assert not heartbeat(world).fill(epoch(world.time.now()), iter([1.0, 1.0, 0.0, 0.0]).__next__).complete
    before = zeros(world)
    skip(world)
    world.time.advance(10 * 60)
    assert fill(world) == 0
    assert zeros(world) == before


def test_skipping_repeats_without_a_write(world: World, calls: Calls) -> None:
    skip(world)
    calls.fail("put_item")
    skip(world)
