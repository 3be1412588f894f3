"""Contracts with consumption around renewals, upgrades and readings that are old, empty or late: what was paid for is
never charged, and usage counts against the term of its own time."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.rules import Entitlement
from marketplace.entitlements.store import EntitlementStore
from marketplace.entitlements.terms import AWAITED_FOR
from marketplace.platform.clock import DAY, HOUR, MINUTE, hour_of
from marketplace.platform.errors import NoAnswerError, RefusedError
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, no_answer
from tests.support.tables import Tables
from tests.support.world import MAX_AGE, NOON, World

PRODUCT = "ca1contractandconsumption"
END = NOON + 9 * HOUR + 1500
YEAR = 365 * DAY


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"overage_dimensions": {(PRODUCT, "api_calls"): "seats"}}


def contract(world: World, included: int, *, ends_at: int | None = END, account: str = "111122223333") -> Subscription:
    """A buyer whose contract includes so much, active for two hours."""
    buyer = world.subscribe(account)
    world.time.advance(2 * HOUR)
    world.grant(buyer, included, ends_at=ends_at)
    return buyer


def split(result: dict[str, Any]) -> tuple[object, object, object]:
    return result["status"], result.get("included"), result.get("overage")


def reason(result: dict[str, Any]) -> tuple[object, object]:
    return result["reason"], result["retryable"]


PENDING = ("entitlements_pending", True)


def read_at_the_end(world: World, buyer: Subscription) -> None:
    """The reading shortly before the end of a term, after which its last value is known."""
    world.time.to(END - 30)
    world.entitlements().sync(buyer.id)


# Renewals


@pytest.mark.parametrize("late", [1, 5 * MINUTE, 7 * HOUR, 2 * DAY])
def test_after_a_renewal_whose_event_is_late_or_lost_nothing_that_is_included_is_charged(
    world: World, late: int
) -> None:
    buyer = contract(world, 40)
    assert split(world.report(buyer, 40)) == ("recorded", 40, 0)
    world.time.to(END + late)
    world.grant(buyer, 30, ends_at=END + YEAR, read_back=False)
    assert split(world.report(buyer, 30)) == ("recorded", 30, 0)
    assert split(world.report(buyer, 2)) == ("recorded", 0, 2)


def test_until_aws_shows_the_renewal_usage_of_the_new_term_waits(world: World) -> None:
    buyer = contract(world, 40)
    world.report(buyer, 40)
    world.time.to(END + 60)
    record = world.usage(buyer, 25, at=END + 30)
    assert reason(world.report_all([record])[0]) == PENDING
    world.time.advance(20 * MINUTE)
    world.grant(buyer, 30, ends_at=END + YEAR, read_back=False)
    assert split(world.report_all([record])[0]) == ("recorded", 25, 0)


def test_a_contract_that_aws_goes_on_listing_after_its_date_goes_on_after_half_a_day(world: World) -> None:
    buyer = contract(world, 40)
    world.time.to(END + AWAITED_FOR - 1)
    assert reason(world.report(buyer, 1)) == PENDING
    world.time.advance(1)
    assert split(world.report(buyer, 41)) == ("recorded", 40, 1)


def test_late_usage_of_the_old_term_counts_against_the_old_term(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 40)
    world.report(buyer, 15)
    read_at_the_end(world, buyer)
    world.time.to(END + 10 * MINUTE)
    world.grant(buyer, 30, ends_at=END + YEAR)
    assert split(world.report(buyer, 25, at=END - 1)) == ("recorded", 25, 0)
    assert split(world.report(buyer, 3, at=END - HOUR)) == ("recorded", 0, 3)
    assert split(world.report(buyer, 31, at=END)) == ("recorded", 30, 1)


def test_one_hour_with_usage_of_both_terms_is_one_metering_record(either_world: World) -> None:
    """The term ends in the middle of the hour, and one request holds usage of both sides."""
    world = either_world
    buyer = contract(world, 5)
    read_at_the_end(world, buyer)
    world.time.to(END + 10 * MINUTE)
    world.grant(buyer, 3, ends_at=END + YEAR)
    records = [
        world.usage(buyer, 4, at=END + second, tags={"side": side})
        for second, side in ((-60, "a"), (60, "b"), (-30, "a"), (30, "b"))
    ]
    results = world.report_all(records)
    assert [split(result)[1:] for result in results] == [(4, 0), (3, 1), (1, 3), (0, 4)]
    (hour,) = world.stored()
    assert (hour["hour"], hour["quantity"]) == (hour_of(END), 8)
    assert {one["tags"]["side"]: one["quantity"] for one in world.allocations()} == {"a": 3, "b": 5}


def test_more_records_of_two_terms_than_a_transaction_holds(world: World) -> None:
    buyer = contract(world, 50)
    read_at_the_end(world, buyer)
    world.time.to(END + 10 * MINUTE)
    world.grant(buyer, 70, ends_at=END + YEAR)
    records = [world.usage(buyer, 1, at=END + (60 if n % 2 else -60), tags={"n": f"{n % 7}"}) for n in range(240)]
    results = world.report_all(records)
    assert {result["status"] for result in results} == {"recorded"}
    assert sum(result["included"] for result in results) == 120
    assert sum(record["quantity"] for record in world.stored()) == 120


# What the old term granted at its end


@pytest.mark.parametrize("renewed", [20, 40, 90])
def test_what_an_ended_term_may_have_granted_unseen_is_never_charged(either_world: World, renewed: int) -> None:
    """The grant was raised, or not, hours before the end, and nothing was read then: AWS doesn't show it any more."""
    world = either_world
    buyer = contract(world, 40)
    world.report(buyer, 30)
    world.time.to(END + 10 * MINUTE)
    world.grant(buyer, renewed, ends_at=END + YEAR)
    assert split(world.report(buyer, 8, at=END - 1)) == ("recorded", 8, 0)
    assert reason(world.report(buyer, 3, at=END - HOUR)) == PENDING
    assert split(world.report(buyer, 2, at=END - 2 * HOUR)) == ("recorded", 2, 0)
    assert reason(world.report(buyer, 1, at=END - 1)) == PENDING
    assert world.stored() == []


def test_what_is_known_to_be_included_does_not_wait_for_what_is_not(world: World) -> None:
    buyer = contract(world, 10)
    world.time.to(END + 10 * MINUTE)
    world.grant(buyer, 70, ends_at=END + YEAR)
    records = [world.usage(buyer, quantity, at=END + at) for quantity, at in ((4, -60), (7, -50), (6, -40), (80, 60))]
    results = world.report_all(records)
    assert [result["status"] for result in results] == ["recorded", "rejected", "recorded", "recorded"]
    assert [results[n]["included"] for n in (0, 2, 3)] == [4, 6, 70]
    assert reason(results[1]) == PENDING
    predicted = world.recorder().record([world.usage(buyer, 1, at=END - 60)], validate=True)
    assert reason(predicted[0]) == PENDING


def test_a_repetition_of_what_an_ended_term_was_charged_is_a_duplicate(world: World) -> None:
    buyer = contract(world, 10)
    record = world.usage(buyer, 12, at=END - HOUR)
    world.time.to(END - 50 * MINUTE)
    assert split(world.report_all([record])[0]) == ("recorded", 10, 2)
    world.time.to(END + HOUR)
    world.grant(buyer, 10, ends_at=END + YEAR)
    assert split(world.report_all([record])[0]) == ("duplicate", 10, 2)


def test_the_end_of_a_term_is_asked_about_however_young_the_reading_is(world: World) -> None:
    buyer = contract(world, 40)
    world.time.to(END - 30)
    world.entitlements().sync(buyer.id)
    world.grant(buyer, 30, ends_at=END + YEAR, read_back=False)
    world.time.to(END + 5)
    world.asked.clear()
    assert split(world.report(buyer, 30)) == ("recorded", 30, 0)
    assert world.asked == [buyer.id]


def test_a_renewal_that_grants_less_and_one_that_grants_more(world: World) -> None:
    buyer = contract(world, 40)
    for years, granted in enumerate((25, 90)):
        world.time.to(END + years * YEAR + 60)
        world.grant(buyer, granted, ends_at=END + (years + 1) * YEAR, read_back=False)
        assert split(world.report(buyer, 100)) == ("recorded", granted, 100 - granted)


# Upgrades


@pytest.mark.parametrize("end", [END, END + 3 * DAY, END + YEAR, END - HOUR])
def test_an_upgrade_keeps_what_is_used_whatever_happens_to_the_end(world: World, end: int) -> None:
    buyer = contract(world, 40)
    world.report(buyer, 40)
    world.grant(buyer, 60, ends_at=end)
    assert split(world.report(buyer, 60)) == ("recorded", 20, 40)


def test_after_an_upgrade_that_moved_the_end_a_renewal_begins_at_the_new_end(world: World) -> None:
    buyer = contract(world, 40)
    world.report(buyer, 40)
    world.grant(buyer, 40, ends_at=END + DAY)
    world.time.to(END + DAY - 2 * HOUR)
    assert split(world.report(buyer, 1)) == ("recorded", 0, 1)
    world.time.to(END + DAY + 60)
    world.grant(buyer, 40, ends_at=END + YEAR, read_back=False)
    assert split(world.report(buyer, 41)) == ("recorded", 40, 1)


def test_an_upgrade_whose_event_is_lost_counts_once_the_reading_is_old(world: World) -> None:
    buyer = contract(world, 40)
    world.report(buyer, 40)
    world.time.advance(MAX_AGE + 1)
    world.grant(buyer, 200, ends_at=END, read_back=False)
    assert split(world.report(buyer, 160)) == ("recorded", 160, 0)


# Answers that say nothing


@pytest.mark.parametrize("waited", [60, 61 * MINUTE, 3 * DAY])
def test_an_empty_answer_for_an_active_contract_is_not_overage(world: World, waited: int) -> None:
    buyer = contract(world, 40, ends_at=END + YEAR)
    world.report(buyer, 40)
    world.grant(buyer, None)
    world.time.advance(waited)
    assert reason(world.report(buyer, 7)) == PENDING
    world.grant(buyer, 50, ends_at=END + YEAR, read_back=False)
    world.time.advance(60)
    assert split(world.report(buyer, 7)) == ("recorded", 7, 0)


def test_once_the_paid_period_is_over_an_empty_answer_means_nothing_is_included(world: World) -> None:
    buyer = contract(world, 40)
    world.time.to(END + 60)
    world.grant(buyer, None)
    assert reason(world.report(buyer, 7)) == PENDING
    world.time.to(END + AWAITED_FOR)
    assert split(world.report(buyer, 7)) == ("recorded", 0, 7)


@pytest.mark.parametrize("error", [NoAnswerError("ReadTimeoutError"), RefusedError("AccessDeniedException")])
def test_a_reading_that_is_old_and_can_not_be_renewed_charges_nothing(world: World, error: Any) -> None:
    buyer = contract(world, 40)
    world.time.advance(MAX_AGE)
    world.aws_error = error
    assert split(world.report(buyer, 1)) == ("recorded", 1, 0)
    world.time.advance(1)
    assert reason(world.report(buyer, 1)) == PENDING
    assert world.report(buyer, 1, dimension="users")["status"] == "recorded"
    world.aws_error = None
    assert split(world.report(buyer, 40)) == ("recorded", 39, 1)


def test_a_contract_that_is_bought_again_has_all_of_its_units(world: World) -> None:
    buyer = contract(world, 40, ends_at=END + YEAR)
    world.report(buyer, 40)
    world.grant(buyer, None)
    world.time.advance(2 * HOUR)
    world.grant(buyer, 40, ends_at=END + YEAR + DAY)
    assert split(world.report(buyer, 41)) == ("recorded", 40, 1)


def test_what_is_not_a_quantity_now_is_one_in_the_term_before(world: World) -> None:
    buyer = contract(world, 40)
    world.time.to(END + 60)
    world.grant(buyer, "gold", value_type="string", ends_at=END + YEAR)
    assert world.report(buyer, 1)["reason"] == "included_not_a_quantity"
    assert split(world.report(buyer, 1, at=END - 60)) == ("recorded", 1, 0)


# Several grants at once


def test_grants_side_by_side_are_included_together(world: World) -> None:
    buyer = contract(world, 40)
    extra = Entitlement(dimension="seats", value_type="integer", value=5, expires_at=END + YEAR)
    world.granted[buyer.id]["extra"] = extra
    world.entitlements().sync(buyer.id)
    assert split(world.report(buyer, 46)) == ("recorded", 45, 1)


# Both sides of a migration


def test_a_side_of_a_migration_that_can_not_be_read_charges_nothing(world: World) -> None:
    buyer = contract(world, 40)
    other = world.subscribe("444455556666")
    world.put_subscription(replace(buyer, migrated_from=other.id, cutover_at=NOON))
    world.aws_error = NoAnswerError("ReadTimeoutError")
    assert reason(world.report(buyer, 41)) == PENDING


def test_a_migration_does_not_give_the_units_of_a_moved_term_again(world: World) -> None:
    """The legacy side was first read with another end; both sides are one contract with one counter."""
    legacy = contract(world, 40)
    world.report(legacy, 40)
    world.grant(legacy, 40, ends_at=END + DAY)
    licensed = world.subscribe("444455556666")
    stored = world.entitlement_store().read(legacy.id).subscription
    cutover = hour_of(world.time.seconds())
    world.put_subscription(replace(stored, migrated_to=licensed.id, cutover_at=cutover))
    world.put_subscription(replace(licensed, activated_at=NOON, migrated_from=legacy.id, cutover_at=cutover))
    world.grant(licensed, 40, ends_at=END + DAY)
    assert split(world.report(licensed, 1)) == ("recorded", 0, 1)


# What it costs, and how long it may take


def test_a_subscription_is_read_back_once_in_a_request(world: World, calls: Calls) -> None:
    buyers = [contract(world, 40, account=f"{n:012d}", ends_at=END + YEAR) for n in range(1, 4)]
    world.time.advance(DAY)
    world.asked.clear()
    now = world.time.seconds()
    records = [world.usage(buyer, 1, at=now - n * HOUR) for buyer in buyers for n in range(5)]
    assert {result["status"] for result in world.report_all(records)} == {"recorded"}
    assert sorted(world.asked) == sorted(buyer.id for buyer in buyers)
    world.report_all([world.usage(buyer, 1) for buyer in buyers])
    assert len(world.asked) == 3


def test_what_aws_did_not_show_is_asked_about_once_a_minute(world: World) -> None:
    buyer = contract(world, 40)
    world.time.to(END + 60)
    world.asked.clear()
    for _ in range(3):
        assert reason(world.report(buyer, 1)) == PENDING
    assert len(world.asked) == 1
    world.time.advance(60)
    world.report(buyer, 1)
    assert len(world.asked) == 2


def test_usage_outside_of_contracts_reads_nothing_more(world: World, calls: Calls) -> None:
    buyer = contract(world, 40)
    world.time.advance(DAY)
    world.asked.clear()
    calls.forget()
    records = [world.usage(buyer, 1, dimension="users") for _ in range(500)]
    assert {result["status"] for result in world.report_all(records)} == {"recorded"}
    assert sum(calls.count().values()) <= 8
    assert calls.count()["batch_get_item"] == 1
    assert world.asked == []


@pytest.fixture
def slow(world: World) -> "Slow":
    return Slow(world)


class Slow:
    """GetEntitlements that takes four seconds of the world's clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls = 0
        self._lock = threading.Lock()

    def entitlements(self, _subscription: Subscription) -> list[Entitlement]:
        with self._lock:
            self.calls += 1
            self.world.time.advance(4)
        return [Entitlement(dimension="seats", value_type="integer", value=9, expires_at=END + YEAR)]

    def read_back(self, ids: Iterator[str] | list[str], **given: Any) -> dict[str, int]:
        entitlements = Entitlements(
            store=self.world.entitlement_store(),
            source=self,
            clock=self.world.time.now,
            max_age=MAX_AGE,
            stale_limit=DAY,
            monotonic=self.world.time.monotonic,
            **given,
        )
        return entitlements.read_back(list(ids))


@pytest.mark.parametrize(("parallel", "begun"), [(1, {2}), (4, {2, 3, 4, 5})])
def test_readings_that_do_not_fit_the_time_are_left_for_the_next_request(
    world: World, slow: Slow, parallel: int, begun: set[int]
) -> None:
    buyers = [world.subscribe(f"{n:012d}") for n in range(1, 9)]
    found = slow.read_back([buyer.id for buyer in buyers], parallel=parallel)
    assert slow.calls in begun
    assert len(found) == slow.calls


def test_a_request_reads_back_a_hundred_subscriptions_at_most(world: World) -> None:
    buyers = [world.subscribe(f"{n:012d}") for n in range(1, 104)]
    ids = [buyer.id for buyer in buyers]
    assert sorted(world.entitlements().read_back(ids)) == sorted(ids)[:100]


def test_a_subscription_that_is_gone_or_has_no_answer_is_missing_among_the_readings(world: World, calls: Calls) -> None:
    buyer = world.subscribe()
    assert list(world.entitlements().read_back(["sub-gone", buyer.id])) == [buyer.id]
    calls.fail("transact_write_items", no_answer)
    assert world.entitlements().read_back([buyer.id]) == {}


@pytest.mark.dynamodb_local
def test_readings_side_by_side_leave_one_term(local_dynamodb: Any, local_tables: Tables) -> None:
    """Eight functions read the same renewal at once; one of them writes it."""
    world = World(local_dynamodb, local_tables)
    buyer = world.subscribe()
    world.grant(buyer, 40, ends_at=END)
    world.time.to(END + 60)
    world.grant(buyer, 30, ends_at=END + YEAR, read_back=False)
    readers = [threading.Thread(target=world.entitlements().sync, args=(buyer.id,)) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    history = EntitlementStore(Table(local_dynamodb, local_tables.subscriptions)).histories([(buyer.id, "seats")])
    assert [term.value for term in history[buyer.id, "seats"].terms] == [40, 30]
    (item,) = [
        one
        for one in local_dynamodb.scan(TableName=local_tables.subscriptions)["Items"]
        if one["sk"]["S"].startswith(keys.ENTITLEMENT_PREFIX)
    ]
    assert item["value"]["N"] == "30"
