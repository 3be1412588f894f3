"""Shadow mode (MeteringStartsAt): beside another meter, usage of its hours is recorded and compared and not sent; from
the cut-over on every unit is billed once."""

import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds, hour_of, iso
from marketplace.platform.errors import AwsError
from marketplace.reconcile.schedule import ScheduledReconciliation
from marketplace.reconcile.store import ReconciliationStore
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, CrashError, no_answer, throttled
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.parameters import Parameters
from tests.support.world import NOON, World
from tests.unit.test_not_metering import heartbeat
from tests.unit.test_rerating import MAPPING, contract, split

PAYG = "ca2payasyougoproduct00000"
CUTOVER = hour_of(NOON) + 4 * HOUR
OURS = "MeterUsageRole"
RUN_CALLS = (
    "query",
    "batch_execute_statement",
    "batch_get_item",
    "batch_meter_usage",
    "batch_write_item",
    "update_item",
)


def starting(moment: int = CUTOVER, **given: Any) -> Parameters:
    return Parameters(MeteringStartsAt=iso(moment), **given)


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"parameters": starting()}


@pytest.fixture
def buyer(world: World) -> Subscription:
    return world.subscribe("111122223333", PAYG)


def other_meter(world: World, buyer: Subscription, hour: int, quantity: int, dimension: str = "api_calls") -> None:
    """The meter that the seller has had so far sends an hour."""
    record = {
        "Timestamp": datetime.fromtimestamp(max(hour, buyer.activated_at or 0), UTC),
        "CustomerAWSAccountId": buyer.account_id,
        "LicenseArn": buyer.license_arn,
        "Dimension": dimension,
        "Quantity": quantity,
    }
    client("meteringmarketplace", world.marketplace).batch_meter_usage(UsageRecords=[record])


def hourly(world: World, until: int) -> None:
    """Runs at every quarter of an hour, up to a moment."""
    while world.time.seconds() < until:
        world.time.advance(15 * MINUTE)
        world.meter()


def recorded_before_it_was_known(world: World, buyer: Subscription, quantity: int) -> None:
    """Usage that was recorded to be sent, of an hour that is then left to the other meter."""
    known, world.parameters = world.parameters, Parameters()
    assert world.report(buyer, quantity)["status"] == "recorded"
    world.parameters = known


def billed(world: World) -> int:
    return sum(world.billed().values())


def by_state(world: World) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in world.stored():
        found[one["state"]] += int(one["quantity"])
    return dict(found)


# -- before the cut-over, and after it --------------------------------------------------------------------


def test_usage_before_the_cut_over_is_kept_and_not_sent(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe("111122223333", PAYG)
    assert world.report(buyer, 30)["status"] == "recorded"
    world.report(buyer, 3, at=NOON + MINUTE)
    (record,) = world.stored("shadow")
    assert (record["quantity"], record["settled_at"]) == (33, NOON)
    assert not {"due_shard", "due_at"} & record.keys()
    hourly(world, NOON + 2 * DAY)
    assert (billed(world), by_state(world)) == (0, {"shadow": 33})
    assert not world.bus.events


def test_from_the_cut_over_on_usage_is_billed(world: World, buyer: Subscription) -> None:
    for hour in range(8):
        world.time.to(NOON + hour * HOUR)
        world.report(buyer, 10**hour)
    hourly(world, CUTOVER + 6 * HOUR)
    assert by_state(world) == {"shadow": 1111, "metered": 11110000}
    assert billed(world) == 11110000


@pytest.mark.parametrize("late", [MINUTE, 2 * HOUR, 19 * HOUR])
def test_late_usage_of_the_other_meters_hours_is_not_billed_here(world: World, buyer: Subscription, late: int) -> None:
    world.time.to(CUTOVER - MINUTE)
    world.report(buyer, 3)
    hourly(world, CUTOVER + late)
    result = world.report(buyer, 30, at=CUTOVER - MINUTE)
    assert (result["status"], result["hour"]) == ("recorded", iso(CUTOVER - HOUR))
    hourly(world, CUTOVER + DAY)
    assert (billed(world), by_state(world)) == (0, {"shadow": 33})


def test_late_usage_of_the_other_meters_last_month_is_refused(world: World, buyer: Subscription) -> None:
    """AWS takes the hours before the cut-over no more, and those after it are not the other meter's."""
    december = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    world.parameters = starting(december)
    world.time.to(december + 6 * HOUR + MINUTE)
    result = world.report(buyer, 30, at=december - MINUTE)
    assert (result["status"], result["reason"]) == ("rejected", "no_open_hour")
    hourly(world, december + 9 * HOUR)
    assert (billed(world), by_state(world)) == (0, {})


def test_late_usage_of_our_hours_is_billed_in_hours_that_are_ours(world: World, buyer: Subscription) -> None:
    world.time.to(CUTOVER + MINUTE)
    world.report(buyer, 5)
    world.to_due()
    world.meter()
    result = world.report(buyer, 7, at=CUTOVER + 2 * MINUTE)
    assert result["hour"] > iso(CUTOVER)
    hourly(world, CUTOVER + 5 * HOUR)
    assert billed(world) == 12


def test_late_usage_of_our_last_hour_of_a_month_goes_to_the_next_month_and_not_to_the_other_meter(
    world: World, buyer: Subscription
) -> None:
    """Earlier hours of the month come first as long as they are ours."""
    december = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    world.parameters = starting(december - HOUR)
    world.time.to(december - 30 * MINUTE)
    world.report(buyer, 1)
    hourly(world, december + 3 * HOUR)
    result = world.report(buyer, 7, at=december - 20 * MINUTE)
    assert result["hour"] == iso(december + 3 * HOUR)
    hourly(world, december + 6 * HOUR)
    assert (billed(world), by_state(world)) == (8, {"metered": 8})


def test_usage_before_activation_belongs_to_the_hour_of_the_activation(world: World) -> None:
    world.time.to(CUTOVER + 5 * MINUTE)
    buyer = world.subscribe("111122223333", PAYG)
    world.report(buyer, 9, at=CUTOVER - MINUTE)
    hourly(world, CUTOVER + 2 * HOUR)
    assert billed(world) == 9


def test_a_prediction_says_the_hour_too(world: World, buyer: Subscription) -> None:
    world.time.to(CUTOVER + HOUR)
    records = [world.usage(buyer, 1, at=CUTOVER - MINUTE), world.usage(buyer, 1, at=CUTOVER)]
    hours = [result["hour"] for result in world.recorder().record(records, validate=True)]
    assert hours == [iso(CUTOVER - HOUR), iso(CUTOVER)]


@settings(max_examples=60)
@given(data=st.data())
def test_beside_another_meter_every_unit_is_billed_once(data: st.DataObject) -> None:
    """The other meter sends what was used before the cut-over; reports come up to a day late, in any order."""
    cutover = hour_of(NOON) + HOUR * data.draw(st.integers(0, 8), label="cut-over")
    world = World.on(MemoryDynamoDB(), parameters=starting(cutover))
    buyer = world.subscribe("111122223333", PAYG)
    used = data.draw(
        st.lists(st.tuples(st.integers(0, 9 * 60), st.integers(0, 20 * 60), st.integers(1, 99)), max_size=12),
        label="minute of the usage, minutes until it is reported, quantity",
    )
    before: Counter[int] = Counter()
    reports = []
    for at, late, quantity in used:
        moment = NOON + at * MINUTE
        reports.append((moment + late * MINUTE, moment, quantity))
        if hour_of(moment) < cutover:
            before[hour_of(moment)] += quantity
    for hour, quantity in before.items():
        world.time.to(max(world.time.seconds(), hour))
        other_meter(world, buyer, hour, quantity)
    world.time.to(NOON)
    for number, (reported, moment, quantity) in enumerate(sorted(reports)):
        hourly(world, reported)
        assert world.report(buyer, quantity, at=moment, id=f"u{number}")["status"] == "recorded"
    hourly(world, world.time.seconds() + 3 * HOUR)
    assert billed(world) == sum(quantity for _, _, quantity in used)
    assert by_state(world).get("shadow", 0) == sum(before.values())
    assert set(by_state(world)) <= {"shadow", "metered"}


def test_zeros_begin_with_the_cut_over(world: World) -> None:
    parameters = starting(HeartbeatDimension="api_calls")
    world.parameters = parameters
    world.subscribe("111122223333", PAYG)
    beat = heartbeat(world, "api_calls")
    beat.starts_at = parameters.starts_at
    for hour in range(8):
        world.time.to(NOON + hour * HOUR)
        beat.fill(EpochSeconds(world.time.seconds()), lambda: 900.0)
    assert {int(one["hour"]) for one in world.stored()} == {CUTOVER, CUTOVER + HOUR}


# -- what a contract includes, and what is taken back -----------------------------------------------------


def test_what_a_contract_includes_is_used_up_by_the_other_meters_hours_too() -> None:
    world = World.on(MemoryDynamoDB(), parameters=starting(), overage_dimensions=MAPPING)
    buyer = contract(world, 100)
    world.report(buyer, 130)
    world.time.to(CUTOVER)
    world.report(buyer, 7)
    hourly(world, CUTOVER + 2 * HOUR)
    assert (by_state(world), billed(world)) == ({"shadow": 30, "metered": 7}, 7)


def test_what_a_contract_turns_out_to_include_is_taken_out_of_the_shadow() -> None:
    """Nobody has to correct it: this deployment has not charged it."""
    world = World.on(MemoryDynamoDB(), parameters=starting(), overage_dimensions=MAPPING)
    buyer = contract(world, 10)
    world.report(buyer, 8, id="wrong")
    world.report(buyer, 6, id="a")
    hourly(world, CUTOVER + HOUR)
    assert by_state(world) == {"shadow": 4}
    world.void(buyer, "wrong")
    assert (split(world, buyer, "a"), world.stored(), world.bus.events) == ((6, 0), [], [])


@pytest.mark.parametrize("settled", [False, True])
def test_usage_in_shadow_can_be_voided_at_any_time(world: World, buyer: Subscription, settled: bool) -> None:
    world.report(buyer, 30, id="a")
    world.report(buyer, 4, id="b")
    if settled:
        world.to_due()
        world.meter()
    assert [one["status"] for one in world.void(buyer, "a")] == ["voided"]
    hourly(world, NOON + 3 * HOUR)
    assert by_state(world) == {"shadow": 4}


def test_a_statement_shows_what_another_meter_bills(world: World, buyer: Subscription) -> None:
    world.report(buyer, 30, tags={"team": "a"})
    world.time.to(CUTOVER)
    world.report(buyer, 5)
    hourly(world, CUTOVER + 2 * HOUR)
    statement = StatementReader(world.usage_table(), world.time.now).statement(buyer.id, "2026-11")
    ((_, units),) = statement.totals
    assert (units.recorded, units.shadow, units.metered, units.open) == (35, 30, 5, 0)


# -- when the cut-over moves ------------------------------------------------------------------------------


def test_a_later_cut_over_puts_hours_in_shadow_that_were_not_sent(world: World, buyer: Subscription) -> None:
    world.time.to(CUTOVER)
    world.report(buyer, 8)
    world.parameters = starting(CUTOVER + 2 * HOUR)
    hourly(world, CUTOVER + 3 * HOUR)
    assert (billed(world), by_state(world)) == (0, {"shadow": 8})


@pytest.mark.parametrize("failure", [no_answer, CrashError])
def test_what_aws_may_know_already_is_sent_whatever_the_cut_over_is(failure: Callable[[], BaseException]) -> None:
    calls = Calls()
    world = World.on(MemoryDynamoDB(), wrap=calls.wrap, parameters=starting())
    buyer = world.subscribe("111122223333", PAYG)
    world.time.to(CUTOVER)
    world.report(buyer, 8)
    world.to_due()
    calls.fail("batch_meter_usage", failure, when="after", times=None)
    with suppress(CrashError):
        world.meter()
    calls.heal()
    assert billed(world) == 8
    world.parameters = starting(CUTOVER + 5 * HOUR)
    hourly(world, CUTOVER + 3 * HOUR)
    assert (billed(world), by_state(world)) == (8, {"metered": 8})


@pytest.mark.parametrize("moment", ["", iso(CUTOVER - 3 * HOUR)])
def test_an_earlier_cut_over_adds_no_billed_usage_to_an_hour_in_shadow(either_world: World, moment: str) -> None:
    """It would not be sent from there."""
    world = either_world
    buyer = world.subscribe("111122223333", PAYG)
    world.time.to(CUTOVER - 2 * HOUR)
    world.report(buyer, 3)
    world.to_due()
    world.meter()
    world.parameters = Parameters(MeteringStartsAt=moment)
    result = world.report(buyer, 40, at=CUTOVER - 2 * HOUR)
    assert result["hour"] > iso(CUTOVER - 2 * HOUR)
    hourly(world, CUTOVER + 2 * HOUR)
    assert (billed(world), by_state(world)) == (40, {"shadow": 3, "metered": 40})


@pytest.mark.parametrize("again", [False, True])
def test_settings_that_are_a_moment_old_send_nothing(world: World, buyer: Subscription, again: bool) -> None:
    """While a stack is updated, one function may know the cut-over before another does."""
    recorded_before_it_was_known(world, buyer, 5)
    if again:
        world.report(buyer, 6)
        (record,) = world.stored("shadow")
        assert not {"due_shard", "due_at"} & record.keys()
    hourly(world, NOON + 3 * HOUR)
    assert (billed(world), by_state(world)) == (0, {"shadow": 11 if again else 5})


def test_a_deployment_that_does_not_meter_settles_them_too(buyer: Subscription, world: World) -> None:
    recorded_before_it_was_known(world, buyer, 5)
    world.metering_enabled = False
    hourly(world, NOON + 3 * HOUR)
    assert by_state(world) == {"shadow": 5}


# -- crashes and other writers ----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [CrashError, throttled, no_answer])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_fails_at_any_call_sends_no_usage_in_shadow_and_loses_none(
    failure: Callable[[], BaseException], when: str
) -> None:
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap, parameters=starting(AnomalyHoldFactor=3))
        buyer = world.subscribe("111122223333", PAYG)
        recorded_before_it_was_known(world, buyer, 5)
        world.time.to(CUTOVER)
        world.report(buyer, 6)
        world.to_due()
        calls.forget()

        def strike() -> BaseException | None:
            if len(calls.made) != point + 1 or failed[0]:  # noqa: B023
                return None
            failed[0] = True  # noqa: B023
            return failure()

        for name in RUN_CALLS:
            calls.fail(name, strike, when=when, times=None)
        with suppress(AwsError, CrashError):
            world.meter()
        calls.heal()
        hourly(world, CUTOVER + 4 * HOUR)
        assert (billed(world), by_state(world)) == (6, {"shadow": 5, "metered": 6}), point
        if not failed[0]:
            assert point > len(keys.all_due_shards())
            return


def test_usage_that_comes_while_its_hour_is_settled_is_kept(buyer: Subscription, world: World) -> None:
    calls = Calls()
    recorded_before_it_was_known(world, buyer, 5)
    world.to_due()
    world.wrap = calls.wrap

    def reported() -> None:
        calls.heal()
        assert world.report(buyer, 7, at=NOON)["hour"] == iso(NOON)

    calls.fail("update_item", reported, when="before", times=1)
    world.meter()
    assert (billed(world), by_state(world)) == (0, {"shadow": 12})


# -- what would differ ------------------------------------------------------------------------------------


MIDNIGHT = NOON - NOON % DAY
Differ = Callable[[World, Subscription], None]


def scheduled(world: World, senders: set[str] | None = None) -> ScheduledReconciliation:
    return ScheduledReconciliation(
        usage=world.usage_table(),
        subscriptions=world.table(world.tables.subscriptions),
        trail=client("cloudtrail", world.marketplace),
        bus=world.bus,
        clock=world.time.now,
        sleep=lambda _: None,
        senders=senders or {OURS},
        metering_starts_at=world.parameters.starts_at,
    )


def kinds(world: World, senders: set[str] | None = None) -> list[tuple[str, int]]:
    """The differences that the next morning's reconciliation finds, and by how much more AWS bills."""
    world.time.to(MIDNIGHT + DAY + 7 * HOUR)
    scheduled(world, senders).run(lambda: 900.0)
    found = ReconciliationStore(world.usage_table()).differences(MIDNIGHT)
    return sorted((one.values["kind"], int(one.values["units"])) for one in found)


def both(world: World, buyer: Subscription, hours: int, theirs: Callable[[int], int] = lambda used: used) -> None:
    """Both meters, for as many hours from noon on."""
    for number in range(hours):
        world.time.to(NOON + number * HOUR)
        world.report(buyer, 10 + number)
        if theirs(10 + number) >= 0:
            other_meter(world, buyer, NOON + number * HOUR, theirs(10 + number))
    hourly(world, NOON + (hours + 1) * HOUR)


def test_meters_that_agree_have_no_difference(world: World, buyer: Subscription) -> None:
    both(world, buyer, 4)
    assert kinds(world) == []


def other_hour(world: World, buyer: Subscription) -> None:
    world.time.to(NOON + HOUR)
    other_meter(world, buyer, NOON + HOUR, 10)
    world.report(buyer, 10, at=NOON)


def more(world: World, buyer: Subscription) -> None:
    world.report(buyer, 10)
    other_meter(world, buyer, NOON, 14)


def less(world: World, buyer: Subscription) -> None:
    world.report(buyer, 10)
    other_meter(world, buyer, NOON, 4)


def nothing_here(world: World, buyer: Subscription) -> None:
    other_meter(world, buyer, NOON, 4, dimension="storage_gb_hours")


def nothing_there(world: World, buyer: Subscription) -> None:
    world.report(buyer, 10)


@pytest.mark.parametrize(
    ("differ", "kind", "units"),
    [
        (other_hour, "other_hour", 0),
        (more, "other_quantity", 4),
        (less, "other_quantity", -6),
        (nothing_here, "only_theirs", 4),
        (nothing_there, "only_ours", -10),
    ],
)
def test_each_way_in_which_the_meters_differ_is_named(
    world: World, buyer: Subscription, differ: Differ, kind: str, units: int
) -> None:
    differ(world, buyer)
    hourly(world, CUTOVER)
    assert kinds(world) == [(kind, units)]


def test_the_other_meter_is_found_that_was_not_stopped(world: World, buyer: Subscription) -> None:
    both(world, buyer, 4)
    world.time.to(CUTOVER)
    other_meter(world, buyer, CUTOVER, 5, dimension="storage_gb_hours")
    hourly(world, CUTOVER + 2 * HOUR)
    assert kinds(world) == [("sent_by_someone_else", 5)]
