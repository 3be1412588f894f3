"""A customer who moves from the legacy integration to a licence is billed by one of the two for each hour."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from marketplace.commands.migration import Migration, MigrationRefusedError
from marketplace.dynamodb import keys
from marketplace.metering.heartbeat import ActiveByStatus, Heartbeat
from marketplace.platform.clock import DAY, HOUR, epoch, hour_of, iso
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from tests.support.calls import Calls
from tests.support.tables import Tables
from tests.support.world import SEAL_DELAY, World

DIMENSION = "emails"


type Customer = tuple[Subscription, Subscription]
"""A legacy customer and their licence."""


@pytest.fixture
def moving(world: World) -> Customer:
    """A customer with the cut-over two hours from now."""
    return customer_of(world)


def customer_of(world: World) -> Customer:
    product = next(one for one in world.marketplace.registry.products.values() if one.integration == "legacy")
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
    return legacy, licensed


def drained(world: World) -> dict[tuple[int, str], int]:
    """What AWS billed, by hour and integration."""
    for _ in range(30):
        world.meter()
        world.time.advance(HOUR)
    return {(one.hour * HOUR, one.integration): int(one.quantity) for one in world.marketplace.ledger.records}


def test_each_side_of_the_cutover_is_billed_by_its_own_integration(world: World, moving: Customer) -> None:
    legacy, licensed = moving
    cutover = legacy.cutover_at or 0
    world.report(legacy, 5, dimension=DIMENSION)
    world.report(licensed, 7, dimension=DIMENSION)
    world.time.to(cutover + 60)
    world.report(legacy, 11, dimension=DIMENSION)
    world.report(licensed, 13, dimension=DIMENSION)
    world.report(licensed, 17, dimension=DIMENSION, at=cutover - 60)
    billed = drained(world)
    assert billed == {
        (cutover - 2 * HOUR, "legacy"): 12,
        (cutover - HOUR, "legacy"): 17,
        (cutover, "license"): 24,
    }


def test_a_report_without_a_timestamp_that_is_repeated_after_the_cutover_counts_once(
    world: World, moving: Customer
) -> None:
    legacy, _ = moving
    assert world.report(legacy, 5, id="same", dimension=DIMENSION)["status"] == "recorded"
    world.time.to((legacy.cutover_at or 0) + 60)
    assert world.report(legacy, 5, id="same", dimension=DIMENSION)["status"] == "duplicate"
    assert sum(drained(world).values()) == 5


def test_late_usage_of_before_the_cutover_is_billed_after_it_when_nothing_before_is_left(
    world: World, moving: Customer
) -> None:
    legacy, _ = moving
    cutover = legacy.cutover_at or 0
    first = hour_of(legacy.activated_at or 0)
    world.time.to(cutover + 20 * 60)
    for hour in range(first, cutover, HOUR):
        world.report(legacy, 1, dimension=DIMENSION, at=max(hour, legacy.activated_at or 0) + 1)
    world.meter()
    result = world.report(legacy, 9, id="late", dimension=DIMENSION, at=cutover - 30)
    assert result["status"] == "recorded"
    billed = drained(world)
    assert billed[cutover, "license"] == 9
    assert sum(billed.values()) == 9 + (cutover - first) // HOUR
    proof = world.queries().proof(legacy.id, "late")
    assert proof is not None
    assert proof["metering_record"]["state"] == "metered"
    assert proof["billed_to"] != legacy.id


def test_no_hour_is_ever_sent_under_both_integrations(world: World, moving: Customer) -> None:
    legacy, _ = moving
    cutover = legacy.cutover_at or 0
    world.time.to(cutover + HOUR + 120)
    for minutes in range(-200, 60, 7):
        for one in moving:
            world.report(one, 1, dimension=DIMENSION, at=cutover + minutes * 60)
        if minutes % 3 == 0:
            world.meter()
    billed = drained(world)
    hours = [hour for hour, _ in billed]
    assert len(hours) == len(set(hours))
    assert {side for hour, side in billed if hour < cutover} == {"legacy"}
    assert {side for hour, side in billed if hour >= cutover} == {"license"}


def test_a_customer_whose_hours_without_usage_are_filled_with_zeros_is_moved_and_billed_once(
    world: World, moving: Customer
) -> None:
    """The zeros of the licence, which stands beside the legacy customer until then, are no usage."""
    for one in moving:
        world.put_subscription(replace(one, migrated_to=None, migrated_from=None, cutover_at=None))
    legacy, licensed = moving
    fill(world)
    world.meter()
    assert {hour["pk"] for hour in world.stored("metered")} == {keys.subscription_pk(one.id) for one in moving}
    world.report(legacy, 5, dimension=DIMENSION)
    cutover = migration_in(world).migrate(legacy.id, licensed.id).at
    fill(world)
    world.time.to(cutover + 60)
    world.report(legacy, 7, dimension=DIMENSION)
    for _ in range(3):
        fill(world)
        world.meter()
        world.time.advance(HOUR)
    billed = drained(world)
    assert {hour: quantity for hour, quantity in billed.items() if quantity} == {
        (hour_of(cutover - 2 * HOUR), "legacy"): 5,
        (cutover, "license"): 7,
    }


@pytest.mark.parametrize("quantity", [0, 1])
def test_a_licence_with_reported_usage_beside_zeros_is_not_moved(world: World, moving: Customer, quantity: int) -> None:
    for one in moving:
        world.put_subscription(replace(one, migrated_to=None, migrated_from=None, cutover_at=None))
    legacy, licensed = moving
    fill(world)
    world.report(licensed, quantity, dimension=DIMENSION)
    with pytest.raises(MigrationRefusedError, match=f"{iso(hour_of(world.time.seconds()))} {DIMENSION}"):
        migration_in(world).migrate(legacy.id, licensed.id)


def migration_in(world: World) -> Migration:
    return Migration(
        table=world.table(world.tables.subscriptions),
        usage_table=world.usage_table(),
        clock=world.time.now,
        sleep=world.time.sleep,
    )


def fill(world: World) -> None:
    """Fills the hours that are due with zeros."""
    subscriptions = world.table(world.tables.subscriptions)
    active = ActiveByStatus(subscriptions, SubscriptionReader(subscriptions))
    Heartbeat(world.usage_table(), active, DIMENSION, SEAL_DELAY, workers=1).fill(epoch(world.time.now()), lambda: 900)


# Ids: what a migrated customer reports is one usage, whichever of the two names it is reported under.


def statuses(results: list[dict[str, Any]]) -> list[Any]:
    return [result["status"] for result in results]


def units(world: World) -> int:
    return sum(hour["quantity"] for hour in world.stored())


@pytest.mark.parametrize("hours", [0, 2], ids=["before the cut-over", "after it"])
@pytest.mark.parametrize(("first", "again"), [(0, 1), (1, 0)], ids=["legacy first", "licence first"])
def test_one_id_under_both_names_of_a_migrated_customer_counts_once(
    world: World, moving: Customer, first: int, again: int, hours: int
) -> None:
    world.time.advance(hours * HOUR)
    records = [world.usage(moving[name], 40, id="one", dimension=DIMENSION) for name in (first, again)]
    assert statuses(world.report_all(records[:1])) == ["recorded"]
    assert statuses(world.report_all(records[1:])) == ["duplicate"]
    assert statuses(world.recorder().record(records, validate=True)) == ["duplicate", "duplicate"]
    assert statuses(world.report_all([{**records[1], "quantity": 41}])) == ["conflict"]
    assert sum(drained(world).values()) == 40


def test_one_id_under_both_names_in_one_request_counts_once(world: World, moving: Customer) -> None:
    legacy, licensed = moving
    given: dict[str, Any] = {"id": "one", "dimension": DIMENSION, "tags": {"team": "search"}}
    named = {**world.usage(licensed, 40, **given), "license_arn": licensed.license_arn}
    del named["subscription_id"]
    records = [named, world.usage(legacy, 40, **given), world.usage(legacy, 41, **given)]
    assert statuses(world.report_all(records)) == ["recorded", "duplicate", "conflict"]
    assert units(world) == 40


@pytest.mark.parametrize(("first", "again"), [(0, 1), (1, 0)])
def test_a_record_of_a_migrated_customer_is_known_under_the_other_name_however_late(
    world: World, moving: Customer, first: int, again: int
) -> None:
    at = world.time.seconds()
    one, other = (world.usage(moving[name], 40, id="one", dimension=DIMENSION, at=at) for name in (first, again))
    assert statuses(world.report_all([one])) == ["recorded"]
    world.time.advance(DAY + HOUR)
    assert statuses(world.report_all([other])) == ["duplicate"]


@pytest.mark.parametrize(("kept", "again"), [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_a_record_that_is_kept_under_one_name_only_is_a_duplicate_under_both(
    world: World, moving: Customer, kept: int, again: int
) -> None:
    """As records from before the migration are, and what a request wrote that had read the legacy customer before."""
    for one in moving:
        world.put_subscription(replace(one, migrated_to=None, migrated_from=None, cutover_at=None))
    assert world.report(moving[kept], 40, id="one", dimension=DIMENSION)["status"] == "recorded"
    for one in moving:
        world.put_subscription(one)
    assert world.report(moving[again], 40, id="one", dimension=DIMENSION)["status"] == "duplicate"
    assert world.report(moving[again], 41, id="one", dimension=DIMENSION)["status"] == "conflict"
    assert units(world) == 40


class ReadBefore:
    """The subscriptions of a request that read them before the migration."""

    def __init__(self, *found: Subscription) -> None:
        self._found = {one.id: replace(one, migrated_to=None, migrated_from=None, cutover_at=None) for one in found}

    def get_many(self, ids: Sequence[str]) -> Mapping[str, Subscription]:
        return {one: self._found[one] for one in ids if one in self._found}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_request_that_read_the_legacy_customer_before_the_migration_does_not_count_an_id_again(
    world: World, moving: Customer, order: tuple[int, int]
) -> None:
    legacy, licensed = moving
    early = world.recorder()
    early.subscriptions = ReadBefore(legacy)
    requests = [(early, legacy), (world.recorder(), licensed)]
    results = [
        recorder.record([world.usage(named, 40, id="one", dimension=DIMENSION)])[0]["status"]
        for recorder, named in (requests[place] for place in order)
    ]
    assert results == ["recorded", "duplicate"]
    assert units(world) == 40


def test_one_name_that_was_read_before_the_migration_is_still_the_others_in_one_request(
    world: World, moving: Customer
) -> None:
    legacy, licensed = moving
    recorder = world.recorder()
    reader = ReadBefore(legacy)
    recorder.subscriptions = ReadEach({legacy.id: reader, licensed.id: recorder.subscriptions})
    records = [world.usage(one, 40, id="one", dimension=DIMENSION) for one in moving]
    assert statuses(recorder.record(records)) == ["recorded", "duplicate"]
    assert units(world) == 40


class ReadEach:
    """Each subscription as another reader finds it."""

    def __init__(self, readers: Mapping[str, Any]) -> None:
        self._readers = readers

    def get_many(self, ids: Sequence[str]) -> Mapping[str, Subscription]:
        return {one: self._readers[one].get_many([one])[one] for one in ids}


def test_the_proof_of_a_migrated_customers_record_is_found_under_both_names(world: World, moving: Customer) -> None:
    legacy, licensed = moving
    world.report(licensed, 40, id="one", dimension=DIMENSION)
    for one in moving:
        proof = world.queries().proof(one.id, "one")
        assert proof is not None
        assert (proof["subscription_id"], proof["billed_to"]) == (one.id, legacy.id)
        assert proof["metering_record"]["quantity"] == 40


def test_the_records_of_a_migrated_customer_fit_their_transactions(
    world: World, moving: Customer, calls: Calls
) -> None:
    """A record takes two actions of the hundred, so a request of 500 takes eleven transactions."""
    _, licensed = moving
    records = [world.usage(licensed, 1, dimension=DIMENSION) for _ in range(500)]
    assert set(statuses(world.report_all(records))) == {"recorded"}
    sizes = [len(arguments["TransactItems"]) for arguments in calls.of("transact_write_items")]
    assert len(sizes) == 11
    assert max(sizes) <= 100
    calls.forget()
    tagged = [world.usage(licensed, 1, dimension=DIMENSION, tags={"team": f"t{n}"}) for n in range(120)]
    assert set(statuses(world.report_all(tagged))) == {"recorded"}
    assert max(len(arguments["TransactItems"]) for arguments in calls.of("transact_write_items")) <= 100
    assert units(world) == 620


def test_a_customer_who_is_not_migrated_keeps_a_record_once(world: World, calls: Calls) -> None:
    world.report(world.subscribe(), 1)
    (transaction,) = calls.of("transact_write_items")
    assert [next(iter(action)) for action in transaction["TransactItems"]] == ["Put", "Update"]


@pytest.mark.dynamodb_local
def test_an_id_that_is_reported_under_both_names_at_once_counts_once(local_dynamodb: Any, local_tables: Tables) -> None:
    world = World(local_dynamodb, local_tables)
    moving = customer_of(world)
    recorder = world.recorder()
    recorder.sleep = lambda seconds: None
    ids = [f"one{n}" for n in range(20)]
    requests = [
        [world.usage(named, 3, id=one, dimension=DIMENSION) for one in ids[start : start + 4]]
        for start in range(0, len(ids), 4)
        for named in (*moving, *moving)
    ]

    def send(request: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for _ in range(200):
            results = recorder.record(request)
            if all(result["status"] in {"recorded", "duplicate"} for result in results):
                return results
        raise AssertionError("busy all the time")

    with ThreadPoolExecutor(8) as pool:
        results = list(itertools.chain.from_iterable(pool.map(send, requests)))
    assert Counter(result["id"] for result in results if result["status"] == "recorded") == Counter(ids)
    assert units(world) == 3 * len(ids)
    kept = {(one.id, each) for one in moving for each in ids if world.queries().proof(one.id, each) is not None}
    assert len(kept) == 2 * len(ids)
    assert keys.subscription_pk(moving[0].id) in {hour["pk"] for hour in world.stored()}
