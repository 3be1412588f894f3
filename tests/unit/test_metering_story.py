"""Metering from end to end in one process, on moto: what is recorded is what AWS bills."""

from typing import Any

import pytest

from marketplace.platform.clock import HOUR, hour_of
from tests.support.tables import Tables
from tests.support.world import World


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> World:
    return World(moto_dynamodb, moto_tables)


def test_an_hour_of_usage_is_billed_once_it_is_due(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.report(buyer, 4)
    assert world.meter().records == {}
    world.to_due()
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 7}
    assert world.meter().due == 0


def test_tags_reach_the_bill_and_the_rest_stays_untagged(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3, tags={"user": "john", "feature": "x"})
    world.report(buyer, 4, tags={"feature": "x", "user": "john"})
    world.report(buyer, 5)
    world.to_due()
    world.meter()
    (record,) = world.marketplace.ledger.records
    assert dict(record.allocations) == {(("feature", "x"), ("user", "john")): 7, (): 5}


def test_late_usage_goes_to_the_next_open_hour(world: World) -> None:
    buyer = world.subscribe()
    hour = hour_of(world.time.seconds())
    world.report(buyer, 3)
    world.to_due()
    world.meter()
    result = world.report(buyer, 4, at=hour + 60)
    assert result["status"] == "recorded"
    assert result["own_hour"] != result["hour"]
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 7}
    assert [record.hour for record in world.marketplace.ledger.records] == [hour // HOUR, hour // HOUR + 1]


def test_a_repeated_id_counts_once_and_other_content_is_a_conflict(world: World) -> None:
    buyer = world.subscribe()
    assert world.report(buyer, 3, id="a")["status"] == "recorded"
    assert world.report(buyer, 3, id="a")["status"] == "duplicate"
    assert world.report(buyer, 4, id="a")["status"] == "conflict"
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 3}


def test_the_legacy_integration_is_billed_by_customer_and_product(world: World) -> None:
    code = next(p.code for p in world.marketplace.registry.products.values() if p.integration == "legacy")
    buyer = world.subscribe(product=code)
    dimension = next(d for p in world.marketplace.registry.products.values() if p.code == code for d in p.dimensions)
    world.report(buyer, 3, dimension=dimension)
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, dimension): 3}


@pytest.mark.parametrize("resend", ["success", "duplicate"])
@pytest.mark.parametrize("fault", ["drop_after", "timeout_after", "internal_error_after", "malformed", "truncate"])
def test_a_lost_answer_is_found_again_under_both_readings_of_a_resend(world: World, fault: str, resend: str) -> None:
    world.marketplace.settings.update({"identical_resend": resend})
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "times": 1, "fault": fault}])
    outcomes = world.meter().records + world.meter().records
    assert outcomes["metered" if resend == "success" else "metered_earlier"] == 1
    assert outcomes["conflict"] == 0
    assert world.billed() == {(buyer.id, "api_calls"): 3}
    assert [record["state"] for record in world.stored()] == ["metered"]


@pytest.mark.slow
def test_one_poisoned_record_is_found_and_the_others_are_billed_in_the_same_run(world: World) -> None:
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 26)]
    for n, buyer in enumerate(buyers):
        world.report(buyer, 1, dimension="no_such_dimension" if n == 13 else "api_calls")
    world.to_due()
    report = world.meter()
    assert report.records == {"metered": 24, "rejected": 1}
    assert report.calls <= 1 + 11
    assert [r["reason"] for r in world.stored("rejected")] == ["InvalidUsageDimensionException"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    ["throttle", "internal_error", "disabled_api", "access_denied", "expired_token_credentials", "unavailable",
     "unrecognized_credentials", "timeout_before", "drop_before"],
)  # fmt: skip
def test_an_outage_marks_nothing_bad_and_the_next_healthy_run_bills_everything(world: World, fault: str) -> None:
    buyers = [world.subscribe(account_id=f"{n:012d}") for n in range(1, 31)]
    for buyer in buyers:
        world.report(buyer, 2)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "times": None, "fault": fault}])
    report = world.meter()
    assert report.breaker_opened
    assert report.calls == 5
    assert {record["state"] for record in world.stored()} == {"open"}
    world.marketplace.faults.clear()
    world.time.advance(900)
    report = world.meter()
    assert report.records.total() == 30
    assert sum(world.billed().values()) == 60
    assert {record["state"] for record in world.stored()} == {"metered"}
