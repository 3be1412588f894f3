"""In which hours usage of a subscription was found: what is noted, what it costs, and when steady usage has stopped."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger import activity
from marketplace.ledger.activity import HourlyActivity, has_stopped
from marketplace.platform.clock import DAY, HOUR, EpochSeconds
from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import create_tables
from tests.support.world import NOON, World

STEADY = (1 << 24) - 1


@pytest.mark.parametrize(
    ("hours", "stopped"),
    [
        (0, False),
        (STEADY, False),
        (STEADY << 3, False),  # two whole hours, and the one that is not over
        (STEADY << 4, True),
        (STEADY << 27, True),
        (STEADY << 28, False),
        ((STEADY >> 1) << 4, True),
        ((STEADY & ~0b110) << 4, True),
        ((STEADY & ~0b1110) << 4, False),
        ((STEADY << 4) | 1, False),
        (0b1 << 4, False),
    ],
)
def test_usage_has_stopped_that_was_steady_for_a_day_and_is_missing_for_three_hours(hours: int, stopped: bool) -> None:
    assert has_stopped(hours) is stopped


@given(st.sets(st.integers(0, 60)))
def test_the_rule_is_what_its_words_say(found: set[int]) -> None:
    """`found`: how many hours ago usage was found."""
    last = min(found, default=None)
    expected = last is not None and (
        3 <= last - 1 <= 26 and sum(hour in found for hour in range(last, last + 24)) >= 22
    )
    assert has_stopped(sum(1 << hour for hour in found)) is expected


class Noted:
    def __init__(self) -> None:
        memory = MemoryDynamoDB()
        self.calls = Calls()
        self.tables = create_tables(memory.client)
        table = Table(self.calls.wrap(memory), self.tables.usage, sleep=lambda _: None)
        self.activity = HourlyActivity(table)

    def each_hour(self, ids: list[str], hours: int, start: int = NOON) -> int:
        for hour in range(hours):
            self.activity.found(ids, EpochSeconds(start + hour * HOUR))
        return start + (hours - 1) * HOUR

    def stopped(self, at: int) -> set[str]:
        return set(self.activity.stopped(EpochSeconds(at)))


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.mark.parametrize("count", [1, 40])
def test_what_stops_is_found_and_what_goes_on_is_not(noted: Noted, count: int) -> None:
    ids = [f"sub-{number}" for number in range(count)]
    last = noted.each_hour([*ids, "sub-steady"], 24)
    assert noted.stopped(last + 3 * HOUR) == set()
    noted.each_hour(["sub-steady"], 4, last + HOUR)
    assert noted.stopped(last + 4 * HOUR) == set(ids)
    assert noted.stopped(last + 2 * DAY) == set()


@pytest.mark.parametrize("count", [1, 1000])
def test_a_run_notes_all_its_subscriptions_in_one_read_and_one_write(noted: Noted, count: int) -> None:
    ids = [f"sub-{number}" for number in range(count)]
    noted.activity.found(ids, EpochSeconds(NOON))
    assert noted.calls.count() == {"batch_get_item": 1, "batch_write_item": 1}
    noted.calls.forget()
    noted.activity.found(ids, EpochSeconds(NOON + 900))  # in the same hour there is nothing to write
    assert noted.calls.count() == {"batch_get_item": 1}


def test_a_shard_is_never_larger_than_an_item_may_be(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(f'"sub-{"a" * 26}":{(1 << 52) - 1},'), 0)
    assert activity._MOST * longest < 400 * 1024
    monkeypatch.setattr(activity, "_MOST", 2)
    monkeypatch.setattr(keys, "due_shard", lambda _: "07")
    last = noted.each_hour(["sub-1", "sub-2", "sub-3"], 24)
    assert noted.stopped(last + 4 * HOUR) == {"sub-1", "sub-2"}


def test_what_was_used_days_ago_makes_room(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_MOST", 1)
    monkeypatch.setattr(keys, "due_shard", lambda _: "07")
    noted.activity.found(["sub-old"], EpochSeconds(NOON))
    last = noted.each_hour(["sub-new"], 24, NOON + 3 * DAY)
    assert noted.stopped(last + 4 * HOUR) == {"sub-new"}


def test_a_clock_that_is_behind_moves_nothing_back(noted: Noted) -> None:
    last = noted.each_hour(["sub-1"], 24)
    noted.activity.found(["sub-1"], EpochSeconds(last - 5 * HOUR))
    assert noted.stopped(last + 4 * HOUR) == {"sub-1"}


@pytest.mark.parametrize("quantities", [[], [0], [0, 0]])
def test_a_run_that_finds_no_usage_notes_nothing(quantities: list[int]) -> None:
    world = World.on(MemoryDynamoDB())
    asked: list[Any] = []
    for quantity in quantities:
        world.report(world.subscribe(), quantity)
    world.to_due()
    run = world.metering()
    run.found_usage = lambda ids, now: asked.append((ids, now))
    run.run()
    assert asked == []


@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_notes_the_subscriptions_whose_usage_it_sends(enabled: bool) -> None:
    world = World.on(MemoryDynamoDB())
    buyers = [world.subscribe(f"{number:012d}") for number in range(1, 4)]
    world.report_all([world.usage(buyer, 5, dimension=name) for buyer in buyers for name in ("api_calls", "users")])
    world.to_due()
    world.metering_enabled = enabled
    asked: list[Any] = []
    run = world.metering()
    run.found_usage = lambda ids, now: asked.append((set(ids), now))
    run.run()
    assert asked == ([({buyer.id for buyer in buyers}, world.time.seconds())] if enabled else [])


def test_a_run_whose_notes_fail_meters_all_the_same() -> None:
    world = World.on(MemoryDynamoDB())
    world.report(world.subscribe(), 5)
    world.to_due()
    calls = Calls()
    calls.fail("batch_get_item", times=None)
    run = world.metering()
    run.found_usage = HourlyActivity(Table(calls.wrap(world.dynamodb), world.tables.usage, sleep=lambda _: None)).found
    report = run.run()
    assert report.records == {"metered": 1}
    assert report.errors.total() == 1
