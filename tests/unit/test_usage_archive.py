"""The usage archive: what is closed moves from the table to the bucket, nothing is lost or doubled on the way, and
whoever reads sees no difference."""

import gzip
import json
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.archive.content import ArchiveDamagedError, manifest_name, month_at
from marketplace.archive.marks import Marks
from marketplace.archive.reader import UsageHistory
from marketplace.corrections.adjustments import CorrectionRefusedError, Preview
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.table import key_of
from marketplace.ledger.record import MeteringRecord, is_metering_record
from marketplace.platform.clock import DAY, HOUR, hour_of
from marketplace.platform.errors import AwsError, SystemicError
from marketplace.reconcile.ledger import metering_records
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.model import Subscription
from tests.support.archive_world import MONTH, PAY_AS_YOU_GO, READY, STORAGE, USERS, ArchiveWorld, used
from tests.support.calls import CrashError
from tests.support.memory_dynamodb import aws_error
from tests.support.world import NOON
from tests.unit.test_corrections import asked, corrections, made, metered, of_record

FIRST, LAST = "HOUR#", "HOUR#~"


@pytest.fixture
def archive() -> ArchiveWorld:
    return ArchiveWorld()


def sums(items: list[Item]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for item in items:
        if is_metering_record(item):
            record = MeteringRecord.from_item(item)
            found[record.dimension, record.state] += record.quantity
        else:
            found["allocation", from_item(item)["sk"][:13]] += from_item(item)["quantity"]
    return found


def everything(archive: ArchiveWorld, buyer: Subscription) -> list[Item]:
    return [
        {name: value for name, value in item.items() if name != "expires_at"}
        for item in archive.history().items(buyer.id, FIRST, LAST)
    ]


# -- what is archived ---------------------------------------------------------------------------------------


def test_a_month_is_archived_when_a_whole_month_lies_between(archive: ArchiveWorld) -> None:
    used(archive)
    archive.world.time.to(READY)
    november = [item for item in archive.items() if MONTH in item["sk"]["S"]]
    report = archive.run()
    assert (report.months, report.items, report.held_back) == (1, len(november), 0)
    assert {MONTH in item["sk"]["S"] for item in archive.items() if "expires_at" in item} == {True}
    assert len(november) == 4 * 4
    assert archive.run().months == 0


def test_nothing_is_archived_earlier(archive: ArchiveWorld) -> None:
    world = archive.world
    world.report(world.subscribe(product=PAY_AS_YOU_GO), 5)
    world.to_due()
    world.meter()
    world.time.to(READY - 21 * 60)
    assert (archive.run().months, archive.s3.objects) == (0, {})


@pytest.mark.parametrize(
    ("months_before", "expected"), [(0, "2026-12"), (1, "2026-11"), (11, "2026-01"), (12, "2025-12"), (24, "2024-12")]
)
def test_months_are_counted_back(archive: ArchiveWorld, months_before: int, expected: str) -> None:
    archive.world.time.to(READY - HOUR)
    assert month_at(archive.world.time.now(), months_before) == expected


def test_the_manifest_names_each_file_and_what_it_sums_to(archive: ArchiveWorld) -> None:
    archive.part_items = 5
    (buyer,) = used(archive)
    archive.run()
    manifest = json.loads(archive.s3.objects[manifest_name(buyer.id, MONTH)])
    assert [part["items"] for part in manifest["parts"]] == [5, 5, 5, 1]
    lines = [
        json.loads(line)
        for part in manifest["parts"]
        for line in gzip.decompress(archive.s3.objects[part["name"]]).splitlines()
    ]
    assert lines == [item for item in everything(archive, buyer) if MONTH in item["sk"]["S"]]
    assert {(one["dimension"], one["state"]): one["units"] for one in manifest["totals"]["by_dimension_and_state"]} == {
        (STORAGE, "metered"): 4 * 7 + 0 + 1 + 2 + 3,
        (USERS, "metered"): 40,
    }
    assert manifest["totals"]["allocations"] == 8


def test_a_month_waits_for_what_aws_decides_about_a_correction(archive: ArchiveWorld) -> None:
    world = archive.world
    buyer = metered(world, 5000, 700)
    made(world, buyer, of_record())
    world.time.to(READY)
    assert (archive.run().held_back, archive.s3.objects) == (1, {})
    assert made(world, buyer, of_record()).state == "completed"
    assert archive.run().months == 1
    proof = archive.queries().proof(buyer.id, "r0")
    assert proof is not None
    assert (proof["metering_record"]["corrected"], len(proof["corrections"])) == (5000, 1)


def test_what_is_archived_is_not_corrected_any_more(archive: ArchiveWorld) -> None:
    world = archive.world
    buyer = metered(world, 5000, 700)
    preview = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(preview, Preview)
    world.time.to(READY)
    archive.run()
    with pytest.raises(CorrectionRefusedError, match="archived"):
        corrections(world).preview(buyer, of_record(), "ops")
    with pytest.raises(CorrectionRefusedError):
        corrections(world).request(preview)
    assert asked(world) == []
    assert archive.run(again=True).held_back == 0


def test_a_subscription_without_usage_writes_no_object_and_is_not_looked_at_again(archive: ArchiveWorld) -> None:
    idle = archive.world.subscribe(product=PAY_AS_YOU_GO)
    archive.world.time.to(READY)
    assert (archive.run().months, archive.s3.objects) == (0, {})
    assert Marks(archive.world.usage_table()).of(idle.id).until == MONTH
    archive.calls.forget()
    archive.run()
    assert dict(archive.calls.count()) == {"get_item": 1}


def test_months_are_archived_one_after_the_other_when_the_archive_begins_late(archive: ArchiveWorld) -> None:
    (buyer,) = used(archive)
    archive.world.time.to(READY + 70 * DAY)
    assert archive.run().months == 2
    mark = Marks(archive.world.usage_table()).of(buyer.id)
    assert (mark.until, sorted(mark.months)) == ("2027-01", [MONTH, "2026-12"])


# -- what stays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"state": {"S": "open"}, "due_at": {"N": "1"}, "due_shard": {"S": "00"}},
        {"state": {"S": "held"}, "due_at": {"N": "-1"}, "due_shard": {"S": "00"}},
        {"state": {"S": "rejected"}, "due_at": {"N": "-9"}, "due_shard": {"S": "00"}},
        {"state": {"S": "unbillable"}, "due_at": {"N": "1"}, "due_shard": {"S": "00"}},
        {"state": {"S": "conflict"}, "due_at": {"N": "-1"}, "due_shard": {"S": "00"}},
    ],
    ids=["open", "held", "rejected", "not told", "shown"],
)
def test_what_is_not_final_holds_its_month_back_and_no_other(archive: ArchiveWorld, change: Item) -> None:
    first, second = used(archive, buyers=2)
    item = next(one for one in archive.items() if one["pk"]["S"].endswith(first.id) and is_metering_record(one))
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item={**item, **change})
    report = archive.run()
    assert (report.months, report.held_back) == (1, 1)
    assert [one["subscription_id"] for one in archive.told] == [first.id]
    assert {one["pk"]["S"] for one in archive.items() if "expires_at" in one} == {f"SUB#{second.id}"}
    assert not [name for name in archive.s3.objects if first.id in name]
    assert archive.run().held_back == 1, "it is told as long as it lasts"
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=item)
    assert (archive.run().months, archive.run().held_back) == (1, 0)


@pytest.mark.parametrize("damage", ["refuse_at", "quantity", "timestamp"])
def test_a_record_that_nothing_can_read_holds_its_month_back_and_no_other(archive: ArchiveWorld, damage: str) -> None:
    first, second = used(archive, buyers=2)
    item = next(one for one in archive.items() if one["pk"]["S"].endswith(first.id) and is_metering_record(one))
    broken = {**item, damage: {"S": "?"}}
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=broken)
    report = archive.run()
    assert (report.months, report.held_back) == (1, 1)
    assert damage in archive.told[0]["problem"]
    assert {one["pk"]["S"] for one in archive.items() if "expires_at" in one} == {f"SUB#{second.id}"}
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=item)
    assert (archive.run().months, archive.run().held_back) == (1, 0)


def test_a_zero_for_an_idle_hour_is_archived_too(archive: ArchiveWorld) -> None:
    (buyer,) = used(archive, tagged=False)
    item = next(one for one in archive.items() if is_metering_record(one))
    zero = {**item, "sk": {"S": f"HOUR#{MONTH}-20T01#{USERS}"}, "quantity": {"N": "0"}, "records": {"N": "0"}}
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=zero)
    archive.run()
    archive.expire()
    assert archive.history().get(keys.Key(f"SUB#{buyer.id}", f"HOUR#{MONTH}-20T01#{USERS}")) == zero


def test_usage_reported_again_after_its_hour_is_archived_is_not_counted_again(archive: ArchiveWorld) -> None:
    (buyer,) = used(archive)
    archive.run()
    archive.expire()
    world = archive.world
    before = world.billed()
    assert world.report(buyer, 10, id="of-0", dimension=USERS, at=NOON)["status"] == "duplicate"
    for item in archive.items("RECORD#"):
        world.dynamodb.delete_item(
            TableName=world.tables.usage, Key={name: item[name] for name in ("pk", "sk")}
        )  # as DynamoDB does after UsageRecordTtlDays
    answer = world.report(buyer, 10, id="of-0", dimension=USERS, at=NOON)
    assert (answer["status"], answer["reason"]) == ("rejected", "too_old")
    assert [item for item in archive.items() if MONTH in item["sk"]["S"]] == []
    assert world.billed() == before


# -- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [lambda _: False, lambda n: n % 2 == 0, lambda n: n % 3 == 1, lambda _: True])
def test_readers_see_no_difference_while_the_table_loses_what_is_archived(archive: ArchiveWorld, gone: Any) -> None:
    archive.part_items = 3
    (buyer,) = used(archive)
    before = (everything(archive, buyer), archive.statement(buyer), read_by_page(archive, buyer, 1000))
    proofs = [archive.queries().proof(buyer.id, f"{name}-{hour}") for name in ("of", "a", "b") for hour in range(4)]
    archive.run()
    assert archive.expire(gone) == 16
    assert (everything(archive, buyer), archive.statement(buyer), read_by_page(archive, buyer, 1000)) == before
    assert proofs == [
        archive.queries().proof(buyer.id, f"{name}-{hour}") for name in ("of", "a", "b") for hour in range(4)
    ]
    assert all(one is not None and one["metering_record"]["metering_record_id"] for one in proofs)


def read_by_page(archive: ArchiveWorld, buyer: Subscription, limit: int) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        page = archive.queries().metering_records(
            buyer.id, start=NOON - DAY, end=NOON + 40 * DAY, cursor=cursor, limit=limit
        )
        assert len(page.items) <= limit
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10])
def test_pages_of_archived_hours_have_every_record_once(archive: ArchiveWorld, limit: int) -> None:
    (buyer,) = used(archive)
    whole = read_by_page(archive, buyer, 1000)
    archive.run()
    archive.expire(lambda number: number % 2 == 0)
    assert read_by_page(archive, buyer, limit) == whole
    assert len(whole) == 10


def test_reconciliation_of_archived_days_has_the_same_records(archive: ArchiveWorld) -> None:
    buyers = used(archive, buyers=3)
    span = ([buyer.id for buyer in buyers], hour_of(NOON) + HOUR, hour_of(NOON) + 3 * HOUR)
    before = list(metering_records(archive.history(), *span))
    archive.run()
    archive.expire(lambda number: number % 3 != 0)
    assert list(metering_records(archive.history(), *span)) == before
    assert len(before) == 3 * 2 * 2


def test_hours_that_cannot_be_archived_yet_cost_no_read_more(archive: ArchiveWorld) -> None:
    buyer = archive.world.subscribe(product=PAY_AS_YOU_GO)
    history = UsageHistory(archive.world.usage_table(), archive.world.time.now, archive.bucket)
    archive.world.wrap = archive.calls.wrap
    history = UsageHistory(archive.world.usage_table(), archive.world.time.now, archive.bucket)
    list(history.items(buyer.id, "HOUR#2026-10", "HOUR#2026-11~"))
    assert dict(archive.calls.count()) == {"query": 1}
    list(history.items(buyer.id, "HOUR#2026-09", "HOUR#2026-11~"))
    assert dict(archive.calls.count()) == {"query": 2, "get_item": 1}


def test_a_deployment_that_lost_its_bucket_says_so_and_shows_no_half_month(archive: ArchiveWorld) -> None:
    (buyer,) = used(archive)
    archive.run()
    archive.expire()
    reader = StatementReader(archive.world.usage_table(), archive.world.time.now)
    with pytest.raises(SystemicError, match="no bucket is named"):
        reader.statement(buyer.id, MONTH)
    assert reader.statement(buyer.id, "2026-12").days


# -- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 12, -1])
def test_a_damaged_file_is_found_by_its_hash_and_named(archive: ArchiveWorld, place: int) -> None:
    archive.part_items = 6
    (buyer,) = used(archive)
    archive.run()
    archive.expire()
    for name in [one for one in archive.s3.objects if one.startswith(f"usage/{buyer.id}/{MONTH}/")]:
        whole = archive.s3.objects[name]
        damaged = bytearray(whole)
        damaged[place] ^= 1
        archive.s3.objects[name] = bytes(damaged)
        with pytest.raises(ArchiveDamagedError, match=name):
            archive.statement(buyer)
        archive.s3.objects[name] = whole
    assert archive.statement(buyer)


def test_what_cannot_be_read_back_is_told_and_nothing_expires(archive: ArchiveWorld) -> None:
    first, second = used(archive, buyers=2)
    real = archive.s3.put_object

    def damaging(**arguments: Any) -> Any:
        answer = real(**arguments)
        if first.id in arguments["Key"] and arguments["Key"].endswith(".gz"):
            archive.s3.objects[arguments["Key"]] += b"x"
        return answer

    archive.s3.put_object = damaging  # type: ignore[method-assign]
    report = archive.run()
    assert (report.damaged, report.months) == (1, 1)
    assert first.id in archive.told[0]["problem"]
    assert {one["pk"]["S"] for one in archive.items() if "expires_at" in one} == {f"SUB#{second.id}"}


# -- crashes and outages --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_crash_at_any_call_loses_nothing_and_ends_in_the_same_bytes() -> None:
    whole, statements = played()
    names = [name for name, _ in whole.calls.made]
    assert len(names) > 20
    for number, name in enumerate(names):
        for when in ("before", "after"):
            crashed, after = played(name, when, earlier=names[:number].count(name))
            assert crashed.s3.objects == whole.s3.objects
            assert crashed.items("SUB#") == whole.items("SUB#"), "the marks"
            assert crashed.items() == whole.items()
            assert after == statements


def played(crash: str = "", when: str = "before", *, earlier: int = 0) -> tuple[ArchiveWorld, list[bytes]]:
    """A run that a crash may cut off, and the one after it. Half of the archived items have expired between them."""
    archive = ArchiveWorld(part_items=7)
    buyers = used(archive, buyers=2, hours=3)
    before = [everything(archive, buyer) for buyer in buyers]
    if crash:
        archive.calls.fail(crash, CrashError, when=when, skip=earlier)
        with pytest.raises(CrashError):
            archive.run()
        archive.expire(lambda number: number % 2 == 0)
        assert [everything(archive, buyer) for buyer in buyers] == before
    archive.run()
    archive.expire()
    assert [everything(archive, buyer) for buyer in buyers] == before
    return archive, [archive.statement(buyer) for buyer in buyers]


@pytest.mark.parametrize("name", ["put_object", "get_object", "query", "batch_execute_statement", "put_item"])
def test_an_outage_ends_the_run_and_the_next_one_goes_on(archive: ArchiveWorld, name: str) -> None:
    used(archive, buyers=2)
    archive.calls.fail(name, lambda: aws_error("InternalServerError", "Any"), times=None, skip=1)
    with pytest.raises(AwsError):
        archive.run()
    archive.calls.heal()
    archive.run()
    assert archive.expire() == 32
    assert archive.run().items == 0


def test_a_run_without_time_stops_and_says_since_when_it_is_behind(archive: ArchiveWorld) -> None:
    used(archive, buyers=3)
    times = iter([1.0] * 4)
    first = archive.run(lambda: next(times, 0.0))
    assert 0 < first.months < 3
    archive.world.time.advance(HOUR)
    assert archive.run(lambda: 0.0).seconds_behind == HOUR
    last = archive.run()
    assert (first.months + last.months, last.seconds_behind) == (3, 0)


def test_a_throttled_statement_leaves_its_item_for_the_next_run(archive: ArchiveWorld) -> None:
    used(archive)
    archive.world.dynamodb.unprocessed = lambda operation, _members: {0} if "Statement" in operation else set()
    with suppress(AwsError):
        archive.run()
    archive.world.dynamodb.unprocessed = None
    archive.run()
    assert archive.expire() == 16


# -- a table that was put back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("marks", [True, False], ids=["with marks", "without marks"])
def test_items_that_come_back_from_a_backup_are_archived_again_into_the_same_bytes(
    archive: ArchiveWorld, marks: bool
) -> None:
    (buyer,) = used(archive)
    backup = archive.items()
    archive.run()
    archive.expire()
    objects, statement = dict(archive.s3.objects), archive.statement(buyer)
    for item in backup:
        archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=item)
    if not marks:
        for item in archive.world.dynamodb.items(archive.world.tables.usage):
            if item["pk"]["S"] == keys.ARCHIVE:
                key = {name: item[name] for name in ("pk", "sk")}
                archive.world.dynamodb.delete_item(TableName=archive.world.tables.usage, Key=key)
    assert archive.statement(buyer) == statement
    report = archive.run(again=True)
    assert (report.items, report.held_back) == (16, 0)
    assert archive.s3.objects == objects
    archive.expire()
    assert archive.statement(buyer) == statement


@pytest.mark.parametrize("change", [{"quantity": {"N": "999"}}, {"metering_record_id": {"S": "other"}}])
def test_an_item_that_came_back_changed_stays_in_the_table_and_is_told(archive: ArchiveWorld, change: Item) -> None:
    (buyer,) = used(archive)
    backup = archive.items()
    archive.run()
    archive.expire()
    statement = archive.statement(buyer)
    changed = {**next(one for one in backup if is_metering_record(one)), **change}
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=changed)
    assert archive.statement(buyer) == statement, "the archive is what counts"
    assert archive.run(again=True).held_back == 1
    assert changed["sk"]["S"] in archive.told[-1]["problem"]
    assert [key_of(one) for one in archive.items() if MONTH in one["sk"]["S"]] == [key_of(changed)]


def test_an_item_that_changes_after_it_was_compared_gets_no_time_to_live(archive: ArchiveWorld) -> None:
    used(archive)
    record = next(one for one in archive.items() if is_metering_record(one))

    def changing() -> BaseException | None:
        archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item={**record, "quantity": {"N": "999"}})
        return None

    archive.calls.fail("batch_execute_statement", changing)
    archive.run()
    (left,) = [one for one in archive.items() if key_of(one) == key_of(record)]
    assert "expires_at" not in left


# -- any usage ------------------------------------------------------------------------------------------------


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 10 * 24),
        st.sampled_from([USERS, STORAGE]),
        st.integers(0, 2**31 - 1),
        st.dictionaries(st.sampled_from(["team", "stage"]), st.sampled_from(["a", "b"]), max_size=2),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=25)
@given(reports=REPORTS, part_items=st.integers(1, 9), seed=st.integers(0, 99))
@pytest.mark.slow
def test_table_and_archive_together_hold_what_was_recorded_whatever_it_was(
    reports: list[tuple[int, str, int, dict[str, str]]], part_items: int, seed: int
) -> None:
    archive = ArchiveWorld(part_items=part_items)
    world = archive.world
    buyer = world.subscribe(product=PAY_AS_YOU_GO)
    for hour, dimension, quantity, tags in sorted(reports, key=lambda one: one[0]):
        world.time.to(NOON + hour * HOUR)
        world.report(buyer, quantity, dimension=dimension, tags=tags)
        if hour % 2:
            world.to_due()
            world.meter()
    world.to_due()
    for _ in range(4):
        world.meter()
        world.time.advance(DAY)
    world.time.to(READY)
    before, statement = sums(archive.items()), archive.statement(buyer)
    archive.run()
    dice = random.Random(seed)  # noqa: S311  a test's dice
    archive.expire(lambda _: dice.random() < 0.5)
    assert sums(everything(archive, buyer)) == before
    assert archive.statement(buyer) == statement
    archive.expire()
    assert sums(everything(archive, buyer)) == before
    assert archive.statement(buyer) == statement


# -- what it costs --------------------------------------------------------------------------------------------


def test_a_thousand_items_cost_one_write_each_and_forty_calls(archive: ArchiveWorld) -> None:
    """The figures of docs/cost.md."""
    world = archive.world
    buyer = world.subscribe(product=PAY_AS_YOU_GO)
    world.report(buyer, 5)
    world.to_due()
    world.meter()
    (item,) = archive.items()
    for number in range(999):
        sk = f"HOUR#{MONTH}-{1 + number // 24 % 28:02d}T{number % 24:02d}#d{number // 672}"
        world.dynamodb.put_item(TableName=world.tables.usage, Item={**item, "sk": {"S": sk}})
    world.time.to(READY)
    archive.statement(buyer)  # frozen by a reader before
    archive.calls.forget()
    assert archive.run().items == 1000
    counted = archive.calls.count()
    assert (counted["batch_execute_statement"], counted["put_object"], counted["get_object"]) == (40, 2, 4)
    assert counted["put_item"] == 4
