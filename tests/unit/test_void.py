"""Voiding usage: what was reported by mistake is taken back exactly, once, and only while its hour is open."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.clock import DAY, HOUR, MINUTE, hour_of, iso
from marketplace.platform.errors import AwsError
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.model import Subscription
from marketplace.usage.overage import Term, counted_in
from tests.support.calls import Calls, CrashError, conflicting, no_answer, throttled
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World
from tests.unit.test_rerating import MAPPING, allocated, contract, hours, seal, split, told, used

END = NOON + 30 * DAY


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"overage_dimensions": MAPPING}


@pytest.fixture
def buyer(world: World) -> Subscription:
    """Whose usage of `users` is metered whole."""
    return world.subscribe()


def outcomes(results: list[dict[str, Any]]) -> list[str]:
    return [one["reason"] for one in results]


def seal_users(world: World, buyer: Subscription, hour: int) -> None:
    """As a metering run does."""
    key = keys.metering_record(buyer.id, hour, "users").item()
    token = {":token": {"S": "t@us-east-1"}}
    world.dynamodb.update_item(
        TableName=world.tables.usage, Key=key, UpdateExpression="SET seal = :token", ExpressionAttributeValues=token
    )


def usage_records(world: World) -> dict[str, dict[str, Any]]:
    items = [from_item(item) for item in world._all_items(world.tables.usage)]
    return {item["record_id"]: item for item in items if "record_id" in item}


def exact(world: World) -> None:
    """Each unit that is reported and not voided is at one place: counted as included, or in its hour with its tags."""
    standing = [one for one in usage_records(world).values() if "voided_at" not in one]
    overage: dict[tuple[int, str], list[int]] = {}
    tagged = 0
    for one in standing:
        rest = one["quantity"] - one.get("included", 0)
        if rest or "included" not in one:
            overage.setdefault((one["hour"], one["dimension"]), []).append(rest)
            tagged += rest if one.get("tags") and not one.get("untagged") else 0
    found = {(one["hour"], one["dimension"]): (one["quantity"], one["records"]) for one in world.stored()}
    assert found == {place: (sum(units), len(units)) for place, units in overage.items()}
    assert sum(one["quantity"] for one in world.allocations()) == tagged
    items = [from_item(item) for item in world._all_items(world.tables.usage)]
    included = sum(one.get("included", 0) for one in standing)
    assert sum(one["used"] for one in items if "used" in one) == included + sum(
        one.get("correction_due", 0) for one in standing
    )
    assert sum(one.get("included", 0) for one in items if one["sk"].startswith("DAY#")) == included


# While the hour is open


def test_a_voided_record_leaves_its_hour_and_the_others_stay(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 5, id="kept", dimension="users", tags={"user": "x"})
    world.report(buyer, 900, id="wrong", dimension="users", tags={"user": "x"})
    world.report(buyer, 70, id="other", dimension="users", tags={"user": "y"})
    (result,) = world.void(buyer, "wrong")
    assert (result["status"], result["hour"], result["retryable"]) == ("voided", iso(hour_of(NOON)), False)
    assert hours(world) == {iso(hour_of(NOON)): (75, 2)}
    assert allocated(world) == {"x": 5, "y": 70}
    world.void(buyer, "other")
    assert allocated(world) == {"x": 5}
    exact(world)
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "users"): 5}
    assert world.stored()[0]["tag_sets"] == 1


def test_an_hour_of_which_all_is_voided_is_not_sent(world: World, buyer: Subscription) -> None:
    """A zero would take the hour's place at AWS."""
    world.report(buyer, 9, id="a", dimension="users", tags={"user": "x"})
    world.report(buyer, 0, id="b", dimension="users", tags={"user": "x"})
    world.void(buyer, "a", "b")
    assert (world.stored(), world.allocations()) == ([], [])
    world.report(buyer, 4, id="c", dimension="users", tags={"user": "x"})
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "users"): 4}


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_records_without_units_are_voided_in_any_order(world: World, buyer: Subscription, order: tuple[str]) -> None:
    for name, quantity in (("a", 0), ("b", 0), ("c", 3)):
        world.report(buyer, quantity, id=name, dimension="users", tags={"user": "x"})
    for name in order:
        assert outcomes(world.void(buyer, name)) == ["voided"]
        exact(world)
    assert (world.stored(), world.allocations()) == ([], [])


def test_a_tag_set_can_come_again_after_the_last_one_was_taken_out(world: World, buyer: Subscription) -> None:
    world.report(buyer, 1, id="a", dimension="users")
    world.report(buyer, 2, id="b", dimension="users", tags={"user": "x"})
    world.void(buyer, "b")
    assert world.report(buyer, 3, id="c", dimension="users", tags={"user": "y"})["status"] == "recorded"
    assert allocated(world) == {"y": 3}
    exact(world)


def test_a_full_hour_has_room_again(world: World, buyer: Subscription) -> None:
    world.report(buyer, MAX_QUANTITY, id="wrong", dimension="users")
    world.void(buyer, "wrong")
    assert world.report(buyer, 7, id="right", dimension="users")["hour"] == iso(hour_of(NOON))


def test_usage_whose_tags_found_no_room_is_taken_from_the_rest(world: World, buyer: Subscription) -> None:
    for name in "abcdef":
        world.report(buyer, 1, id=name, dimension="users", tags={f"key-{name}": "x"})
    assert world.stored()[0]["untagged_records"] == 1
    world.void(buyer, "f", "a")
    (hour,) = world.stored()
    assert (hour["quantity"], hour.get("untagged_records"), hour["tag_sets"]) == (4, 0, 4)
    exact(world)


# The same id again


def test_voiding_again_answers_the_same_and_changes_nothing(world: World, buyer: Subscription) -> None:
    world.report(buyer, 5, id="kept", dimension="users")
    world.report(buyer, 9, id="wrong", dimension="users")
    first = world.void(buyer, "wrong")
    before = world._all_items(world.tables.usage)
    world.time.advance(3 * HOUR)
    assert world.void(buyer, "wrong") == first
    assert world.void(buyer, "wrong", "wrong") == [*first, *first]
    assert world._all_items(world.tables.usage) == before


def test_a_repeated_report_of_a_voided_record_is_answered_voided(world: World, buyer: Subscription) -> None:
    given_at = NOON - 60
    world.report(buyer, 9, id="wrong", dimension="users", at=given_at)
    world.void(buyer, "wrong")
    again = world.report(buyer, 9, id="wrong", dimension="users", at=given_at)
    assert (again["status"], again["retryable"]) == ("voided", False)
    other = world.report(buyer, 10, id="wrong", dimension="users", at=given_at)
    assert other["status"] == "conflict"
    record = world.usage(buyer, 9, id="wrong", dimension="users", at=given_at)
    twice = world.report_all([record, record, {**record, "quantity": 8}])
    assert [one["status"] for one in twice] == ["voided", "voided", "conflict"]
    assert world.recorder().record([record], validate=True)[0]["status"] == "voided"
    world.time.advance(30 * HOUR)
    assert world.report(buyer, 9, id="wrong", dimension="users", at=given_at)["status"] == "voided"
    assert world.stored() == []


def test_the_proof_says_who_voided_it_and_names_no_metering_record(world: World, buyer: Subscription) -> None:
    world.report(buyer, 5, id="kept", dimension="users")
    world.report(buyer, 9, id="wrong", dimension="users")
    world.void(buyer, "wrong", caller="arn:aws:iam::123456789012:user/ops")
    proof = world.queries().proof(buyer.id, "wrong")
    assert proof is not None
    assert proof["record"]["voided_by"] == "arn:aws:iam::123456789012:user/ops"
    assert (proof["record"]["voided_at"], proof["metering_record"]) == (iso(NOON), None)
    kept = world.queries().proof(buyer.id, "kept")
    assert kept is not None
    assert (kept["metering_record"]["quantity"], "voided_at" in kept["record"]) == (5, False)


def test_a_statement_has_the_units_no_more(world: World, buyer: Subscription) -> None:
    world.report(buyer, 5, id="kept", dimension="users", tags={"user": "x"})
    world.report(buyer, 9, id="wrong", dimension="users", tags={"user": "x"})
    world.void(buyer, "wrong")
    (day,) = StatementReader(world.usage_table(), world.time.now).statement(buyer.id, "2026-11").days
    assert [(line.tags, line.units.recorded) for line in day.lines] == [((("user", "x"),), 5)]


# What can't be voided


def test_a_record_of_a_sealed_hour_is_refused_and_told_what_to_do(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 9, id="a", dimension="users")
    seal_users(world, buyer, hour_of(NOON))
    before = world._all_items(world.tables.usage)
    (result,) = world.void(buyer, "a")
    assert (result["status"], result["reason"], result["retryable"]) == ("rejected", "sealed", False)
    assert "`correct`" in str(result["message"])
    assert world._all_items(world.tables.usage) == before


def test_a_metered_record_is_refused(world: World, buyer: Subscription) -> None:
    world.report(buyer, 9, id="a", dimension="users")
    world.to_due()
    world.meter()
    assert outcomes(world.void(buyer, "a")) == ["sealed"]
    assert world.billed() == {(buyer.id, "users"): 9}


def test_an_unknown_record_is_refused(world: World, buyer: Subscription) -> None:
    stranger = replace(buyer, id="sub-" + "a" * 26)
    world.report(buyer, 9, id="a", dimension="users")
    assert outcomes(world.void(buyer, "b")) == ["unknown_record"]
    assert outcomes(world.void(stranger, "a")) == ["unknown_record"]


def test_what_is_no_name_of_a_record_is_refused_by_itself(world: World, buyer: Subscription) -> None:
    world.report(buyer, 9, id="a", dimension="users")
    good = {"id": "a", "license_arn": buyer.license_arn}
    wrong: list[Any] = [7, {}, {"id": "a"}, {**good, "quantity": 9}, {**good, "subscription_id": buyer.id}, {"id": " "}]
    results, count = world.usage_void().void([*wrong, good], "caller")
    assert [one["status"] for one in results] == ["rejected"] * 6 + ["voided"]
    assert (count, world.stored()) == (1, [])


def test_a_void_beside_the_seal_is_decided_by_the_seal(world: World, buyer: Subscription, calls: Calls) -> None:
    """The hour is sealed between the reading and the transaction."""
    world.report(buyer, 9, id="a", dimension="users")
    calls.fail("transact_write_items", lambda: seal_users(world, buyer, hour_of(NOON)))
    assert outcomes(world.void(buyer, "a")) == ["sealed"]
    assert "voided_at" not in usage_records(world)["a"]


def test_a_seal_beside_a_void_finds_the_hour_without_the_units(world: World, buyer: Subscription, calls: Calls) -> None:
    world.report(buyer, 5, id="kept", dimension="users")
    world.report(buyer, 9, id="a", dimension="users")
    world.to_due()
    calls.fail("batch_execute_statement", lambda: _done(world.void(buyer, "a")))
    world.meter()
    assert world.billed() == {(buyer.id, "users"): 5}


def test_an_hour_that_a_void_empties_while_a_run_seals_it_is_not_sent(
    world: World, buyer: Subscription, calls: Calls
) -> None:
    world.report(buyer, 9, id="a", dimension="users")
    world.to_due()
    calls.fail("batch_execute_statement", lambda: _done(world.void(buyer, "a")))
    world.meter()
    assert (world.billed(), world.stored()) == ({}, [])


def _done(_: object) -> None:
    return None


# Contracts with consumption


def test_what_a_contract_includes_can_be_used_again(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    world.report(buyer, 12, id="wrong", tags={"user": "x"})
    world.void(buyer, "wrong")
    assert (used(world, buyer), world.stored(), world.allocations()) == (0, [], [])
    assert world.report(buyer, 10, id="right", tags={"user": "x"})["overage"] == 0
    exact(world)


def test_what_was_charged_because_of_it_is_given_back(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 8, id="wrong")
    world.report(buyer, 6, id="a", tags={"user": "x"})
    assert split(world, buyer, "a") == (2, 4)
    world.void(buyer, "wrong")
    assert split(world, buyer, "a") == (6, 0)
    assert (used(world, buyer), world.stored()) == (6, [])
    exact(world)


def test_what_was_charged_because_of_it_and_is_sealed_is_listed(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 8, id="wrong")
    world.report(buyer, 6, id="a", at=NOON + HOUR)
    seal(world, buyer, hour_of(NOON + HOUR))
    world.void(buyer, "wrong")
    (event,) = told(world)
    assert (event.detail["quantity"], event.detail["record_ids"]) == (4, ["a"])
    exact(world)


def test_a_void_gives_back_no_more_than_was_included_when_the_usage_was_charged(world: World) -> None:
    """What the contract includes since an upgrade is not for usage that exceeded it before."""
    buyer = contract(world, 10)
    world.report(buyer, 8, id="wrong")
    world.report(buyer, 30, id="a")
    world.time.advance(HOUR)
    world.entitlements().sync(buyer.id)
    world.time.advance(MINUTE)
    world.grant(buyer, 100, ends_at=END)
    assert split(world, buyer, "a") == (2, 28)
    world.void(buyer, "wrong")
    assert split(world, buyer, "a") == (10, 20)
    exact(world)


def test_usage_that_a_contract_includes_whole_is_voided_whatever_its_hour_is(world: World) -> None:
    """AWS has not heard of it."""
    buyer = contract(world, 10)
    world.report(buyer, 4, id="a")
    world.report(buyer, 10, id="b")
    seal(world, buyer, hour_of(world.time.seconds()))
    assert outcomes(world.void(buyer, "b")) == ["sealed"]
    assert outcomes(world.void(buyer, "a")) == ["voided"]


def test_usage_that_a_contract_includes_stays_once_the_window_of_its_hour_has_closed(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 4, id="a")
    world.time.advance(26 * HOUR)
    assert outcomes(world.void(buyer, "a")) == ["too_late"]


def test_a_record_that_two_terms_include_goes_back_to_both(world: World) -> None:
    """As a late renewal leaves one: what the old term included stays counted in it."""
    buyer = contract(world, 10)
    world.report(buyer, 6, id="a")
    old, new = (keys.included(buyer.id, "api_calls", end) for end in (NOON, END))
    counted = counted_in(Term(buyer.id, "api_calls", "seats", 10, END, END), 4, [[*old, 2]])
    assert counted == [[*old, 2], [*new, 4]]
    record = {**usage_records(world)["a"], "counted": counted}
    for values in (record, {**old._asdict(), "used": 2}, {**new._asdict(), "used": 4}):
        world.dynamodb.put_item(TableName=world.tables.usage, Item=to_item(values))
    assert outcomes(world.void(buyer, "a")) == ["voided"]
    assert [used(world, buyer, end) for end in (NOON, END)] == [0, 0]
    exact(world)


def test_usage_is_not_charged_by_a_counter_that_a_void_has_changed_since(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 10, id="wrong")
    calls.fail("transact_write_items", lambda: _done(world.void(buyer, "wrong")))
    assert world.report(buyer, 7, id="a")["overage"] == 0
    assert used(world, buyer) == 7


def test_a_record_of_an_earlier_version_says_that_it_can_not_be_traced(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 4, id="a")
    key = keys.usage_record(buyer.id, "a").item()
    world.dynamodb.update_item(TableName=world.tables.usage, Key=key, UpdateExpression="REMOVE counted")
    assert outcomes(world.void(buyer, "a")) == ["not_traceable"]
    assert used(world, buyer) == 4


def test_a_void_whose_comparison_failed_is_repeated(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 8, id="wrong")
    world.report(buyer, 6, id="a")
    calls.fail("transact_write_items", no_answer, skip=1)
    (result,) = world.void(buyer, "wrong")
    assert (result["reason"], result["retryable"]) == ("unavailable", True)
    assert outcomes(world.void(buyer, "wrong")) == ["voided"]
    assert split(world, buyer, "a") == (6, 0)


# Crashes, lost answers, others at work


FAILURES: list[Callable[[], BaseException]] = [throttled, no_answer, conflicting, CrashError]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_void_that_is_interrupted_at_any_call_is_completed_by_its_repetition(
    failure: Callable[[], BaseException], when: str
) -> None:
    """Played once for each call."""
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap, overage_dimensions=MAPPING)
        buyer = contract(world, 10)
        world.report(buyer, 8, id="wrong", tags={"user": "x"})
        world.report(buyer, 6, id="a", tags={"user": "x"})
        world.report(buyer, 3, id="plain", dimension="users", tags={"user": "x"})
        calls.forget()
        names = ("transact_write_items", "get_item", "batch_get_item", "query")
        for name in names:
            calls.fail(name, _at(point, calls, names, failure, failed), when=when, times=None)
        with suppress(AwsError, CrashError):
            world.void(buyer, "wrong", "plain")
        calls.heal()
        assert outcomes(world.void(buyer, "wrong", "plain")) == ["voided", "voided"]
        exact(world)
        assert (used(world, buyer), split(world, buyer, "a")) == (6, (6, 0))
        if not failed[0]:
            assert point > 8
            return


def _at(
    point: int, calls: Calls, names: tuple[str, ...], failure: Callable[[], BaseException], failed: list[bool]
) -> Callable[[], BaseException | None]:
    """Fails the call of this number, counted over all of these methods."""

    def strike() -> BaseException | None:
        if sum(calls.count()[name] for name in names) != point + 1 or failed[0]:
            return None
        failed[0] = True
        return failure()

    return strike


@settings(max_examples=60)
@given(
    reports=st.lists(
        st.tuples(
            st.sampled_from(["users", "api_calls"]), st.integers(0, 12), st.sampled_from([None, "x", "y"]),
        ),
        min_size=1, max_size=10,
    ),
    included=st.integers(0, 20),
    data=st.data(),
)  # fmt: skip
@pytest.mark.slow
def test_what_is_left_is_what_would_be_there_had_the_voided_never_been_reported(
    reports: list[tuple[str, int, str | None]], included: int, data: st.DataObject
) -> None:
    world = World.on(MemoryDynamoDB(), overage_dimensions=MAPPING)
    buyer = contract(world, included)
    for number, (dimension, quantity, user) in enumerate(reports):
        tags = None if user is None else {"user": user}
        world.report(buyer, quantity, id=f"r{number}", dimension=dimension, tags=tags)
        for voided in data.draw(st.lists(st.integers(0, number), max_size=2)):
            world.void(buyer, f"r{voided}")
    exact(world)
    records = usage_records(world)
    standing = [one for one in records.values() if "voided_at" not in one and one["dimension"] == "api_calls"]
    reported = sum(one["quantity"] for one in standing)
    assert sum(one["included"] for one in standing) == min(included, reported)
