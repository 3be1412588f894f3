"""Statements: a month by day, dimension and tag set, whose totals add up, and which is frozen once it is closed."""

import base64
import csv
import io
import json
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.corrections.adjustments import Corrections, Preview, Wanted
from marketplace.corrections.billing_api import BillingApi
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.paging import InvalidCursorError
from marketplace.dynamodb.table import Table
from marketplace.ledger.conflict import missing
from marketplace.ledger.correction import Correction as Adjustment
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, EpochSeconds
from marketplace.statements.reader import StatementReader
from marketplace.statements.statement import (
    COLUMNS,
    Day,
    Line,
    Statement,
    Units,
    adjusted_parts,
    closes_at,
    days_of,
    lines_of,
    parts_of,
)
from marketplace.statements.text import as_csv, as_table
from marketplace.subscriptions.model import Subscription
from marketplace_saas_cli.statement_document import as_html
from tests.support.calls import Calls
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World, metering_record

MONTH = "2026-11"
CONTRACT = "ca1contractandconsumption"
PAYG = "ca2payasyougoproduct00000"
CLOSED = int(datetime(2026, 12, 1, 6, 15, tzinfo=UTC).timestamp())


@pytest.fixture
def world() -> World:
    return World.on(MemoryDynamoDB(), overage_dimensions={(CONTRACT, "api_calls"): "seats"})


def reader(world: World) -> StatementReader:
    return StatementReader(world.usage_table(), world.time.now)


def statement(world: World, buyer: Subscription, month: str = MONTH) -> Statement:
    return reader(world).statement(buyer.id, month)


def shown(found: Statement) -> list[tuple[str, str, dict[str, str], dict[str, int]]]:
    return [
        (day.day, line.dimension, dict(line.tags), {name: n for name, n in line.units.as_json().items() if n})
        for day in found.days
        for line in day.lines
    ]


def test_usage_is_shown_by_day_dimension_and_tag_set(world: World) -> None:
    buyer = world.subscribe("111122223333", CONTRACT)
    world.report(buyer, 5, dimension="users", tags={"team": "a"})
    world.report(buyer, 7, dimension="users", tags={"team": "b"})
    world.report(buyer, 2, dimension="users")
    world.to_due()
    world.meter()
    world.time.to(NOON + DAY)
    world.report(buyer, 4, dimension="users", tags={"team": "a"})
    assert shown(statement(world, buyer)) == [
        ("2026-11-18", "users", {}, {"recorded": 2, "metered": 2}),
        ("2026-11-18", "users", {"team": "a"}, {"recorded": 5, "metered": 5}),
        ("2026-11-18", "users", {"team": "b"}, {"recorded": 7, "metered": 7}),
        ("2026-11-19", "users", {"team": "a"}, {"recorded": 4, "open": 4}),
    ]
    assert statement(world, buyer).totals == [("users", Units(metered=14, open=4))]
    assert statement(world, buyer, "2026-10").days == []


def test_what_a_contract_includes_is_recorded_and_not_metered(world: World) -> None:
    buyer = world.subscribe("111122223333", CONTRACT)
    world.grant(buyer, 10, ends_at=NOON + 300 * DAY)
    world.report(buyer, 8, tags={"team": "a"})
    world.report(buyer, 5, tags={"team": "a"})
    world.report(buyer, 1)
    world.to_due()
    world.meter()
    assert shown(statement(world, buyer)) == [
        ("2026-11-18", "api_calls", {}, {"recorded": 1, "metered": 1}),
        ("2026-11-18", "api_calls", {"team": "a"}, {"recorded": 13, "included": 10, "metered": 3}),
    ]


@pytest.mark.parametrize("metered", [False, True])
def test_usage_that_turns_out_to_be_included_moves_or_becomes_a_credit(world: World, metered: bool) -> None:
    buyer = world.subscribe("111122223333", CONTRACT)
    world.grant(buyer, 10, ends_at=NOON + 300 * DAY)
    world.report(buyer, 25, tags={"team": "a"})
    if metered:
        world.to_due()
        world.meter()
    world.time.advance(60)
    world.grant(buyer, 20, ends_at=NOON + 300 * DAY)
    world.rerating()(buyer.id, NOON - 1)
    ((_, _, tags, units),) = shown(statement(world, buyer))
    assert tags == {"team": "a"}
    before = {"recorded": 25, "included": 10, "metered": 15}
    assert units in ({"recorded": 25, "included": 20, "open": 5}, before | {"credit": 10}, before)
    assert sum(units.get(name, 0) for name in ("included", "metered", "open")) == 25


def test_a_statement_is_three_queries_whatever_the_history(world: World) -> None:
    buyer = world.subscribe("111122223333", CONTRACT)
    for day in range(5):
        world.time.to(NOON + day * DAY)
        for number in range(20):
            world.report(buyer, 1, dimension="users", tags={"n": f"{number}"})
    calls = Calls()
    page = StatementReader(Table(calls.wrap(world.dynamodb), world.tables.usage), world.time.now).page(buyer.id, MONTH)
    assert len(page.days) == 5
    assert dict(calls.count()) == {"query": 3}


def test_pages_hold_every_line_once_and_the_totals_of_the_whole_day(world: World) -> None:
    buyer = world.subscribe("111122223333", CONTRACT)
    for day in range(3):
        world.time.to(NOON + day * DAY)
        for number in range(5):
            world.report(buyer, number + 1, dimension="users", tags={"n": f"{number}"})
    whole = statement(world, buyer)
    for limit in (1, 2, 5, 7, 100):
        found, cursor = [], None
        while True:
            page = reader(world).page(buyer.id, MONTH, cursor=cursor, limit=limit)
            found += [(one.day.day, line) for one in page.days for line in one.lines]
            assert all(one.day.totals == [("users", Units(open=15))] for one in page.days)
            assert sum(len(one.lines) for one in page.days) <= limit
            cursor = page.cursor
            if cursor is None:
                break
        assert found == [(day.day, line) for day in whole.days for line in day.lines]
    cursor = reader(world).page(buyer.id, MONTH, limit=1).cursor
    with pytest.raises(InvalidCursorError):
        reader(world).page(buyer.id, "2026-10", cursor=cursor)
    with pytest.raises(InvalidCursorError):
        reader(world).page(buyer.id, MONTH, cursor="e30")


# -- a closed month -----------------------------------------------------------------------------------------


def settled(world: World) -> Subscription:
    buyer = world.subscribe("111122223333", CONTRACT)
    world.report(buyer, 5, dimension="users", tags={"team": "a"})
    world.to_due()
    world.meter()
    return buyer


def test_a_closed_month_is_frozen_and_a_later_change_is_a_listed_correction(world: World) -> None:
    buyer = settled(world)
    world.time.to(CLOSED - 1)
    assert not statement(world, buyer).closed
    world.time.to(CLOSED)
    frozen = statement(world, buyer)
    assert (frozen.closed, frozen.corrections) == (True, [])
    (record,) = world.stored()
    record["quantity"] = 3
    key = Key(record["pk"], record["sk"])
    values = {"#q": "quantity"}
    world.dynamodb.update_item(
        TableName=world.tables.usage,
        Key=key.item(),
        UpdateExpression="SET #q = :q",
        ExpressionAttributeNames=values,
        ExpressionAttributeValues={":q": {"N": "7"}},
    )
    again = statement(world, buyer)
    assert [day.lines for day in again.days] == [day.lines for day in frozen.days]
    assert as_csv(again).startswith(as_csv(frozen))
    (correction,) = again.corrections
    assert (correction.day, correction.dimension, correction.change) == ("2026-11-18", "users", Units(metered=2))


def test_a_month_with_unsettled_usage_is_not_closed(world: World) -> None:
    buyer = settled(world)
    world.report(buyer, 1, dimension="users")
    world.time.to(CLOSED + HOUR)
    assert not statement(world, buyer).closed
    for _ in range(3):
        world.meter()
        world.time.advance(HOUR)
    assert statement(world, buyer).closed
    assert statement(world, buyer).totals == [("users", Units(metered=5, refused=1))]


def test_two_first_readers_of_a_closed_month_have_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    buyer = settled(world)
    world.time.to(CLOSED)
    first: list[Statement] = []
    real = Table.put_new

    def second_reader(table: Table, item: Any) -> bool:
        if not first:
            first.append(Statement("", "", []))
            first.append(statement(world, buyer))
        return real(table, item)

    monkeypatch.setattr(Table, "put_new", second_reader)
    assert statement(world, buyer) == first[1]
    marks = [item for item in world.dynamodb.items(world.tables.usage) if item["sk"]["S"].startswith("STATEMENT#")]
    assert len(marks) == 1


def test_a_day_with_very_many_tag_sets_is_frozen_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketplace.statements.reader._PART_BYTES", 50)
    buyer = settled(world)
    world.time.to(CLOSED)
    before = statement(world, buyer)
    mark = world.usage_table().get(keys.frozen_day(buyer.id, "2026-11-18"))
    assert mark is not None
    assert from_item(mark)["parts"] > 1
    assert statement(world, buyer) == before


def test_a_month_closes_when_aws_takes_no_usage_of_it_any_more() -> None:
    assert closes_at(MONTH) == CLOSED
    assert days_of("2028-02")[-1] == "2028-02-29"


def adjusted(world: World, buyer: Subscription, record_id: str, units: int) -> None:
    """A billing adjustment of a usage record that AWS has completed."""
    billing = BillingApi(client("marketplace-agreement", world.marketplace))
    corrections = Corrections(world.usage_table(), billing, world.time.now)
    found = corrections.preview(buyer, Wanted(price=Decimal("0.001"), record_id=record_id, units=units), "ops")
    assert isinstance(found, Preview)
    corrections.request(found)
    world.time.advance(120)
    assert corrections.follow(found.correction).state == "completed"


def invoiced(world: World) -> Subscription:
    """A buyer with usage of a tag set and without, metered."""
    purchase = world.marketplace.purchases.subscribe(PAYG, "111122223333", provision=True)
    buyer = world.store_subscription(
        purchase, activated_at=world.time.seconds(), agreement_ids=(purchase.agreement_id,)
    )
    world.report(buyer, 5000, id="tagged", tags={"team": "a"})
    world.report(buyer, 3000, id="plain")
    world.to_due()
    world.meter()
    return buyer


def test_an_adjustment_after_the_month_was_frozen_is_a_listed_correction(world: World) -> None:
    buyer = invoiced(world)
    world.time.to(CLOSED)
    frozen = statement(world, buyer)
    world.time.to(CLOSED + 5 * DAY)
    adjusted(world, buyer, "tagged", 1000)
    adjusted(world, buyer, "plain", 3000)
    again = statement(world, buyer)
    assert [day.lines for day in again.days] == [day.lines for day in frozen.days]
    assert as_csv(again).startswith(as_csv(frozen))
    changes = [(dict(one.tags), one.change) for one in again.corrections]
    assert changes == [({}, Units(adjusted=3000)), ({"team": "a"}, Units(adjusted=1000))]
    assert "2026-11-18 corrected" in as_table(again)
    assert "1,000" in as_html(again)
    assert statement(world, buyer) == again


def test_an_adjustment_before_the_first_reader_stands_in_the_lines_and_the_totals(world: World) -> None:
    buyer = invoiced(world)
    world.time.to(CLOSED + 5 * DAY)
    adjusted(world, buyer, "tagged", 1000)
    found = statement(world, buyer)
    assert shown(found) == [
        ("2026-11-18", "api_calls", {}, {"recorded": 3000, "metered": 3000}),
        ("2026-11-18", "api_calls", {"team": "a"}, {"recorded": 5000, "metered": 5000, "adjusted": 1000}),
    ]
    assert (found.totals, found.corrections) == ([("api_calls", Units(metered=8000, adjusted=1000))], [])


def test_an_adjustment_that_aws_has_not_made_stands_in_no_statement(world: World) -> None:
    buyer = invoiced(world)
    world.time.to(CLOSED + 5 * DAY)
    billing = BillingApi(client("marketplace-agreement", world.marketplace))
    corrections = Corrections(world.usage_table(), billing, world.time.now)
    found = corrections.preview(buyer, Wanted(price=Decimal("0.001"), record_id="plain"), "ops")
    assert isinstance(found, Preview)
    assert corrections.request(found).state == "requested"
    assert statement(world, buyer).totals == [("api_calls", Units(metered=8000))]


def test_a_day_that_an_earlier_version_has_frozen_stays_as_it_is(world: World) -> None:
    buyer = invoiced(world)
    world.time.to(CLOSED)
    whole = statement(world, buyer)
    (mark,) = [item for item in world.dynamodb.items(world.tables.usage) if item["sk"]["S"].startswith("STATEMENT#")]
    place = keys.frozen_part(buyer.id, "2026-11-18", mark["digest"]["S"], 0)
    item = world.usage_table().get(place)
    assert item is not None
    lines = json.loads(zlib.decompress(base64.b85decode(item["content"]["S"])))
    earlier = [{name: value for name, value in line.items() if name != "adjusted"} for line in lines]
    content = base64.b85encode(zlib.compress(json.dumps(earlier).encode())).decode()
    world.usage_table().put({**item, "content": {"S": content}})
    assert statement(world, buyer) == whole


@pytest.mark.parametrize(
    ("aws", "carried", "expected"),
    [
        (10, False, Units(metered=10, refused=20)),
        (10, True, Units(metered=10)),
        (0, True, Units()),
        (30, False, Units(metered=30)),
        (50, False, Units(metered=50, credit=20)),
    ],
)
def test_a_resolved_conflict_counts_with_what_aws_bills(aws: int, carried: bool, expected: Units) -> None:
    record = metering_record(
        quantity=30, state="conflict", aws_quantity=aws, carried_to=NOON + HOUR if carried else None
    )
    lines = lines_of(parts_of(record, [((("t", "a"),), 12)]))
    assert [(line.tags, line.units) for line in lines] == ([((), expected)] if expected != Units() else [])


# -- sums ---------------------------------------------------------------------------------------------------

TAGS = st.sampled_from([(), (("t", "a"),), (("t", "b"),), (("t", "a"), ("u", "x"))])
STATES = st.sampled_from(["open", "metered", "held", "rejected", "conflict", "unbillable"])


@st.composite
def hours(draw: Any) -> tuple[MeteringRecord, list[tuple[Any, int]]]:
    allocations = draw(st.dictionaries(TAGS.filter(bool), st.integers(0, 50), max_size=3))
    untagged = draw(st.integers(0, 50))
    state = draw(STATES)
    aws_quantity = draw(st.none() | st.integers(0, 200)) if state == "conflict" else None
    hour, dimension = NOON + draw(st.integers(0, 5)) * HOUR, draw(st.sampled_from("ab"))
    record = MeteringRecord(
        key=keys.metering_record("sub-a", hour, dimension),
        dimension=dimension,
        hour=hour,
        quantity=untagged + sum(allocations.values()),
        state=state,
        aws_quantity=aws_quantity,
        carried_to=draw(st.sampled_from([None, NOON + DAY])) if aws_quantity is not None else None,
        seal="-",
        timestamp=hour,
        refuse_at=hour,
        product_code="p",
    )
    return record, list(allocations.items())


@st.composite
def corrections(draw: Any) -> Adjustment:
    dimension = draw(st.sampled_from("ab"))
    return Adjustment(
        key=keys.correction("sub-a", EpochSeconds(NOON), dimension, "x"),
        dimension=dimension,
        hour=EpochSeconds(NOON),
        units=draw(st.integers(1, 50)),
        price="1",
        amount="1",
        currency="USD",
        reason="OTHER",
        agreement_id="agmt-1",
        invoice_id="invoice",
        prepared_at=EpochSeconds(NOON),
        prepared_by="ops",
        tags=dict(draw(TAGS)) or None,
        state=draw(st.sampled_from(["prepared", "requested", "completed", "refused"])),
    )


@settings(max_examples=300)
@given(st.lists(hours(), max_size=8), st.lists(corrections(), max_size=5))
@pytest.mark.slow
def test_lines_and_totals_add_up_to_the_metering_records(found: list[Any], made: list[Adjustment]) -> None:
    parts = [part for record, allocations in found for part in parts_of(record, allocations)]
    day = Day("2026-11-18", lines_of([*parts, *adjusted_parts(made)]))
    whole = Statement("sub-a", MONTH, [day, day])
    for units in (*(line.units for line in day.lines), *(units for _, units in day.totals)):
        assert units.recorded == units.included + units.metered + units.refused + units.open
    for dimension in "ab":
        records = [record for record, _ in found if record.dimension == dimension]
        total = dict(day.totals).get(dimension, Units())
        carried = sum(missing(record) for record in records if record.carried_to is not None)
        assert total.recorded + carried - total.credit == sum(record.quantity for record in records)
        assert total.metered == sum(record.billed for record in records)
        completed = (one.units for one in made if one.dimension == dimension and one.state == "completed")
        assert total.adjusted == sum(completed)
        assert dict(whole.totals).get(dimension, Units()) == total + total
    assert Day.__eq__(day, Day(day.day, [Line.from_json(json.loads(json.dumps(line.as_json()))) for line in day.lines]))


# -- forms --------------------------------------------------------------------------------------------------


def sample(dimension: str = "users", value: str = "a") -> Statement:
    line = Line(dimension, (("team", value),), Units(included=1000, metered=2, refused=3, open=4))
    return Statement("sub-a", MONTH, [Day("2026-11-18", [line]), Day("2026-11-19", [line])])


def test_csv_has_every_line_and_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(sample("=1+1", "-x")))))
    assert [row["day"] for row in rows] == ["2026-11-18", "2026-11-19"]
    assert rows[0]["dimension"] == "'=1+1"
    assert [rows[0][name] for name in ("recorded", *COLUMNS)] == ["1009", "1000", "2", "3", "4", "0", "0", "0"]


def test_a_table_is_aligned_and_ends_with_totals() -> None:
    lines = as_table(sample()).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split()[:3] == ["total", "users", "2,018"]


def test_html_escapes_whatever_it_contains() -> None:
    page = as_html(sample("<script>alert(1)</script>", "<b>"), "A & <i>B</i>")
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    assert "A &amp; &lt;i&gt;B&lt;/i&gt;" in page
    assert "2,018" in page
    assert "No usage." in as_html(Statement("sub-a", MONTH, []))
