"""What is not metered is told, counted and shown for as long as the trouble lasts, whoever dies and whatever answer is
lost: the signals come from stored state."""

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from marketplace.dynamodb.attributes import to_item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import CLOCK_MARGIN, FINAL_RUN, SHOWN_FOR
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import MeteringRecord, RecordChange, State
from marketplace.metering.metrics import counts_of
from marketplace.metering.store import MeteringStore
from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, CrashError
from tests.support.in_process import client as in_process_client
from tests.support.memory_dynamodb import MemoryDynamoDB, aws_error
from tests.support.world import NOON, World

KINDS = {"rejected": "Usage Rejected", "conflict": "Usage Conflict", "unbillable": "Usage Not Billable"}
STATES = ("held", *KINDS)


def trouble(world: World, state: str, quantity: int = 7, count: int = 2) -> list[Subscription]:
    """So many subscriptions whose usage of noon is due, and which the next run brings into this state."""
    found = [world.subscribe(f"{n:012d}") for n in range(1, count + 1)]
    dimension = "no_such_dimension" if state == "rejected" else "api_calls"
    world.report_all([world.usage(buyer, quantity, dimension=dimension) for buyer in found])
    world.to_due()
    if state == "held":
        for buyer in found:
            world.marketplace.purchases.suspend(buyer.account_id or "")
    if state == "conflict":
        for buyer in found:
            taken_by_another_sender(world, buyer)
    if state == "unbillable":
        world.time.to(NOON + 25 * HOUR)
    return found


def taken_by_another_sender(world: World, buyer: Subscription) -> None:
    record = {
        "Timestamp": NOON,
        "Dimension": "api_calls",
        "Quantity": 1_000_000,
        "LicenseArn": buyer.license_arn,
        "CustomerAWSAccountId": buyer.account_id,
    }
    in_process_client("meteringmarketplace", world.marketplace).batch_meter_usage(UsageRecords=[record])


def told(world: World, state: str) -> Counter[str]:
    """How many different signals there were for each subscription."""
    if state == "held":
        return Counter(dict.fromkeys((asked[0] for asked in world.requests.asked), 1))
    kinds = {(event.id, event.detail["subscription_id"]) for event in world.bus.events if event.kind == KINDS[state]}
    return Counter(subscription_id for _, subscription_id in kinds)


def gauges(world: World) -> dict[str, int]:
    """What a run publishes of the index, without what is 0."""
    counts = counts_of(world.meter())
    return {name: value for name, value in counts.items() if name.startswith(("Units", "Records")) and value}


def states(world: World) -> Counter[str]:
    return Counter(record["state"] for record in world.stored())


# Whoever dies


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", range(7))
@pytest.mark.parametrize("state", STATES)
def test_no_outcome_is_silent_whatever_the_run_dies_at(
    world: World, calls: Calls, state: str, point: int, when: str
) -> None:
    found = trouble(world, state)
    calls.fail("update_item", _crash, when=when, skip=point)
    with contextlib.suppress(CrashError):
        world.meter()
    calls.heal()
    world.meter()
    shown = gauges(world)
    if state == "conflict" and states(world)["metered"]:
        # It died between AWS's answer and writing it down: the attempt is in doubt, a duplicate may be its own.
        assert all(record["reason"] == "answered_as_duplicate" for record in world.stored("metered"))
    stored = [record["pk"].removeprefix("SUB#") for record in world.stored(state)]
    assert len(stored) + states(world)["metered"] == len(found)
    assert told(world, state) == dict.fromkeys(stored, 1)
    name = state.capitalize()
    assert (shown.get(f"Units{name}", 0), shown.get(f"Records{name}", 0)) == (7 * len(stored), len(stored))


def _crash() -> BaseException:
    return CrashError()


@pytest.mark.parametrize("state", STATES)
def test_what_a_run_that_died_has_decided_is_told_first_thing_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Even if that one has no time for anything else."""
    trouble(world, state)
    with monkeypatch.context() as patch:
        for place, name in ((world.bus, "publish"), (world.requests, "look_again")):
            patch.setattr(place, name, _dies)
        with pytest.raises(CrashError):
            world.meter()
    assert states(world) == {state: 2}
    assert not told(world, state)
    order: list[str] = []
    calls = Calls(judge=lambda name, _: order.append(name))
    world.wrap = calls.wrap
    (fresh,) = [world.subscribe("999999999999")]
    world.report(fresh, 1)
    world.to_due()
    world.meter()
    assert told(world, state).total() == 2
    assert order.index("update_item") < order.index("batch_meter_usage")


def _dies(*_: object, **__: object) -> None:
    raise CrashError


# Whatever answer is lost


class _LosesAnswers:
    """A client whose SDK has lost the answer of each conditional update, and repeats it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name != "update_item":
            return method

        def repeated(**arguments: Any) -> Any:
            method(**arguments)
            return method(**arguments)

        return repeated


@pytest.mark.parametrize("state", STATES)
def test_a_write_that_the_sdk_repeats_is_our_own_and_is_told_and_counted(world: World, state: str) -> None:
    trouble(world, state)
    world.wrap = lambda client: _LosesAnswers(client) if hasattr(client, "put_item") else client
    report = world.meter()
    assert report.records == {state: 2}
    assert told(world, state).total() == 2
    assert report.standing_units[state] == 14
    assert [record["due_at"] < 0 for record in world.stored(state)] == [True, True]


@pytest.mark.parametrize("state", STATES)
def test_a_signal_that_was_not_taken_is_given_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    trouble(world, state)
    with monkeypatch.context() as patch:
        for place, name in ((world.bus, "publish"), (world.requests, "look_again")):
            patch.setattr(place, name, _not_taken)
        assert world.meter().records == {state: 2}
    assert not told(world, state)
    world.meter()
    assert told(world, state).total() == 2
    events = len(world.bus.events)
    asked = len(world.requests.asked)
    world.meter()
    assert (len(world.bus.events), len(world.requests.asked)) == (events, asked)


def _not_taken(*_: object, **__: object) -> None:
    raise NoAnswerError("InternalFailure")


@pytest.mark.parametrize("ahead", [90, 2 * HOUR, 23 * HOUR])
@pytest.mark.parametrize("state", STATES)
def test_what_a_run_whose_clock_is_ahead_has_not_told_is_told_and_shown_once_the_clock_is_right(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, ahead: int
) -> None:
    trouble(world, state)
    world.time.skew = ahead
    with monkeypatch.context() as patch:
        for place, name in ((world.bus, "publish"), (world.requests, "look_again")):
            patch.setattr(place, name, _not_taken)
        assert world.meter().records == {state: 2}
    world.time.skew = 0
    assert gauges(world)[f"Units{state.capitalize()}"] == 14
    assert told(world, state).total() == 2


# Gauges


def test_rejected_usage_shows_until_aws_takes_it_no_more_and_is_then_unbillable(world: World) -> None:
    (buyer,) = trouble(world, "rejected", count=1)
    closes = NOON + DAY + CLOCK_MARGIN
    seen: list[tuple[int, dict[str, int]]] = []
    while world.time.seconds() < closes + SHOWN_FOR + 2 * HOUR:
        seen.append((world.time.seconds(), gauges(world)))
        world.time.advance(900)
    rejected = {"UnitsRejected": 7, "RecordsRejected": 1}
    for moment, shown in seen:
        if moment < closes:
            left = NOON + DAY - moment
            names = {1: "UnitsAtRiskWithin1Hour", 3: "UnitsAtRiskWithin3Hours", 6: "UnitsAtRisk"}
            assert shown == rejected | {name: 7 for hours, name in names.items() if left <= hours * HOUR}
        elif moment < closes + SHOWN_FOR:
            assert shown == {"UnitsUnbillable": 7, "RecordsUnbillable": 1}
    assert seen[-1][1] == {}
    assert [(event.kind, event.detail["reason"]) for event in world.bus.events] == [
        ("Usage Rejected", "InvalidUsageDimensionException"),
        ("Usage Not Billable", "InvalidUsageDimensionException"),
    ]
    assert {event.detail["subscription_id"] for event in world.bus.events} == {buyer.id}
    assert all("due_shard" not in record for record in world.stored())


def test_rejected_usage_of_a_month_that_closes_is_unbillable_at_its_end() -> None:
    evening = NOON + 12 * DAY + 9 * HOUR  # 2026-11-30, 21:00
    world = World.on(MemoryDynamoDB())
    world.time.to(evening)
    world.report(world.subscribe(), 3, dimension="no_such_dimension")
    world.to_due()
    world.meter()
    six = NOON + 12 * DAY + 18 * HOUR
    world.time.to(six + CLOCK_MARGIN - 1)
    world.meter()
    assert states(world) == {"rejected": 1}
    world.time.advance(1)
    assert world.meter().records == {"unbillable": 1}


@pytest.mark.parametrize("state", ["conflict", "unbillable"])
def test_what_is_lost_leaves_the_index_a_day_after_it_was_told(world: World, state: str) -> None:
    trouble(world, state)
    world.meter()
    world.time.advance(SHOWN_FOR - 1)
    assert gauges(world)[f"Units{state.capitalize()}"] == 14
    world.time.advance(1)
    assert gauges(world) == {}
    assert states(world) == {state: 2}
    assert all("due_shard" not in record and "due_at" not in record for record in world.stored())


def test_held_usage_that_is_refused_for_an_unknown_reason_shows_at_every_run(world: World, calls: Calls) -> None:
    trouble(world, "held")
    world.meter()
    calls.fail("batch_meter_usage", lambda: aws_error("SomethingNewException", "BatchMeterUsage"), times=None)
    world.time.to(NOON + 19 * HOUR)
    assert world.meter().records == {"unknown_refusal": 2}
    asked = len(world.requests.asked)
    for _ in range(3):
        world.time.advance(900)
        shown = gauges(world)
        assert (shown["UnitsHeld"], shown["RecordsHeld"]) == (14, 2)
    assert len(world.requests.asked) == asked


def test_held_usage_shows_at_every_run_and_not_only_when_it_is_tried(world: World) -> None:
    trouble(world, "held")
    for _ in range(8):
        assert gauges(world) == {"UnitsHeld": 14, "RecordsHeld": 2}
        world.time.advance(900)
    world.time.to(NOON + 19 * HOUR)
    assert gauges(world) == {"UnitsHeld": 14, "RecordsHeld": 2, "UnitsAtRisk": 14}


def test_usage_in_doubt_shows_until_aws_answers(world: World) -> None:
    (buyer,) = [world.subscribe()]
    world.report(buyer, 7)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "timeout_after", "times": None}])
    world.meter()
    for _ in range(3):
        waiting = {"UnitsWaiting": 7, "RecordsWaiting": 1}
        assert gauges(world) == {"UnitsInDoubt": 7, "RecordsInDoubt": 1, **waiting}
    world.marketplace.faults.clear()
    assert gauges(world) == {}
    assert sum(world.billed().values()) == 7


def test_what_does_not_fit_into_a_run_shows_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketplace.metering.backlog.MAX_ENTRIES", 1)
    trouble(world, "held", count=5)
    world.time.to(NOON + 19 * HOUR)
    assert gauges(world)["UnitsAtRisk"] == 35


@pytest.mark.parametrize("state", ["rejected", "unbillable"])
def test_what_is_made_due_again_at_its_last_step_is_not_written_off_nor_forgotten(
    world: World, calls: Calls, state: str
) -> None:
    """The seller asks for another attempt between a run's look at the index and its write."""
    (buyer,) = trouble(world, "rejected", count=1)
    world.meter()
    world.time.to(NOON + DAY + CLOCK_MARGIN)
    if state == "unbillable":
        world.meter()
        world.time.advance(SHOWN_FOR)
    calm = World(world.dynamodb, world.tables, time=world.time)
    (record,) = world.stored(state)

    def made_due() -> None:
        update, _ = MeteringRecord.from_item(to_item(record)).made_due(
            EpochSeconds(calm.time.seconds()), record["refuse_at"]
        )
        calm.usage_table().update_if(Key(record["pk"], record["sk"]), update)

    calls.fail("update_item", made_due)
    world.meter()
    (found,) = world.stored()
    assert (found["state"], found["pk"].removeprefix("SUB#")) == ("open", buyer.id)
    assert found["due_at"] == world.time.seconds()


# The region


def in_doubt_in_another_region(world: World) -> Subscription:
    """A record that AWS has taken in us-east-1 without an answer; metering runs in eu-west-1 since."""
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "drop_after", "times": None}])
    world.meter()
    world.marketplace.faults.clear()
    world.region = "eu-west-1"
    return buyer


def test_a_region_that_is_changed_bills_nothing_twice(world: World, calls: Calls) -> None:
    buyer = in_doubt_in_another_region(world)
    other = world.subscribe("222233334444")
    world.report(other, 1)
    calls.forget()
    for _ in range(3):
        world.time.advance(HOUR)
        report = world.meter()
        assert counts_of(report)["UsageInOtherRegion"] == 1
        assert report.standing_units["in_doubt"] == 7
    assert {record["CustomerAWSAccountId"] for sent in calls.sent() for record in sent} == {other.account_id}
    world.region = "us-east-1"
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 7, (other.id, "api_calls"): 1}


@pytest.mark.parametrize("activated", [1, 41 * MINUTE, HOUR - 1])
def test_what_stays_in_doubt_in_another_region_is_told_when_the_window_closes(world: World, activated: int) -> None:
    """The Timestamp of the hour in which a subscription was activated is its activation: AWS counts from there."""
    world.time.advance(activated)
    in_doubt_in_another_region(world)
    world.time.to(NOON + DAY + CLOCK_MARGIN)
    world.meter()
    world.time.to(NOON + activated + DAY + CLOCK_MARGIN - 1)
    world.meter()
    world.meter()
    assert states(world) == {"open": 1}
    world.time.advance(1)
    assert world.meter().records == {"unbillable": 1}
    assert [event.detail["reason"] for event in world.bus.events] == ["deadline_passed_in_doubt"]


@pytest.mark.parametrize("fault", ["throttle", "unprocessed"])
def test_what_the_other_region_has_not_taken_is_sent_to_the_new_one(world: World, fault: str) -> None:
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": fault, "times": None}])
    world.meter()
    world.marketplace.faults.clear()
    world.region = "eu-west-1"
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 7}


def test_held_usage_that_the_other_region_has_answered_is_sent_to_the_new_one(world: World) -> None:
    (buyer,) = trouble(world, "held", count=1)
    world.meter()
    world.region = "eu-west-1"
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    world.deadlines().release(buyer.id, now=world.time.seconds())
    assert world.meter().records == {"metered": 1}


# Opened again


@pytest.mark.parametrize("fault", ["throttle", "disabled_api", "access_denied", "unprocessed"])
def test_an_hour_that_aws_has_not_processed_takes_late_usage_again(world: World, fault: str) -> None:
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": fault, "times": None}])
    world.meter()
    assert [record["seal"] for record in world.stored()] == ["-"]
    late = world.report(buyer, 5, at=NOON)
    assert late["hour"] == "2026-11-18T12:00:00Z"
    world.marketplace.faults.clear()
    assert world.meter().units == {"metered": 12}
    assert world.billed() == {(buyer.id, "api_calls"): 12}


@pytest.mark.parametrize("fault", ["internal_error", "timeout_before", "drop_after"])
def test_an_hour_that_is_in_doubt_takes_none(world: World, fault: str) -> None:
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": fault, "times": 1}])
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "throttle", "times": 4}])
    world.meter()
    assert world.report(buyer, 5, at=NOON)["hour"] != "2026-11-18T12:00:00Z"
    world.marketplace.faults.clear()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 7}


def test_an_hour_that_was_sealed_before_stays_as_it_was_sealed(world: World) -> None:
    """It was answered, and is sent as it was answered: so says the seller's retry."""
    (buyer,) = trouble(world, "held", count=1)
    world.meter()
    world.retry().retry(buyer.id)
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "throttle", "times": None}])
    world.meter()
    assert [record["seal"][:6] for record in world.stored()] == ["clear-"]
    assert world.report(buyer, 5, at=NOON)["hour"] != "2026-11-18T12:00:00Z"


def test_an_hour_that_was_opened_again_is_sealed_by_one_run_only(world: World, calls: Calls) -> None:
    """A slower run that had seen the hour unsealed comes between the opening and the late usage."""
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    twin = World(world.dynamodb, world.tables, time=world.time, bus=world.bus, requests=world.requests)
    twin.marketplace = world.marketplace
    twin._tokens = (f"other{n}" for n in range(100))  # type: ignore[assignment]

    def opened() -> None:
        world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "throttle", "times": 5}])
        twin.meter()
        twin.report(buyer, 5, at=NOON, id="late")

    calls.fail("batch_execute_statement", opened)
    assert world.meter().units == {"metered": 12}
    assert world.billed() == {(buyer.id, "api_calls"): 12}


def test_of_two_runs_that_have_seen_a_record_alike_the_first_seals_it(world: World) -> None:
    world.report(world.subscribe(), 7)
    world.to_due()
    store = MeteringStore(world.usage_table())
    (seen,) = store.due(EpochSeconds(world.time.seconds()))
    assert isinstance(seen, DueEntry)
    for token in ("first@us-east-1", "second@us-east-1"):
        store.seal([seen], token)
    assert [record["seal"] for record in world.stored()] == ["first@us-east-1"]


@pytest.mark.parametrize("decided", ["rejected", "conflict", "unbillable", "held"])
def test_a_slower_run_does_not_seal_what_is_decided_meanwhile(world: World, decided: str) -> None:
    """A record that is decided while an attempt is in doubt keeps the seal that the slower run has seen."""
    buyer = world.subscribe()
    world.report(buyer, 7)
    world.to_due()
    store = MeteringStore(world.usage_table())
    (seen,) = store.due(EpochSeconds(world.time.seconds()))
    assert isinstance(seen, DueEntry)
    store.seal([seen], "first@us-east-1")
    slower = replace(seen, seal="first@us-east-1")
    change = RecordChange(state=cast("State", decided), seal="first@us-east-1", reason="AWS refused it")
    assert store.change_if(seen.key, "first@us-east-1", change)

    store.seal([slower], "slower@us-east-1")
    assert [record["seal"] for record in world.stored()] == ["first@us-east-1"]


# Up to the last two minutes


@pytest.mark.parametrize("closed_at", [2, 17, 32, 47, 58])
def test_all_that_is_taken_is_billed_up_to_the_last_minutes_before_a_closing_deadline(closed_at: int) -> None:
    """Runs come at 5, 20, 35 and 50 minutes past, and two minutes before the deadline."""
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe()
    now = NOON + HOUR + closed_at * 60
    deadline = now + HOUR
    world.time.to(NOON + HOUR)
    runs = sorted({*range(NOON + HOUR + 300, deadline, 900), deadline - FINAL_RUN})
    reports = range(NOON + HOUR + 60, deadline - FINAL_RUN, 120)
    closing = _closing(buyer, deadline)
    for moment in sorted({*runs, *reports, now}):
        world.time.to(moment)
        if moment == now:
            world.put_subscription(closing)
            world.deadlines().close(buyer.id, deadline=deadline, now=now)
        if moment in reports:
            assert world.report(buyer, 1)["status"] == "recorded"
        if moment in runs:
            world.meter()
    assert world.time.seconds() < deadline
    assert sum(world.billed().values()) == len(reports)
    assert states(world).keys() == {"metered"}


def _closing(buyer: Subscription, deadline: int) -> Subscription:
    values = {name: getattr(buyer, name) for name in Subscription.__dataclass_fields__}
    return Subscription(**{**values, "status": "closing", "closing_deadline": deadline})
