"""Units that were charged before AWS was heard to include them: given back exactly while their hour is open, listed for
the seller once it is sealed."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.entitlements.terms import AWAITED_FOR
from marketplace.platform.clock import DAY, HOUR, MINUTE, hour_of, iso
from marketplace.platform.errors import AwsError, ThrottledError
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.seller_events import SellerEvent, from_outbox
from tests.support.calls import Calls, conflicting, no_answer, throttled
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.seller_schemas import check
from tests.support.tables import Tables
from tests.support.world import NOON, World

PRODUCT = "ca1contractandconsumption"
MAPPING = {(PRODUCT, "api_calls"): "seats"}
END = NOON + 30 * DAY


@pytest.fixture
def world_settings() -> dict[str, Any]:
    return {"overage_dimensions": MAPPING}


def contract(world: World, included: int, *, ends_at: int = END) -> Subscription:
    """A buyer whose contract includes so much, read back a minute ago."""
    buyer = world.subscribe()
    world.time.to(NOON + 2 * HOUR)
    world.grant(buyer, included, ends_at=ends_at)
    world.time.advance(MINUTE)
    return buyer


def split(world: World, buyer: Subscription, record_id: str) -> tuple[int, int]:
    proof = world.queries().proof(buyer.id, record_id)
    assert proof is not None
    return proof["contract"]["included"], proof["contract"]["overage"]


def hours(world: World) -> dict[str, tuple[int, int]]:
    """Units and usage records by the hour of their metering record."""
    return {iso(one["hour"]): (one["quantity"], one["records"]) for one in world.stored()}


def allocated(world: World) -> dict[str, int]:
    return {one["tags"]["user"]: one["quantity"] for one in world.allocations()}


def used(world: World, buyer: Subscription, first_end: int = END) -> int:
    key = keys.included(buyer.id, "api_calls", first_end).item()
    item = world.dynamodb.get_item(TableName=world.tables.usage, Key=key).get("Item")
    return 0 if item is None else int(from_item(item)["used"])


def told(world: World, kind: str = "Overage Correction Due") -> list[SellerEvent]:
    items = world._all_items(world.tables.subscriptions)
    events = [from_outbox(item) for item in items if item["sk"]["S"].startswith(keys.OUTBOX_PREFIX)]
    found = [event for event in events if event.kind == kind]
    for event in found:
        if kind == "Overage Correction Due":
            check(kind, event.published_detail)
    return found


def seal(world: World, buyer: Subscription, hour: int) -> None:
    """As a metering run does."""
    world.dynamodb.update_item(
        TableName=world.tables.usage,
        Key=keys.metering_record(buyer.id, hour, "api_calls").item(),
        UpdateExpression="SET seal = :token",
        ExpressionAttributeValues={":token": {"S": "t"}},
    )


def consistent(world: World, buyer: Subscription) -> None:
    """Each unit that was reported is at one place: included and counted, or in a metering record with its tags."""
    records = [from_item(item) for item in world._all_items(world.tables.usage) if "record_id" in item]
    overage: dict[int, int] = {}
    for record in records:
        rest = record["quantity"] - record["included"]
        if rest:
            overage[record["hour"]] = overage.get(record["hour"], 0) + rest
    assert {one["hour"]: one["quantity"] for one in world.stored()} == overage
    tagged = sum(one["quantity"] - one["included"] for one in records if one.get("tags") and not one.get("untagged"))
    assert sum(one["quantity"] for one in world.allocations()) == tagged
    corrected = sum(one.get("correction_due", 0) for one in records)
    assert used(world, buyer) == sum(one["included"] for one in records) + corrected


# While the hour is open


def test_a_late_upgrade_gives_back_what_it_includes(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    world.report(buyer, 12, id="a", tags={"user": "x"})
    world.report(buyer, 6, id="b", tags={"user": "y"})
    world.grant(buyer, 15, ends_at=END)
    assert (split(world, buyer, "a"), split(world, buyer, "b")) == ((12, 0), (3, 3))
    assert list(hours(world).values()) == [(3, 1)]
    assert allocated(world) == {"y": 3}
    assert used(world, buyer) == 15
    assert told(world) == []
    consistent(world, buyer)
    world.to_due()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 3}


def test_an_hour_of_which_all_is_given_back_is_not_sent(either_world: World) -> None:
    """A zero would take the hour's place at AWS."""
    world = either_world
    buyer = contract(world, 10)
    world.report(buyer, 14, id="a", tags={"user": "x"})
    world.grant(buyer, 20, ends_at=END)
    assert world.stored() == []
    assert world.allocations() == []
    assert world.report(buyer, 14, id="a", tags={"user": "x"})["overage"] == 0
    assert world.report(buyer, 9, tags={"user": "x"})["overage"] == 3
    assert allocated(world) == {"x": 3}
    consistent(world, buyer)


def test_a_renewal_that_comes_after_its_term_went_on_gives_back(world: World) -> None:
    """AWS listed the old term for half a day after its end, so it was taken to go on."""
    end = NOON + 10 * HOUR
    buyer = contract(world, 10, ends_at=end)
    world.report(buyer, 10)
    world.time.to(end + 13 * HOUR)
    assert world.report(buyer, 4, id="a")["overage"] == 4
    world.time.advance(MINUTE)
    assert world.report(buyer, 3, id="b")["overage"] == 3
    world.grant(buyer, 5, ends_at=end + 365 * DAY)
    assert split(world, buyer, "a") == (0, 4)  # AWS was asked at its time, and said so
    assert split(world, buyer, "b") == (3, 0)
    assert used(world, buyer, end + 365 * DAY) == 3


def test_a_contract_that_aws_shows_half_a_day_after_the_purchase_gives_back_what_was_charged(world: World) -> None:
    buyer = world.subscribe()
    world.time.advance(AWAITED_FOR)
    assert world.report(buyer, 8, id="a")["overage"] == 8
    world.time.advance(300)
    world.grant(buyer, 5, ends_at=END)
    assert split(world, buyer, "a") == (5, 3)
    consistent(world, buyer)


def test_usage_before_the_last_reading_stays_charged(world: World) -> None:
    """AWS was asked since, and the contract did not include it: the upgrade came later."""
    buyer = contract(world, 10)
    world.report(buyer, 12, id="a")
    world.entitlements().sync(buyer.id)
    world.time.advance(MINUTE)
    world.report(buyer, 5, id="b")
    world.grant(buyer, 100, ends_at=END)
    assert (split(world, buyer, "a"), split(world, buyer, "b")) == ((10, 2), (5, 0))
    assert list(hours(world).values()) == [(2, 1)]
    consistent(world, buyer)


def test_what_is_lowered_or_stays_gives_nothing_back(world: World) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 12)
    for included in (8, 10):
        world.grant(buyer, included, ends_at=END)
        world.time.advance(MINUTE)
    assert list(hours(world).values()) == [(2, 1)]


@pytest.mark.slow
def test_many_records_of_several_hours_are_given_back(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 0)
    now = world.time.seconds()
    world.report_all([world.usage(buyer, 2, tags={"user": f"u{n % 9}"}) for n in range(80)])
    world.report_all([world.usage(buyer, 2, at=now + n % 200) for n in range(40)])
    world.time.advance(299)
    world.grant(buyer, 217, ends_at=END)
    assert sum(quantity for quantity, _ in hours(world).values()) == 240 - 217
    consistent(world, buyer)


def test_records_whose_tags_found_no_room_are_given_back_too(world: World) -> None:
    buyer = contract(world, 0)
    for n in range(7):
        world.report(buyer, 2, id=f"r-{n}", tags={f"key{n}": "x"})
    (hour,) = world.stored()
    assert (hour["untagged_records"], hour["tag_sets"]) == (2, 5)
    world.grant(buyer, 13, ends_at=END)
    (hour,) = world.stored()
    assert hour["quantity"] == 1
    assert hour.get("untagged_records", 0) + hour.get("tag_sets", 0) == 1


# Once the hour is sealed


def test_units_of_a_sealed_hour_are_listed_once(either_world: World) -> None:
    world = either_world
    buyer = contract(world, 10)
    hour = hour_of(world.time.seconds())
    world.report(buyer, 12, id="a")
    world.report(buyer, 6, id="b")
    seal(world, buyer, hour)
    world.grant(buyer, 15, ends_at=END)
    (event,) = told(world)
    assert event.detail == {
        "subscription_id": buyer.id,
        "tenant_id": None,
        "dimension": "api_calls",
        "hour": iso(hour),
        "quantity": 5,
        "included_dimension": "seats",
        "record_ids": ["a", "b"],
    }
    assert (split(world, buyer, "a"), split(world, buyer, "b")) == ((10, 2), (0, 6))
    assert hours(world) == {iso(hour): (8, 2)}
    assert used(world, buyer) == 15
    proofs = [world.queries().proof(buyer.id, name) for name in ("a", "b")]
    contracts = [proof["contract"] for proof in proofs if proof is not None]
    assert [one["correction_due"] for one in contracts] == [2, 3]
    assert contracts[1]["explanation"].endswith(
        "of the 6 reported units 0 are included and 6 are metered. As AWS showed later, 3 of the metered units are "
        "included too: credit them to the buyer."
    )
    world.entitlements().sync(buyer.id)
    assert told(world) == [event]
    consistent(world, buyer)


def test_a_second_upgrade_lists_the_rest(world: World) -> None:
    buyer = contract(world, 10)
    hour = hour_of(world.time.seconds())
    world.report(buyer, 18, id="a")
    seal(world, buyer, hour)
    for included in (13, 20):
        world.entitlements()._rerate(buyer.id, 0)  # type: ignore[misc] # nothing is due yet
        world.granted[buyer.id].clear()
        world.grant(buyer, included, ends_at=END, read_back=False)
        before = world.entitlement_store().read(buyer.id)
        world.entitlement_store().replace(before, world.granted[buyer.id], world.time.seconds())
        world.rerating()(buyer.id, 0)
    assert sorted(event.detail["quantity"] for event in told(world)) == [3, 5]
    assert used(world, buyer) == 18
    consistent(world, buyer)


def test_the_open_hour_is_given_back_and_the_sealed_one_is_listed(world: World) -> None:
    buyer = contract(world, 10)
    hour = hour_of(world.time.seconds())
    world.time.to(hour + HOUR - 120)
    world.entitlements().sync(buyer.id)
    world.time.advance(60)
    world.report(buyer, 12, id="a")
    world.time.advance(120)
    world.report(buyer, 4, id="b")
    seal(world, buyer, hour)
    world.grant(buyer, 100, ends_at=END)
    assert [event.detail["record_ids"] for event in told(world)] == [["a"]]
    assert hours(world) == {iso(hour): (2, 1)}
    assert split(world, buyer, "b") == (4, 0)


# Whatever happens beside it


def test_an_hour_that_is_sealed_meanwhile_is_listed(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    hour = hour_of(world.time.seconds())
    world.report(buyer, 12, id="a")
    calls.fail("transact_write_items", lambda: seal(world, buyer, hour), skip=1)
    world.grant(buyer, 15, ends_at=END)
    assert [event.detail["quantity"] for event in told(world)] == [2]
    assert hours(world) == {iso(hour): (2, 1)}
    assert used(world, buyer) == 12


def test_usage_that_arrives_meanwhile_is_kept(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 12, id="a")
    other = World(world.dynamodb, world.tables, time=world.time, overage_dimensions=MAPPING, granted=world.granted)

    def arrives() -> None:
        assert other.report(buyer, 1, id="b")["included"] == 1

    calls.fail("transact_write_items", arrives, skip=1)
    world.grant(buyer, 12, ends_at=END)
    assert (split(world, buyer, "a"), split(world, buyer, "b")) == ((11, 1), (1, 0))
    consistent(world, buyer)


def test_usage_is_not_charged_by_what_was_granted_before(world: World, calls: Calls) -> None:
    """The upgrade is read back, and charged usage compared, between a request's look and its write."""
    buyer = contract(world, 10)
    world.report(buyer, 10)
    other = World(world.dynamodb, world.tables, time=world.time, overage_dimensions=MAPPING, granted=world.granted)
    calls.fail("transact_write_items", lambda: other.grant(buyer, 50, ends_at=END))
    record = world.usage(buyer, 5, id="a")
    (result,) = world.report_all([record])
    assert (result["reason"], result["retryable"]) == ("entitlements_pending", True)
    assert world.report_all([record])[0]["included"] == 5
    assert world.stored() == []
    consistent(world, buyer)


def test_others_that_stay_in_the_way_leave_it_for_the_repetition(world: World, calls: Calls) -> None:
    buyer = contract(world, 10)
    world.report(buyer, 12, id="a")
    calls.fail("transact_write_items", conflicting, times=None, skip=1)
    with pytest.raises(ThrottledError):
        world.grant(buyer, 15, ends_at=END)
    calls.heal()
    world.time.advance(MINUTE)
    world.entitlements().sync(buyer.id)
    assert split(world, buyer, "a") == (12, 0)
    consistent(world, buyer)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failure", [throttled, no_answer])
def test_it_is_done_once_wherever_it_is_interrupted(
    sealed: bool, when: str, failure: Callable[[], BaseException]
) -> None:
    for operation in ("transact_write_items", "update_item", "get_item", "query", "batch_get_item"):
        for skip in itertools.count():
            calls = Calls()
            world = World.on(MemoryDynamoDB(), wrap=calls.wrap, overage_dimensions=MAPPING)
            buyer = contract(world, 10)
            world.report(buyer, 12, id="a", tags={"user": "x"})
            world.report(buyer, 7, id="b", tags={"user": "x"})
            hour = hour_of(world.time.seconds())
            if sealed:
                seal(world, buyer, hour)
            calls.forget()
            calls.fail(operation, failure, when=when, skip=skip)
            reached = False
            try:
                world.grant(buyer, 15, ends_at=END)
            except AwsError:
                reached = True
            calls.heal()
            world.time.advance(MINUTE)
            world.entitlements().sync(buyer.id)
            assert used(world, buyer) == 15
            assert [event.detail["quantity"] for event in told(world)] == ([5] if sealed else [])
            assert hours(world) == {iso(hour): (9, 2) if sealed else (4, 1)}
            consistent(world, buyer)
            if not reached and calls.count()[operation] <= skip + 3:
                break


def test_a_product_without_overage_dimensions_reads_nothing(world: World, calls: Calls) -> None:
    buyer = world.subscribe(product=next(code for code in world.marketplace.registry.products if code != PRODUCT))
    calls.forget()
    world.grant(buyer, 5)
    assert calls.count()["query"] == 1
    world.overage_dimensions = {}
    world.grant(buyer, 6)
    assert calls.count()["query"] == 2


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([None, "x", "y"])), min_size=1, max_size=20),
    st.lists(st.integers(0, 200), min_size=1, max_size=4),
    st.integers(1, 6),
)
def test_after_late_upgrades_the_overage_is_what_exceeds_the_largest(
    reported: list[tuple[int, str | None]], limits: list[int], size: int
) -> None:
    """Limits that only grow, none of them heard of in time, in one open hour."""
    world = World.on(MemoryDynamoDB(), overage_dimensions=MAPPING)
    buyer = contract(world, 0)
    records = [world.usage(buyer, quantity, tags={"user": user} if user else None) for quantity, user in reported]
    total = sum(quantity for quantity, _ in reported)
    for start in range(0, len(records), size):
        assert {one["status"] for one in world.report_all(records[start : start + size])} == {"recorded"}
    for limit in sorted(limits):
        before = world.entitlement_store().read(buyer.id)
        world.grant(buyer, limit, ends_at=END, read_back=False)
        world.entitlement_store().replace(before, world.granted[buyer.id], world.time.seconds())
        world.rerating()(buyer.id, 0)
    overage = max(0, total - max(limits))
    assert sum(one["quantity"] for one in world.stored()) == overage
    assert used(world, buyer) == total - overage
    consistent(world, buyer)


@pytest.mark.dynamodb_local
def test_a_seal_and_reporters_beside_it_lose_and_double_nothing(local_dynamodb: Any, local_tables: Tables) -> None:
    """Ten contracts, each upgraded by two readers at once while reporters go on and a metering run seals the hour."""
    for number in range(10):
        world = World(local_dynamodb, local_tables, overage_dimensions=MAPPING)
        buyer = world.subscribe(f"{number + 1:012d}")
        world.time.to(NOON + 2 * HOUR)
        world.grant(buyer, 10, ends_at=END)
        world.time.advance(MINUTE)
        for n in range(8):
            world.report(buyer, 3, id=f"first-{n}", tags={"user": f"u{n % 3}"})
        hour = hour_of(world.time.seconds())
        world.grant(buyer, 40, ends_at=END, read_back=False)
        start = threading.Barrier(5)

        def read(world: World = world, buyer: Subscription = buyer, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(ThrottledError):
                world.entitlements().sync(buyer.id)

        def report(
            name: str, world: World = world, buyer: Subscription = buyer, start: threading.Barrier = start
        ) -> None:
            start.wait()
            for n in range(6):
                world.report(buyer, 2, id=f"{name}-{n}", tags={"user": f"u{n % 2}"})

        def close(world: World = world, buyer: Subscription = buyer, start: threading.Barrier = start) -> None:
            start.wait()
            seal(world, buyer, hour)  # noqa: B023 - called in this round

        with ThreadPoolExecutor(5) as pool:
            work = [pool.submit(read), pool.submit(read), pool.submit(report, "b"), pool.submit(report, "c")]
            for done in [*work, pool.submit(close)]:
                done.result()
        world.time.advance(MINUTE)
        world.entitlements().sync(buyer.id)
        records = [
            from_item(item)
            for item in world._all_items(world.tables.usage)
            if "record_id" in item and item["pk"]["S"] == keys.subscription_pk(buyer.id)
        ]
        stored = {one["hour"]: one["quantity"] for one in world.stored() if one["pk"] == keys.subscription_pk(buyer.id)}
        overage: dict[int, int] = {}
        for record in records:
            rest = record["quantity"] - record["included"]
            overage[record["hour"]] = overage.get(record["hour"], 0) + rest
        assert stored == {hour: rest for hour, rest in overage.items() if rest}
        corrected = sum(one.get("correction_due", 0) for one in records)
        listed = [event for event in told(world) if event.detail["subscription_id"] == buyer.id]
        assert sum(event.detail["quantity"] for event in listed) == corrected
        included = sum(one["included"] for one in records)
        assert used(world, buyer) == included + corrected == min(40, sum(one["quantity"] for one in records))
