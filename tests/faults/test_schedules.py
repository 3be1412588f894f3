"""Whatever goes wrong, every recorded unit is billed once or stands in a list with a reason."""

import os
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.entitlements.terms import AWAITED_FOR
from marketplace.platform.clock import iso
from tests.faults import story
from tests.faults.contracts import FOREVER, AwsTerm, Shown, Silence, charges
from tests.faults.invariant import InvariantError
from tests.faults.lifecycle_schedule import LifecycleSchedule
from tests.faults.plays import minimised, run, steps_of
from tests.faults.schedule import Schedule, Step
from tests.support.deployment import METERING
from tests.support.memory_dynamodb import MemoryDynamoDB

SEEDS = int(os.environ.get("FAULT_SEEDS", "300"))
CHUNK = 25
PARTS = 16
OF_WRITES = int(os.environ.get("FAULT_WRITES", "4"))
"""Of a whole deployment's writes, so many stand for one; 1 plays every one."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_schedule_loses_a_unit_or_bills_one_twice(first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            run(seed, steps_of(seed), MemoryDynamoDB)
        except InvariantError as error:
            steps = ", ".join(map(str, minimised(seed, steps_of(seed), MemoryDynamoDB)))
            pytest.fail(f"seed {seed}: {error}; the fewest steps: {steps}")


@pytest.fixture(scope="module", params=story.WORLDS)
def undisturbed(request: pytest.FixtureRequest) -> tuple[int, Schedule]:
    """A seed for each reading of a resend, and the story in its world with nobody dying."""
    seed = story.WORLDS[request.param]
    return seed, story.played(seed)


def test_everything_happens_in_the_story(undisturbed: tuple[int, Schedule]) -> None:
    seed, schedule = undisturbed
    assert story.WORLDS[schedule.world.settings.identical_resend] == seed
    assert {"metered", "included", "rejected", "conflict", "unbillable"} <= set(+schedule.outcome.units)
    assert schedule.outcome.due_again
    assert len(story.points(schedule)) > 300


@pytest.mark.parametrize("part", range(PARTS))
def test_whoever_dies_at_any_call_before_or_after_it_loses_no_unit_and_bills_none_twice(
    undisturbed: tuple[int, Schedule], part: int
) -> None:
    """Every point is in one part; a test for each point would take longer to collect than to run."""
    seed, schedule = undisturbed
    for point in story.points(schedule)[part::PARTS]:
        try:
            crashed = story.played(seed, crash_at=point)
        except InvariantError as error:
            pytest.fail(f"a crash at point {point}, {schedule.points[point]}: {error}")
        assert crashed.outcome.crashes == 1


@pytest.fixture(scope="module", params=story.HELD_WORLDS)
def held(request: pytest.FixtureRequest) -> tuple[int, Schedule]:
    """The same for the story of usage that awaits approval."""
    seed = story.HELD_WORLDS[request.param]
    return seed, story.played(seed)


def test_usage_is_held_for_every_reason_and_ends_in_every_way(held: tuple[int, Schedule]) -> None:
    seed, schedule = held
    assert story.HELD_WORLDS[schedule.world.settings.identical_resend] == seed
    why = {(event.kind, event.detail["reason"]) for event in schedule.world.bus.events}
    assert why >= {
        ("Usage Awaiting Approval", "far_above_usual"),
        ("Usage Awaiting Approval", "new_dimension"),
        ("Usage Released", "approved"),
        ("Usage Released", "deadline"),
        ("Usage Not Billable", "refused_by_seller"),
    }
    assert len(schedule.decided) > 3


@pytest.mark.parametrize("part", range(PARTS))
def test_whoever_dies_at_any_call_while_usage_is_held_loses_no_unit_and_bills_none_twice(
    held: tuple[int, Schedule], part: int
) -> None:
    seed, schedule = held
    for point in story.points(schedule)[part::PARTS]:
        try:
            story.played(seed, crash_at=point)
        except InvariantError as error:
            pytest.fail(f"a crash at point {point}, {schedule.points[point]}: {error}")


def test_the_suite_finds_usage_that_is_sent_although_it_was_refused() -> None:
    """The check can fail: a record that is billed and was refused is noticed."""
    schedule = story.played(story.HELD_WORLDS["success"])
    key = next(key for key, approval in schedule.decided.items() if approval == "refused")
    schedule.decided[key] = "approved"
    with pytest.raises(InvariantError, match="decided to be approved"):
        schedule.check()


@pytest.fixture(scope="module", params=story.DISPUTED_WORLDS)
def disputed(request: pytest.FixtureRequest) -> tuple[int, Schedule]:
    """The same for the story of conflicts that are resolved."""
    seed = story.DISPUTED_WORLDS[request.param]
    return seed, story.played(seed)


def test_conflicts_are_resolved_in_both_directions(disputed: tuple[int, Schedule]) -> None:
    seed, schedule = disputed
    assert story.DISPUTED_WORLDS[schedule.world.settings.identical_resend] == seed
    resolved = [hour for hour in schedule.world.stored("conflict") if "aws_quantity" in hour]
    missing = [hour for hour in resolved if hour["aws_quantity"] < hour["quantity"]]
    assert missing
    assert all("carried_to" in hour for hour in missing)
    assert any(hour["aws_quantity"] > hour["quantity"] for hour in resolved)


@pytest.mark.parametrize("part", range(PARTS))
def test_whoever_dies_at_any_write_while_conflicts_are_resolved_loses_no_unit_and_bills_none_twice(
    disputed: tuple[int, Schedule], part: int
) -> None:
    seed, schedule = disputed
    for point in story.writes(schedule)[part::PARTS]:
        try:
            story.played(seed, crash_at=point)
        except InvariantError as error:
            pytest.fail(f"a crash at point {point}, {schedule.points[point]}: {error}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("DELETE the carried record", "lost"),
        ("another quantity of AWS", "AWS bills"),
        ("nobody told", "was told as"),
    ],
)
def test_the_suite_finds_a_conflict_that_is_resolved_wrongly(wrong: str, said: str) -> None:
    """The check can fail."""
    schedule = story.played(story.DISPUTED_WORLDS["success"])
    world, tables = schedule.world, schedule.world.tables
    hour = next(hour for hour in world.stored("conflict") if "carried_to" in hour)
    (event,) = schedule.resolutions.told()[hour["pk"][4:], hour["dimension"], iso(hour["hour"])]
    place = {"pk": {"S": hour["pk"]}, "sk": {"S": hour["sk"]}}
    match wrong:
        case "DELETE the carried record":
            record = keys.usage_record(hour["pk"][4:], event.detail["record_id"])
            world.dynamodb.delete_item(TableName=tables.usage, Key=record.item())
        case "another quantity of AWS":
            (item,) = [one for one in world._all_items(tables.usage) if one["sk"] == place["sk"]]
            world.dynamodb.put_item(TableName=tables.usage, Item={**item, "aws_quantity": {"N": "1"}})
        case _:
            told = keys.outbox(hour["pk"][4:], event.id)
            world.dynamodb.delete_item(TableName=tables.subscriptions, Key=told.item())
    with pytest.raises(InvariantError, match=said):
        schedule.check()


@pytest.fixture(scope="module", params=story.WHOLE_WORLDS)
def whole(request: pytest.FixtureRequest) -> tuple[int, Schedule]:
    """The same for the story of a whole deployment."""
    seed = story.WHOLE_WORLDS[request.param]
    return seed, story.played(seed)


def test_the_story_of_a_whole_deployment_crosses_terms_and_an_end(whole: tuple[int, Schedule]) -> None:
    seed, schedule = whole
    assert isinstance(schedule, LifecycleSchedule)
    assert story.WHOLE_WORLDS[schedule.world.settings.identical_resend] == seed
    assert {"metered", "included"} <= set(+schedule.outcome.units)
    assert any(len(buyer.purchase.agreements) > 1 for buyer in schedule.buyers)
    assert any(buyer.purchase.ended_at is not None for buyer in schedule.buyers)
    assert any(queue == METERING for queue, _ in schedule.world.sqs.sent)
    assert len(story.writes(schedule)) > 100


@pytest.mark.parametrize("part", range(PARTS))
def test_whoever_dies_at_any_write_of_a_deployment_leaves_every_unit_told_of(
    whole: tuple[int, Schedule], part: int
) -> None:
    seed, schedule = whole
    for point in story.writes(schedule)[part :: PARTS * OF_WRITES]:
        try:
            story.played(seed, crash_at=point)
        except InvariantError as error:
            pytest.fail(f"a crash at point {point}, {schedule.points[point]}: {error}")


@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_is_repeatable(seed: int) -> None:
    first, second = (run(seed, steps_of(seed), MemoryDynamoDB) for _ in range(2))
    assert first == second


def test_the_suite_finds_a_unit_that_is_lost() -> None:
    """The check can fail: a metering record that vanishes is noticed."""
    schedule = Schedule(1, MemoryDynamoDB)
    schedule.crash = 0.0
    schedule.play([*(Step("report", n) for n in range(8)), Step("hours", 1)])
    hour = schedule.world.stored()[0]
    key: dict[str, Any] = {"pk": {"S": hour["pk"]}, "sk": {"S": hour["sk"]}}
    schedule.world.dynamodb.delete_item(TableName=schedule.world.tables.usage, Key=key)
    schedule.drain()
    with pytest.raises(InvariantError):
        schedule.check()


def test_the_suite_finds_a_unit_that_is_billed_twice() -> None:
    """The check can fail: the same hour sent to a second region is billed again, and noticed."""
    schedule = Schedule(1, MemoryDynamoDB)
    schedule.crash = 0.0
    schedule.play([Step("report", n) for n in range(8)])
    schedule.drain()
    from tests.support.in_process import client

    entry = next(one for one in schedule.world.marketplace.ledger.records if one.integration == "license")
    again = {
        "Timestamp": int(entry.timestamp),
        "Dimension": entry.dimension,
        "Quantity": int(entry.quantity),
        "LicenseArn": entry.license_arn,
        "CustomerAWSAccountId": entry.account_id,
    }
    schedule.world.time.emulator.set(entry.timestamp + 60, force=True)
    client("meteringmarketplace", schedule.world.marketplace, "eu-west-1").batch_meter_usage(UsageRecords=[again])
    with pytest.raises(InvariantError, match="billed twice"):
        schedule.check()


def test_the_suite_finds_a_loss_that_nobody_was_told_of() -> None:
    """The check can fail: an event that is missing on the bus is noticed at once."""
    schedule = Schedule(1, MemoryDynamoDB)
    schedule.crash = 0.0
    schedule.play([Step("report", 1), Step("poison", 1), Step("hours", 1), Step("hours", 2), Step("hours", 3)])
    schedule.world.to_due()
    schedule.world.meter()
    schedule.check_told()
    assert schedule.world.bus.events
    schedule.world.bus.events.clear()
    with pytest.raises(InvariantError, match="told"):
        schedule.check_told()


@pytest.mark.parametrize(("included", "corrected", "charged_wrongly"), [(8, 0, 2), (10, 0, 0), (6, 4, 0)])
def test_a_contract_is_judged_by_what_aws_granted(included: int, corrected: int, charged_wrongly: int) -> None:
    term = AwsTerm(0, 1000, grants=((0, 3), (100, 10)))
    records = [(150.0, {"recorded_at": 200, "quantity": 12, "included": included, "correction_due": corrected})]
    ((_, charged),) = charges([term], records, Shown(60))
    assert charged.may_be_charged == 2
    assert charged.charged - charged.corrected - max(0, charged.usage - term.last) == charged_wrongly
    ((_, by_an_old_reading),) = charges([term], records, Shown(150))
    assert by_an_old_reading.may_be_charged == 9


def test_what_is_listed_to_be_corrected_takes_the_room_of_later_usage() -> None:
    """Three of ten were granted when the first five were used, ten when the next nine were."""
    term = AwsTerm(0, 1000, grants=((0, 3), (100, 10)))
    first = (50.0, {"recorded_at": 60, "quantity": 5, "included": 3, "correction_due": 2})
    later = (150.0, {"recorded_at": 200, "quantity": 9, "included": 5})
    ((_, charged),) = charges([term], [first, later], Shown(10))
    assert (charged.charged, charged.may_be_charged) == (6, 6)
    assert (charged.charged - charged.corrected, charged.may_stay_charged) == (4, 4)
    ((_, unlisted),) = charges([term], [(50.0, {**first[1], "correction_due": 0}), later], Shown(10))
    assert (unlisted.charged, unlisted.may_be_charged) == (6, 4)


def test_usage_of_an_ended_contract_is_booked_by_what_was_shown_before_aws_listed_nothing() -> None:
    term = AwsTerm(0, FOREVER, ((0, 20), (500, 21)))
    usage = [(900.0, {"quantity": 30, "included": 20, "recorded_at": 900})]
    for ended_at, silences, most in (
        (800, [Silence(400, 850)], 10),
        (None, [Silence(400, 850)], 9),
        (950, [Silence(400, 850)], 9),
        (800, [Silence(400, 799)], 9),
        (800, [Silence(910, 950)], 9),
        (800, [], 9),
    ):
        ((_, charged),) = charges([term], usage, Shown(60, ended_at, silences))
        assert charged.may_be_charged == most


@pytest.mark.parametrize(
    ("moment", "booked", "included"),
    [(999, 1000 + AWAITED_FOR, 10), (1000, 999 + AWAITED_FOR, 10), (1000, 1000 + AWAITED_FOR, 0)],
)
def test_an_expired_contract_includes_nothing_once_no_renewal_is_awaited(
    moment: int, booked: int, included: int
) -> None:
    term = AwsTerm(0, FOREVER, ((0, 10),))
    usage = [(moment, {"quantity": 10, "included": included, "recorded_at": booked})]
    ((_, charged),) = charges([term], usage, Shown(10 * AWAITED_FOR, 1000, expires_at=1000))
    assert charged.may_be_charged == 10 - included
