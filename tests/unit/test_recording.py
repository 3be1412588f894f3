"""Recording usage: each record is booked once, to an hour that AWS takes, and answered on its own."""

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.ledger.deadlines import FINAL_RUN
from marketplace.ledger.record import MAX_ALLOCATION_BYTES, MAX_QUANTITY, MAX_TAG_SETS
from marketplace.platform.clock import DAY, HOUR, hour_of, iso
from marketplace.platform.errors import AwsError, NoAnswerError, ThrottledError
from marketplace.subscriptions.model import Status, Subscription
from tests.support.calls import Calls, conflicting, no_answer
from tests.support.memory_dynamodb import MemoryDynamoDB, aws_error
from tests.support.world import NOON, Timeline, World

RETRYABLE = {"not_active", "in_future", "busy", "unavailable", "repeated_id"}


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


def total(world: World) -> int:
    return sum(hour["quantity"] for hour in world.stored())


def statuses(results: list[dict[str, Any]]) -> list[object]:
    return [result["status"] for result in results]


def everything(world: World) -> list[Any]:
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    return [world.dynamodb.items(table) for table in (world.tables.usage, world.tables.subscriptions)]


# What becomes of a record


def test_a_record_is_booked_to_its_own_hour(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.time.advance(HOUR)
    assert world.report(buyer, 3, id="a", at=NOON + 60) == {"id": "a", "status": "recorded", "hour": iso(NOON)}
    (hour,) = world.stored()
    assert (hour["hour"], hour["quantity"], hour["records"], hour["seal"]) == (NOON, 3, 1, "-")
    assert hour["due_at"] == NOON + HOUR + 600
    assert hour["refuse_at"] == NOON + DAY


def test_a_record_without_a_timestamp_is_of_now(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.time.advance(3 * HOUR + 5)
    assert world.report(buyer, 3)["hour"] == iso(NOON + 3 * HOUR)


def test_usage_adds_up_by_subscription_dimension_and_hour(either_world: World) -> None:
    world = either_world
    one, two = world.subscribe(), world.subscribe(account_id="444455556666")
    world.time.advance(HOUR)
    expected: Counter[Any] = Counter()
    records = []
    for n, (buyer, dimension, hour) in enumerate(itertools.product((one, two), ("api_calls", "users"), (0, HOUR))):
        for quantity in (n + 1, 10):
            records.append(world.usage(buyer, quantity, dimension=dimension, at=NOON + hour))
            expected[buyer.id, dimension, NOON + hour] += quantity
    assert set(statuses(world.report_all(records))) == {"recorded"}
    assert {
        (h["pk"].removeprefix("SUB#"), h["dimension"], h["hour"]): h["quantity"] for h in world.stored()
    } == expected


def test_a_licence_arn_names_the_subscription_in_every_printed_form(world: World) -> None:
    buyer = world.subscribe()
    assert buyer.license_arn is not None
    for arn in (buyer.license_arn, buyer.license_arn.removeprefix("arn:"), f" {buyer.license_arn} "):
        record = {**world.usage(buyer, 1), "license_arn": arn}
        del record["subscription_id"]
        assert world.report_all([record])[0]["status"] == "recorded"
    assert [hour["quantity"] for hour in world.stored()] == [3]


def test_a_record_repeated_in_another_request_is_a_duplicate(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    record = world.usage(buyer, 3, id="a", tags={"user": "x", "team": "y"})
    world.report_all([record])
    world.time.advance(2 * HOUR)
    again = {**record, "tags": {"team": "y", "user": "x"}}
    assert world.report_all([again]) == [{"id": "a", "status": "duplicate", "hour": iso(NOON)}]
    assert total(world) == 3


def test_the_same_id_with_other_content_is_a_conflict_and_the_first_stands(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    record = world.usage(buyer, 3, id="a")
    world.report_all([record])
    changes = ({"quantity": 4}, {"dimension": "users"}, {"tags": {"a": "b"}}, {"timestamp": "2026-11-18T12:00:00Z"})
    for change in changes:
        (result,) = world.report_all([{**record, **change}])
        assert (result["status"], result["reason"], result["retryable"]) == ("conflict", "other_content", False)
    assert total(world) == 3


@pytest.mark.parametrize("again", ["id", "arn", "bare", "prefixed"])
@pytest.mark.parametrize("first", ["id", "arn", "bare", "prefixed"])
def test_a_record_that_names_its_subscription_in_another_way_is_a_duplicate(
    world: World, first: str, again: str
) -> None:
    buyer = world.subscribe()
    arn = buyer.license_arn or ""
    license_id = arn.rpartition(":")[2]
    ways = {
        "id": {"subscription_id": buyer.id},
        "arn": {"license_arn": arn},
        "bare": {"license_arn": license_id},
        "prefixed": {"license_arn": f"aws:license-manager:us-east-1:123456789012:license/{license_id}"},
    }
    record = {"id": "r", "dimension": "api_calls", "quantity": 30, "timestamp": iso(NOON), "tags": {"team": "a"}}
    assert statuses(world.report_all([{**record, **ways[first]}])) == ["recorded"]
    assert statuses(world.report_all([{**record, **ways[again]}, {**record, **ways[first]}])) == ["duplicate"] * 2
    assert statuses(world.report_all([{**record, **ways[again], "quantity": 31}])) == ["conflict"]
    assert total(world) == 30


@pytest.mark.parametrize("way", ["subscription_id", "license_arn"])
def test_a_record_from_before_digests_were_over_the_subscription_is_a_duplicate(world: World, way: str) -> None:
    """A record that named its licence was kept with a digest over the ARN as it was given."""
    buyer = world.subscribe()
    named = {"subscription_id": buyer.id} if way == "subscription_id" else {"license_arn": buyer.license_arn}
    record = {"id": "r", "dimension": "api_calls", "quantity": 30, "tags": {"team": "a", "app": "b"}, **named}
    assert statuses(world.report_all([record])) == ["recorded"]
    content = [named.get("subscription_id"), named.get("license_arn"), "api_calls", 30, None]
    earlier = json.dumps([*content, [["app", "b"], ["team", "a"]]], separators=(",", ":"))
    world.dynamodb.update_item(
        TableName=world.tables.usage,
        Key=keys.usage_record(buyer.id, "r").item(),
        UpdateExpression="SET digest = :digest",
        ExpressionAttributeValues={":digest": {"S": hashlib.sha256(earlier.encode()).hexdigest()}},
    )
    assert statuses(world.report_all([record])) == ["duplicate"]
    assert statuses(world.report_all([{**record, "quantity": 31}])) == ["conflict"]
    assert total(world) == 30


def test_ids_belong_to_their_subscription(world: World) -> None:
    one, two = world.subscribe(), world.subscribe(account_id="444455556666")
    assert statuses([world.report(one, 3, id="a"), world.report(two, 4, id="a")]) == ["recorded", "recorded"]


@pytest.mark.parametrize("record_id", ["#", "a#b", "%23", "HOUR#2026", "~!@$^&*()_+{}|:<>?-=[];',./`", "x" * 128])
def test_any_visible_id_can_be_found_again(world: World, record_id: str) -> None:
    buyer = world.subscribe()
    assert world.report(buyer, 3, id=record_id)["status"] == "recorded"
    proof = world.queries().proof(buyer.id, record_id)
    assert proof is not None
    assert proof["record"]["id"] == record_id


# Results


def test_every_record_is_answered_in_the_order_of_the_request(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 1, id="known")
    records: list[Any] = [
        world.usage(buyer, 1, id="a"),
        "nonsense",
        world.usage(buyer, 1, id="known"),
        {**world.usage(buyer, 1, id="b"), "quantity": -1},
        world.usage(buyer, 2, id="known-too", at=NOON - DAY),
        world.usage(buyer, 2, id="c", dimension="users"),
        world.usage(buyer, 1, id="a"),
        world.usage(buyer, 2, id="a"),
        {**world.usage(buyer, 1, id="d"), "subscription_id": "sub-" + "b" * 26},
    ]
    results = world.report_all(records)
    assert [result["id"] for result in results] == ["a", None, "known", "b", "known-too", "c", "a", "a", "d"]
    assert statuses(results) == [
        "recorded", "rejected", "duplicate", "rejected", "rejected", "recorded", "duplicate", "conflict", "rejected",
    ]  # fmt: skip
    assert [result.get("reason") for result in results if result["status"] == "rejected"] == [
        "invalid_record", "invalid_quantity", "too_old", "unknown_subscription",
    ]  # fmt: skip


def test_no_records_no_results(world: World) -> None:
    assert world.report_all([]) == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_id_twice_in_one_request_counts_once_and_the_first_stands(world: World, order: tuple[int, int]) -> None:
    buyer = world.subscribe()
    pair = [world.usage(buyer, 3, id="a"), world.usage(buyer, 4, id="a")]
    assert statuses(world.report_all([pair[n] for n in order])) == ["recorded", "conflict"]
    assert total(world) == pair[order[0]]["quantity"]


def test_an_id_twice_whose_first_was_not_recorded_is_to_be_sent_again(world: World) -> None:
    buyer = world.subscribe()
    early = world.usage(buyer, 3, id="a", at=NOON + HOUR)
    right = world.usage(buyer, 3, id="a", at=NOON)
    first, second = world.report_all([early, right])
    assert first["reason"] == "in_future"
    assert (second["status"], second["reason"], second["retryable"]) == ("rejected", "repeated_id", True)
    assert world.report_all([right])[0]["status"] == "recorded"


def test_a_rejected_record_repeated_in_one_request_is_rejected_alike(world: World) -> None:
    buyer = world.subscribe()
    record = world.usage(buyer, 3, id="a", at=NOON + HOUR)
    first, second = world.report_all([record, record])
    assert first == second


# Which subscriptions take usage


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "pending", "activated_at": None}, "not_active"),
        ({"status": "pending"}, "not_active"),
        ({"status": "active", "activated_at": None}, "not_active"),
        ({"status": "failed"}, "failed"),
        ({"status": "ended", "closing_deadline": NOON}, "ended"),
        ({"status": "closing", "closing_deadline": NOON}, "ended"),
    ],
)
def test_a_subscription_that_AWS_does_not_meter_takes_no_usage(  # noqa: N802 - a name
    world: World, changes: dict[str, Any], reason: str
) -> None:
    buyer = world.subscribe()
    world.put_subscription(replace(buyer, **changes))
    result = world.report(buyer, 3)
    assert (result["status"], result["reason"]) == ("rejected", reason)
    assert result["retryable"] == (reason in RETRYABLE | {"ended"})
    assert result["message"]
    assert world.stored() == []


@pytest.mark.parametrize("status", ["ended", "closing"])
@pytest.mark.parametrize(("later", "retryable"), [(0, True), (DAY - 1, True), (DAY, False), (30 * DAY, False)])
def test_an_end_is_final_once_aws_would_refuse_the_usage_for_its_age(
    world: World, status: Status, later: int, retryable: bool
) -> None:
    buyer = world.subscribe()
    world.put_subscription(replace(buyer, status=status, closing_deadline=NOON))
    world.time.to(NOON + later)
    result = world.report(buyer, 3)
    assert (result["reason"], result["retryable"]) == ("ended", retryable)


def test_an_unknown_subscription_takes_no_usage(world: World) -> None:
    stranger = Subscription(id="sub-" + "z" * 26, integration="license", product_code="p")
    result = world.report(stranger, 3)
    assert (result["reason"], result["retryable"]) == ("unknown_subscription", False)


def test_usage_reported_too_early_is_recorded_once_the_subscription_is_active(world: World) -> None:
    buyer = world.subscribe(active=False)
    record = world.usage(buyer, 3, id="a")
    assert world.report_all([record])[0]["retryable"]
    world.put_subscription(replace(buyer, status="active", activated_at=NOON))
    assert world.report_all([record])[0]["status"] == "recorded"


def test_a_closing_subscription_takes_usage_until_its_deadline(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1)
    deadline = NOON + HOUR + 1800
    world.put_subscription(replace(buyer, status="closing", closing_deadline=deadline))
    world.time.to(deadline - 1000)
    assert world.report(buyer, 2, at=NOON)["status"] == "recorded"
    (hour,) = world.stored()
    assert hour["refuse_at"] == deadline
    assert hour["due_at"] <= world.time.seconds()
    world.time.to(deadline)
    assert world.report(buyer, 4)["reason"] == "ended"
    assert total(world) == 3


# Which hour takes it


def test_usage_from_before_activation_belongs_to_the_hour_of_activation(world: World) -> None:
    world.time.advance(20 * 60)
    buyer = world.subscribe()
    world.time.advance(2 * HOUR)
    result = world.report(buyer, 3, at=NOON - 5 * HOUR)
    assert result["hour"] == iso(NOON)
    (hour,) = world.stored()
    assert hour["timestamp"] == NOON + 20 * 60


@pytest.mark.parametrize(
    ("age", "reason"), [(-301, "in_future"), (-300, None), (DAY - 1, None), (DAY, "too_old"), (400 * DAY, "too_old")]
)
def test_usage_of_the_last_day_and_the_next_five_minutes_is_taken(world: World, age: int, reason: str | None) -> None:
    buyer = world.subscribe()
    world.put_subscription(replace(buyer, activated_at=NOON - 500 * DAY))
    result = world.report(buyer, 3, at=NOON - age)
    assert result.get("reason") == reason
    assert result.get("retryable", False) == (reason in RETRYABLE)


def test_late_usage_goes_to_the_nearest_hour_that_is_open(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    for _ in range(3):
        world.report(buyer, 1)
        world.time.advance(HOUR)
    world.time.advance(700)
    world.meter()
    assert [hour["state"] for hour in world.stored()] == ["metered"] * 3
    now = hour_of(world.time.seconds())
    result = world.report(buyer, 5, at=NOON)
    assert (result["hour"], result["own_hour"]) == (iso(now), iso(NOON))
    assert "month_shifted" not in result
    proof = world.queries().proof(buyer.id, str(result["id"]))
    assert proof is not None
    assert (proof["record"]["own_hour"], proof["hour"]) == (iso(NOON), iso(now))


def test_late_usage_goes_to_earlier_hours_when_no_later_one_is_open(world: World) -> None:
    world.put_subscription(buyer := replace(world.subscribe(), activated_at=NOON - 5 * HOUR))
    for hour in (0, HOUR):
        world.report(buyer, MAX_QUANTITY, at=NOON + 60)
        assert len(world.stored()) == hour // HOUR + 1
    result = world.report(buyer, 5, at=NOON)
    assert (result["hour"], result["own_hour"]) == (iso(NOON - HOUR), iso(NOON))


def test_usage_of_a_closed_month_goes_to_the_current_hour_and_says_so(calls: Calls) -> None:
    now = at(2026, 12, 1, 6, 5)
    world = World.on(MemoryDynamoDB(), time=Timeline(now), wrap=calls.wrap)
    world.put_subscription(buyer := replace(world.subscribe(), activated_at=at(2026, 11, 1)))
    result = world.report(buyer, 5, at=at(2026, 11, 30, 22))
    assert result["month_shifted"] is True
    assert (result["hour"], result["own_hour"]) == ("2026-12-01T06:00:00Z", "2026-11-30T22:00:00Z")


def test_usage_of_last_month_stays_there_while_AWS_takes_it(calls: Calls) -> None:  # noqa: N802 - a name
    world = World.on(MemoryDynamoDB(), time=Timeline(at(2026, 12, 1, 5, 0)), wrap=calls.wrap)
    world.put_subscription(buyer := replace(world.subscribe(), activated_at=at(2026, 11, 1)))
    result = world.report(buyer, 5, at=at(2026, 11, 30, 22))
    assert result["hour"] == "2026-11-30T22:00:00Z"
    assert world.stored()[0]["refuse_at"] == at(2026, 12, 1, 6)


def test_a_sum_beyond_int32_goes_to_the_next_hour(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, MAX_QUANTITY - 1)
    assert world.report(buyer, 1)["hour"] == iso(NOON)
    result = world.report(buyer, 1)
    assert (result["hour"], result["own_hour"]) == (iso(NOON + HOUR), iso(NOON))
    assert world.report(buyer, 0)["hour"] == iso(NOON)


def test_one_request_may_fill_several_hours(world: World) -> None:
    world.put_subscription(buyer := replace(world.subscribe(), activated_at=NOON - 5 * HOUR))
    quantities = [MAX_QUANTITY, 5, MAX_QUANTITY - 5, MAX_QUANTITY, 1]
    results = world.report_all([world.usage(buyer, quantity, at=NOON) for quantity in quantities])
    assert set(statuses(results)) == {"recorded"}
    assert total(world) == sum(quantities)
    assert max(hour["quantity"] for hour in world.stored()) <= MAX_QUANTITY


def test_usage_that_no_hour_can_take_is_rejected(world: World) -> None:
    buyer = world.subscribe()
    results = [world.report(buyer, MAX_QUANTITY) for _ in range(3)]
    assert statuses(results) == ["recorded", "recorded", "rejected"]
    assert (results[2]["reason"], results[2]["retryable"]) == ("no_open_hour", False)


def test_a_subscription_about_to_end_has_no_hour_left(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1)
    world.put_subscription(replace(buyer, status="closing", closing_deadline=NOON + HOUR))
    world.deadlines().close(buyer.id, deadline=NOON + HOUR, now=NOON)
    world.time.to(NOON + HOUR - FINAL_RUN)
    world.meter()
    assert world.report(buyer, 2)["reason"] == "no_open_hour"


# Tags


def test_tag_sets_do_not_know_an_order(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    one = [world.usage(buyer, 1, tags=tags) for tags in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1"}, None)]
    assert set(statuses(world.report_all(one))) == {"recorded"}
    world.report(buyer, 5, tags={"b": "2", "a": "1"})
    quantities = {tuple(sorted(a["tags"].items())): a["quantity"] for a in world.allocations()}
    assert quantities == {(("a", "1"), ("b", "2")): 7, (("a", "1"),): 1}
    (hour,) = world.stored()
    assert (hour["quantity"], hour["tag_sets"], hour["tag_keys"]) == (9, 2, ["a", "b"])


@pytest.mark.slow
def test_an_hour_holds_2499_tag_sets_beside_the_untagged_rest(world: World) -> None:
    """botocore model, UsageAllocations: at most 2500 in one record."""
    buyer = world.subscribe()
    records = [world.usage(buyer, 1 + n % 7, id=f"u{n}", tags={"user": f"u{n}"}) for n in range(MAX_TAG_SETS + 10)]
    results = [r for start in range(0, len(records), 500) for r in world.report_all(records[start : start + 500])]
    assert set(statuses(results)) == {"recorded"}
    untagged = [str(result["id"]) for result in results if result.get("untagged")]
    assert len(untagged) == 11
    assert len(world.allocations()) == MAX_TAG_SETS - 1
    (hour,) = world.stored()
    assert (hour["quantity"], hour["untagged_records"]) == (sum(r["quantity"] for r in records), 11)
    proof = world.queries().proof(buyer.id, untagged[0])
    assert proof is not None
    assert proof["record"]["untagged"] is True
    assert world.report(buyer, 3, tags={"user": "u1"}).get("untagged") is None
    world.to_due()
    assert world.meter().records == {"metered": 1}
    (billed,) = world.marketplace.ledger.records
    assert len(billed.allocations) == MAX_TAG_SETS
    rest = sum(record["quantity"] for record in records if record["id"] in untagged)
    assert dict(billed.allocations)[()] == rest
    assert sum(quantity for _, quantity in billed.allocations) == hour["quantity"] + 3


def test_an_hour_holds_five_different_tag_keys(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 1, tags={"a": "1", "b": "1", "c": "1"})
    world.report(buyer, 2, tags={"d": "1", "e": "1"})
    assert world.report(buyer, 4, tags={"a": "9", "f": "1"})["untagged"] is True
    assert "untagged" not in world.report(buyer, 8, tags={"e": "9", "a": "9"})
    (hour,) = world.stored()
    assert (hour["quantity"], hour["tag_keys"], hour["untagged_records"]) == (15, ["a", "b", "c", "d", "e"], 1)
    world.to_due()
    assert world.meter().records == {"metered": 1}
    assert dict(world.marketplace.ledger.records[0].allocations)[()] == 4


@pytest.mark.slow
def test_the_allocations_of_an_hour_fit_one_request(world: World) -> None:
    buyer = world.subscribe()
    wide = {f"{key}{'k' * 99}": "v" * 250 for key in "abcde"}
    records = [world.usage(buyer, 1, tags={name: f"{value}{n}" for name, value in wide.items()}) for n in range(480)]
    results = world.report_all(records)
    assert set(statuses(results)) == {"recorded"}
    (hour,) = world.stored()
    assert hour["tag_bytes"] <= MAX_ALLOCATION_BYTES
    assert 0 < hour["untagged_records"] == sum("untagged" in result for result in results)
    world.to_due()
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 480}


def test_tag_sets_that_two_requests_create_at_once_are_counted_by_both(world: World, calls: Calls) -> None:
    """The other request's sets appear between this one's look and its write."""
    buyer = world.subscribe()
    other = World(world.dynamodb, world.tables, time=world.time)

    def interfere(name: str) -> None:
        other.report(buyer, 10, id=name, tags={"user": name})

    for name in ("x", "y"):
        calls.fail("transact_write_items", partial(interfere, name))
    assert world.report(buyer, 2, id="mine", tags={"user": "x"})["status"] == "recorded"
    assert {a["tags"]["user"]: a["quantity"] for a in world.allocations()} == {"x": 12, "y": 10}
    (hour,) = world.stored()
    assert (hour["quantity"], hour["tag_sets"]) == (22, 2)


# Outages and races


def test_an_outage_of_the_store_is_answered_record_by_record(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    records = [world.usage(buyer, 1, dimension="users"), world.usage(buyer, 2), {**world.usage(buyer, 1), "id": ""}]
    calls.fail("transact_write_items", times=None)
    results = world.report_all(records)
    assert [result["reason"] for result in results] == ["unavailable", "unavailable", "invalid_id"]
    assert [result["retryable"] for result in results] == [True, True, False]
    calls.heal()
    assert statuses(world.report_all(records)) == ["recorded", "recorded", "rejected"]
    assert total(world) == 3


def test_an_answer_lost_after_the_write_is_a_duplicate_when_sent_again(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    records = [world.usage(buyer, n, tags={"user": "x"}) for n in range(1, 4)]
    calls.fail("transact_write_items", no_answer, when="after")
    assert [result["reason"] for result in world.report_all(records)] == ["unavailable"] * 3
    assert statuses(world.report_all(records)) == ["duplicate"] * 3
    assert total(world) == 6


@pytest.mark.parametrize("name", ["batch_get_item", "transact_write_items"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_call_fails_a_repetition_counts_each_record_once(
    world: World, calls: Calls, name: str, when: str
) -> None:
    buyer = world.subscribe()
    records = [world.usage(buyer, n, tags={"user": f"u{n % 3}"}) for n in range(1, 60)]
    for skip in range(4):
        calls.fail(name, no_answer, when=when, skip=skip)
        try:
            world.report_all(records)
        except AwsError:
            continue
    calls.heal()
    assert set(statuses(world.report_all(records))) == {"duplicate"}
    assert total(world) == sum(range(1, 60))
    assert sum(allocation["quantity"] for allocation in world.allocations()) == total(world)


def ended(world: World, buyer: Subscription) -> str:
    now = world.time.seconds()
    world.put_subscription(replace(buyer, status="closing", closing_deadline=now + 60))
    world.time.advance(61)
    return "ended"


def a_day_old(world: World, _: Subscription) -> str:
    world.time.advance(DAY + 60)
    return "too_old"


def not_active(world: World, buyer: Subscription) -> str:
    world.put_subscription(replace(buyer, status="pending"))
    return "not_active"


@pytest.mark.parametrize("meanwhile", [ended, a_day_old, not_active])
def test_what_was_recorded_is_a_duplicate_though_it_could_not_be_recorded_now(
    world: World, calls: Calls, meanwhile: Any
) -> None:
    """The answer of the last flush was lost. Were it refused now, the seller would bill it elsewhere once more."""
    buyer = world.subscribe()
    record, other = world.usage(buyer, 5, at=NOON), world.usage(buyer, 6, at=NOON)
    calls.fail("transact_write_items", no_answer, when="after")
    assert world.report_all([record])[0]["reason"] == "unavailable"
    reason = meanwhile(world, buyer)
    again, changed, fresh, repeated = world.report_all([record, {**other, "id": record["id"]}, other, record])
    assert (again["status"], again["hour"]) == ("duplicate", "2026-11-18T12:00:00Z")
    assert repeated == again
    assert changed["status"] == "conflict"
    assert (fresh["status"], fresh["reason"]) == ("rejected", reason)
    assert total(world) == 5


def test_what_may_have_been_recorded_is_not_refused_for_good_while_that_cannot_be_known(
    world: World, calls: Calls
) -> None:
    buyer = world.subscribe()
    record = world.usage(buyer, 5, at=NOON)
    world.report_all([record])
    world.time.advance(DAY + 60)
    calls.fail("batch_get_item", skip=1)
    (result,) = world.report_all([record])
    assert (result["reason"], result["retryable"]) == ("unavailable", True)
    assert statuses(world.report_all([record])) == ["duplicate"]


def test_a_licence_whose_buyer_is_not_known_yet_takes_no_usage(world: World) -> None:
    """BatchMeterUsage wants the buyer's account beside the licence, and an hour keeps who it is of."""
    buyer = world.subscribe()
    world.put_subscription(replace(buyer, account_id=None))
    record = world.usage(buyer, 5)
    (refused,) = world.report_all([record])
    assert (refused["reason"], refused["retryable"]) == ("account_unknown", True)
    assert "is active" in refused["message"]
    world.put_subscription(buyer)
    assert statuses(world.report_all([record])) == ["recorded"]


def test_a_transaction_cancelled_without_a_reason_is_busy(world: World, calls: Calls) -> None:
    found = [world.subscribe(f"{n:012d}") for n in range(3)]
    unexplained = partial(aws_error, "TransactionCanceledException", "TransactWriteItems", members={})
    calls.fail("transact_write_items", unexplained, times=None)
    results = world.report_all([world.usage(buyer, 1) for buyer in found])
    assert {result["reason"] for result in results} == {"busy"}
    assert calls.count()["transact_write_items"] <= 31


def test_a_request_whose_subscriptions_cannot_be_read_fails_whole(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    calls.fail("batch_get_item")
    with pytest.raises(ThrottledError):
        world.report(buyer, 1)
    calls.fail("batch_get_item", no_answer)
    with pytest.raises(NoAnswerError):
        world.report(buyer, 1)
    assert world.stored() == []


def test_keys_that_the_store_leaves_unread_are_asked_for_again(calls: Calls) -> None:
    store = MemoryDynamoDB()
    world = World.on(store, wrap=calls.wrap)
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 8)]
    store.unprocessed = lambda operation, count: range(1, count) if operation == "BatchGetItem" else ()
    results = world.report_all([world.usage(buyer, 1, tags={"user": "x"}) for buyer in buyers])
    assert set(statuses(results)) == {"recorded"}


def test_keys_that_stay_unread_fail_the_request_or_the_record(calls: Calls) -> None:
    store = MemoryDynamoDB()
    world = World.on(store, wrap=calls.wrap)
    buyer = world.subscribe()
    store.unprocessed = lambda operation, count: range(count)
    with pytest.raises(ThrottledError):
        world.report(buyer, 1)
    asked = itertools.count()
    store.unprocessed = lambda operation, count: range(count if next(asked) else 0)
    tagged = world.usage(buyer, 1, tags={"user": "x"})
    assert world.report_all([tagged])[0]["reason"] == "unavailable"
    store.unprocessed = None
    assert world.report_all([tagged])[0]["status"] == "recorded"


def test_a_conflict_with_another_request_is_waited_out(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    calls.fail("transact_write_items", conflicting, times=9)
    assert world.report(buyer, 3)["status"] == "recorded"
    assert total(world) == 3


def test_a_conflict_that_persists_is_answered_busy_and_nothing_is_counted(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    records = [world.usage(buyer, n) for n in (1, 2)]
    calls.fail("transact_write_items", lambda: conflicting(3), times=None)
    results = world.report_all(records)
    assert [(result["reason"], result["retryable"]) for result in results] == [("busy", True)] * 2
    assert calls.count()["transact_write_items"] == 10
    assert world.stored() == []
    calls.heal()
    assert statuses(world.report_all(records)) == ["recorded"] * 2


def test_a_request_waits_for_others_only_as_long_as_its_answer_is_waited_for(world: World, calls: Calls) -> None:
    """API Gateway gives up after 30 seconds, and the caller would hear of none of its records."""
    buyer = world.subscribe()
    for hour in range(8):
        world.time.to(NOON + hour * HOUR)
        world.report(buyer, 1)
    records = [world.usage(buyer, 1, at=NOON + hour * HOUR) for hour in range(8) for _ in range(60)]
    calls.fail("transact_write_items", conflicting, times=None)
    began = world.time.monotonic()
    results = world.report_all(records)
    assert {result["reason"] for result in results} == {"busy"}
    assert world.time.monotonic() - began < 17


def test_a_known_record_does_not_hold_up_its_neighbours(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1, id="known")
    world.report(buyer, 1, id="other")
    records = [world.usage(buyer, 2), world.usage(buyer, 1, id="known"), world.usage(buyer, 9, id="other")]
    assert statuses(world.report_all(records)) == ["recorded", "duplicate", "conflict"]
    assert total(world) == 4


def test_an_hour_sealed_in_mid_request_sends_the_rest_to_the_next_one(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1)
    (hour,) = world.stored()
    key = {"pk": {"S": hour["pk"]}, "sk": {"S": hour["sk"]}}

    def seal() -> None:
        world.dynamodb.update_item(
            TableName=world.tables.usage,
            Key=key,
            UpdateExpression="SET seal = :t",
            ExpressionAttributeValues={":t": {"S": "t"}},
        )

    calls.fail("transact_write_items", seal, skip=1)
    results = world.report_all([world.usage(buyer, 1) for _ in range(150)])
    assert set(statuses(results)) == {"recorded"}
    assert {hour["hour"]: hour["quantity"] for hour in world.stored()} == {NOON: 100, NOON + HOUR: 51}


# What a request costs


def test_500_records_of_one_hour_are_six_transactions(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    results = world.report_all([world.usage(buyer, n) for n in range(500)])
    assert set(statuses(results)) == {"recorded"}
    assert calls.count() == {"batch_get_item": 1, "transact_write_items": 6}
    assert all(len(call["TransactItems"]) <= 100 for call in calls.of("transact_write_items"))
    assert total(world) == sum(range(500))


def test_tagged_records_share_the_write_of_their_tag_set(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    world.report_all([world.usage(buyer, 1, tags={"user": f"u{n % 4}"}) for n in range(90)])
    assert calls.count() == {"batch_get_item": 2, "transact_write_items": 1}


def test_hours_may_be_booked_side_by_side(world: World) -> None:
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 9)]
    recorder = world.recorder()
    recorder.parallel = 4
    records = [
        world.usage(buyer, n, dimension=d) for n in range(10) for buyer in buyers for d in ("api_calls", "users")
    ]
    assert set(statuses(recorder.record(records))) == {"recorded"}
    assert total(world) == sum(record["quantity"] for record in records)


def test_without_contract_terms_all_usage_is_metered(world: World) -> None:
    buyer = world.subscribe()
    recorder = world.recorder()
    recorder.terms = None
    assert recorder.record([world.usage(buyer, 3)]) == [{"id": "r1", "status": "recorded", "hour": iso(NOON)}]
    assert total(world) == 3


# Only validating


def test_validation_writes_nothing_and_says_what_would_become_of_each_record(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1, id="known")
    records: list[Any] = [
        world.usage(buyer, 5),
        world.usage(buyer, 1, id="known"),
        world.usage(buyer, 2, id="known"),
        world.usage(buyer, 2, at=NOON - 2 * DAY),
        world.usage(buyer, 2, id="twice"),
        world.usage(buyer, 2, id="twice"),
        {"id": "x"},
        world.usage(buyer, 2, tags={"user": "x"}),
    ]
    before = everything(world)
    predicted = world.recorder().record(records, validate=True)
    assert everything(world) == before
    assert predicted == world.report_all(records)


def test_validation_knows_when_no_hour_is_left(world: World) -> None:
    buyer = world.subscribe()
    world.put_subscription(replace(buyer, status="closing", closing_deadline=NOON + 1))
    world.time.skew = 1
    assert world.report(buyer, 1)["reason"] == "ended"
    world.time.skew = 0
    world.put_subscription(replace(buyer, activated_at=NOON + 10, status="closing", closing_deadline=NOON + 5))
    (result,) = world.recorder().record([world.usage(buyer, 1)], validate=True)
    assert result["reason"] == "no_open_hour"
    assert world.report(buyer, 1)["reason"] == "no_open_hour"


# Bad input


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, "invalid_id"),
        ({"id": "with space"}, "invalid_id"),
        ({"id": 7}, "invalid_id"),
        ({"quantity": 1.0}, "invalid_quantity"),
        ({"quantity": True}, "invalid_quantity"),
        ({"quantity": "1"}, "invalid_quantity"),
        ({"quantity": -1}, "invalid_quantity"),
        ({"quantity": MAX_QUANTITY + 1}, "invalid_quantity"),
        ({"quantity": 10**400}, "invalid_quantity"),
        ({"quantity": float("nan")}, "invalid_quantity"),
        ({"dimension": ""}, "invalid_dimension"),
        ({"dimension": "\ud800"}, "invalid_dimension"),
        ({"dimension": "é" * 200}, "invalid_dimension"),
        ({"timestamp": "yesterday"}, "invalid_timestamp"),
        ({"timestamp": "2026-11-18T12:00:00"}, "invalid_timestamp"),
        ({"timestamp": 1795316400}, "invalid_timestamp"),
        ({"timestamp": "1795003200"}, "invalid_timestamp"),
        ({"timestamp": "1795003200000"}, "invalid_timestamp"),
        ({"timestamp": "2026"}, "invalid_timestamp"),
        ({"timestamp": "2026-11-18"}, "invalid_timestamp"),
        ({"timestamp": "2026-11-18T11:59:60Z"}, "invalid_timestamp"),
        ({"timestamp": "2026-11-18T12:00:00 01:00"}, "invalid_timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "invalid_timestamp"),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, "invalid_timestamp"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "in_future"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "too_old"),
        ({"tags": {"a": ""}}, "invalid_tags"),
        ({"tags": {"a": None}}, "invalid_tags"),
        ({"tags": {"": "a"}}, "invalid_tags"),
        ({"tags": {"é": "a"}}, "invalid_tags"),
        ({"tags": {"a": "\n"}}, "invalid_tags"),
        ({"tags": {"a": "   "}}, "invalid_tags"),
        ({"tags": {"aws:a": "b"}}, "invalid_tags"),
        ({"tags": dict.fromkeys("abcdef", "x")}, "invalid_tags"),
        ({"tags": [{"Key": "a", "Value": "b"}]}, "invalid_tags"),
        ({"tags": {1: "a"}}, "invalid_tags"),
        ({"license_arn": "arn:x"}, "invalid_record"),
        ({"subscription_id": None}, "invalid_record"),
        ({"subscription_id": None, "license_arn": "   "}, "invalid_license_arn"),
        ({"subscription_id": "sub-1"}, "invalid_subscription_id"),
        ({"colour": "red"}, "invalid_colour"),
    ],
)
def test_a_bad_record_names_its_field_and_its_neighbours_go_through(
    world: World, changes: dict[str, Any], reason: str
) -> None:
    buyer = world.subscribe()
    bad = {**world.usage(buyer, 1, id="bad"), **changes}
    results = world.report_all([bad, world.usage(buyer, 1), bad])
    assert statuses(results) == ["rejected", "recorded", "rejected"]
    assert [results[0]["reason"], results[2]["reason"]] == [reason, reason]
    assert results[0]["message"]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["id", "subscription_id", "license_arn", "dimension", "quantity", "timestamp", "tags"])


@cache
def empty_world() -> World:
    return World.on(MemoryDynamoDB())


@pytest.mark.slow
@given(st.lists(junk | st.dictionaries(fields, junk), max_size=6))
def test_anything_at_all_is_answered_record_by_record(records: list[Any]) -> None:
    results = empty_world().report_all(records)
    assert statuses(results) == ["rejected"] * len(records)
    assert all(isinstance(result["reason"], str) and result["retryable"] is False for result in results)


# Whatever is reported, in whatever pieces, is counted once


reports = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.integers(0, 1000),
        st.integers(-200, 26 * HOUR),
        st.sampled_from([None, {"a": "1"}, {"b": "2", "a": "1"}, {"c": "1", "d": "1", "e": "1", "f": "1"}]),
    ),
    max_size=25,
)


@pytest.mark.slow
@given(reports, st.integers(1, 7))
def test_what_is_acknowledged_is_what_is_counted(reported: list[tuple[Any, ...]], size: int) -> None:
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe()
    records = [world.usage(buyer, q, id=f"r{n}", at=NOON - age, tags=tags) for n, q, age, tags in reported]
    acknowledged: dict[object, int] = {}
    for start in range(0, len(records), size):
        part = records[start : start + size]
        for record, result in zip(part, world.report_all(part), strict=True):
            assert result["id"] == record["id"]
            if result["status"] == "recorded":
                assert result["id"] not in acknowledged
                acknowledged[record["id"]] = record["quantity"]
            if result["status"] == "duplicate":
                assert acknowledged[record["id"]] == record["quantity"]
    assert total(world) == sum(acknowledged.values())
