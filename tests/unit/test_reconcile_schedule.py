"""The scheduled reconciliation: which days it compares, what it tells and stores, what a crash or an outage does."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.platform.errors import AwsError
from marketplace.reconcile.schedule import ReconciliationReport, ScheduledReconciliation
from marketplace.reconcile.store import Progress, ReconciliationStore
from marketplace_emulator.differences import KINDS
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World

ROLE = "EMULATORACCESSKEY"
TODAY = NOON - NOON % DAY


class Crash(BaseException):
    """The function's process is gone."""


@pytest.fixture
def world() -> World:
    """Three buyers, each with usage in the first four hours of the afternoon, metered."""
    made = World.on(MemoryDynamoDB())
    buyers = [made.subscribe(f"11112222333{number}", "ca2payasyougoproduct00000") for number in range(3)]
    for hour in range(4):
        made.time.to(NOON + hour * HOUR)
        for number, buyer in enumerate(buyers):
            made.report(buyer, 50 + 10 * hour + number)
    made.to_due()
    made.meter()
    return made


def scheduled(world: World, **given: Any) -> ScheduledReconciliation:
    values = {
        "usage": world.usage_table(),
        "subscriptions": world.table(world.tables.subscriptions),
        "trail": client("cloudtrail", world.marketplace),
        "bus": world.bus,
        "clock": world.time.now,
        "sleep": lambda _: None,
        "senders": {ROLE},
    }
    return ScheduledReconciliation(**{**values, **given})


def run(world: World, time_left: Callable[[], float] = lambda: 900.0, **given: Any) -> ReconciliationReport:
    return scheduled(world, **given).run(time_left)


def plant(world: World, kind: str, **order: Any) -> None:
    market = world.marketplace
    market.differences.plant(
        [{"kind": kind, "where": ["trail"], **order}], market.ledger, market.registry, market.settings
    )


def told(world: World) -> list[dict[str, Any]]:
    return [dict(event.detail) for event in world.bus.distinct().values() if event.kind == "Usage Differences Found"]


def progress(world: World) -> Progress:
    return ReconciliationStore(world.usage_table()).progress()


def test_a_day_is_compared_the_next_morning_and_once(world: World) -> None:
    world.time.to(TODAY + DAY + 6 * HOUR - 1)
    assert run(world).days == 1 + 31  # October too, once
    assert progress(world).day == TODAY - DAY
    world.time.advance(1)
    report = run(world)
    assert (report.days, report.standing, report.behind, told(world)) == (1, 0, 0, [])
    assert progress(world).day == TODAY
    world.time.advance(HOUR)
    assert run(world).days == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_of_each_class_is_told_stored_and_stands_until_it_is_accepted(world: World, kind: str) -> None:
    plant(world, kind, license=world.marketplace.purchases.all()[1].id, hour=iso(NOON))
    world.time.to(TODAY + DAY + 7 * HOUR)
    report = run(world)
    assert (report.standing, dict(report.found)) == (1, {kind: 1})
    (event,) = told(world)
    assert (event["day"], event["kinds"]) == ("2026-11-18", {kind: 1})
    store = ReconciliationStore(world.usage_table())
    (stored,) = store.differences(TODAY)
    assert stored.values["kind"] == kind
    world.time.advance(HOUR)
    assert run(world).standing == 1
    assert len(told(world)) == 1
    assert store.accept(stored, "credited", "finance", world.time.seconds())
    assert not store.accept(stored, "again", "finance", world.time.seconds())
    assert run(world).standing == 0
    assert [(one.id, one.reason) for one in store.differences(TODAY)] == [(stored.id, "credited")]


def test_days_that_were_left_out_are_made_up_for_oldest_first(world: World) -> None:
    world.time.to(TODAY + 6 * HOUR)
    run(world)
    plant(world, "other_quantity")
    world.time.to(TODAY + 5 * DAY + 6 * HOUR)
    left = iter([1.0, 1.0, 0.0])
    report = run(world, lambda: next(left))
    assert (report.days, report.behind, report.standing) == (2, 3, 1)
    assert progress(world).day == TODAY + DAY
    assert (run(world).days, progress(world).day) == (3, TODAY + 4 * DAY)


def test_the_month_before_is_compared_once_more_from_the_third_on(world: World) -> None:
    world.time.to(TODAY + DAY + 6 * HOUR)
    run(world)
    for day in range(2, 14):
        world.time.to(TODAY + day * DAY + 6 * HOUR)
        run(world)
    plant(world, "only_ours")
    third = int(datetime(2026, 12, 3, 6, tzinfo=UTC).timestamp())
    world.time.to(third - 1)
    assert run(world).standing == 0
    world.time.to(third)
    left = iter([1.0] * 20 + [0.0])
    first = run(world, lambda: next(left))
    rest = run(world)
    assert (first.days + rest.days, rest.standing) == (31, 1)
    assert (told(world)[0]["kinds"], run(world).days) == ({"only_ours": 1}, 0)


def test_a_difference_that_is_gone_is_removed_and_an_accepted_one_stays(world: World) -> None:
    first, second, _ = world.marketplace.purchases.all()
    plant(world, "only_ours", license=first.id)
    plant(world, "other_quantity", license=second.id)
    world.time.to(TODAY + DAY + 6 * HOUR)
    assert run(world).standing == 2
    store = ReconciliationStore(world.usage_table())
    kept = next(one for one in store.differences(TODAY) if one.values["kind"] == "other_quantity")
    store.accept(kept, "known", "me", world.time.seconds())
    world.marketplace.differences.clear()
    world.time.to(int(datetime(2026, 12, 3, 6, tzinfo=UTC).timestamp()))
    assert run(world).standing == 0
    assert [one.reason for one in store.differences()] == ["known"]


@pytest.mark.parametrize("operation", ["put_item", "delete_item", "query"])
@pytest.mark.parametrize("number", range(6))
def test_after_a_crash_at_any_write_the_day_is_told_and_stored_the_same(
    world: World, operation: str, number: int
) -> None:
    for purchase in world.marketplace.purchases.all()[:2]:
        plant(world, "other_quantity", license=purchase.id)
    world.time.to(TODAY + DAY + 6 * HOUR)
    real, calls = getattr(world.dynamodb, operation), 0

    def crashing(**arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number + 1:
            raise Crash
        return real(**arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.dynamodb, operation, crashing)
        with suppress(Crash):
            run(world)
    assert run(world).standing == 2
    assert len({detail["differences"] for detail in told(world)}) == 1
    assert sum(detail["differences"] for detail in told(world)) == 2
    assert progress(world).day == TODAY


def test_a_refused_lookup_leaves_the_day_for_the_next_run(world: World) -> None:
    world.time.to(TODAY + DAY + 6 * HOUR)
    world.marketplace.settings.access_denied = ["LookupEvents"]
    with pytest.raises(AwsError):
        run(world)
    assert progress(world).day is None
    world.marketplace.settings.access_denied = []
    assert run(world).days == 1 + 31


def test_differences_beyond_what_is_stored_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketplace.reconcile.schedule.MOST_STORED", 5)
    world.time.to(TODAY + DAY + 6 * HOUR)
    report = run(world, senders={"AnotherRole"})
    assert dict(report.found) == {"sent_by_someone_else": 12}
    assert (report.standing, told(world)[0]["differences"]) == (5, 5)
