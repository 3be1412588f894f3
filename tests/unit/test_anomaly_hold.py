"""Unusual usage awaits the seller's approval: it is held, told, decided, and sent before AWS takes it no more."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from marketplace.commands.history import usage_history
from marketplace.dynamodb import keys
from marketplace.ledger.deadlines import SENDING_MARGIN, SHOWN_FOR
from marketplace.ledger.seal import UNSEALED, in_doubt
from marketplace.metering.report import MeteringReport
from marketplace.platform.clock import DAY, HOUR, MINUTE, iso
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.approval import MAX_DECIDED, Choice, Decided
from tests.support.calls import Calls, CrashError, no_answer, throttled
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.parameters import Parameters
from tests.support.world import NOON, World

FACTOR = 3
USUAL = 10
FAR = USUAL * FACTOR + 1
TODAY = NOON + 2 * DAY
"""The unusual hour, unless a test says otherwise: a day and more after the usual ones."""


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"parameters": Parameters(AnomalyHoldFactor=FACTOR)}


def used(world: World, buyer: Subscription, *hours: int, quantity: int = USUAL, **given: Any) -> None:
    """Usage of these hours, each metered when it is due."""
    for hour in hours:
        world.time.to(hour + MINUTE)
        world.report(buyer, quantity, **given)
        world.to_due()
        world.meter()


def known(world: World, **given: Any) -> Subscription:
    """A buyer who has used USUAL units in an hour for two days."""
    buyer = world.subscribe()
    used(world, buyer, NOON, NOON + DAY, **given)
    assert not world.stored("awaiting_approval")
    return buyer


def holding(world: World, quantity: int = FAR, hour: int = TODAY, **given: Any) -> Subscription:
    """A buyer with an unusual hour that was just held."""
    buyer = known(world)
    world.bus.events.clear()
    used(world, buyer, hour, quantity=quantity, **given)
    (held,) = world.stored("awaiting_approval")
    assert (held["quantity"], held["hour"]) == (quantity, hour)
    return buyer


def decide(world: World, buyer: Subscription, choice: Choice, **given: Any) -> Decided:
    made = world.approval().decide(buyer.id, choice, "ops", **given)
    assert made is not None
    return made


def named(world: World) -> dict[str, Any]:
    """The dimension and hour of the unusual usage."""
    return {"dimension": "api_calls", "hour": TODAY}


def billed(world: World) -> int:
    return sum(world.billed().values())


def told(world: World) -> list[tuple[str, str]]:
    return [(event.kind, event.detail["reason"]) for event in world.bus.distinct().values()]


def quarters(world: World, until: int) -> MeteringReport:
    """The scheduled metering runs up to this moment; the report of the last."""
    report = world.meter()
    while world.time.seconds() < until:
        world.time.to(min(until, world.time.seconds() + 15 * MINUTE))
        report = world.meter()
    return report


def shown(world: World, buyer: Subscription) -> dict[str, Any]:
    """The last metering record as the API shows it."""
    last: dict[str, Any] = world.queries().metering_records(buyer.id, start=NOON, end=NOON + 9 * DAY).items[-1]
    return last


# -- what is held, and how it ends ------------------------------------------------------------------------


def test_usage_far_above_the_usual_is_not_sent_and_the_seller_is_told(either_world: World) -> None:
    world = either_world
    buyer = holding(world)
    assert billed(world) == 2 * USUAL
    (event,) = world.bus.events
    assert (event.kind, event.detail) == (
        "Usage Awaiting Approval",
        {
            "subscription_id": buyer.id,
            "dimension": "api_calls",
            "hour": iso(TODAY),
            "quantity": FAR,
            "reason": "far_above_usual",
            "until": iso(TODAY + 21 * HOUR),
        },
    )
    report = world.meter()
    assert (report.standing_units["awaiting_approval"], report.standing_records["awaiting_approval"]) == (FAR, 1)
    held = shown(world, buyer)
    assert (held["state"], held["approval"]) == ("awaiting_approval", "awaited")
    assert (held["approval_ends_at"], held["sealed"]) == (iso(TODAY + 21 * HOUR), True)
    assert "in_doubt" not in held


@pytest.mark.parametrize("quantity", [USUAL, USUAL * FACTOR, 1])
def test_usage_up_to_the_factor_is_sent(world: World, quantity: int) -> None:
    used(world, known(world), TODAY, quantity=quantity)
    assert billed(world) == 2 * USUAL + quantity


def test_what_is_approved_is_sent_by_the_next_run_and_is_usual_from_then_on(either_world: World) -> None:
    world = either_world
    buyer = holding(world)
    made = decide(world, buyer, "approve")
    assert ([one["approval"] for one in made.decided], made.undecided, made.more) == (["approved"], [], False)
    world.meter()
    assert billed(world) == 2 * USUAL + FAR
    assert told(world) == [("Usage Awaiting Approval", "far_above_usual"), ("Usage Released", "approved")]
    used(world, buyer, TODAY + 3 * HOUR, quantity=FAR * FACTOR)
    assert billed(world) == 2 * USUAL + FAR + FAR * FACTOR


def test_what_nobody_decides_is_sent_at_its_deadline_and_does_not_become_usual(world: World) -> None:
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR - 1)
    assert world.meter().calls == 0
    world.time.advance(1)
    report = world.meter()
    assert (report.calls, report.standing_units["awaiting_approval"]) == (1, 0)
    assert billed(world) == 2 * USUAL + FAR
    assert told(world)[-1] == ("Usage Released", "deadline")
    used(world, buyer, TODAY + 24 * HOUR, quantity=FAR)
    assert [one["quantity"] for one in world.stored("awaiting_approval")] == [FAR]


def test_what_nobody_decides_is_refused_where_the_deployment_says_so(world: World) -> None:
    world.parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline="Refuse")
    holding(world)
    quarters(world, TODAY + 21 * HOUR)
    (refused,) = world.stored("unbillable")
    assert (refused["reason"], refused["approval"]) == ("not_approved", "refused")
    assert billed(world) == 2 * USUAL
    assert told(world)[-1] == ("Usage Not Billable", "not_approved")


@pytest.mark.parametrize("at_deadline", ["Send", "Refuse"])
def test_what_the_seller_refuses_is_never_sent(world: World, at_deadline: str) -> None:
    world.parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline=at_deadline)
    buyer = holding(world)
    decide(world, buyer, "refuse")
    report = world.meter()
    assert (report.calls, report.standing_units["unbillable"]) == (0, FAR)
    quarters(world, TODAY + 30 * HOUR)
    assert billed(world) == 2 * USUAL
    (refused,) = world.stored("unbillable")
    assert (refused["reason"], in_doubt(refused["seal"])) == ("refused_by_seller", False)
    assert told(world) == [
        ("Usage Awaiting Approval", "far_above_usual"),
        ("Usage Not Billable", "refused_by_seller"),
    ]


@pytest.mark.parametrize("at_deadline", ["Send", "Refuse"])
def test_a_refusal_can_be_taken_back_by_name_until_aws_takes_the_hour_no_more(world: World, at_deadline: str) -> None:
    world.parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline=at_deadline)
    buyer = holding(world)
    if at_deadline == "Send":
        decide(world, buyer, "refuse")
    quarters(world, TODAY + 23 * HOUR)
    assert decide(world, buyer, "approve").decided == []
    retried = world.retry().retry(buyer.id)
    assert retried is not None
    assert retried.due_again == []
    assert [one["state"] for one in decide(world, buyer, "approve", **named(world)).decided] == ["open"]
    assert [one["state"] for one in decide(world, buyer, "approve", **named(world)).decided] == ["open"]
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_a_refusal_stays_once_aws_takes_the_hour_no_more(world: World) -> None:
    buyer = holding(world)
    decide(world, buyer, "refuse")
    quarters(world, TODAY + DAY)
    made = decide(world, buyer, "approve", **named(world))
    assert (made.decided, [one["state"] for one in made.undecided]) == ([], ["unbillable"])
    assert world.meter().calls == 0


def test_a_decision_can_be_changed_by_name_until_the_next_run(world: World) -> None:
    buyer = holding(world)
    decide(world, buyer, "refuse")
    made = decide(world, buyer, "approve")
    assert (made.decided, made.undecided) == ([], []), "without a name it is about what nobody has decided"
    assert decide(world, buyer, "approve", **named(world)).decided
    world.meter()
    assert billed(world) == 2 * USUAL + FAR
    late = decide(world, buyer, "refuse", **named(world))
    assert (late.decided, [one["state"] for one in late.undecided]) == ([], ["metered"])


def test_a_decision_is_repeatable(either_world: World) -> None:
    world = either_world
    buyer = holding(world)
    first = decide(world, buyer, "approve")
    assert decide(world, buyer, "approve") == first
    assert decide(world, buyer, "approve", **named(world)) == first
    world.meter()
    again = decide(world, buyer, "approve", **named(world))
    assert [one["state"] for one in again.decided] == ["metered"]
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_a_decision_is_about_one_dimension_and_one_hour_where_it_says_so(world: World) -> None:
    buyer = known(world)
    used(world, buyer, TODAY - HOUR, dimension="users", quantity=1)
    used(world, buyer, TODAY, quantity=FAR)
    used(world, buyer, TODAY + HOUR, quantity=FAR + 1)
    assert [one["dimension"] for one in world.stored("awaiting_approval")] == ["users", "api_calls", "api_calls"]
    decide(world, buyer, "approve", hour=TODAY + HOUR)
    decide(world, buyer, "refuse", dimension="users")
    decided = {(one["dimension"], one["hour"]): one["approval"] for one in world.stored("awaiting_approval")}
    assert decided == {
        ("users", TODAY - HOUR): "refused",
        ("api_calls", TODAY): "awaited",
        ("api_calls", TODAY + HOUR): "approved",
    }


def test_many_decisions_take_several_requests(world: World) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    for number in range(MAX_DECIDED + 5):
        world.report(buyer, 1, dimension=f"d{number}")
    world.to_due()
    world.meter()
    first = decide(world, buyer, "refuse")
    assert (len(first.decided), first.more) == (MAX_DECIDED, True)
    second = decide(world, buyer, "refuse")
    assert (len(second.decided), second.more) == (MAX_DECIDED + 5, False)


def test_each_decision_is_kept_for_the_timeline_with_who_has_made_it(world: World) -> None:
    buyer = known(world)
    used(world, buyer, TODAY, quantity=FAR)
    decide(world, buyer, "refuse")
    decide(world, buyer, "refuse")
    world.time.advance(60)
    decide(world, buyer, "approve", **named(world))
    entries = [(one.at, one.what, one.detail, one.by) for one in usage_history(world.usage_table(), buyer.id)]
    what = f"{FAR:,} api_calls of {iso(TODAY)}"
    now = world.time.seconds()
    assert entries == [(now - 60, "usage refused", what, "ops"), (now, "usage approved", what, "ops")]


def test_what_comes_too_late_is_no_entry_of_the_timeline(world: World) -> None:
    buyer = known(world)
    used(world, buyer, TODAY, quantity=FAR)
    decide(world, buyer, "approve")
    world.time.advance(HOUR)
    world.meter()
    assert decide(world, buyer, "refuse", **named(world)).undecided
    assert [one.what for one in usage_history(world.usage_table(), buyer.id)] == ["usage approved"]


def test_there_is_nothing_to_decide_about_an_unknown_subscription_or_hour(world: World) -> None:
    buyer = known(world)
    assert world.approval().decide("sub-" + "a" * 26, "approve", "ops") is None
    for given in ({}, named(world)):
        made = decide(world, buyer, "approve", **given)
        assert (made.decided, made.undecided, made.more) == ([], [], False)


def test_plain_usage_is_not_decided_about(world: World) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, 1)
    assert [one["state"] for one in decide(world, buyer, "refuse", **named(world)).undecided] == ["open"]
    world.to_due()
    world.meter()
    assert billed(world) == 2 * USUAL + 1


# -- what is usual ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [0, 1, 23])
def test_nothing_is_held_in_the_first_day_of_a_subscription(world: World, hours: int) -> None:
    buyer = world.subscribe()
    used(world, buyer, *range(NOON, NOON + hours * HOUR, HOUR), quantity=1)
    world.time.to(NOON + hours * HOUR + MINUTE)
    for dimension in ("api_calls", "users"):
        world.report(buyer, 1_000_000, dimension=dimension)
    world.to_due()
    world.meter()
    assert billed(world) == hours + 2_000_000
    assert not world.stored("awaiting_approval")


def test_after_a_day_of_history_the_next_hour_is_judged(world: World) -> None:
    buyer = world.subscribe()
    used(world, buyer, *range(NOON, NOON + DAY, 6 * HOUR), quantity=1)
    used(world, buyer, NOON + DAY, quantity=FACTOR + 1)
    assert len(world.stored("awaiting_approval")) == 1


def test_a_dimension_that_was_never_used_is_held_in_its_first_hour_and_learned_once_approved(world: World) -> None:
    buyer = known(world)
    used(world, buyer, TODAY, quantity=1, dimension="users")
    assert told(world)[-1] == ("Usage Awaiting Approval", "new_dimension")
    decide(world, buyer, "approve")
    world.meter()
    used(world, buyer, TODAY + HOUR, quantity=500, dimension="users")
    used(world, buyer, TODAY + 25 * HOUR, quantity=500 * FACTOR, dimension="users")
    assert not world.stored("awaiting_approval")
    assert world.billed()[buyer.id, "users"] == 501 + 500 * FACTOR


def test_two_first_hours_of_a_dimension_wait_for_one_approval(world: World) -> None:
    buyer = known(world)
    for hour in (TODAY, TODAY + HOUR):
        world.time.to(hour + MINUTE)
        world.report(buyer, 5, dimension="users")
    world.to_due()
    world.meter()
    assert len(world.stored("awaiting_approval")) == 2
    assert len(decide(world, buyer, "approve").decided) == 2
    world.meter()
    assert world.billed()[buyer.id, "users"] == 10


def test_usage_of_nothing_is_neither_unusual_nor_usual(world: World) -> None:
    buyer = known(world)
    used(world, buyer, TODAY, quantity=0, dimension="users")
    used(world, buyer, TODAY + HOUR, quantity=0)
    assert not world.stored("awaiting_approval")
    used(world, buyer, TODAY + 2 * HOUR, quantity=1, dimension="users")
    assert [one["dimension"] for one in world.stored("awaiting_approval")] == ["users"]


def test_a_buyer_who_grows_by_less_than_the_factor_is_never_held(world: World) -> None:
    buyer, quantity = world.subscribe(), 1
    for number in range(12):
        used(world, buyer, NOON + number * 20 * HOUR, quantity=quantity)
        quantity *= FACTOR
    assert not world.stored("awaiting_approval")


def test_a_buyer_who_grows_by_more_is_held_once_for_each_leap_that_is_approved(world: World) -> None:
    buyer = holding(world, 1000)
    decide(world, buyer, "approve")
    world.meter()
    used(world, buyer, *range(TODAY + HOUR, TODAY + 8 * HOUR, HOUR), quantity=1000)
    assert not world.stored("awaiting_approval")
    assert billed(world) == 2 * USUAL + 8 * 1000


def test_an_hour_is_compared_with_the_greatest_of_seven_days_with_usage(world: World) -> None:
    buyer = world.subscribe()
    used(world, buyer, NOON, quantity=100)
    days = [NOON + number * DAY for number in range(1, 8)]
    used(world, buyer, *days[:6], quantity=1)
    used(world, buyer, days[6] - HOUR, quantity=100 * FACTOR)
    assert not world.stored("awaiting_approval")
    lazy = world.subscribe("222233334444")
    again = [NOON + number * DAY for number in range(8, 17)]
    used(world, lazy, again[0], quantity=100)
    used(world, lazy, *again[1:8], quantity=1)
    used(world, lazy, again[8], quantity=100)
    assert [one["quantity"] for one in world.stored("awaiting_approval")] == [100]


def test_each_subscription_has_its_own_usual(world: World) -> None:
    small, large = world.subscribe(), world.subscribe("222233334444")
    for hour in (NOON, NOON + DAY):
        world.time.to(hour + MINUTE)
        world.report(small, 1)
        world.report(large, 1000)
        world.to_due()
        world.meter()
    used(world, large, TODAY, quantity=2000)
    used(world, small, TODAY + HOUR, quantity=2000)
    assert [one["pk"] for one in world.stored("awaiting_approval")] == [keys.subscription_pk(small.id)]


def test_of_several_dimensions_and_tag_sets_only_the_unusual_hour_waits_and_keeps_its_tags(world: World) -> None:
    buyer = known(world)
    used(world, buyer, NOON + DAY + 2 * HOUR, dimension="users", quantity=5)
    decide(world, buyer, "approve")
    world.meter()
    world.time.to(TODAY + MINUTE)
    world.report(buyer, 5, dimension="users", tags={"user": "jane"})
    for user in ("jane", "john", "joan"):
        world.report(buyer, USUAL + 1, tags={"user": user})
    world.to_due()
    world.meter()
    (held,) = world.stored("awaiting_approval")
    assert (held["dimension"], held["quantity"], held["tag_sets"]) == ("api_calls", 3 * USUAL + 3, 3)
    decide(world, buyer, "approve")
    world.meter()
    entry = world.marketplace.ledger.records[-1]
    assert [quantity for _, quantity in entry.allocations] == [USUAL + 1] * 3


def test_what_dynamodb_leaves_unread_is_asked_for_and_no_new_dimension(world: World, store: MemoryDynamoDB) -> None:
    buyer = known(world)
    used(world, buyer, NOON + DAY + 2 * HOUR, dimension="users", quantity=1)
    decide(world, buyer, "approve")
    world.meter()

    def undone(operation: str, members: int) -> range:
        """The metering record is read, and what is usual is not, however often it is asked for."""
        return range(members > 1, members) if operation == "BatchGetItem" else range(0)

    world.time.to(TODAY + 3 * HOUR + MINUTE)
    world.report(buyer, USUAL)
    world.to_due()
    store.unprocessed = undone
    world.meter()
    store.unprocessed = None
    world.meter()
    assert not world.stored("awaiting_approval")
    assert billed(world) == 3 * USUAL + 1


@pytest.mark.parametrize("failure", [throttled, no_answer])
def test_usage_does_not_wait_for_what_is_usual_to_be_stored(
    world: World, calls: Calls, failure: Callable[[], BaseException]
) -> None:
    buyer = world.subscribe()
    world.time.to(NOON + MINUTE)
    world.report(buyer, USUAL)
    world.to_due()
    calls.fail("update_item", failure, times=None)
    report = world.meter()
    assert (billed(world), report.errors.total()) == (USUAL, 1)


# -- deadlines --------------------------------------------------------------------------------------------


def test_at_the_end_of_a_month_the_wait_is_over_before_aws_stops(world: World) -> None:
    evening = int(datetime(2026, 11, 30, 21, tzinfo=UTC).timestamp())
    buyer = holding(world, hour=evening)
    until = int(datetime(2026, 12, 1, 3, tzinfo=UTC).timestamp())
    assert world.bus.events[-1].detail["until"] == iso(until)
    quarters(world, until)
    assert world.billed()[buyer.id, "api_calls"] == 2 * USUAL + FAR


def test_held_usage_of_a_closing_subscription_is_released_in_time_for_two_runs(world: World) -> None:
    buyer = holding(world)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    assert shown(world, buyer)["approval_ends_at"] == iso(now + HOUR - SENDING_MARGIN)
    quarters(world, now + HOUR - SENDING_MARGIN - 1)
    assert billed(world) == 2 * USUAL
    world.time.to(now + HOUR - SENDING_MARGIN)
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_a_closing_that_is_taken_back_gives_held_usage_its_time_again(world: World) -> None:
    buyer = holding(world)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.deadlines().release(buyer.id, now=now)
    quarters(world, now + 2 * HOUR)
    assert len(world.stored("awaiting_approval")) == 1
    quarters(world, TODAY + 21 * HOUR)
    assert billed(world) == 2 * USUAL + FAR


@pytest.mark.parametrize("decided", ["approve", "refuse"])
def test_a_closing_leaves_what_is_decided_to_the_next_run(world: World, decided: Choice) -> None:
    buyer = holding(world)
    decide(world, buyer, decided)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.meter()
    assert billed(world) == 2 * USUAL + (FAR if decided == "approve" else 0)


@pytest.mark.parametrize(("at_deadline", "sent"), [("Send", True), ("Refuse", False)])
def test_the_last_hour_of_a_closing_subscription_cannot_wait(world: World, at_deadline: str, *, sent: bool) -> None:
    world.parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline=at_deadline)
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.time.to(now + HOUR - 2 * MINUTE)
    world.meter()
    assert (billed(world) == 2 * USUAL + FAR) == sent
    world.time.advance(15 * MINUTE)
    world.meter()
    assert [one["reason"] for one in world.stored("unbillable")] == ([] if sent else ["not_approved"])


def test_unusual_usage_that_is_found_too_late_to_wait_is_sent(world: World) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    world.time.to(TODAY + 21 * HOUR)
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_a_release_that_cannot_be_told_waits_until_aws_is_about_to_refuse_the_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(world)

    def no_bus(_: object) -> None:
        raise AwsError("InternalFailure", "the bus takes nothing")

    monkeypatch.setattr(world.bus, "publish", no_bus)
    world.time.to(TODAY + 21 * HOUR)
    quarters(world, TODAY + 23 * HOUR)
    assert billed(world) == 2 * USUAL
    quarters(world, TODAY + DAY - SENDING_MARGIN)
    assert billed(world) == 2 * USUAL + FAR


def test_an_outage_of_metering_over_the_deadline_loses_nothing(world: World) -> None:
    holding(world)
    world.time.to(TODAY + DAY - MINUTE)
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


# -- beside the rest of the product ------------------------------------------------------------------------


def test_what_is_held_does_not_change_any_more(world: World) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR, id="mistake")
    world.to_due()
    world.meter()
    world.report(buyer, 4, at=TODAY + 2 * MINUTE)
    assert [one["reason"] for one in world.void(buyer, "mistake")] == ["sealed"]
    assert [one["quantity"] for one in world.stored("awaiting_approval")] == [FAR]
    assert [one["quantity"] for one in world.stored("open")] == [4]


def test_without_the_parameter_nothing_is_held(world: World) -> None:
    world.parameters = Parameters()
    used(world, known(world), TODAY, quantity=1_000_000)
    assert billed(world) == 2 * USUAL + 1_000_000


def test_held_usage_is_released_after_the_hold_was_switched_off(world: World) -> None:
    buyer = holding(world)
    world.parameters = Parameters()
    assert world.meter().standing_units["awaiting_approval"] == FAR
    decide(world, buyer, "approve")
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_a_deployment_that_meters_nothing_holds_and_sends_nothing(world: World) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    world.metering_enabled = False
    world.to_due()
    assert world.meter().standing_units == {"not_metered": FAR}
    assert [one["seal"] for one in world.stored("open")] == [UNSEALED]


def test_held_usage_waits_while_metering_is_switched_off_and_is_written_off_at_last(world: World) -> None:
    holding(world)
    world.metering_enabled = False
    assert world.meter().standing_units == {"not_metered": FAR}
    quarters(world, TODAY + 23 * HOUR)
    assert billed(world) == 2 * USUAL
    quarters(world, TODAY + DAY + HOUR)
    assert [one["reason"] for one in world.stored("unbillable")] == ["not_metered"]


def test_approved_usage_that_aws_refuses_goes_the_way_of_all_refused_usage(world: World) -> None:
    buyer = holding(world)
    world.marketplace.purchases.suspend("111122223333")
    decide(world, buyer, "approve")
    world.meter()
    assert [one["approval"] for one in world.stored("held")] == ["approved"]
    world.marketplace.purchases.unsuspend("111122223333")
    world.deadlines().release(buyer.id, now=world.time.seconds())
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_usage_that_the_deadline_has_released_is_not_held_again(world: World) -> None:
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR)
    world.marketplace.purchases.suspend("111122223333")
    world.meter()
    world.marketplace.purchases.unsuspend("111122223333")
    retried = world.retry().retry(buyer.id)
    assert retried is not None
    assert len(retried.due_again) == 1
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


def test_refused_usage_leaves_the_gauges_a_day_after_it_was_told(world: World) -> None:
    buyer = holding(world)
    decide(world, buyer, "refuse")
    world.meter()
    world.time.advance(SHOWN_FOR)
    world.meter()
    assert world.meter().standing_units["unbillable"] == 0
    assert "due_shard" not in world.stored("unbillable")[0]


# -- what it costs ------------------------------------------------------------------------------------------


def trips(world: World, calls: Calls, buyer: Subscription, hour: int, quantity: int) -> dict[str, int]:
    """The calls of a metering run for one batch."""
    world.time.to(hour + MINUTE)
    world.report(buyer, quantity)
    world.to_due()
    calls.forget()
    world.meter()
    return dict(calls.count())


def test_a_batch_makes_the_same_calls_with_and_without_the_hold_unless_its_hours_are_the_greatest_of_their_days(
    world: World, calls: Calls
) -> None:
    plain = {
        "query": len(keys.all_due_shards()),
        "batch_execute_statement": 1,
        "batch_get_item": 1,
        "batch_meter_usage": 1,
        "batch_write_item": 1,
    }
    buyer = known(world)
    assert trips(world, calls, buyer, TODAY, USUAL) == plain | {"update_item": 1}
    assert trips(world, calls, buyer, TODAY + HOUR, USUAL) == plain
    world.parameters = Parameters()
    assert trips(world, calls, buyer, TODAY + 2 * HOUR, 2 * USUAL) == plain
    assert len(calls.of("batch_get_item")[0]["RequestItems"][world.tables.usage]["Keys"]) == 1


def test_an_idle_run_asks_nothing_more(world: World, calls: Calls) -> None:
    known(world)
    calls.forget()
    world.meter()
    assert dict(calls.count()) == {"query": len(keys.all_due_shards())}


# -- others at work -----------------------------------------------------------------------------------------


def at_call(calls: Calls, name: str, work: Callable[[], object], *, when: str = "before", skip: int = 0) -> None:
    """Has something done by another process at this call."""

    def meanwhile() -> None:
        work()

    calls.fail(name, meanwhile, when=when, skip=skip)


def test_an_approval_that_meets_the_telling_is_carried_out(world: World, calls: Calls) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    world.to_due()
    calls.fail("update_item", CrashError, skip=1)
    with suppress(CrashError):
        world.meter()
    assert [one["approval"] for one in world.stored("awaiting_approval")] == ["awaited"]
    at_call(calls, "update_item", world.meter)
    assert len(decide(world, buyer, "approve").decided) == 1
    world.meter()
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


@pytest.mark.parametrize("choice", ["approve", "refuse"])
def test_a_decision_that_meets_a_run_is_carried_out_or_answered_as_too_late(
    world: World, calls: Calls, choice: Choice
) -> None:
    """The run at the deadline, between the reading and the writing of the decision."""
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR)
    at_call(calls, "transact_write_items", world.meter)
    made = decide(world, buyer, choice)
    assert ([one["state"] for one in made.undecided], made.decided) == (["metered"], [])
    assert billed(world) == 2 * USUAL + FAR


@pytest.mark.parametrize(
    ("call", "skip"),
    [("batch_execute_statement", 0), ("batch_get_item", 0), ("batch_get_item", 1), ("batch_meter_usage", 0)],
)
def test_usage_that_is_refused_while_a_run_takes_it_is_not_sent_or_the_refusal_is_too_late(
    world: World, calls: Calls, call: str, skip: int
) -> None:
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR)
    made: list[Decided] = []
    at_call(calls, call, lambda: made.append(decide(world, buyer, "refuse", **named(world))), skip=skip)
    world.meter()
    world.meter()
    refused = bool(made[0].decided)
    assert refused != bool(made[0].undecided)
    assert billed(world) == 2 * USUAL + (0 if refused else FAR)
    assert [one["state"] for one in world.stored()][-1] == ("unbillable" if refused else "metered")
    assert not in_doubt(world.stored()[-1]["seal"]) or not refused


def test_a_run_that_has_announced_usage_leaves_it_alone_once_another_has_refused_it(world: World, calls: Calls) -> None:
    """The seller refuses, and a second run carries that out, before the first run seals."""
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR)

    def refused() -> None:
        decide(world, buyer, "refuse")
        world.meter()

    at_call(calls, "batch_execute_statement", refused)
    world.meter()
    (record,) = world.stored("unbillable")
    assert not in_doubt(record["seal"])
    assert (billed(world), "in_doubt" in shown(world, buyer)) == (2 * USUAL, False)
    assert len([event for event in world.bus.distinct().values() if event.kind == "Usage Not Billable"]) == 1


def test_an_approval_is_not_lost_to_a_run_that_refuses_at_the_deadline(world: World, calls: Calls) -> None:
    world.parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline="Refuse")
    buyer = holding(world)
    world.time.to(TODAY + 21 * HOUR)
    made: list[Decided] = []
    at_call(calls, "update_item", lambda: made.append(decide(world, buyer, "approve")))
    world.meter()
    assert len(made[0].decided) == 1
    world.meter()
    assert billed(world) == 2 * USUAL + FAR


@pytest.mark.parametrize("choice", ["approve", "refuse"])
@pytest.mark.parametrize("change", ["close", "release"])
def test_a_decision_that_meets_a_change_of_the_deadline_is_carried_out_by_the_next_run(
    world: World, calls: Calls, choice: Choice, change: str
) -> None:
    buyer = holding(world)
    now = world.time.seconds()
    if change == "release":
        world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    at_call(calls, "update_item", lambda: decide(world, buyer, choice))
    if change == "close":
        world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    else:
        world.deadlines().release(buyer.id, now=now)
    (held,) = world.stored("awaiting_approval")
    assert held["refuse_at"] == (now + HOUR if change == "close" else TODAY + DAY)
    world.meter()
    assert billed(world) == 2 * USUAL + (FAR if choice == "approve" else 0)


def test_two_runs_at_once_hold_an_hour_once(world: World, calls: Calls) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    world.to_due()
    at_call(calls, "batch_get_item", world.meter, when="after")
    world.bus.events.clear()
    world.meter()
    world.meter()
    assert len(world.stored("awaiting_approval")) == 1
    assert told(world) == [("Usage Awaiting Approval", "far_above_usual")]


def test_of_two_runs_that_learn_the_greater_hour_stays(world: World, calls: Calls) -> None:
    buyer = known(world)
    world.time.to(TODAY + MINUTE)
    world.report(buyer, 5)
    world.to_due()

    def the_other() -> None:
        used(world, buyer, TODAY + 2 * HOUR, quantity=3 * USUAL)

    at_call(calls, "update_item", the_other)
    world.meter()
    key = keys.usual_usage(buyer.id, "api_calls").item()
    stored = world.dynamodb.get_item(TableName=world.tables.usage, Key=key)["Item"]
    assert {name: value["N"] for name, value in stored.items() if name.startswith("day_")}["day_20261120"] == "30"


# -- crashes ----------------------------------------------------------------------------------------------


CALLS = (
    *("query", "batch_execute_statement", "batch_get_item", "batch_meter_usage", "batch_write_item"),
    *("update_item", "get_item", "put_item", "transact_write_items"),
)


def struck(point: int, calls: Calls, failed: list[bool]) -> Callable[[], BaseException | None]:
    """Ends the process at the call of this number, counted over all methods."""

    def strike() -> BaseException | None:
        if len(calls.made) != point + 1 or failed[0]:
            return None
        failed[0] = True
        return CrashError()

    return strike


def judged(world: World, buyer: Subscription) -> None:
    world.time.to(TODAY + MINUTE)
    world.report(buyer, FAR)
    world.report(buyer, 5, dimension="users")
    world.to_due()


def approved(world: World, buyer: Subscription) -> None:
    judged(world, buyer)
    world.meter()
    decide(world, buyer, "approve")


def refused(world: World, buyer: Subscription) -> None:
    judged(world, buyer)
    world.meter()
    decide(world, buyer, "refuse")


def at_the_deadline(world: World, buyer: Subscription) -> None:
    judged(world, buyer)
    world.meter()
    world.time.to(TODAY + 21 * HOUR)


@pytest.mark.parametrize("at_deadline", ["Send", "Refuse"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("before", [judged, approved, refused, at_the_deadline])
@pytest.mark.slow
def test_a_run_that_dies_at_any_call_loses_nothing_and_sends_nothing_unapproved(
    before: Callable[[World, Subscription], None], when: str, at_deadline: str
) -> None:
    """Played once for each call."""
    for point in itertools.count():
        calls, failed = Calls(), [False]
        parameters = Parameters(AnomalyHoldFactor=FACTOR, AnomalyHoldAtDeadline=at_deadline)
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap, parameters=parameters)
        buyer = known(world)
        before(world, buyer)
        calls.forget()
        for name in CALLS:
            calls.fail(name, struck(point, calls, failed), when=when, times=None)
        with suppress(CrashError):
            world.meter()
        calls.heal()
        sends = before is approved or (before is at_the_deadline and at_deadline == "Send")
        if not sends:
            assert billed(world) == 2 * USUAL, point
        world.meter()
        if before is judged:
            assert billed(world) == 2 * USUAL
            assert {one["quantity"] for one in world.stored("awaiting_approval")} == {FAR, 5}
        quarters(world, TODAY + DAY + HOUR)
        sends = before is not refused and (before is approved or at_deadline == "Send")
        assert billed(world) == 2 * USUAL + (FAR + 5 if sends else 0), point
        assert {one["state"] for one in world.stored()} == ({"metered"} if sends else {"metered", "unbillable"})
        kinds = {event.kind for event in world.bus.events}
        assert kinds == {"Usage Awaiting Approval", "Usage Released" if sends else "Usage Not Billable"}
        assert len(world.bus.distinct()) == 4
        if not failed[0]:
            assert point > len(keys.all_due_shards())
            return


@pytest.mark.parametrize("failure", [CrashError, throttled, no_answer])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("choice", ["approve", "refuse"])
def test_a_decision_that_is_interrupted_is_completed_by_its_repetition(
    choice: Choice, when: str, failure: Callable[[], BaseException]
) -> None:
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap, parameters=Parameters(AnomalyHoldFactor=FACTOR))
        buyer = known(world)
        judged(world, buyer)
        world.meter()
        calls.forget()
        interrupted = struck(point, calls, failed)
        for name in CALLS:
            calls.fail(name, lambda: failure() if interrupted() else None, when=when, times=None)  # noqa: B023
        with suppress(AwsError, CrashError):
            decide(world, buyer, choice)
        calls.heal()
        assert len(decide(world, buyer, choice).decided) == 2
        world.meter()
        assert billed(world) == 2 * USUAL + (FAR + 5 if choice == "approve" else 0)
        if not failed[0]:
            assert point >= 4
            return
