"""Where the usage went: hours by page, and the proof chain of one record."""

import base64
import json
from typing import Any

import pytest

from marketplace.dynamodb.paging import InvalidCursorError
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.queries import UsageQueries
from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World


def hours_of_usage(world: World, count: int = 4) -> Subscription:
    buyer = world.subscribe()
    for hour in range(count):
        world.time.to(NOON + hour * HOUR)
        for dimension in ("api_calls", "storage_gb_hours"):
            world.report(buyer, hour + 1, dimension=dimension, tags={"user": "x"})
    return buyer


def pages(world: World, buyer: Subscription, start: int, end: int, limit: int) -> list[list[dict[str, Any]]]:
    found = []
    cursor: str | None = None
    while True:
        page = world.queries().metering_records(buyer.id, start=start, end=end, cursor=cursor, limit=limit)
        found.append(page.items)
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 5, 100, 10_000, 0, -1])
@pytest.mark.slow
def test_hours_come_in_order_whatever_the_size_of_the_pages(either_world: World, limit: int) -> None:
    buyer = hours_of_usage(either_world)
    found = [record for page in pages(either_world, buyer, NOON, NOON + 10 * HOUR, limit) for record in page]
    assert [(record["hour"], record["dimension"]) for record in found] == [
        (iso(NOON + hour * HOUR), dimension) for hour in range(4) for dimension in ("api_calls", "storage_gb_hours")
    ]


def test_a_range_holds_its_start_and_not_its_end(world: World) -> None:
    buyer = hours_of_usage(world)
    (page,) = pages(world, buyer, NOON + HOUR, NOON + 3 * HOUR, 100)
    assert {record["hour"] for record in page} == {iso(NOON + HOUR), iso(NOON + 2 * HOUR)}


def test_a_subscription_without_usage_has_an_empty_page(world: World) -> None:
    assert pages(world, world.subscribe(), NOON, NOON + HOUR, 10) == [[]]


def test_an_open_hour_says_when_it_is_due_and_refused(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3)
    ((shown,),) = pages(world, buyer, NOON, NOON + HOUR, 10)
    assert shown == {
        "hour": iso(NOON),
        "dimension": "api_calls",
        "quantity": 3,
        "records": 1,
        "state": "open",
        "sealed": False,
        "timestamp": iso(NOON),
        "due_at": iso(NOON + HOUR + 600),
        "refuse_at": iso(NOON + 24 * HOUR),
    }


def test_a_metered_hour_shows_its_metering_record_id(world: World) -> None:
    buyer = hours_of_usage(world, 1)
    world.to_due()
    world.meter()
    ((shown, _),) = pages(world, buyer, NOON, NOON + HOUR, 10)
    ledger = {record.dimension: record.id for record in world.marketplace.ledger.records}
    assert shown["metering_record_id"] == ledger["api_calls"]
    assert (shown["state"], shown["sealed"], shown["tag_sets"]) == ("metered", True, 1)
    assert shown["settled_at"] == iso(world.time.seconds())
    assert not {"due_at", "refuse_at", "in_doubt"} & set(shown)


def test_an_hour_in_doubt_says_so(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.to_due()
    world.marketplace.faults.plan([{"fault": "timeout_before", "times": None}])
    world.meter()
    ((shown,),) = pages(world, buyer, NOON, NOON + HOUR, 10)
    assert (shown["state"], shown["sealed"], shown["in_doubt"]) == ("open", True, True)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", "!!!!", "bnVsbA==", base64.urlsafe_b64encode(b"[1]").decode(),
     base64.urlsafe_b64encode(b'["a","b","c"]').decode(), base64.urlsafe_b64encode(b"[1,2]").decode(),
     base64.urlsafe_b64encode(b"\xff\xfe").decode(), base64.urlsafe_b64encode(b'{"pk":"a","sk":"b"}').decode()],
)  # fmt: skip
def test_a_cursor_of_ones_own_making_is_refused(world: World, cursor: str) -> None:
    buyer = hours_of_usage(world, 1)
    with pytest.raises(InvalidCursorError):
        world.queries().metering_records(buyer.id, start=NOON, end=NOON + HOUR, cursor=cursor)


def test_a_cursor_leads_to_no_other_subscription_and_no_other_hours(world: World) -> None:
    buyer = hours_of_usage(world)
    other = world.subscribe("444455556666")
    page = world.queries().metering_records(buyer.id, start=NOON, end=NOON + 4 * HOUR, limit=5)
    assert page.cursor is not None
    for subscription, end in ((other, NOON + 4 * HOUR), (buyer, NOON + HOUR)):
        with pytest.raises(InvalidCursorError):
            world.queries().metering_records(subscription.id, start=NOON, end=end, cursor=page.cursor)
    pk, _ = json.loads(base64.urlsafe_b64decode(page.cursor))
    for sk in ("RECORD#a", "HOUR#2020", "~"):
        forged = base64.urlsafe_b64encode(json.dumps([pk, sk]).encode()).decode()
        with pytest.raises(InvalidCursorError):
            world.queries().metering_records(buyer.id, start=NOON, end=NOON + HOUR, cursor=forged)


# The proof chain


def test_the_proof_of_a_record_leads_from_report_to_metering_record_id(either_world: World) -> None:
    world = either_world
    buyer = world.subscribe()
    world.report(buyer, 3, id="a/b#c", tags={"user": "x"})
    world.report(buyer, 4)
    world.to_due()
    world.meter()
    assert world.queries().proof(buyer.id, "a/b#c") == {
        "subscription_id": buyer.id,
        "billed_to": buyer.id,
        "record": {
            "id": "a/b#c",
            "dimension": "api_calls",
            "quantity": 3,
            "tags": {"user": "x"},
            "own_hour": iso(NOON),
            "recorded_at": iso(NOON),
        },
        "hour": iso(NOON),
        "metering_record": {
            "hour": iso(NOON),
            "dimension": "api_calls",
            "quantity": 7,
            "records": 2,
            "state": "metered",
            "sealed": True,
            "timestamp": iso(NOON),
            "metering_record_id": world.marketplace.ledger.records[0].id,
            "tag_sets": 1,
            "settled_at": iso(world.time.seconds()),
        },
    }


def test_what_was_never_recorded_has_no_proof(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3, id="a")
    assert world.queries().proof(buyer.id, "b") is None
    assert world.queries().proof("sub-" + "b" * 26, "a") is None


def test_a_record_whose_hour_is_gone_still_has_a_proof(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3, id="a")
    (hour,) = world.stored()
    key = {"pk": {"S": hour["pk"]}, "sk": {"S": hour["sk"]}}
    world.dynamodb.delete_item(TableName=world.tables.usage, Key=key)
    proof = world.queries().proof(buyer.id, "a")
    assert proof is not None
    assert proof["metering_record"] is None


def test_a_store_without_an_answer_is_said_to_be_one() -> None:
    calls = Calls()
    world = World.on(MemoryDynamoDB())
    queries = UsageQueries(Table(calls.wrap(world.dynamodb), world.tables.usage), world.time.now)
    calls.fail("query")
    with pytest.raises(ThrottledError):
        queries.metering_records("sub-" + "b" * 26, start=0, end=NOON)
    calls.fail("get_item")
    with pytest.raises(ThrottledError):
        queries.proof("sub-" + "b" * 26, "a")
