"""Contracts with consumption: usage beyond what the contract includes is metered, to the unit, and nothing else is."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.entitlements.rules import ValueType
from marketplace.entitlements.terms import AWAITED_FOR
from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.clock import DAY, HOUR, hour_of, iso
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.platform.settings import parsed_overage_dimensions
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.usage.overage import included_parts
from tests.support.calls import Calls, conflicting, no_answer
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import Tables
from tests.support.world import NOON, World

PRODUCT = "ca1contractandconsumption"
MAPPING = {(PRODUCT, "api_calls"): "seats"}
TERM_END = NOON + 90 * DAY


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"overage_dimensions": MAPPING}


def contract(world: World, included: int, **given: Any) -> Subscription:
    """A buyer whose contract includes so much, active for two hours."""
    buyer = world.subscribe(**given)
    world.time.advance(2 * HOUR)
    world.grant(buyer, included, ends_at=TERM_END)
    return buyer


def split(result: dict[str, Any]) -> tuple[object, object, object]:
    return result["status"], result.get("included"), result.get("overage")


def metered(world: World) -> dict[str, int]:
    """What is booked for AWS, by dimension."""
    totals: Counter[str] = Counter()
    for hour in world.stored():
        totals[hour["dimension"]] += hour["quantity"]
    return dict(totals)


def used(world: World, buyer: Subscription, first_end: int | None = TERM_END, since: int | None = None) -> int:
    """How much is used of the term that was first read with this end."""
    key = keys.included(buyer.id, "api_calls", first_end, since).item()
    item = world.dynamodb.get_item(TableName=world.tables.usage, Key=key).get("Item")
    return 0 if item is None else int(from_item(item)["used"])


def another(world: World) -> World:
    """Another function on the same tables and the same AWS."""
    return World(world.dynamodb, world.tables, time=world.time, overage_dimensions=MAPPING, granted=world.granted)


def meanwhile(other: World, buyer: Subscription, quantity: int) -> None:
    """Another request, made while one is under way."""
    other.report(buyer, quantity, id="theirs")


def seal(world: World, buyer: Subscription, hour: int) -> None:
    """As a metering run does."""
    key = keys.metering_record(buyer.id, hour, "api_calls").item()
    changes = {":token": {"S": "t"}, ":open": {"S": "open"}, ":none": {"N": "0"}}
    world.dynamodb.update_item(
        TableName=world.tables.usage,
        Key=key,
        UpdateExpression="SET seal = :token, #state = :open, quantity = :none",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues=changes,
    )


# The split


def test_usage_is_included_until_the_entitlement_is_used_up(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    assert split(world.report(buyer, 4)) == ("recorded", 4, 0)
    assert split(world.report(buyer, 9)) == ("recorded", 6, 3)
    assert split(world.report(buyer, 5)) == ("recorded", 0, 5)
    assert metered(world) == {"api_calls": 8}
    assert used(world, buyer) == 10


def test_what_is_billed_is_the_overage(world: World) -> None:
    buyer = contract(world, 10)
    for quantity in (4, 9, 5):
        world.report(buyer, quantity, tags={"user": f"u{quantity}"})
    world.to_due()
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 8}
    (billed,) = world.marketplace.ledger.records
    assert dict(billed.allocations) == {(("user", "u9"),): 3, (("user", "u5"),): 5}


def test_records_of_one_request_are_included_in_order(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    results = world.report_all([world.usage(buyer, quantity) for quantity in (3, 3, 3, 3, 0, 3)])
    assert [split(result)[1:] for result in results] == [(3, 0), (3, 0), (3, 0), (1, 2), (0, 0), (0, 3)]
    (hour,) = world.stored()
    assert (hour["quantity"], hour["records"]) == (5, 2)


def test_a_record_that_is_included_whole_makes_no_metering_record(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    assert split(world.report(buyer, 10, tags={"user": "x"})) == ("recorded", 10, 0)
    assert split(world.report(buyer, 0)) == ("recorded", 0, 0)
    assert world.stored() == []
    assert world.allocations() == []
    world.to_due()
    assert world.meter().records == {}


def test_tag_sets_are_allocated_their_overage(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    records = [
        world.usage(buyer, 4, tags={"user": "a"}),
        world.usage(buyer, 8, tags={"user": "b"}),
        world.usage(buyer, 1, tags={"user": "a"}),
        world.usage(buyer, 2),
    ]
    world.report_all(records)
    (hour,) = world.stored()
    assert (hour["quantity"], hour["tag_sets"]) == (5, 2)
    assert {one["tags"]["user"]: one["quantity"] for one in world.allocations()} == {"b": 2, "a": 1}


def test_hours_of_one_request_share_one_counter(either_world: World, calls: Calls) -> None:
    world = either_world
    buyer = contract(world, 10)
    now = world.time.seconds()
    world.report_all([world.usage(buyer, 3, at=now - age * HOUR) for age in (0, 1, 2) for _ in range(2)])
    assert metered(world) == {"api_calls": 8}
    assert used(world, buyer) == 10


def test_dimensions_and_subscriptions_have_terms_of_their_own(world: World) -> None:
    world.overage_dimensions = {**MAPPING, (PRODUCT, "users"): "logins"}
    one, two = contract(world, 5), contract(world, 7, account_id="444455556666")
    world.grant(one, 100, dimension="logins", ends_at=TERM_END)
    records = [world.usage(one, 10), world.usage(one, 10, dimension="users"), world.usage(two, 10)]
    records += [world.usage(two, 10, dimension="users"), world.usage(two, 10, dimension="storage_gb_hours")]
    results = world.report_all(records)
    assert [split(result)[1:] for result in results] == [(5, 5), (10, 0), (7, 3), (0, 10), (None, None)]


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a")])
def test_a_repetition_is_answered_with_the_same_split_and_uses_nothing(world: World, ids: tuple[str, str]) -> None:
    buyer = contract(world, 10)
    records = {name: world.usage(buyer, 7, id=name) for name in ids}
    first = world.report_all(list(records.values()))
    again = world.report_all([records["a"], records["b"], world.usage(buyer, 1)])
    by_id = {result["id"]: split(result)[1:] for result in first}
    assert [split(result) for result in again] == [
        ("duplicate", *by_id["a"]),
        ("duplicate", *by_id["b"]),
        ("recorded", 0, 1),
    ]
    assert used(world, buyer) == 10
    assert metered(world) == {"api_calls": 5}


def test_a_conflict_says_nothing_of_a_split(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 7, id="a")
    assert split(world.report(buyer, 8, id="a")) == ("conflict", None, None)
    assert used(world, buyer) == 7


# Terms


def test_a_renewal_begins_a_new_term(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 15)
    renewed = TERM_END + 365 * DAY
    world.time.to(TERM_END + 60)
    world.grant(buyer, 4, ends_at=renewed)
    assert split(world.report(buyer, 5)) == ("recorded", 4, 1)
    assert (used(world, buyer), used(world, buyer, renewed)) == (10, 4)


def test_an_upgrade_in_mid_term_adds_to_the_same_term(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 15)
    world.grant(buyer, 12, ends_at=TERM_END)
    assert split(world.report(buyer, 5)) == ("recorded", 2, 3)
    assert used(world, buyer) == 12


def test_a_lowered_entitlement_leaves_what_was_booked_and_includes_no_more(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 8)
    world.grant(buyer, 5, ends_at=TERM_END)
    assert split(world.report(buyer, 2)) == ("recorded", 0, 2)
    world.grant(buyer, 9, ends_at=TERM_END)
    assert split(world.report(buyer, 2)) == ("recorded", 1, 1)
    assert metered(world) == {"api_calls": 3}


def test_a_buyer_without_any_contract_is_charged_for_everything(world: World) -> None:
    buyer = world.subscribe()
    world.time.advance(AWAITED_FOR)
    assert split(world.report(buyer, 2)) == ("recorded", 0, 2)
    assert world.asked == [buyer.id]


def test_a_dimension_that_the_contract_has_dropped_includes_nothing_from_then_on(world: World) -> None:
    buyer = contract(world, 10)
    world.grant(buyer, 5, dimension="other")
    dropped = world.time.seconds()
    world.grant(buyer, None)
    assert split(world.report(buyer, 2)) == ("recorded", 0, 2)
    assert split(world.report(buyer, 2, at=dropped - 60)) == ("recorded", 2, 0)


def test_an_entitlement_without_a_date_is_one_term(world: World) -> None:
    buyer = world.subscribe()
    world.grant(buyer, 3)
    assert split(world.report(buyer, 2)) == ("recorded", 2, 0)
    world.time.advance(400 * DAY)
    assert split(world.report(buyer, 2)) == ("recorded", 1, 1)
    assert used(world, buyer, None) == 3
    proof = world.queries().proof(buyer.id, "r2")
    assert proof is not None
    assert proof["contract"]["term_end"] is None


@pytest.mark.parametrize(
    ("value", "value_type", "included"), [("2.9", "double", 2), (-4, "integer", 0), ("1E+2", "double", 9)]
)
def test_whole_units_are_included(world: World, value: Any, value_type: ValueType, included: int) -> None:
    buyer = contract(world, 10)
    world.grant(buyer, value, value_type=value_type, ends_at=TERM_END)
    assert split(world.report(buyer, 9))[1] == included


@pytest.mark.parametrize(("value", "value_type"), [(True, "boolean"), ("gold", "string")])
def test_an_entitlement_that_is_no_number_is_not_guessed_at(world: World, value: Any, value_type: ValueType) -> None:
    buyer = contract(world, 10)
    world.grant(buyer, value, value_type=value_type)
    result = world.report(buyer, 9)
    assert (result["reason"], result["retryable"]) == ("included_not_a_quantity", True)
    assert world.report(buyer, 9, dimension="users")["status"] == "recorded"


# Not known yet


def test_entitlements_that_were_never_read_hold_the_usage_back(world: World) -> None:
    buyer = world.subscribe()
    world.time.advance(2 * HOUR)
    world.aws_error = NoAnswerError("ReadTimeoutError")
    record = world.usage(buyer, 9)
    (result,) = world.report_all([record])
    assert (result["status"], result["reason"], result["retryable"]) == ("rejected", "entitlements_pending", True)
    assert world.report(buyer, 9, dimension="users")["status"] == "recorded"
    world.aws_error = None
    world.grant(buyer, 5, ends_at=TERM_END)
    assert split(world.report_all([record])[0]) == ("recorded", 5, 4)


def test_right_after_a_purchase_an_empty_answer_is_not_believed(world: World) -> None:
    buyer = world.subscribe()
    world.grant(buyer, None)
    assert world.report(buyer, 9)["reason"] == "entitlements_pending"
    world.time.advance(AWAITED_FOR - 1)
    assert world.report(buyer, 9)["reason"] == "entitlements_pending"
    world.time.advance(1)
    assert split(world.report(buyer, 9)) == ("recorded", 0, 9)


def test_a_contract_that_grants_other_things_only_is_believed_at_once(world: World) -> None:
    buyer = world.subscribe()
    world.grant(buyer, 3, dimension="other")
    assert split(world.report(buyer, 9)) == ("recorded", 0, 9)


# The last usage of a contract


def closing(world: World, buyer: Subscription) -> None:
    """As after License Deprovisioned."""
    stored = SubscriptionReader(world.table(world.tables.subscriptions)).get_many([buyer.id])[buyer.id]
    deadline = world.time.seconds() + HOUR
    world.put_subscription(replace(stored, status="closing", closing_deadline=deadline))


def test_the_only_usage_of_a_contract_may_be_its_last(world: World) -> None:
    buyer = contract(world, 10)
    world.grant(buyer, None)
    closing(world, buyer)
    assert split(world.report(buyer, 9)) == ("recorded", 9, 0)
    assert split(world.report(buyer, 9)) == ("recorded", 1, 8)


def test_what_was_used_before_a_contract_ended_is_used(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 4)
    world.grant(buyer, None)
    closing(world, buyer)
    assert split(world.report(buyer, 9)) == ("recorded", 6, 3)
    assert used(world, buyer) == 10


def test_the_last_usage_of_a_contract_that_ran_out_counts_against_it(world: World) -> None:
    """The final hour begins when the term is over."""
    buyer = contract(world, 10)
    world.time.to(TERM_END + 60)
    closing(world, buyer)
    assert split(world.report(buyer, 4)) == ("recorded", 4, 0)
    world.grant(buyer, None)
    closing(world, buyer)
    assert split(world.report(buyer, 9)) == ("recorded", 6, 3)


def test_the_last_usage_does_not_wait_for_aws(world: World) -> None:
    buyer = contract(world, 10)
    world.time.advance(DAY)
    closing(world, buyer)
    world.aws_error = NoAnswerError("ReadTimeoutError")
    assert split(world.report(buyer, 4)) == ("recorded", 4, 0)


def test_a_contract_that_aws_lists_no_more_waits_for_the_news_of_its_end(world: World) -> None:
    """Nothing is charged meanwhile, and nothing is lost: the same record is split once the end is known."""
    buyer = contract(world, 10)
    world.report(buyer, 10)
    world.grant(buyer, None)
    record = world.usage(buyer, 6)
    assert world.report_all([record])[0]["reason"] == "entitlements_pending"
    closing(world, buyer)
    assert split(world.report_all([record])[0]) == ("recorded", 0, 6)


def test_a_closing_contract_that_was_over_long_ago_includes_nothing(world: World) -> None:
    buyer = contract(world, 10)
    world.time.to(TERM_END + 60)
    world.grant(buyer, None)
    world.time.advance(DAY)
    closing(world, buyer)
    assert split(world.report(buyer, 9)) == ("recorded", 0, 9)


def test_a_closing_contract_that_was_never_read_is_not_charged(world: World) -> None:
    buyer = world.subscribe()
    closing(world, buyer)
    world.aws_error = NoAnswerError("ReadTimeoutError")
    assert world.report(buyer, 9)["reason"] == "entitlements_pending"


def test_a_contract_that_closes_before_aws_has_shown_what_it_grants_is_not_charged(world: World) -> None:
    buyer = world.subscribe()
    world.grant(buyer, None)
    closing(world, buyer)
    result = world.report(buyer, 9)
    assert (result["reason"], result["retryable"]) == ("entitlements_pending", True)


# A migration


def test_both_sides_of_a_migration_share_the_terms_of_the_contract(world: World) -> None:
    product = next(one for one in world.marketplace.registry.products.values() if one.integration == "legacy")
    world.overage_dimensions = {(product.code, "emails"): "seats"}
    purchase = world.marketplace.purchases.subscribe(product.code, provision=True)
    activated = world.time.seconds()
    world.time.advance(3 * HOUR)
    cutover = hour_of(world.time.seconds()) + 2 * HOUR
    legacy = world.store_subscription(purchase, activated_at=activated)
    licensed = replace(legacy, integration="license", license_arn=purchase.license_arn, customer_identifier=None)
    licensed = replace(licensed, id=licensed.identity.subscription_id, migrated_from=legacy.id, cutover_at=cutover)
    legacy = replace(legacy, migrated_to=licensed.id, cutover_at=cutover)
    for one in (legacy, licensed):
        world.put_subscription(one)
    world.grant(legacy, 10, ends_at=TERM_END)
    assert split(world.report(legacy, 4, dimension="emails"))[1:] == (4, 0)
    world.time.to(cutover + 60)
    world.grant(legacy, None)
    world.grant(licensed, 10, ends_at=TERM_END)
    assert split(world.report(licensed, 4, dimension="emails", at=cutover - 60))[1:] == (4, 0)
    both = [world.usage(legacy, 1, dimension="emails"), world.usage(licensed, 3, dimension="emails")]
    parts = [split(result)[1:] for result in world.report_all(both)]
    assert parts == [(1, 0), (1, 2)]
    assert [split(result)[1:] for result in world.report_all(both)] == parts
    assert split(world.report(legacy, 4, dimension="emails"))[1:] == (0, 4)
    assert {hour["pk"] for hour in world.stored()} == {keys.subscription_pk(licensed.id)}


# Hours


def test_late_usage_is_split_once_however_many_hours_it_is_offered(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    own = hour_of(world.time.seconds())
    world.report(buyer, 12)
    world.to_due()
    world.meter()
    result = world.report(buyer, 5, at=own)
    assert split(result) == ("recorded", 0, 5)
    assert (result["hour"], result["own_hour"]) == (iso(own + HOUR), iso(own))
    assert used(world, buyer) == 10


def test_late_usage_that_crosses_the_limit_is_split_in_the_hour_that_takes_it(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    own = hour_of(world.time.seconds())
    world.report(buyer, 4)
    seal(world, buyer, own)
    assert split(world.report(buyer, 5, at=own)) == ("recorded", 5, 0)
    result = world.report(buyer, 5, at=own)
    assert split(result) == ("recorded", 1, 4)
    assert result["hour"] == iso(own + HOUR)
    assert used(world, buyer) == 10


def test_sums_beyond_int32_concern_the_overage_only(world: World) -> None:
    buyer = contract(world, MAX_QUANTITY)
    results = world.report_all([world.usage(buyer, MAX_QUANTITY) for _ in range(3)])
    assert [split(result)[1:] for result in results] == [(MAX_QUANTITY, 0), (0, MAX_QUANTITY), (0, MAX_QUANTITY)]
    assert sorted(hour["quantity"] for hour in world.stored()) == [MAX_QUANTITY, MAX_QUANTITY]
    assert used(world, buyer) == MAX_QUANTITY


def test_small_groups_of_many_buyers_are_booked_together(world: World, calls: Calls) -> None:
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 9)]
    world.time.advance(2 * HOUR)
    for buyer in buyers:
        world.grant(buyer, 3, ends_at=TERM_END)
    records = [
        world.usage(buyer, 2, dimension=dimension, at=world.time.seconds() - age)
        for buyer in buyers
        for dimension in ("api_calls", "users")
        for age in (0, HOUR)
    ]
    calls.forget()
    results = world.report_all(records)
    assert {split(result)[0] for result in results} == {"recorded"}
    assert calls.count() == {"batch_get_item": 4, "transact_write_items": 2}
    assert metered(world) == {"api_calls": 8, "users": 32}
    assert all(used(world, buyer) == 3 for buyer in buyers)


def test_a_bundle_whose_counter_was_in_use_is_booked_part_by_part(world: World, calls: Calls) -> None:
    one, two = contract(world, 10), contract(world, 10, account_id="444455556666")
    other = another(world)
    calls.fail("transact_write_items", partial(meanwhile, other, one, 9))
    results = world.report_all([world.usage(one, 8), world.usage(two, 8)])
    assert [split(result) for result in results] == [("recorded", 1, 7), ("recorded", 8, 0)]
    assert (used(world, one), used(world, two)) == (10, 8)


def test_parts_of_one_contract_are_not_booked_side_by_side(world: World) -> None:
    buyer = contract(world, 100)
    now = world.time.seconds()
    recorder = world.recorder()
    recorder.parallel = 4
    records = [world.usage(buyer, 1, at=now - age * HOUR) for age in (0, 1, 2) for _ in range(80)]
    results = recorder.record(records)
    assert {split(result)[0] for result in results} == {"recorded"}
    assert sum(int(result["overage"]) for result in results) == 140  # type: ignore[call-overload]
    assert metered(world) == {"api_calls": 140}


def test_a_lane_grows_by_the_bundles_that_share_its_contracts(world: World) -> None:
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 5)]
    world.time.advance(2 * HOUR)
    for buyer in buyers:
        world.grant(buyer, 50, ends_at=TERM_END)
    now = world.time.seconds()
    records = [
        world.usage(buyer, 1, at=now - age * HOUR)
        for buyer, ages in zip(buyers, ((0, 1), (0, 1, 2), (0,), (0, 2)), strict=True)
        for age in ages
        for _ in range(45)
    ]
    recorder = world.recorder()
    recorder.parallel = 4
    assert {split(result)[0] for result in recorder.record(records)} == {"recorded"}
    assert metered(world) == {"api_calls": sum(45 * n - 50 for n in (2, 3, 2))}


# Races and outages


def test_the_last_included_unit_is_given_once(world: World, calls: Calls) -> None:
    """Another request takes it between this one's look and its write."""
    buyer = contract(world, 10)
    world.report(buyer, 9)
    other = another(world)
    calls.fail("transact_write_items", partial(meanwhile, other, buyer, 1))
    assert split(world.report(buyer, 3)) == ("recorded", 0, 3)
    assert used(world, buyer) == 10


def test_the_first_units_are_given_once(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    other = another(world)
    calls.fail("transact_write_items", partial(meanwhile, other, buyer, 1))
    assert split(world.report(buyer, 12)) == ("recorded", 9, 3)
    assert used(world, buyer) == 10


def test_reports_that_are_included_whole_do_not_wait_for_each_other(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    other = another(world)
    calls.fail("transact_write_items", partial(meanwhile, other, buyer, 5))
    calls.forget()
    assert split(world.report(buyer, 5)) == ("recorded", 5, 0)
    assert calls.count()["transact_write_items"] == 1
    assert used(world, buyer) == 10


def test_a_conflict_on_the_counter_is_waited_out(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    calls.fail("transact_write_items", conflicting, times=9)
    assert split(world.report(buyer, 3)) == ("recorded", 3, 0)
    calls.fail("transact_write_items", conflicting, times=None)
    result = world.report(buyer, 3)
    assert (result["reason"], result["retryable"]) == ("busy", True)
    assert used(world, buyer) == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_lost_uses_each_unit_once(world: World, calls: Calls, when: str) -> None:
    buyer = contract(world, 10)
    records = [world.usage(buyer, 7), world.usage(buyer, 7)]
    calls.fail("transact_write_items", no_answer, when=when)
    assert {result["reason"] for result in world.report_all(records)} == {"unavailable"}
    again = world.report_all(records)
    assert [split(result)[1:] for result in again] == [(7, 0), (3, 4)]
    assert used(world, buyer) == 10
    assert metered(world) == {"api_calls": 4}


def test_entitlements_that_can_not_be_read_fail_the_request(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    calls.fail("batch_get_item", skip=1)
    with pytest.raises(ThrottledError):
        world.report(buyer, 1)
    store = world.dynamodb
    asked = itertools.count()
    store.unprocessed = lambda operation, count: range(count if next(asked) else 0)
    with pytest.raises(ThrottledError):
        world.report(buyer, 1)
    store.unprocessed = None
    assert world.stored() == []


quantities = st.lists(st.integers(0, 40), max_size=25)


@given(quantities, st.integers(0, 300))
def test_parts_are_exact(reported: list[int], left: int) -> None:
    parts = included_parts(reported, left)
    assert sum(parts) == min(sum(reported), left)
    assert all(0 <= part <= quantity for part, quantity in zip(parts, reported, strict=True))


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.sampled_from([None, {"a": "1"}, {"b": "2"}])), max_size=25
    ),
    st.integers(0, 300),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_the_overage_is_exact_in_any_order_and_in_any_pieces(
    reported: list[tuple[Any, ...]], included: int, size: int, dice: Any
) -> None:
    world = World.on(MemoryDynamoDB(), overage_dimensions=MAPPING)
    buyer = world.subscribe()
    world.time.advance(4 * HOUR)
    world.grant(buyer, included, ends_at=TERM_END)
    now = world.time.seconds()
    records = [world.usage(buyer, q, at=now - age * HOUR, tags=tags) for q, age, tags in reported]
    total = sum(quantity for quantity, _, _ in reported)
    again = records + dice.sample(records, len(records) // 2)
    dice.shuffle(again)
    splits: dict[Any, Any] = {}
    for start in range(0, len(again), size):
        part = again[start : start + size]
        for record, result in zip(part, world.report_all(part), strict=True):
            assert result["included"] + result["overage"] == record["quantity"]
            assert splits.setdefault(record["id"], split(result)[1:]) == split(result)[1:]
    assert sum(overage for _, overage in splits.values()) == max(0, total - included)
    assert sum(metered(world).values()) == max(0, total - included)
    assert used(world, buyer) == min(total, included)
    for hour in world.stored():
        assert hour["quantity"] > 0


@pytest.mark.dynamodb_local
def test_concurrent_reports_never_share_an_included_unit(local_dynamodb: Any, local_tables: Tables) -> None:
    world = World(local_dynamodb, local_tables, overage_dimensions=MAPPING)
    buyer = contract(world, 100)
    batches = [[world.usage(buyer, 3, tags={"user": f"u{n % 3}"}) for n in range(4)] for _ in range(24)]
    recorder = world.recorder()
    recorder.sleep = lambda seconds: None

    def send(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for _ in range(200):
            results = recorder.record(batch)
            if all(result["status"] in {"recorded", "duplicate"} for result in results):
                return results
        raise AssertionError("busy all the time")

    with ThreadPoolExecutor(8) as pool:
        results = list(itertools.chain.from_iterable(pool.map(send, batches)))
    assert sum(result["included"] for result in results) == 100
    assert sum(result["overage"] for result in results) == 24 * 4 * 3 - 100
    assert metered(world) == {"api_calls": 24 * 4 * 3 - 100}
    assert used(world, buyer) == 100


# Only validating, and what was booked


def test_validation_predicts_the_split_and_uses_nothing(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 3, id="known")
    records = [
        world.usage(buyer, 3, id="known"),
        world.usage(buyer, 4),
        world.usage(buyer, 4, at=world.time.seconds() - HOUR),
        world.usage(buyer, 4),
        world.usage(buyer, 4, dimension="users"),
    ]
    predicted = world.recorder().record(records, validate=True)
    assert used(world, buyer) == 3
    assert predicted == world.report_all(records)
    assert {split(result)[1:] for result in predicted} >= {(3, 0), (4, 0), (None, None)}


def test_the_proof_of_a_record_explains_its_split(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    world.report(buyer, 4, id="whole")
    world.report(buyer, 9, id="part")
    world.grant(buyer, 99, ends_at=TERM_END)
    whole, part = (world.queries().proof(buyer.id, name) for name in ("whole", "part"))
    assert whole is not None
    assert part is not None
    assert whole["metering_record"] is None
    assert whole["contract"]["explanation"] == (
        f"Counted against 10 of seats in the term that ends at {iso(TERM_END)}: of the 4 reported units 4 are included "
        "and 0 are metered."
    )
    assert part["metering_record"]["quantity"] == 3
    assert part["contract"] == {
        "included": 6,
        "overage": 3,
        "included_dimension": "seats",
        "limit": 10,
        "term_end": iso(TERM_END),
        "explanation": (
            f"Counted against 10 of seats in the term that ends at {iso(TERM_END)}: of the 9 reported units 6 are "
            "included and 3 are metered."
        ),
    }


def test_usage_outside_of_the_mapping_has_no_contract_in_its_proof(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 4, id="a", dimension="users")
    proof = world.queries().proof(buyer.id, "a")
    assert proof is not None
    assert "contract" not in proof


# What it costs


def test_other_dimensions_cost_nothing_more(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    calls.forget()
    world.report_all([world.usage(buyer, 1, dimension=dimension) for dimension in ("users", "storage_gb_hours")])
    assert calls.count() == {"batch_get_item": 1, "transact_write_items": 1}


def test_a_mapped_dimension_costs_two_reads(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    calls.forget()
    world.report_all([world.usage(buyer, 1, tags={"user": f"u{n}"}) for n in range(30)])
    assert calls.count() == {"batch_get_item": 3, "transact_write_items": 1}
    (transaction,) = calls.of("transact_write_items")
    checked_and_listed, included_of_the_day = 2, 10
    assert len(transaction["TransactItems"]) == 30 + 1 + 20 + 1 + checked_and_listed + included_of_the_day


def test_a_term_that_is_used_up_is_written_no_more(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 10)
    calls.forget()
    world.report(buyer, 1)
    (transaction,) = calls.of("transact_write_items")
    actions = [next(iter(action.items())) for action in transaction["TransactItems"]]
    assert [kind for kind, _ in actions] == ["Put", "Update", "ConditionCheck", "ConditionCheck", "Put"]
    of_terms = {kind for kind, one in actions if one.get("Key", {}).get("sk", {}).get("S", "").startswith("INCLUDED")}
    assert of_terms == {"ConditionCheck"}


# The setting


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", {}),
        (" , ", {}),
        ("code/calls=seats", {("code", "calls"): "seats"}),
        ("a/x=y, a/v=w ,b/x=y", {("a", "x"): "y", ("a", "v"): "w", ("b", "x"): "y"}),
        ("a/x/1=y/2", {("a", "x/1"): "y/2"}),
        ("a/x=x", {("a", "x"): "x"}),
    ],
)
def test_the_mapping_is_read_from_text(given: str, found: dict[tuple[str, str], str]) -> None:
    assert parsed_overage_dimensions(given) == found


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("calls=seats", "'calls=seats' is not of the form"),
        ("a/x=y,a/=y", "'a/=y' is not of the form"),
        ("a/x=y=z", "'a/x=y=z' is not of the form"),
        ("a/x y=z", "'a/x y=z' is not of the form"),
        ("a/x=y,a/x=z", "'a/x=z': the overage dimension x of a is there twice"),
        ("a/x=y,a/z=y", "'a/z=y': what y of a includes is used up by x already"),
    ],
)
def test_a_wrong_part_of_the_mapping_is_named(given: str, named: str) -> None:
    with pytest.raises(ValueError, match="is") as refused:
        parsed_overage_dimensions(given)
    assert named in str(refused.value)
