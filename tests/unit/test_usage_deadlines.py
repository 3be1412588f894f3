"""What the closing and the return of a subscription do to its usage that isn't settled."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb.attributes import to_item
from marketplace.ledger.deadlines import FINAL_MARGIN
from marketplace.ledger.due_time import moment_of
from marketplace.platform.clock import HOUR, hour_of
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, no_answer
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, SEAL_DELAY, World


def three_hours(world: World) -> Subscription:
    """Usage of three hours, the last one running for five minutes, the one before it not due yet."""
    buyer = world.subscribe()
    for hour in range(3):
        world.time.to(NOON + hour * HOUR)
        world.report(buyer, 1)
    world.time.advance(300)
    return buyer


def times(world: World) -> list[tuple[int, int]]:
    """When the next step of each hour's record comes, and when AWS refuses it."""
    in_order = sorted(world.stored(), key=lambda record: record["hour"])
    return [(moment_of(record["state"], record["due_at"]), record["refuse_at"]) for record in in_order]


def change(world: World, record: dict[str, Any], **values: Any) -> None:
    item = {name: value for name, value in {**record, **values}.items() if value is not None}
    world.dynamodb.put_item(TableName=world.tables.usage, Item=to_item(item))


def test_a_closing_subscriptions_ended_hours_are_due_at_once_and_the_running_one_in_time(either_world: World) -> None:
    world = either_world
    buyer, now = three_hours(world), world.time.seconds()
    deadline = now + HOUR
    assert world.deadlines().close(buyer.id, deadline=deadline, now=now) == 3
    running = deadline - FINAL_MARGIN
    assert times(world) == [(NOON + HOUR + SEAL_DELAY, deadline), (now, deadline), (running, deadline)]
    assert world.meter().records == {"metered": 2}
    world.time.to(running)
    assert world.meter().records == {"metered": 1}


def test_closing_twice_changes_nothing_more(either_world: World) -> None:
    world = either_world
    buyer, now = three_hours(world), world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    before = times(world)
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 0
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now + 60) == 0
    assert times(world) == before


def test_a_deadline_never_moves_usage_beyond_the_regular_refusal(world: World) -> None:
    buyer = three_hours(world)
    world.time.to(NOON + 23 * HOUR + 1800)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    assert [refused for _, refused in times(world)] == [NOON + 24 * HOUR, now + HOUR, now + HOUR]


def test_a_later_closing_event_gives_all_usage_the_later_deadline(either_world: World) -> None:
    """AWS takes the last usage for an hour after the later one (docs differ on which of two events opens the hour)."""
    world = either_world
    buyer, now = three_hours(world), world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    later = now + HOUR + 40 * 60
    world.deadlines().close(buyer.id, deadline=later, now=now + 40 * 60)
    assert [refused for _, refused in times(world)] == [later] * 3
    assert max(due for due, _ in times(world)) <= later - FINAL_MARGIN


def test_reopening_gives_held_usage_its_times_back_and_leaves_it_held(either_world: World) -> None:
    world = either_world
    buyer = three_hours(world)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.to_due()
    world.meter()
    held, now = times(world), world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.meter()
    assert {refused for _, refused in times(world)} == {now + HOUR}
    assert world.deadlines().reopen(buyer.id, now=now) == 3
    world.meter()
    assert times(world) == held
    assert {record["state"] for record in world.stored()} == {"held"}
    assert world.deadlines().reopen(buyer.id, now=now + 60) == 0


def test_a_closing_that_overtakes_a_run_leaves_held_usage_to_be_told_again(world: World, calls: Calls) -> None:
    """The next step of held usage follows from its deadline: what a run wrote without knowing the new one must not
    stand, whichever of the two comes first."""
    buyer = world.subscribe()
    world.report(buyer, 1)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.to_due()
    now = world.time.seconds()
    calm = World(world.dynamodb, world.tables, time=world.time)

    def closed() -> None:
        calm.deadlines().close(buyer.id, deadline=now + HOUR, now=now)

    calls.fail("update_item", closed, skip=1)
    assert world.meter().records == {"held": 1}
    assert times(world) == [(now, now + HOUR)]
    assert world.meter().records == {}
    assert times(world) == [(now + HOUR // 2, now + HOUR)]


def test_rejected_usage_follows_the_deadline_and_stays_rejected(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 1, dimension="no_such_dimension")
    world.to_due()
    assert world.meter().records == {"rejected": 1}
    before, now = times(world), world.time.seconds()
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 1
    assert times(world) == [(before[0][0], now + HOUR)]
    assert world.meter().units_at_risk == {1: 1, 3: 1, 6: 1}
    assert world.deadlines().release(buyer.id, now=now) == 1
    assert times(world) == before
    assert [record["state"] for record in world.stored()] == ["rejected"]


def test_reopening_gives_open_usage_its_regular_times_back(either_world: World) -> None:
    world = either_world
    buyer, now = three_hours(world), world.time.seconds()
    before = times(world)
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    assert world.deadlines().reopen(buyer.id, now=now) == 3
    assert times(world) == before


def test_a_subscription_that_comes_back_has_its_regular_times_again(either_world: World) -> None:
    world = either_world
    buyer, now = three_hours(world), world.time.seconds()
    before = times(world)
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    assert world.deadlines().release(buyer.id, now=now) == 3
    assert times(world) == before
    assert world.deadlines().release(buyer.id, now=now) == 0


def test_held_usage_waits_when_its_subscription_closes_and_is_due_when_it_returns(either_world: World) -> None:
    world = either_world
    buyer = three_hours(world)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.to_due()
    assert world.meter().records == {"held": 3}
    now = world.time.seconds()
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 3
    assert world.meter().records == {}
    assert times(world) == [(now + HOUR // 2, now + HOUR)] * 3
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now + 60) == 0
    assert {record["state"] for record in world.stored()} == {"held"}
    assert world.meter().due == 0
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    assert world.deadlines().release(buyer.id, now=now) == 3
    assert {record["state"] for record in world.stored()} == {"open"}
    assert world.meter().records == {"metered": 3}


def test_usage_in_doubt_stays_in_doubt_whatever_its_subscription_does(world: World) -> None:
    world.marketplace.settings.update({"identical_resend": "duplicate"})
    buyer = world.subscribe()
    world.report(buyer, 1)
    world.to_due()
    world.marketplace.faults.plan([{"fault": "timeout_after"}, {"fault": "throttle", "times": 9}])
    world.meter()
    seal = world.stored()[0]["seal"]
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.deadlines().release(buyer.id, now=now)
    assert world.stored()[0]["seal"] == seal
    world.marketplace.faults.clear()
    assert world.meter().records == {"metered_earlier": 1}


@pytest.mark.parametrize("state", ["metered", "rejected", "conflict", "unbillable"])
def test_settled_usage_is_left_alone(world: World, state: str) -> None:
    buyer, now = three_hours(world), world.time.seconds()
    for record in world.stored():
        in_index = state in {"conflict", "unbillable"}
        change(world, record, state=state, **({} if in_index else {"due_shard": None, "due_at": None}))
    before = world.stored()
    assert world.deadlines().close(buyer.id, deadline=now + 60, now=now) == 0
    assert world.deadlines().release(buyer.id, now=now) == 0
    assert world.stored() == before


def test_other_subscriptions_are_left_alone(world: World) -> None:
    buyer, now = three_hours(world), world.time.seconds()
    other = world.subscribe(account_id="444455556666")
    world.report(other, 1)
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    (untouched,) = (record for record in world.stored() if record["pk"].endswith(other.id))
    assert untouched["refuse_at"] == hour_of(now) + 24 * HOUR


def test_usage_with_tags_is_changed_once_and_its_allocations_never(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1, tags={"a": "b"})
    now = world.time.seconds()
    before = world.allocations()
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 1
    assert world.allocations() == before


def test_a_record_settled_while_it_is_looked_at_is_left_alone(world: World, calls: Calls) -> None:
    buyer = three_hours(world)
    world.to_due()
    now = world.time.seconds()
    twin = World(world.dynamodb, world.tables, time=world.time)
    twin.marketplace = world.marketplace

    def settle() -> None:
        twin.meter()

    calls.fail("update_item", settle)
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 0
    assert {record["state"] for record in world.stored()} == {"metered"}
    assert not [record for record in world.stored() if "due_shard" in record]


def test_an_outage_half_way_is_finished_by_the_repetition(world: World, calls: Calls) -> None:
    buyer, now = three_hours(world), world.time.seconds()
    deadline = now + HOUR
    calls.fail("update_item", skip=1)
    with pytest.raises(ThrottledError):
        world.deadlines().close(buyer.id, deadline=deadline, now=now)
    calls.fail("update_item", no_answer, when="after")
    with pytest.raises(NoAnswerError):
        world.deadlines().close(buyer.id, deadline=deadline, now=now)
    calls.fail("query")
    with pytest.raises(ThrottledError):
        world.deadlines().close(buyer.id, deadline=deadline, now=now)
    assert world.deadlines().close(buyer.id, deadline=deadline, now=now) == 1
    assert [refused for _, refused in times(world)] == [deadline] * 3


def test_every_page_is_read_and_history_costs_nothing(world: World, store: MemoryDynamoDB, calls: Calls) -> None:
    buyer = three_hours(world)
    world.to_due()
    world.meter()
    for days in range(1, 4):
        world.time.to(NOON + days * 24 * HOUR)
        world.report(buyer, 1)
        world.to_due()
        world.meter()
    world.report(buyer, 1)
    now = world.time.seconds()
    store.page_limit = 1
    calls.forget()
    assert world.deadlines().close(buyer.id, deadline=now + HOUR, now=now) == 1
    assert calls.count()["query"] <= 4
    assert calls.count()["update_item"] == 1


@given(
    now=st.integers(NOON, NOON + 40 * HOUR),
    left=st.integers(0, HOUR),
    hours=st.sets(st.integers(0, 41), min_size=1, max_size=5),
)
def test_closing_makes_due_in_time_and_never_later_than_before(now: int, left: int, hours: set[int]) -> None:
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe()
    for hour in sorted(hours):
        world.time.to(min(NOON + hour * HOUR, now))
        world.report(buyer, 1)
    world.time.to(now)
    before = dict(zip((r["hour"] for r in world.stored()), world.stored(), strict=True))
    deadline = now + left
    world.deadlines().close(buyer.id, deadline=deadline, now=now)
    for record in world.stored():
        old = before[record["hour"]]
        if record["hour"] < now - 25 * HOUR:
            continue
        assert record["refuse_at"] == min(old["refuse_at"], deadline)
        assert record["due_at"] <= old["due_at"]
        assert record["due_at"] >= min(old["due_at"], now, record["timestamp"])
        if record["hour"] + HOUR <= now:
            assert record["due_at"] <= max(now, record["timestamp"])
        assert old["due_at"] == record["hour"] + HOUR + SEAL_DELAY
