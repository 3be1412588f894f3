"""Zero records for hours without usage: only for hours that are due, once, and never in the way of usage; whatever the
time that a call has, and wherever it ends."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.metering.heartbeat import ActiveByStatus, ActivePage, Filled, Heartbeat, Position
from marketplace.platform.clock import DAY, HOUR, epoch
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from tests.support.calls import Calls, CrashError, throttled
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, SEAL_DELAY, World

DUE = HOUR + SEAL_DELAY
PAGE = 2
"""Subscriptions in a page of `paged`."""


def paged(buyers: int, calls: Calls) -> World:
    """A world with so many active subscriptions, in small pages, whose first hour has become due."""
    world = World.on(MemoryDynamoDB(page_limit=PAGE), wrap=calls.wrap)
    subscribe(world, buyers)
    world.time.advance(DUE)
    return world


def subscribe(world: World, buyers: int) -> list[Subscription]:
    """That many active subscriptions, in the order in which a walk meets them."""
    return sorted((world.subscribe(f"{n:012d}") for n in range(buyers)), key=lambda buyer: buyer.id)


class TimeFor:
    """Time for so many looks at it: a page costs one, and so does every hour of every subscription."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __call__(self) -> float:
        self.looks -= 1
        return self.looks + 1


def pages(count: int, hours: int = 1) -> TimeFor:
    return TimeFor(count * (1 + PAGE * hours))


def plenty() -> float:
    return 900.0


def fill(
    world: World, time_left: Callable[[], float] = plenty, *, workers: int = 1, seal_delay: int = SEAL_DELAY
) -> Filled:
    subscriptions = world.table(world.tables.subscriptions)
    active = ActiveByStatus(subscriptions, SubscriptionReader(subscriptions))
    heartbeat = Heartbeat(world.usage_table(), active, "api_calls", seal_delay, workers)
    return heartbeat.fill(epoch(world.time.now()), time_left)


def all_of(written: int) -> Filled:
    return Filled(written, complete=True)


def part_of(written: int) -> Filled:
    return Filled(written, complete=False)


def hours(world: World, buyer: Subscription | None = None) -> list[int]:
    return sorted(record["hour"] for record in world.stored() if buyer is None or record["pk"].endswith(buyer.id))


def test_an_hour_without_usage_is_metered_as_zero(either_world: World) -> None:
    world = either_world
    legacy = world.subscribe("444455556666", "legacysubscriptionproduct")
    buyer = world.subscribe()
    world.put_subscription(replace(legacy, status="ended"))
    world.time.advance(DUE)
    assert fill(world) == all_of(1)
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 0}
    assert fill(world) == all_of(0)


def test_an_hour_is_filled_only_once_it_is_due(world: World) -> None:
    world.subscribe()
    world.time.advance(DUE - 1)
    assert fill(world) == all_of(0)
    assert hours(world) == []
    world.time.advance(1)
    assert fill(world) == all_of(1)
    assert hours(world) == [NOON]


def test_an_hour_with_usage_of_any_dimension_is_left_alone(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3, dimension="users")
    world.time.advance(DUE)
    assert fill(world) == all_of(0)
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
    unnamed = world.subscribe("000000000004")
    world.put_subscription(replace(unnamed, account_id=None))
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
    assert fill(world) == all_of(21)
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


@pytest.mark.parametrize(("before_the_refusal", "zeros"), [(20 * 60, 1), (20 * 60 - 1, 0)])
def test_an_hour_that_no_run_would_reach_in_time_is_left_idle(before_the_refusal: int, zeros: int) -> None:
    """Nobody is to hear of a zero that couldn't be billed."""
    from tests.support.world import Timeline

    six_on_the_first = NOON + 12 * DAY + 18 * HOUR
    world = World.on(MemoryDynamoDB(), time=Timeline(NOON + 12 * DAY))
    world.subscribe()
    last_of_the_month = NOON + 12 * DAY + 11 * HOUR
    world.time.to(last_of_the_month + SEAL_DELAY)
    fill(world)
    world.time.to(six_on_the_first - before_the_refusal)
    fill(world)
    assert hours(world).count(last_of_the_month) == zeros


def test_the_first_run_fills_the_last_hour_only(world: World) -> None:
    world.subscribe()
    world.time.advance(10 * HOUR + DUE)
    assert fill(world) == all_of(1)
    assert hours(world) == [NOON + 10 * HOUR]


def test_a_filled_hour_costs_one_read(world: World, calls: Calls) -> None:
    subscribe(world, 5)
    world.time.advance(DUE)
    fill(world)
    calls.forget()
    assert fill(world) == all_of(0)
    assert fill(world, TimeFor(0)) == all_of(0)
    assert calls.count() == {"get_item": 2}


def test_an_outage_half_way_is_made_good_by_the_next_run(world: World, calls: Calls) -> None:
    subscribe(world, 5)
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
    assert fill(world) == all_of(0)
    assert [record["quantity"] for record in world.stored()] == [3]


def test_every_page_of_active_subscriptions_is_read() -> None:
    assert fill(paged(7, Calls())) == all_of(7)


def test_a_subscription_that_the_index_still_calls_active_is_left_alone(world: World) -> None:
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    buyer = world.subscribe()
    world.dynamodb.index_lag = True
    world.put_subscription(replace(buyer, status="ended"))
    world.time.advance(DUE)
    assert fill(world) == all_of(0)


def test_the_mark_stands_apart_from_every_subscription() -> None:
    class Nobody:
        def page(self, after: Position | None) -> ActivePage:
            return ActivePage([], None)

    store = MemoryDynamoDB()
    world = World.on(store)
    Heartbeat(world.usage_table(), Nobody(), "a#b", SEAL_DELAY).fill(epoch(world.time.now()), plenty)
    (mark,) = store.items(world.tables.usage)
    assert (mark["pk"]["S"], mark["sk"]["S"]) == keys.heartbeat_mark("a#b")
    assert world.meter().due == 0


# A walk that doesn't end at once


@pytest.mark.slow
def test_a_walk_that_ran_out_of_time_goes_on_with_the_next_page(either_world: World, calls: Calls) -> None:
    """A page is what one BatchGetItem reads: a hundred."""
    world = either_world
    subscribe(world, 103)
    world.time.advance(DUE)
    assert fill(world, TimeFor(1 + 100)) == part_of(100)
    calls.forget()
    assert fill(world) == all_of(3)
    assert calls.count() == {"get_item": 1, "query": 1 + 3, "batch_get_item": 1, "put_item": 3 + 1}
    assert hours(world) == [NOON] * 103


def test_without_time_only_the_mark_is_read(calls: Calls) -> None:
    world = paged(5, calls)
    assert fill(world, TimeFor(0)) == part_of(0)
    assert calls.count() == {"get_item": 1}


def test_a_page_that_ran_out_of_time_is_begun_again(calls: Calls) -> None:
    world = paged(5, calls)
    assert fill(world, TimeFor(3 + 2)) == part_of(3)
    calls.forget()
    assert fill(world) == all_of(2)
    assert len(pages_read(calls)) == 2


@pytest.mark.parametrize("looks", range(3, 15))
def test_calls_with_little_time_come_to_an_end(looks: int, calls: Calls) -> None:
    world = paged(9, calls)
    results = [fill(world, TimeFor(looks))]
    while not results[-1].complete:
        results.append(fill(world, TimeFor(looks)))
    assert len(results) <= 5
    assert sum(result.written for result in results) == 9
    assert hours(world) == [NOON] * 9


@pytest.mark.slow
def test_a_walk_goes_on_where_a_subscription_has_ended(either_world: World) -> None:
    """The position is that of a subscription which the index holds no more."""
    world = either_world
    buyers = subscribe(world, 103)
    world.time.advance(DUE)
    assert fill(world, TimeFor(1 + 100)) == part_of(100)
    world.put_subscription(replace(buyers[99], status="ended"))
    assert fill(world) == all_of(3)


def test_a_subscription_that_turns_active_behind_the_walk_is_met_by_the_next(world: World) -> None:
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    world.dynamodb.page_limit = PAGE
    first = subscribe(world, 5)[0]
    world.put_subscription(replace(first, status="pending"))
    world.time.advance(DUE)
    assert fill(world, pages(1)) == part_of(2)
    world.put_subscription(first)
    assert fill(world) == all_of(2)
    world.time.advance(HOUR)
    assert fill(world) == all_of(5)
    assert hours(world, first) == [NOON + HOUR]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_anywhere_repeats_one_page_at_most(when: str) -> None:
    calls = Calls()
    whole = paged(5, calls)
    assert fill(whole) == all_of(5)
    walk = [name for name, _ in calls.made]
    assert Counter(walk) == {"get_item": 1, "query": 3 + 5, "batch_get_item": 3, "put_item": 5 + 3}
    for point, name in enumerate(walk):
        calls = Calls()
        world = paged(5, calls)
        calls.fail(name, CrashError, when=when, skip=walk[:point].count(name))
        with pytest.raises(CrashError):
            fill(world)
        assert len(calls.made) == point + 1
        assert fill(world).complete
        assert hours(world) == [NOON] * 5
        assert mark(world) == mark(whole)
        assert len(pages_read(calls)) <= 3 + 1


@pytest.mark.parametrize("passed", [1, 2, 19, 20])
@pytest.mark.parametrize("done", [1, 2])
def test_hours_that_become_due_in_mid_walk_are_filled_for_everyone(done: int, passed: int, calls: Calls) -> None:
    world = paged(5, calls)
    assert fill(world, pages(done)) == part_of(done * PAGE)
    world.time.advance(passed * HOUR)
    calls.forget()
    assert fill(world) == all_of(5 * (1 + passed) - done * PAGE)
    assert len(pages_read(calls)) == (3 - done) + 3
    assert hours(world) == sorted([NOON + n * HOUR for n in range(passed + 1)] * 5)


def test_a_walk_from_before_what_AWS_takes_is_given_up(calls: Calls) -> None:  # noqa: N802 - a name
    world = paged(5, calls)
    fill(world, pages(1))
    world.time.advance(21 * HOUR)
    calls.forget()
    assert fill(world) == all_of(5 * 21)
    assert len(pages_read(calls)) == 3
    assert hours(world) == sorted([NOON] * 2 + [NOON + n * HOUR for n in range(1, 22)] * 5)


def test_an_old_walk_fills_only_hours_that_AWS_takes(calls: Calls) -> None:  # noqa: N802 - a name
    world = paged(5, calls)
    fill(world)
    world.time.advance(10 * HOUR)
    assert fill(world, pages(1, hours=10)) == part_of(2 * 10)
    world.time.advance(15 * HOUR)
    assert fill(world) == all_of(3 * 6 + 5 * 15)
    too_old = range(1, 5)
    assert Counter(hours(world)) == {NOON + n * HOUR: 2 if n in too_old else 5 for n in range(26)}


def test_no_hour_is_lost_when_walks_take_longer_than_an_hour(calls: Calls) -> None:
    world = paged(22, calls)
    for _ in range(30):
        assert not fill(world, TimeFor(15)).complete
        world.time.advance(HOUR // 2)
    assert max(hours(world)) > NOON + 10 * HOUR
    assert fill(world).complete
    assert hours(world) == sorted([NOON + n * HOUR for n in range(16)] * 22)


def test_a_walk_to_an_hour_that_is_due_no_more_is_given_up(calls: Calls) -> None:
    """The seal delay was raised: usage of that hour may still come in."""
    world = paged(5, calls)
    fill(world)
    world.time.advance(2 * HOUR)
    assert fill(world, pages(1, hours=2)) == part_of(4)
    assert fill(world, seal_delay=SEAL_DELAY + HOUR) == all_of(3)
    assert Counter(hours(world)) == {NOON: 5, NOON + HOUR: 5, NOON + 2 * HOUR: 2}
    assert fill(world) == all_of(3)


@pytest.mark.parametrize("then", [None, CrashError()])
@pytest.mark.parametrize("point", range(5 + 3))
def test_calls_that_overtake_each_other_leave_nothing_out(point: int, then: BaseException | None, calls: Calls) -> None:
    """At one of its writes another call does the whole walk; then this one goes on, with an older mark, or dies."""
    world = paged(5, calls)
    twin = World(world.dynamodb, world.tables, time=world.time)

    def overtake() -> None:
        assert fill(twin).complete

    calls.fail("put_item", overtake, skip=point)
    calls.fail("put_item", lambda: then, when="after", skip=point)
    with contextlib.suppress(CrashError):
        fill(world)
    world.time.advance(HOUR)
    assert fill(world).complete
    assert hours(world) == [NOON] * 5 + [NOON + HOUR] * 5


def pages_read(calls: Calls) -> list[dict[str, Any]]:
    return [asked for asked in calls.of("query") if "IndexName" in asked]


def mark(world: World) -> dict[str, Any]:
    (found,) = [item for item in world.dynamodb.items(world.tables.usage) if item["pk"]["S"] == "HEARTBEAT"]
    return dict(found)


# Several subscriptions at once


def test_as_many_subscriptions_as_workers_are_looked_at_at_once(world: World, calls: Calls) -> None:
    subscribe(world, 6)
    world.time.advance(DUE)
    together = threading.Barrier(3, timeout=200)
    threads = set()

    def meet(name: str, asked: dict[str, Any]) -> None:
        if name == "query" and "IndexName" not in asked:
            threads.add(threading.get_ident())
            together.wait()

    calls.judge = meet
    assert fill(world, workers=3) == all_of(6)
    assert len(threads) == 3
    assert hours(world) == [NOON] * 6


def test_one_worker_is_this_thread(world: World, calls: Calls) -> None:
    subscribe(world, 6)
    world.time.advance(DUE)
    threads = set()

    def note(name: str, asked: dict[str, Any]) -> None:
        threads.add(threading.get_ident())

    calls.judge = note
    assert fill(world, workers=1) == all_of(6)
    assert threads == {threading.get_ident()}


def test_eight_workers_do_what_one_does(calls: Calls) -> None:
    world = paged(9, calls)
    for _ in range(3):
        assert fill(world, workers=8) == all_of(9)
        world.time.advance(HOUR)
    assert hours(world) == sorted([NOON, NOON + HOUR, NOON + 2 * HOUR] * 9)


def test_an_error_of_one_subscription_waits_for_the_others(world: World, calls: Calls) -> None:
    unlucky, other = world.subscribe("000000000001"), world.subscribe("000000000002")
    world.time.advance(DUE)
    together = threading.Barrier(2, timeout=200)

    def strike(name: str, asked: dict[str, Any]) -> BaseException | None:
        if name != "query" or "IndexName" in asked:
            return None
        together.wait()
        return throttled() if unlucky.id in str(asked) else None

    calls.judge = strike
    with pytest.raises(ThrottledError):
        fill(world, workers=2)
    assert (hours(world, unlucky), hours(world, other)) == ([], [NOON])
    calls.judge = None
    assert fill(world, workers=2) == all_of(1)
    assert hours(world, unlucky) == [NOON]


def test_an_error_in_a_later_page_keeps_what_was_done(calls: Calls) -> None:
    world = paged(5, calls)
    calls.fail("batch_get_item", skip=2)
    with pytest.raises(ThrottledError):
        fill(world, workers=3)
    calls.forget()
    assert fill(world, workers=3) == all_of(1)
    assert len(pages_read(calls)) == 1


def test_workers_begin_nothing_when_time_is_over(world: World, calls: Calls) -> None:
    subscribe(world, 6)
    world.time.advance(DUE)
    assert fill(world, TimeFor(1), workers=3) == part_of(0)
    assert calls.count() == {"get_item": 1, "query": 1, "batch_get_item": 1}


@pytest.mark.parametrize("minutes", [400, 555, 720])
def test_the_last_hours_of_a_month_are_filled_however_long_the_seal_delay(minutes: int) -> None:
    """They are due before AWS's month ends at 06:00 on the 1st, so they are filled before it too."""
    world = World.on(MemoryDynamoDB())
    world.time.to(NOON + 12 * DAY + 2 * HOUR + 60)  # 2026-11-30, 14:01
    world.subscribe()
    end = NOON + 12 * DAY + 18 * HOUR  # 06:00 on the 1st
    while world.time.seconds() < end:
        fill(world, seal_delay=minutes * 60)
        world.meter()
        world.time.advance(900)
    assert [hour for hour in hours(world) if hour >= end - 18 * HOUR][-9:] == [
        *range(end - 15 * HOUR, end - 6 * HOUR, HOUR)
    ]
    assert {record["state"] for record in world.stored()} == {"metered"}
