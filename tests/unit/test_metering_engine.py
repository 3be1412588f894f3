"""A metering run: what is due is billed once, whatever AWS, the store and other runs do meanwhile."""

import contextlib
import itertools
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, NoCredentialsError

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_item
from marketplace.ledger.deadlines import CLOCK_MARGIN, HELD_TRIES_WITHIN, month_of
from marketplace.ledger.record import MAX_TAG_SETS, Group
from marketplace.ledger.seal import in_doubt
from marketplace.metering import backlog
from marketplace.metering.api import MeteringApi
from marketplace.metering.outcomes import Answer
from marketplace.metering.report import MeteringReport
from marketplace.metering.wire import MAX_REQUEST_BYTES, Sendable
from marketplace.platform.clock import DAY, HOUR, hour_of, iso
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, CrashError, no_answer
from tests.support.in_process import client as in_process_client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, Timeline, World

LEGACY = "legacysubscriptionproduct"
CONTRACT = "ca1contractandconsumption"
PAYG = "ca2payasyougoproduct00000"
ONE_OFFENDER = 1 + 2 * math.log2(25) + 2
"""Calls for 25 records of which one is bad."""


def buyers(world: World, count: int, product: str | None = None, first: int = 1) -> list[Subscription]:
    return [world.subscribe(f"{n:012d}", product) for n in range(first, first + count)]


def due(world: World, count: int, quantity: int = 2) -> list[Subscription]:
    """So many subscriptions with usage of an hour that is due."""
    found = buyers(world, count)
    world.report_all([world.usage(buyer, quantity) for buyer in found])
    world.to_due()
    return found


def aws(world: World, fault: str, **given: Any) -> None:
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": fault, "times": 1, **given}])


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "BatchMeterUsage",
    )


def states(world: World) -> Counter[str]:
    return Counter(record["state"] for record in world.stored())


def rest(world: World) -> list[dict[str, Any]]:
    """What waits in the `due` index to be sent, or to be told."""
    return [record for record in world.stored() if record.get("due_at", -1) > 0]


def change(world: World, record: dict[str, Any], **values: Any) -> None:
    item = {**record, **values}
    world.dynamodb.put_item(TableName=world.tables.usage, Item=to_item({k: v for k, v in item.items() if v is not ...}))


def crash() -> BaseException:
    return CrashError()


def other(world: World) -> World:
    """The same deployment seen by another run that nothing interferes with."""
    twin = World(world.dynamodb, world.tables, time=world.time, bus=world.bus, requests=world.requests)
    twin.marketplace = world.marketplace
    twin._tokens = (f"other{n}" for n in range(10_000))  # type: ignore[assignment]
    return twin


# The outcome table, as it is stored, counted and told


def test_success_is_metered_with_its_metering_record_id(world: World) -> None:
    (buyer,) = due(world, 1, quantity=7)
    report = world.meter()
    (record,) = world.stored()
    (billed,) = world.marketplace.ledger.records
    assert record["state"] == "metered"
    assert record["metering_record_id"] == billed.id
    assert record["settled_at"] == world.time.seconds()
    assert "reason" not in record
    assert rest(world) == []
    assert (report.records, report.units) == ({"metered": 1}, {"metered": 7})
    assert world.billed() == {(buyer.id, "api_calls"): 7}
    assert world.bus.events == []


def test_a_duplicate_of_an_attempt_without_an_answer_is_ours(world: World) -> None:
    world.marketplace.settings.update({"identical_resend": "duplicate"})
    due(world, 1)
    aws(world, "timeout_after")
    report = world.meter()
    (record,) = world.stored()
    assert (record["state"], record["reason"]) == ("metered", "answered_as_duplicate")
    assert report.records == {"metered_earlier": 1}
    assert report.errors == {"ReadTimeoutError": 1}
    assert (rest(world), world.bus.events) == ([], [])


def test_any_other_duplicate_is_a_conflict_that_the_seller_hears_of(world: World) -> None:
    (buyer,) = due(world, 1, quantity=7)
    aws(world, "duplicate")
    report = world.meter()
    (record,) = world.stored()
    assert (record["state"], record["reason"]) == ("conflict", "DuplicateRecord")
    assert report.records == {"conflict": 1}
    (event,) = world.bus.events
    assert (event.kind, event.time) == ("Usage Conflict", record["settled_at"])
    assert event.detail == {
        "subscription_id": buyer.id,
        "dimension": "api_calls",
        "hour": iso(NOON),
        "quantity": 7,
        "reason": "DuplicateRecord",
    }
    assert rest(world) == []


def test_a_customer_not_subscribed_is_held_and_looked_at(world: World) -> None:
    (buyer,) = due(world, 1)
    aws(world, "not_subscribed")
    report = world.meter()
    (record,) = world.stored()
    assert (record["state"], record["reason"]) == ("held", "CustomerNotSubscribed")
    assert -record["due_at"] == record["refuse_at"] - HELD_TRIES_WITHIN
    assert report.records == {"held": 1}
    assert world.requests.asked == [(buyer.id, "not_subscribed", world.time.seconds())]


@pytest.mark.parametrize("fault", ["omit", "unknown_status"])
def test_a_record_without_a_known_answer_stays_due_in_doubt(world: World, fault: str) -> None:
    due(world, 3)
    aws(world, fault, indexes=[1])
    report = world.meter()
    counted = "unanswered" if fault == "omit" else "unknown_status"
    assert report.records == {"metered": 2, counted: 1}
    (record,) = rest(world)
    assert record["state"] == "open"
    assert in_doubt(record["seal"])
    assert world.meter().records == {"metered": 1}


@pytest.mark.parametrize("reading", ["success", "duplicate"])
def test_a_record_that_is_metered_and_not_answered_is_found_again(world: World, reading: str) -> None:
    world.marketplace.settings.update({"identical_resend": reading})
    due(world, 3)
    aws(world, "omit_after", indexes=[0, 2])
    world.meter()
    assert world.meter().records.total() == 2
    assert states(world) == {"metered": 3}
    assert sum(world.billed().values()) == 6


@dataclass
class Says:
    """AWS, answering every record alike."""

    status: str
    metering_record_id: str | None

    def send(self, group: Group, records: Sequence[Sendable]) -> Answer:
        return Answer({record.result_key: (self.status, self.metering_record_id) for record in records}, frozenset())


@pytest.mark.parametrize("status", ["Success", "DuplicateRecord"])
@pytest.mark.parametrize("metering_record_id", [None, "m-1"])
def test_a_metering_record_id_is_kept_if_there_is_one(
    world: World, status: str, metering_record_id: str | None
) -> None:
    due(world, 1)
    (record,) = world.stored()
    change(world, record, seal="an-attempt-without-an-answer")
    run = world.metering()
    run.api = Says(status, metering_record_id)  # type: ignore[assignment]
    run.run()
    (settled,) = world.stored()
    assert settled["state"] == "metered"
    assert settled.get("metering_record_id") == metering_record_id
    assert rest(world) == []


def test_an_unknown_refusal_marks_nothing_bad(world: World, calls: Calls) -> None:
    due(world, 2)
    calls.fail("batch_meter_usage", lambda: refusal("SomethingNewException"), times=None)
    report = world.meter()
    assert report.records == {"unknown_refusal": 2}
    assert states(world) == {"open": 2}
    assert not any(in_doubt(record["seal"]) for record in rest(world))
    assert (report.left, report.oldest_unsettled_seconds) == (2, 0)
    calls.heal()
    world.time.advance(HOUR)
    assert world.meter().records == {"metered": 2}


def test_what_is_refused_for_an_unknown_reason_is_in_nobodys_way_at_every_run(world: World, calls: Calls) -> None:
    due(world, 50)
    calls.judge = lambda name, _: refusal("SomethingNewException") if name == "batch_meter_usage" else None
    assert world.meter().calls == 98
    calls.judge = None
    world.time.advance(900)
    world.report_all([world.usage(buyer, 1, at=NOON) for buyer in buyers(world, 3, first=80)])
    world.time.to(NOON + 2 * HOUR + 600)
    report = world.meter()
    assert report.calls <= 3
    assert report.records == {"metered": 53}


def test_an_unknown_refusal_is_tried_at_every_run_when_time_is_short(world: World, calls: Calls) -> None:
    due(world, 1)
    calls.fail("batch_meter_usage", lambda: refusal("SomethingNewException"), times=None)
    world.time.to(NOON + 24 * HOUR - 900)
    assert world.meter().units_at_risk[6] == 2
    world.time.advance(600)
    calls.heal()
    assert world.meter().records == {"metered": 1}


def taken_by_another_sender(world: World, buyer: Subscription) -> None:
    """Somebody else of the same seller reports the hour first, with a quantity of their own."""
    record = {
        "Timestamp": NOON,
        "Dimension": "api_calls",
        "Quantity": 1_000_000,
        "LicenseArn": buyer.license_arn,
        "CustomerAWSAccountId": buyer.account_id,
    }
    in_process_client("meteringmarketplace", world.marketplace).batch_meter_usage(UsageRecords=[record])


def test_the_outcomes_of_one_call_are_told_apart(world: World) -> None:
    found = due(world, 6)
    world.marketplace.purchases.suspend(found[0].account_id or "")
    taken_by_another_sender(world, found[3])
    report = world.meter()
    assert report.calls == 1
    assert report.records == {"metered": 4, "conflict": 1, "held": 1}
    assert [event.detail["subscription_id"] for event in world.bus.events] == [found[3].id]
    assert [asked[0] for asked in world.requests.asked] == [found[0].id]


def test_what_is_settled_without_doubt_does_not_say_that_it_is_in_doubt(world: World, calls: Calls) -> None:
    due(world, 1)
    aws(world, "duplicate")
    world.meter()
    (shown,) = world.queries().metering_records(world.stored()[0]["pk"][4:], start=0, end=NOON + HOUR).items
    assert shown["state"] == "conflict"
    assert "in_doubt" not in shown
    world.report(buyers(world, 1, first=50)[0], 1, dimension="no_such_dimension")
    world.time.advance(2 * HOUR)
    world.meter()
    (rejected,) = world.stored("rejected")
    assert not in_doubt(rejected["seal"])


def test_a_refused_record_whose_earlier_attempt_had_no_answer_says_so(world: World, calls: Calls) -> None:
    due(world, 1)
    aws(world, "timeout_after")
    calls.fail("batch_meter_usage", lambda: refusal("InvalidUsageDimensionException"), skip=1)
    world.meter()
    (record,) = world.stored("rejected")
    assert in_doubt(record["seal"])
    assert sum(world.billed().values()) == 2


# One bad record among good ones

CODES = (
    "InvalidUsageDimensionException", "InvalidLicenseException", "InvalidTagException",
    "InvalidUsageAllocationsException", "InvalidCustomerIdentifierException", "InvalidProductCodeException",
    "TimestampOutOfBoundsException", "ValidationException",
)  # fmt: skip


def poison(calls: Calls, places: set[int], code: str) -> None:
    """Has AWS refuse every call that holds a record of these places in the first one."""
    bad: set[str] = set()

    def judge(name: str, arguments: dict[str, Any]) -> BaseException | None:
        if name != "batch_meter_usage":
            return None
        sent = [record["LicenseArn"] for record in arguments["UsageRecords"]]
        if not bad:
            bad.update(sent[place] for place in places)
        return refusal(code) if bad & set(sent) else None

    calls.judge = judge


@pytest.mark.parametrize("place", range(25))
def test_one_bad_record_costs_few_calls_and_delays_nobody(world: World, calls: Calls, place: int) -> None:
    due(world, 25)
    poison(calls, {place}, "InvalidUsageDimensionException")
    report = world.meter()
    assert report.records == {"metered": 24, "rejected": 1}
    assert report.calls <= ONE_OFFENDER
    assert rest(world) == []
    assert sum(world.billed().values()) == 48


@pytest.mark.parametrize("code", CODES)
def test_every_refusal_of_a_whole_call_is_taken_to_its_record(world: World, calls: Calls, code: str) -> None:
    due(world, 25)
    poison(calls, {17}, code)
    report = world.meter()
    state = {"InvalidLicenseException": "held", "TimestampOutOfBoundsException": "unbillable"}.get(code, "rejected")
    assert report.records == {"metered": 24, state: 1}
    assert report.calls <= ONE_OFFENDER
    assert [record["reason"] for record in world.stored(state)] == [code]
    assert set(report.errors) == {code}
    assert not report.breaker_opened


@pytest.mark.parametrize("places", [{0, 24}, {11, 12}, {3, 4, 5, 20}])
def test_several_bad_records_are_all_found_in_one_run(world: World, calls: Calls, places: set[int]) -> None:
    due(world, 25)
    poison(calls, places, "InvalidLicenseException")
    report = world.meter()
    assert report.records == {"metered": 25 - len(places), "held": len(places)}
    assert report.calls <= 1 + len(places) * (ONE_OFFENDER - 1)


def test_nothing_but_bad_records_ends_too(world: World, calls: Calls) -> None:
    due(world, 25)
    poison(calls, set(range(25)), "InvalidTagException")
    report = world.meter()
    assert report.records == {"rejected": 25}
    assert report.calls == 49
    assert not report.breaker_opened


@pytest.mark.slow
def test_many_records_of_an_unpublished_dimension_delay_no_good_one(world: World, calls: Calls) -> None:
    """The seller has begun to report a dimension before publishing it: every buyer has a record that AWS refuses."""
    found = buyers(world, 200)
    world.report_all([world.usage(buyer, 2) for buyer in found])
    world.report_all([world.usage(buyer, 2, dimension="not_published") for buyer in found])
    world.to_due()
    report = world.meter()
    assert report.records == {"metered": 200, "rejected": 200}
    good = [n for n, sent in enumerate(calls.sent()) if any(record["Dimension"] == "api_calls" for record in sent)]
    first_batch = ONE_OFFENDER + 25 + 2 * 3
    assert good[-1] <= first_batch + 15
    assert report.calls <= first_batch + 15 + 200 * 26 / 25
    assert {record["reason"] for record in world.stored("rejected")} == {"InvalidUsageDimensionException"}


def test_a_dimension_published_in_mid_run_is_billed(world: World, calls: Calls) -> None:
    """Suspects are sent too: AWS decides about each of them."""
    found = buyers(world, 60)
    world.report_all([world.usage(buyer, 2, dimension="storage_gb_hours") for buyer in found])
    world.to_due()
    refused = 0

    def judge(name: str, _: dict[str, Any]) -> BaseException | None:
        nonlocal refused
        refused += name == "batch_meter_usage"
        return refusal("InvalidUsageDimensionException") if name == "batch_meter_usage" and refused <= 6 else None

    calls.judge = judge
    assert world.meter().records == {"metered": 59, "rejected": 1}


def _unknown_dimension(world: World, record: dict[str, Any]) -> None:
    change(world, record, dimension="no_such_dimension")


def _unknown_license(world: World, record: dict[str, Any]) -> None:
    change(
        world, record, license_arn="arn:aws:license-manager::294406891311:license:l-00000000000000000000000000000000"
    )


def _before_activation(world: World, record: dict[str, Any]) -> None:
    change(world, record, timestamp=NOON - HOUR)


def _too_old(world: World, record: dict[str, Any]) -> None:
    change(world, record, timestamp=NOON - 30 * HOUR)


def _future(world: World, record: dict[str, Any]) -> None:
    change(world, record, timestamp=NOON + 30 * HOUR)


def _bad_tag(world: World, record: dict[str, Any]) -> None:
    _allocate(world, record, 1, "é")


def _same_tags_twice(world: World, record: dict[str, Any]) -> None:
    _allocate(world, record, 1, "a")
    _allocate(world, record, 1, "a", digest="other")


def _allocate(world: World, record: dict[str, Any], quantity: int, tag: str, digest: str = "digest") -> None:
    change(world, record, tag_sets=1)
    key = {"pk": record["pk"], "sk": keys.allocation_prefix(record["sk"]) + digest}
    item = to_item({**key, "quantity": quantity, "tags": {tag: "b"}})
    world.dynamodb.put_item(TableName=world.tables.usage, Item=item)


@pytest.mark.parametrize(
    ("spoil", "state", "code"),
    [
        (_unknown_dimension, "rejected", "InvalidUsageDimensionException"),
        (_unknown_license, "held", "InvalidLicenseException"),
        (_before_activation, "held", "InvalidLicenseException"),
        (_too_old, "unbillable", "TimestampOutOfBoundsException"),
        (_future, "unbillable", "TimestampOutOfBoundsException"),
    ],
)
def test_a_stored_record_that_AWS_refuses_harms_itself_only(  # noqa: N802 - a name
    world: World, spoil: Callable[[World, dict[str, Any]], None], state: str, code: str
) -> None:
    due(world, 8)
    spoil(world, world.stored()[5])
    assert world.meter().records == {"metered": 7, state: 1}
    assert [record["reason"] for record in world.stored(state)] == [code]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(_bad_tag, "InvalidTagException"), (_same_tags_twice, "InvalidUsageAllocationsException")],
)
@pytest.mark.parametrize("point", [None, *range(4)])
def test_refused_tags_cost_the_tags_and_not_the_units(
    world: World, calls: Calls, spoil: Callable[[World, dict[str, Any]], None], code: str, point: int | None
) -> None:
    """Whatever the run dies at, each attempt after the refusal is the same bytes: quantity, and no allocations."""
    found = due(world, 8)
    record = world.stored()[5]
    spoil(world, record)
    if point is not None:
        calls.fail("update_item", crash, when="before" if point % 2 else "after", skip=point // 2)
    with contextlib.suppress(CrashError):
        report = world.meter()
        assert report.records == {"metered": 8, "tags_refused": 1}
        assert [(note.state, note.reason) for note in report.notes] == [("open", f"tags refused: {code}")]
    calls.heal()
    world.meter()
    assert states(world) == {"metered": 8}
    assert sum(world.billed().values()) == 2 * len(found)
    (stored,) = (one for one in world.stored() if one["sk"] == record["sk"] and one["pk"] == record["pk"])
    assert stored["tags_refused"] == code
    attempts = [
        one for sent in calls.sent() for one in sent if one["LicenseArn"] == record["license_arn"]
    ]  # fmt: skip
    without = [n for n, one in enumerate(attempts) if "UsageAllocations" not in one]
    assert without == list(range(without[0], len(attempts)))
    assert all(attempts[n] == attempts[-1] for n in without)


def test_what_was_sent_without_its_refused_tags_is_sent_so_again(world: World, calls: Calls) -> None:
    due(world, 1)
    _bad_tag(world, world.stored()[0])
    calls.fail("batch_meter_usage", crash, when="after")
    with pytest.raises(CrashError):
        world.meter()
    assert world.meter().records == {"metered": 1}
    assert ["UsageAllocations" in sent[0] for sent in calls.sent()] == [True, False, False]
    assert calls.sent()[1] == calls.sent()[2]


def test_a_refusal_of_any_kind_after_the_window_has_closed_is_the_last_one(world: World) -> None:
    (buyer,) = buyers(world, 1)
    world.report(buyer, 1, dimension="no_such_dimension")
    world.time.to(NOON + 24 * HOUR + CLOCK_MARGIN)
    assert world.meter().records == {"unbillable": 1}
    assert [(event.kind, event.detail["reason"]) for event in world.bus.events] == [
        ("Usage Not Billable", "InvalidUsageDimensionException")
    ]


def test_a_refusal_of_tags_that_are_not_there_is_a_refusal_of_the_record(world: World, calls: Calls) -> None:
    due(world, 1)
    poison(calls, {0}, "InvalidTagException")
    assert world.meter().records == {"rejected": 1}
    assert len(calls.sent()) == 1


@pytest.mark.parametrize(
    ("missing", "changes"),
    [
        ("account_id", {"account_id": ...}),
        ("identity", {"license_arn": ...}),
        ("tags", {"tag_sets": 1}),
        ("dimension", {"dimension": ...}),
        ("timestamp", {"timestamp": ...}),
        ("seconds", {"timestamp": "soon"}),
        ("a number", {"tag_sets": "many"}),
        ("tags of an allocation", {"tag_sets": 1}),
    ],
)
def test_a_record_that_cannot_be_sent_is_rejected_and_its_neighbours_are_billed(
    world: World, calls: Calls, missing: str, changes: dict[str, Any]
) -> None:
    due(world, 4)
    record = world.stored()[2]
    change(world, record, **changes)
    if missing == "tags":
        _allocate(world, record, 1000, "a")
    if missing == "tags of an allocation":
        key = {"pk": record["pk"], "sk": keys.allocation_prefix(record["sk"]) + "digest"}
        world.dynamodb.put_item(TableName=world.tables.usage, Item=to_item({**key, "quantity": 1}))
    report = world.meter()
    assert report.records == {"metered": 3, "rejected": 1}
    assert [found["reason"] for found in world.stored("rejected")] == ["unsendable"]
    assert sum(map(len, calls.sent())) == 3


# AWS is not working


SYSTEMIC = ["access_denied", "expired_token_credentials", "unrecognized_credentials", "disabled_api", "throttle"]
SILENT = ["internal_error", "unavailable", "timeout_before", "drop_before"]


@pytest.mark.parametrize("fault", SYSTEMIC + SILENT)
def test_an_outage_stops_the_run_and_marks_nothing_bad(world: World, calls: Calls, fault: str) -> None:
    due(world, 60)
    aws(world, fault, times=None)
    report = world.meter()
    assert report.breaker_opened
    assert report.calls == 5
    assert (report.left, report.records) == (60, {})
    assert states(world) == {"open": 60}
    sealed = [record for record in world.stored() if record["seal"] != "-"]
    assert len(sealed) == (60 if fault in SILENT else 0)
    assert all(in_doubt(record["seal"]) for record in sealed)
    world.marketplace.faults.clear()
    assert world.meter().records == {"metered": 60}
    assert sum(world.billed().values()) == 120


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 3, 12])
def test_a_record_that_AWS_cannot_cope_with_delays_nobody_and_is_not_marked_bad(  # noqa: N802 - a name
    world: World, calls: Calls, batches: int
) -> None:
    """Every call that holds it is answered 500. It stays due, in doubt, and the alarm of the breaker is its alarm."""
    due(world, 25 * batches)
    bad: list[str] = []

    def judge(name: str, arguments: dict[str, Any]) -> BaseException | None:
        if name != "batch_meter_usage":
            return None
        sent = [record["LicenseArn"] for record in arguments["UsageRecords"]]
        bad[:] = bad or [sent[7]]
        return refusal("InternalServiceErrorException", 500) if bad[0] in sent else None

    calls.judge = judge
    report = world.meter()
    assert report.records == {"metered": 25 * batches - 1}
    assert (report.left, report.breaker_opened) == (1, True)
    assert report.calls <= batches + 1 + 2 * 5 + 5
    (left,) = rest(world)
    assert (left["state"], in_doubt(left["seal"])) == ("open", True)
    calls.judge = None
    assert world.meter().records == {"metered": 1}


@pytest.mark.parametrize("fault", ["access_denied", "timeout_before"])
def test_losses_are_written_down_and_told_while_AWS_does_not_work(world: World, fault: str) -> None:  # noqa: N802
    world.report_all([world.usage(buyer, 1, dimension="no_such_dimension") for buyer in buyers(world, 30)])
    world.to_due()
    assert world.meter().records == {"rejected": 30}
    world.time.to(NOON + 20 * HOUR)
    world.report_all([world.usage(buyer, 1) for buyer in buyers(world, 200, first=50)])
    world.time.to(NOON + 24 * HOUR + CLOCK_MARGIN)
    aws(world, fault, times=None)
    report = world.meter()
    assert (report.breaker_opened, report.records) == (True, {"unbillable": 30})
    assert Counter(event.kind for event in world.bus.distinct().values()) == {
        "Usage Rejected": 30,
        "Usage Not Billable": 30,
    }


def test_usage_is_not_written_off_while_AWS_does_not_answer(world: World) -> None:  # noqa: N802 - a name
    due(world, 30)
    world.time.to(NOON + 30 * HOUR)
    aws(world, "throttle", times=None)
    assert world.meter().records == {}
    assert (states(world), world.bus.events) == ({"open": 30}, [])


def test_a_bus_that_fails_now_and_then_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    due(world, 25 * 24)
    world.time.to(NOON + 25 * HOUR)
    publish, count = world.bus.publish, itertools.count(1)

    def now_and_then(events: Any) -> None:
        if next(count) % 4 == 0:
            raise NoAnswerError("InternalFailure")
        publish(events)

    monkeypatch.setattr(world.bus, "publish", now_and_then)
    report = world.meter()
    assert (report.breaker_opened, report.records) == (False, {"unbillable": 25 * 24})
    while rest(world):
        assert not world.meter().breaker_opened
    assert len(world.bus.distinct()) == 25 * 24


@pytest.mark.parametrize(
    ("error", "doubtful"),
    [
        (NoCredentialsError(), False),
        (ConnectionClosedError(endpoint_url="https://aws.invalid"), True),
        (EndpointConnectionError(endpoint_url="https://aws.invalid"), True),
        (refusal("InternalServiceErrorException", 500), True),
        (refusal("ThrottlingException"), False),
    ],
)
def test_only_a_missing_answer_leaves_doubt(world: World, calls: Calls, error: BaseException, doubtful: bool) -> None:
    due(world, 1)
    calls.fail("batch_meter_usage", lambda: error, times=None)
    assert world.meter().breaker_opened
    assert in_doubt(world.stored()[0]["seal"]) == doubtful


def test_a_throttle_after_a_lost_answer_leaves_the_doubt(world: World) -> None:
    world.marketplace.settings.update({"identical_resend": "duplicate"})
    due(world, 1)
    aws(world, "drop_after")
    aws(world, "throttle", times=10)
    assert world.meter().breaker_opened
    assert in_doubt(world.stored()[0]["seal"])
    world.marketplace.faults.clear()
    assert world.meter().records == {"metered_earlier": 1}
    assert sum(world.billed().values()) == 2


def test_trouble_that_passes_costs_pauses_and_no_run(world: World, calls: Calls) -> None:
    due(world, 30)
    aws(world, "throttle", times=4)
    began = world.time.seconds()
    report = world.meter()
    assert report.records == {"metered": 30}
    assert report.errors == {"ThrottlingException": 4}
    assert world.time.seconds() - began >= 5
    assert not report.breaker_opened


def test_a_store_without_an_answer_stops_the_run_too(world: World, calls: Calls) -> None:
    due(world, 250)
    calls.fail("batch_execute_statement", times=None)
    report = world.meter()
    assert report.breaker_opened
    assert report.errors == {"ProvisionedThroughputExceededException": 5}
    assert report.calls == 0
    calls.heal()
    assert world.meter().records == {"metered": 250}


def test_a_queue_without_an_answer_costs_no_other_record_its_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What AWS answered is written down first: in doubt, another sender's hour would pass for our own."""
    found = due(world, 5)
    for buyer in found:
        if buyer.id == min(one.id for one in found):
            world.marketplace.purchases.suspend(buyer.account_id or "")
        else:
            taken_by_another_sender(world, buyer)
    monkeypatch.setattr(world.requests, "look_again", _raising(ThrottledError("Throttling")))
    report = world.meter()
    assert report.records == {"held": 1, "conflict": 4}
    assert report.errors == {"Throttling": 1}
    world.meter()
    assert states(world) == {"held": 1, "conflict": 4}
    assert len(world.bus.distinct()) == 4


def _raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# Unprocessed


@pytest.mark.parametrize("times", [1, 2])
def test_unprocessed_records_are_sent_again_in_the_same_run(world: World, calls: Calls, times: int) -> None:
    due(world, 25)
    aws(world, "unprocessed", indexes=[0, 1, 2], times=times)
    report = world.meter()
    assert [len(sent) for sent in calls.sent()] == [25, *[3] * times]
    assert report.records == {"metered": 25, "unprocessed": 3 * times}
    assert rest(world) == []


def test_records_that_stay_unprocessed_wait_for_the_next_run_without_doubt(world: World, calls: Calls) -> None:
    due(world, 25)
    aws(world, "unprocessed", indexes=[0, 1], times=None)
    report = world.meter()
    assert report.calls == 3
    assert [in_doubt(record["seal"]) for record in rest(world)] == [False, False]
    assert report.left == 2
    world.marketplace.faults.clear()
    assert world.meter().records == {"metered": 2}


def test_an_unprocessed_record_of_a_lost_attempt_stays_in_doubt(world: World) -> None:
    world.marketplace.settings.update({"identical_resend": "duplicate"})
    due(world, 1)
    aws(world, "timeout_after")
    aws(world, "unprocessed", times=3)
    world.meter()
    assert in_doubt(rest(world)[0]["seal"])
    assert world.meter().records == {"metered_earlier": 1}


# Order, time and quota


def test_what_AWS_refuses_soonest_is_sent_first_across_products(world: World, calls: Calls) -> None:  # noqa: N802
    for n, product in enumerate((PAYG, CONTRACT, LEGACY)):
        for buyer in buyers(world, 30, product, first=100 * n + 1):
            dimension = "emails" if product == LEGACY else "api_calls"
            world.report(buyer, 1, dimension=dimension, at=NOON)
    world.time.advance(HOUR)
    closing = [record for record in world.stored() if record["product_code"] == LEGACY][:3]
    for record in closing:
        change(world, record, refuse_at=NOON + 3 * HOUR)
    world.time.advance(700)
    world.meter()
    first = calls.of("batch_meter_usage")[0]
    assert first["ProductCode"] == LEGACY
    identities = {record["customer_identifier"] for record in closing}
    assert {record["CustomerIdentifier"] for record in first["UsageRecords"][:3]} == identities
    assert states(world) == {"metered": 90}


def test_older_hours_are_sent_before_younger_ones(world: World, calls: Calls) -> None:
    found = buyers(world, 20)
    for hour in (0, HOUR, 2 * HOUR):
        world.time.to(NOON + hour)
        world.report_all([world.usage(buyer, 1) for buyer in found])
    world.to_due()
    world.meter()
    stamps = [record["Timestamp"] for sent in calls.sent() for record in sent]
    assert stamps == sorted(stamps)
    assert [len(sent) for sent in calls.sent()] == [25, 25, 10]


def test_a_run_ends_before_its_function_does_and_leaves_the_rest_in_order(world: World, calls: Calls) -> None:
    found = buyers(world, 25)
    for hour in range(4):
        world.time.to(NOON + hour * HOUR)
        world.report_all([world.usage(buyer, 1) for buyer in found])
    world.to_due()
    run = world.metering()
    run.time_left = lambda: 100.0 - 40 * len(calls.sent())
    report = run.run()
    assert report.out_of_time
    assert (report.calls, report.records, report.left) == (2, {"metered": 50}, 50)
    assert {record["hour"] for record in rest(world)} == {NOON + 2 * HOUR, NOON + 3 * HOUR}
    assert {record["seal"] for record in rest(world)} == {"-"}
    calls.forget()
    assert world.meter().records == {"metered": 50}
    assert [sent[0]["Timestamp"] for sent in calls.sent()] == [NOON + 2 * HOUR, NOON + 3 * HOUR]


def test_a_run_out_of_time_in_the_middle_of_a_batch_clears_what_was_not_sent(world: World, calls: Calls) -> None:
    due(world, 25)
    poison(calls, {3}, "InvalidTagException")
    run = world.metering()
    run.time_left = lambda: 100.0 - 30 * len(calls.sent())
    report = run.run()
    assert report.out_of_time
    assert report.calls == 3
    assert not any(in_doubt(record["seal"]) for record in rest(world))
    world.meter()
    assert states(world) == {"metered": 24, "rejected": 1}


def test_calls_are_spaced_by_the_quota(world: World, calls: Calls) -> None:
    world.calls_per_second = 10
    due(world, 200)
    moments: list[float] = []
    calls.judge = lambda name, _: moments.append(world.time.monotonic()) if name == "batch_meter_usage" else None
    world.meter()
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert len(moments) == 8
    assert min(gaps) >= 0.1 - 1e-6


def test_several_workers_share_one_quota_and_one_bill(world: World) -> None:
    due(world, 130)
    run = world.metering()
    run.workers = 4
    assert run.run().records == {"metered": 130}
    assert sum(world.billed().values()) == 260


# Deadlines


def test_usage_that_AWS_takes_no_more_is_unbillable_and_told(world: World) -> None:  # noqa: N802 - a name
    (buyer,) = due(world, 1, quantity=7)
    world.time.to(NOON + 24 * HOUR)
    report = world.meter()
    (record,) = world.stored()
    assert (record["state"], record["reason"]) == ("unbillable", "TimestampOutOfBoundsException")
    assert not in_doubt(record["seal"])
    assert (report.records, report.units) == ({"unbillable": 1}, {"unbillable": 7})
    assert report.calls == 1
    (event,) = world.bus.events
    assert event.kind == "Usage Not Billable"
    assert (event.detail["subscription_id"], event.detail["quantity"]) == (buyer.id, 7)
    assert event.detail["reason"] == "TimestampOutOfBoundsException"
    assert rest(world) == []


def test_usage_in_doubt_at_its_deadline_says_that_it_may_be_billed(world: World) -> None:
    due(world, 1)
    aws(world, "timeout_after")
    aws(world, "throttle", times=5)
    world.meter()
    world.time.to(NOON + 24 * HOUR)
    world.meter()
    (record,) = world.stored()
    assert (record["state"], record["reason"]) == ("unbillable", "TimestampOutOfBoundsException_in_doubt")
    assert in_doubt(record["seal"])
    assert [event.detail["reason"] for event in world.bus.events] == ["TimestampOutOfBoundsException_in_doubt"]


def past_deadline(world: World, count: int) -> list[Subscription]:
    """Usage past the deadline that a closing event has set; what AWS makes of it is AWS's business."""
    found = due(world, count)
    now = world.time.seconds()
    for buyer in found:
        world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.time.advance(2 * HOUR)
    return found


def test_what_is_past_our_deadline_is_sent_and_AWS_decides(world: World) -> None:  # noqa: N802 - a name
    past_deadline(world, 30)
    assert world.meter().records == {"metered": 30}
    assert sum(world.billed().values()) == 60
    assert world.bus.events == []


def test_what_is_past_our_deadline_is_sent_after_everything_else(world: World, calls: Calls) -> None:
    past_deadline(world, 30)
    young = buyers(world, 30, first=200)
    world.report_all([world.usage(buyer, 1) for buyer in young])
    world.to_due()
    world.meter()
    order = [record["CustomerAWSAccountId"] for sent in calls.sent() for record in sent]
    assert set(order[:30]) == {buyer.account_id for buyer in young}
    assert states(world) == {"metered": 60}


@pytest.mark.parametrize("workers", [1, 4])
def test_hopeless_usage_costs_a_few_calls_however_much_there_is(world: World, workers: int) -> None:
    """One refusal of a younger record is evidence for all older ones: five calls for each product and worker."""
    found = buyers(world, 60)
    for hour in range(3):
        world.time.to(NOON + hour * HOUR)
        world.report_all([world.usage(buyer, 1) for buyer in found])
    world.time.to(NOON + 27 * HOUR)
    run = world.metering()
    run.workers = workers
    report = run.run()
    assert report.records == {"unbillable": 180}
    assert report.calls <= 5 * workers
    reasons = Counter(record["reason"] for record in world.stored("unbillable"))
    assert set(reasons) == {"TimestampOutOfBoundsException", "deadline_passed"}
    assert reasons["TimestampOutOfBoundsException"] <= workers
    assert len(world.bus.distinct()) == 180


def test_a_refused_age_is_no_evidence_for_younger_usage_nor_for_another_product(world: World) -> None:
    (old,), (same_age,) = buyers(world, 1), buyers(world, 1, PAYG, first=50)
    world.report_all([world.usage(old, 2), world.usage(same_age, 5)])
    world.time.to(NOON + 2 * HOUR)
    (young,) = buyers(world, 1, first=60)
    world.report(young, 3)
    world.time.to(NOON + 25 * HOUR)
    world.meter()
    assert world.billed() == {(young.id, "api_calls"): 3}
    found = {record["pk"].removeprefix("SUB#"): record["reason"] for record in world.stored("unbillable")}
    assert found == {old.id: "TimestampOutOfBoundsException", same_age.id: "TimestampOutOfBoundsException"}


def test_younger_usage_is_sent_whatever_age_was_refused_before(world: World) -> None:
    """The younger ones had no answer at first, so they are sent again after the older ones were refused."""
    due(world, 5)
    world.time.to(NOON + 3 * HOUR)
    young = buyers(world, 25, first=50)
    world.report_all([world.usage(buyer, 1) for buyer in young])
    now = world.time.seconds()
    for buyer in young:
        world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.time.to(NOON + 25 * HOUR)
    aws(world, "timeout_before")
    assert world.meter().records == {"unbillable": 5, "metered": 25}


def test_a_time_out_of_bounds_that_is_not_old_is_evidence_of_nothing(world: World) -> None:
    due(world, 8)
    _future(world, world.stored()[5])
    assert world.meter().records == {"metered": 7, "unbillable": 1}


def test_last_months_usage_that_AWS_calls_too_old_by_its_own_clock_is_unbillable_not_rejected() -> None:  # noqa: N802
    """Our clock is three minutes behind at 06:00 on the 1st."""
    evening, six = NOON + 12 * DAY + 10 * HOUR, NOON + 12 * DAY + 18 * HOUR
    world = World.on(MemoryDynamoDB(), time=Timeline(evening))
    world.report_all([world.usage(buyer, 1) for buyer in buyers(world, 60)])
    world.time.to(six + 60)
    world.time.skew = -180
    report = world.meter()
    assert report.records == {"unbillable": 60}
    assert report.calls <= 6
    assert {event.kind for event in world.bus.events} == {"Usage Not Billable"}


@pytest.mark.parametrize("after", ["query", "batch_execute_statement", "batch_get_item"])
def test_a_subscription_reopened_at_its_deadline_loses_no_usage(world: World, calls: Calls, after: str) -> None:
    """The run has listed, sealed or read the usage with its old deadline when the reopening moves that."""
    (buyer,) = due(world, 1)
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    world.time.advance(HOUR)
    calm = other(world)

    def reopened() -> None:
        calm.deadlines().release(buyer.id, now=world.time.seconds())

    calls.fail(after, reopened, when="after", skip=15 if after == "query" else 0)
    world.meter()
    world.meter()
    assert world.billed() == {(buyer.id, "api_calls"): 2}
    assert states(world) == {"metered": 1}
    assert world.bus.events == []


def test_a_second_before_the_deadline_is_in_time(world: World) -> None:
    due(world, 1)
    world.time.to(NOON + 24 * HOUR - 1)
    assert world.meter().records == {"metered": 1}


def test_last_months_usage_is_sent_until_six_on_the_first() -> None:
    evening, six = NOON + 12 * DAY + 10 * HOUR, NOON + 12 * DAY + 18 * HOUR
    world = World.on(MemoryDynamoDB(), time=Timeline(evening))
    buyer, late = buyers(world, 2)
    world.report(buyer, 1)
    assert world.stored()[0]["refuse_at"] == six
    world.time.to(six - 60)
    assert world.meter().records == {"metered": 1}
    world.time.to(six)
    world.report(late, 2, at=evening)
    assert month_of(world.stored("open")[0]["hour"]) == (2026, 12)


def test_a_deadline_that_passes_while_the_run_is_on_its_way_is_no_refusal(world: World, calls: Calls) -> None:
    """What a long backlog leaves for after the deadline is unbillable and told, not taken for bad records."""
    due(world, 60)
    world.time.to(NOON + 24 * HOUR - 2)
    aws(world, "throttle", times=3, skip=2)
    report = world.meter()
    assert report.records["metered"] + report.records["unbillable"] == 60
    assert report.records["unbillable"] > 0
    assert report.calls <= 12
    assert states(world)["rejected"] == 0
    assert len(world.bus.distinct()) == report.records["unbillable"]
    assert rest(world) == []


CRASH_POINTS = range(12)


@pytest.mark.parametrize("state", ["unbillable", "conflict"])
@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_seller_hears_of_a_loss_whatever_the_run_dies_at(
    world: World, calls: Calls, state: str, point: int, when: str
) -> None:
    due(world, 2)
    if state == "conflict":
        aws(world, "duplicate", times=None)
    else:
        world.time.to(NOON + 25 * HOUR)
    seen = iter(range(1000))

    def dies(name: str, _: dict[str, Any]) -> BaseException | None:
        return CrashError() if name != "query" and next(seen) == point else None

    if when == "before":
        calls.judge = dies
    else:
        for name in ("update_item", "batch_get_item", "batch_execute_statement"):
            calls.fail(name, crash, when="after", skip=point)
    with contextlib.suppress(CrashError):
        world.meter()
    calls.judge = None
    calls.heal()
    world.meter()
    world.meter()
    expected = {state: 2}
    found = states(world)
    if state == "conflict" and found != expected:
        # Died between AWS's answer and writing it down: the attempt is in doubt, so a duplicate may be our own.
        assert all(record.get("reason") == "answered_as_duplicate" for record in world.stored("metered"))
        expected = dict(found)
    assert found == expected
    told = Counter(event.detail["subscription_id"] for event in world.bus.distinct().values())
    assert told == {record["pk"].removeprefix("SUB#"): 1 for record in world.stored(state)}
    assert rest(world) == []


def test_a_bus_that_fails_is_tried_again_by_the_next_run_with_the_same_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(world, 1)
    world.time.to(NOON + 25 * HOUR)
    publish = world.bus.publish
    taken: list[Any] = []

    def lossy(events: Any) -> None:
        taken.extend(events)
        raise NoAnswerError("InternalFailure")

    monkeypatch.setattr(world.bus, "publish", lossy)
    report = world.meter()
    assert report.errors == {"InternalFailure": 1, "TimestampOutOfBoundsException": 1}
    (record,) = rest(world)
    assert record["state"] == "unbillable"
    monkeypatch.setattr(world.bus, "publish", publish)
    world.meter()
    assert [event.id for event in world.bus.events] == [event.id for event in taken]
    assert world.bus.events == taken
    assert rest(world) == []


# Held usage


def test_held_usage_is_tried_again_six_hours_before_its_deadline(world: World, calls: Calls) -> None:
    (buyer,) = due(world, 1)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    assert world.meter().units_at_risk[6] == 0
    calls.forget()
    world.time.to(NOON + 18 * HOUR - 1)
    assert world.meter().calls == 0
    world.time.to(NOON + 18 * HOUR)
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    assert world.meter().records == {"metered": 1}
    assert "reason" not in world.stored()[0]


def test_held_usage_is_tried_and_counted_ever_more_often_until_it_is_written_off(world: World) -> None:
    (buyer,) = due(world, 1)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.meter()
    tried = []
    while world.time.seconds() < NOON + 24 * HOUR + CLOCK_MARGIN:
        world.time.advance(900)
        report = world.meter()
        left = NOON + 24 * HOUR - world.time.seconds()
        at_risk = {hours: 2 for hours in (1, 3, 6) if left <= hours * HOUR}
        assert report.units_at_risk == ({} if report.records == {"unbillable": 1} else at_risk)
        if report.records == {"held": 1}:
            tried.append((NOON + 24 * HOUR - world.time.seconds()) / HOUR)
    assert tried == [pytest.approx(left, abs=0.01) for left in (5.83, 2.83, 1.33, 0.58, 0.08)]
    assert len(world.requests.asked) == 1 + len(tried)
    assert states(world) == {"unbillable": 1}
    assert [event.detail["reason"] for event in world.bus.events] == ["TimestampOutOfBoundsException"]


def test_held_usage_of_a_closing_subscription_is_tried_until_its_deadline(world: World) -> None:
    (buyer,) = due(world, 1)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.meter()
    now = world.time.seconds()
    world.deadlines().close(buyer.id, deadline=now + HOUR, now=now)
    tried = []
    while world.time.seconds() < now + HOUR:
        world.time.advance(300)
        tried += [world.time.seconds() - now] if world.meter().records == {"held": 1} else []
    assert tried == [2100, 3000]
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    world.time.to(NOON + 24 * HOUR - 60)
    assert world.deadlines().release(buyer.id, now=world.time.seconds()) == 1
    assert world.meter().records == {"metered": 1}


def test_held_usage_is_sent_when_the_subscription_comes_to_life(world: World) -> None:
    (buyer,) = due(world, 1)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.meter()
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    assert world.deadlines().release(buyer.id, now=world.time.seconds()) == 1
    assert world.meter().records == {"metered": 1}


# What is sent


def test_a_resend_is_byte_for_byte_the_first_attempt(
    world: World, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = buyers(world, 3)
    world.report_all([world.usage(buyer, 5, tags={"user": f"u{n}", "team": "t"}) for n in range(3) for buyer in found])
    world.to_due()
    bodies: list[bytes] = []
    handle = world.marketplace.handle

    def listening(target: str, body: bytes, region: str) -> Any:
        bodies.append(body)
        return handle(target, body, region)

    monkeypatch.setattr(world.marketplace, "handle", listening)
    calls.fail("batch_meter_usage", crash, when="after")
    with pytest.raises(CrashError):
        world.meter()
    aws(world, "timeout_after")
    world.time.advance(3 * HOUR)
    world.report_all([world.usage(buyer, 9, tags={"user": "new"}, at=NOON) for buyer in found])
    world.meter()
    assert len(bodies) == 3
    assert all(body.startswith(bodies[0].removesuffix(b"]}")) for body in bodies)
    assert json.loads(bodies[0])["UsageRecords"][0]["Quantity"] == 15
    assert json.loads(bodies[2])["UsageRecords"][3]["Quantity"] == 9
    assert sum(world.billed().values()) == 3 * (15 + 9)


def test_a_call_holds_one_integration_and_one_product(world: World, calls: Calls) -> None:
    products = {LEGACY: "emails", PAYG: "api_calls", CONTRACT: "api_calls"}
    records = []
    for n in range(45):
        product = list(products)[n % 3]
        (buyer,) = buyers(world, 1, product, first=n + 1)
        records.append(world.usage(buyer, 1, dimension=products[product]))
    world.report_all(records)
    world.to_due()
    world.meter()
    assert states(world) == {"metered": 45}
    assert len(calls.sent()) == 3
    by_arn = {record["license_arn"]: record["product_code"] for record in world.stored() if "license_arn" in record}
    for call in calls.of("batch_meter_usage"):
        if "ProductCode" in call:
            assert call["ProductCode"] == LEGACY
            assert all(
                set(r) == {"Timestamp", "Dimension", "Quantity", "CustomerIdentifier"} for r in call["UsageRecords"]
            )
        else:
            assert len({by_arn[record["LicenseArn"]] for record in call["UsageRecords"]}) == 1
            assert all("CustomerIdentifier" not in record for record in call["UsageRecords"])


@pytest.mark.parametrize("code", ["InvalidLicenseException", "InvalidProductCodeException"])
def test_a_refused_licence_is_never_sent_with_a_product_code(world: World, calls: Calls, code: str) -> None:
    """botocore model, BatchMeterUsage: ProductCode and LicenseArn for one customer and hour are billed twice."""
    due(world, 3)
    calls.fail("batch_meter_usage", lambda: refusal(code), times=None)
    world.meter()
    assert all("ProductCode" not in call for call in calls.of("batch_meter_usage"))
    assert all("LicenseArn" in record for sent in calls.sent() for record in sent)


@pytest.mark.slow
def test_records_of_2500_allocations_go_in_requests_under_one_megabyte(world: World, calls: Calls) -> None:
    found = buyers(world, 4)
    world.report_all([world.usage(buyer, 3000) for buyer in found])
    for number, record in enumerate(world.stored()[:3]):
        change(world, record, tag_sets=MAX_TAG_SETS - 1)
        for n in range(MAX_TAG_SETS - 1):
            tags = {f"key-{k}": f"value-{number}-{n:040d}" for k in "abc"}
            sk = f"{keys.allocation_prefix(record['sk'])}{n:05d}"
            item = to_item({"pk": record["pk"], "sk": sk, "quantity": 1, "tags": tags})
            world.dynamodb.put_item(TableName=world.tables.usage, Item=item)
    world.to_due()
    report = world.meter()
    assert report.records == {"metered": 4}
    sizes = [len(json.dumps(sent)) for sent in calls.sent()]
    assert max(sizes) < MAX_REQUEST_BYTES
    assert 2 <= len(sizes) <= 4
    assert sorted(len(billed.allocations) for billed in world.marketplace.ledger.records) == [0, 2500, 2500, 2500]
    assert sum(world.billed().values()) == 12_000


def test_a_conflict_that_cannot_be_written_down_is_counted_and_named_all_the_same(world: World, calls: Calls) -> None:
    """By the next run the record is in doubt, and DuplicateRecord reads as our own."""
    due(world, 3)
    aws(world, "duplicate", indexes=[1])
    calls.fail("update_item")
    report = world.meter()
    assert report.records == {"conflict": 1}
    assert [(note.state, note.reason) for note in report.notes] == [("conflict", "DuplicateRecord, not kept")]


def test_a_conflict_is_written_down_before_what_could_be_asked_again(world: World, calls: Calls) -> None:
    due(world, 3)
    aws(world, "duplicate", indexes=[1])
    calls.fail("batch_write_item")
    assert world.meter().records == {"conflict": 1}
    world.meter()
    assert states(world) == {"conflict": 1, "metered": 2}


# Partial failures of the store


def test_items_that_the_store_leaves_unwritten_are_written_again(world: World, store: MemoryDynamoDB) -> None:
    due(world, 25)
    store.unprocessed = lambda operation, count: range(count // 2) if operation == "BatchWriteItem" else ()
    report = world.meter()
    assert states(world)["metered"] + report.records["metered_unwritten"] == 25
    assert states(world)["metered"] >= 24
    store.unprocessed = None
    world.meter()
    assert states(world) == {"metered": 25}
    assert sum(world.billed().values()) == 50


def test_items_that_stay_unwritten_stay_due_and_are_billed_once(world: World, store: MemoryDynamoDB) -> None:
    due(world, 25)
    store.unprocessed = lambda operation, count: range(count) if operation == "BatchWriteItem" else ()
    report = world.meter()
    assert report.records == {"metered_unwritten": 25}
    assert (report.left, len(rest(world))) == (25, 25)
    store.unprocessed = None
    assert world.meter().records == {"metered": 25}
    assert sum(world.billed().values()) == 50


def test_keys_that_the_store_leaves_unread_are_read_again_or_wait(world: World, store: MemoryDynamoDB) -> None:
    due(world, 25)
    store.unprocessed = lambda operation, count: range(1, count) if operation == "BatchGetItem" else ()
    assert world.meter().records == {"metered": 25}
    (buyer,) = buyers(world, 1, first=80)
    world.report(buyer, 1)
    world.to_due()
    store.unprocessed = lambda operation, count: range(count) if operation == "BatchGetItem" else ()
    report = world.meter()
    assert (report.calls, report.left) == (0, 1)
    store.unprocessed = None
    assert world.meter().records == {"metered": 1}


def test_an_event_whose_record_is_left_unread_is_published_by_a_later_run(
    world: World, store: MemoryDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(world, 1)
    world.time.to(NOON + 25 * HOUR)
    with monkeypatch.context() as patch:
        patch.setattr(world.bus, "publish", _raising(NoAnswerError("InternalFailure")))
        world.meter()
    store.unprocessed = lambda operation, count: range(count) if operation == "BatchGetItem" else ()
    assert world.meter().left == 1
    assert world.bus.events == []
    store.unprocessed = None
    assert world.meter().left == 0
    assert len(world.bus.events) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_outcome_that_the_store_does_not_take_is_found_again(world: World, calls: Calls, when: str) -> None:
    due(world, 1)
    aws(world, "not_subscribed", times=2)
    calls.fail("update_item", no_answer, when=when)
    assert world.meter().errors == {"ReadTimeoutError": 1}
    world.deadlines().release(world.stored()[0]["pk"].removeprefix("SUB#"), now=world.time.seconds())
    world.meter()
    assert states(world) == {"held": 1}


def test_statements_that_fail_singly_are_tried_again(world: World, store: MemoryDynamoDB, calls: Calls) -> None:
    due(world, 25)
    store.unprocessed = lambda operation, count: range(count // 2) if operation == "BatchExecuteStatement" else ()
    began = world.time.monotonic()
    report = world.meter()
    assert (report.records, report.errors) == ({"metered": 25}, {})
    assert [len(made["Statements"]) for made in calls.of("batch_execute_statement")] == [25, 12, 6, 3, 1]
    assert 0.4 < world.time.monotonic() - began < 1.0


def test_statements_that_keep_failing_leave_their_records_for_later(world: World, store: MemoryDynamoDB) -> None:
    due(world, 25)
    store.unprocessed = lambda operation, count: range(2) if operation == "BatchExecuteStatement" else ()
    report = world.meter()
    assert (report.records, report.errors) == ({"metered": 23}, {"ThrottlingError": 2})
    assert [record["seal"] for record in rest(world)] == ["-", "-"]
    store.unprocessed = None
    assert world.meter().records == {"metered": 2}


class _NoStatement:
    """A table on which no statement is carried out."""

    def __init__(self, client: Any, code: str) -> None:
        self._client = client
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_execute_statement(self, Statements: list[Any]) -> Any:  # noqa: N803 - boto3's name
        return {"Responses": [{"Error": {"Code": self._code, "Message": ""}} for _ in Statements]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "tries"),
    [("AccessDenied", 1), ("ResourceNotFound", 1), ("ThrottlingError", 5), ("TransactionConflict", 5)],
)
def test_a_store_that_seals_nothing_stops_the_run(world: World, calls: Calls, code: str, tries: int) -> None:
    due(world, 300)
    world.wrap = lambda client: calls.wrap(_NoStatement(client, code) if hasattr(client, "put_item") else client)
    report = world.meter()
    assert report.breaker_opened
    assert (report.left, report.records, report.calls) == (300, {}, 0)
    assert report.errors == {code: 5}
    assert calls.count()["batch_execute_statement"] == 5 * tries
    world.wrap = calls.wrap
    assert world.meter().records == {"metered": 300}


def test_a_failure_to_settle_is_made_good_by_the_next_run(world: World, calls: Calls) -> None:
    due(world, 3)
    calls.fail("batch_write_item", no_answer, when="after")
    world.meter()
    calls.fail("batch_write_item", no_answer)
    world.meter()
    world.meter()
    assert states(world) == {"metered": 3}
    assert sum(world.billed().values()) == 6


# An index that lags behind, and other runs


def test_a_stale_index_settles_nothing_twice(world: World, store: MemoryDynamoDB, calls: Calls) -> None:
    due(world, 30)
    store.index_lag = True
    assert world.meter().records == {"metered": 30}
    settled = world.stored()
    calls.forget()
    report = world.meter()
    assert (report.due, report.calls, report.records) == (30, 0, {})
    assert world.stored() == settled
    store.index_lag = False
    assert world.meter().due == 0


@pytest.mark.parametrize("reading", ["success", "duplicate"])
@pytest.mark.parametrize("fault", ["not_subscribed", "duplicate", "unprocessed", "timeout_after", "throttle"])
def test_a_stale_index_never_makes_a_conflict(world: World, store: MemoryDynamoDB, fault: str, reading: str) -> None:
    world.marketplace.settings.update({"identical_resend": reading})
    due(world, 3)
    store.index_lag = True
    aws(world, fault, indexes=[1]) if fault in {"not_subscribed", "unprocessed", "duplicate"} else aws(world, fault)
    world.meter()
    before = states(world)
    world.meter()
    store.catch_up()
    world.meter()
    assert states(world)["conflict"] == (1 if fault == "duplicate" else 0)
    assert states(world)["metered"] >= before["metered"]
    assert len(world.marketplace.ledger.records) == states(world)["metered"]


def test_a_stale_index_publishes_no_event_that_is_told(world: World, store: MemoryDynamoDB) -> None:
    due(world, 1)
    aws(world, "duplicate")
    world.meter()
    (record,) = world.stored()
    change(world, record, due_shard=keys.due_shard(record["pk"][4:]), due_at=NOON)
    store.index_lag = True
    world.meter()
    world.meter()
    assert len(world.bus.events) == 2
    assert len(world.bus.distinct()) == 1
    assert states(world) == {"conflict": 1}


@pytest.mark.parametrize("reading", ["success", "duplicate"])
@pytest.mark.parametrize("call", ["batch_execute_statement", "batch_get_item", "batch_meter_usage", "batch_write_item"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_another_run_may_come_in_between_any_two_steps(
    world: World, calls: Calls, call: str, when: str, reading: str
) -> None:
    world.marketplace.settings.update({"identical_resend": reading})
    due(world, 30)
    twin = other(world)
    calls.fail(call, lambda: _ran(twin), when=when)
    world.meter()
    world.meter()
    assert states(world) == {"metered": 30}
    assert sum(world.billed().values()) == 60
    assert rest(world) == []


def _ran(world: World) -> None:
    world.meter()


def test_metered_wins_over_what_a_slower_run_decided(world: World, calls: Calls) -> None:
    (buyer,) = due(world, 1)
    twin = other(world)
    aws(world, "not_subscribed")
    calls.fail("batch_meter_usage", lambda: _ran(twin), when="after")
    report = world.meter()
    assert report.records == {}
    assert states(world) == {"metered": 1}
    assert world.requests.asked == []
    assert world.billed() == {(buyer.id, "api_calls"): 2}


def test_metered_wins_over_what_a_faster_run_wrote_off(world: World, calls: Calls) -> None:
    due(world, 1)
    world.time.to(NOON + 24 * HOUR - 5)
    twin = other(world)

    def written_off() -> None:
        world.time.advance(10)
        twin.meter()

    calls.fail("batch_meter_usage", written_off, when="after")
    world.meter()
    (record,) = world.stored()
    assert record["state"] == "metered"
    assert record["metering_record_id"]
    assert [event.detail["reason"] for event in world.bus.events] == ["TimestampOutOfBoundsException_in_doubt"]


@pytest.mark.parametrize("decision", ["conflict", "unbillable", "rejected"])
def test_a_decision_is_written_only_by_the_run_that_holds_the_record(world: World, calls: Calls, decision: str) -> None:
    due(world, 1)
    record = world.stored()[0]
    if decision == "unbillable":
        world.time.to(NOON + 25 * HOUR)
    elif decision == "conflict":
        aws(world, "duplicate")
    else:
        change(world, record, dimension="no_such_dimension")

    def overtaken() -> None:
        (stored,) = world.stored()
        change(world, stored, seal="another")

    calls.fail("update_item", overtaken)
    report = world.meter()
    assert report.records == {}
    assert world.bus.events == []
    assert world.stored()[0]["seal"] == "another"
    assert world.stored()[0]["state"] == "open"


# What a run costs, and what it tells


def test_an_idle_run_is_sixteen_queries_whatever_lies_behind_it(world: World, calls: Calls) -> None:
    world.meter()
    assert calls.count() == {"query": 16}
    due(world, 40)
    for _ in range(3):
        world.meter()
    world.report(buyers(world, 1, first=90)[0], 1)
    calls.forget()
    assert world.meter().due == 0
    assert calls.count() == {"query": 16}
    assert all(call["IndexName"] == keys.DUE_INDEX for call in calls.of("query"))


def test_25_records_take_four_round_trips(world: World, calls: Calls) -> None:
    due(world, 75)
    calls.forget()
    world.meter()
    assert calls.count() == {
        "query": 16,
        "batch_execute_statement": 3,
        "batch_get_item": 3,
        "batch_meter_usage": 3,
        "batch_write_item": 3,
    }


def test_tags_cost_one_more_read_for_a_record_that_has_them(world: World, calls: Calls) -> None:
    found = buyers(world, 5)
    world.report_all([world.usage(buyer, 1, tags={"a": "b"} if n == 2 else None) for n, buyer in enumerate(found)])
    world.to_due()
    calls.forget()
    world.meter()
    assert calls.count()["query"] == 17


def test_the_allocations_of_a_batch_are_read_side_by_side(world: World) -> None:
    """Each waits for another query to be under way, so one after the other would never end."""
    found = buyers(world, 20)
    world.report_all([world.usage(buyer, n, tags={"u": str(n % 3)}) for n, buyer in enumerate(found)])
    world.to_due()
    both = threading.Barrier(2)

    def together(name: str, arguments: dict[str, Any]) -> None:
        if name == "query" and "IndexName" not in arguments:
            both.wait(timeout=200)

    calls = Calls(judge=together)
    world.wrap = calls.wrap
    run = world.metering()
    run.workers = 4
    assert run.run().records == {"metered": 20}
    assert sorted(int(billed.quantity) for billed in world.marketplace.ledger.records) == list(range(20))
    assert {len(billed.allocations) for billed in world.marketplace.ledger.records} == {1}


def test_every_page_of_the_index_and_of_the_allocations_is_read(world: World, store: MemoryDynamoDB) -> None:
    buyer = world.subscribe()
    world.report_all(
        [
            world.usage(buyer, 2, dimension=d, tags={"u": str(n)})
            for n in range(5)
            for d in ("api_calls", "storage_gb_hours")
        ]
    )
    world.to_due()
    store.page_limit = 1
    assert world.meter().records == {"metered": 2}
    assert [len(billed.allocations) for billed in world.marketplace.ledger.records] == [5, 5]


def test_of_a_long_backlog_a_run_takes_what_is_refused_soonest_and_counts_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing subscription's usage has only just become due; it still comes before older hours that can wait."""
    monkeypatch.setattr(backlog, "MAX_ENTRIES", 40)
    for hour in range(4):
        world.time.to(NOON + hour * HOUR)
        world.report_all([world.usage(buyer, 1) for buyer in buyers(world, 25, first=1 + 25 * hour)])
    world.time.to(NOON + 5 * HOUR)
    (closing,) = buyers(world, 1, first=500)
    world.report(closing, 7)
    now = world.time.seconds() + HOUR
    world.time.to(now)
    world.deadlines().close(closing.id, deadline=now + HOUR, now=now)
    report = world.meter()
    assert world.billed()[closing.id, "api_calls"] == 7
    assert report.due == 101
    assert report.records == {"metered": 40}
    assert report.left == 61
    assert report.oldest_unsettled_seconds == now - (NOON + 2 * HOUR + 600)
    assert {record["hour"] for record in rest(world)} == {NOON + hour * HOUR for hour in (1, 2, 3)}
    world.meter()
    world.meter()
    assert states(world) == {"metered": 101}


def test_an_item_that_is_no_metering_record_stops_nobody(world: World) -> None:
    due(world, 3)
    record = world.stored()[1]
    change(world, record, refuse_at=...)
    report = world.meter()
    assert report.records == {"metered": 2}
    assert report.unreadable == [keys.Key(record["pk"], record["sk"])]
    change(world, record)
    assert world.meter().records == {"metered": 1}


def test_a_fault_of_our_own_stops_its_batch_only_and_is_not_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(world, 30)
    shipped = MeteringApi.send

    def send(self: MeteringApi, group: Group, records: Sequence[Sendable]) -> Answer:
        if len(records) == 25:
            raise KeyError("a fault of ours")
        return shipped(self, group, records)

    with monkeypatch.context() as patch:
        patch.setattr(MeteringApi, "send", send)
        report = world.metering().run()
    assert report.records == {"metered": 5}
    assert (report.left, report.errors) == (25, {"KeyError": 1})
    with pytest.raises(KeyError, match="a fault of ours"):
        raise report.failure or AssertionError
    assert world.meter().records == {"metered": 25}


def test_a_run_tells_what_it_leaves_and_how_urgent_it_is(world: World) -> None:
    found = due(world, 3, quantity=4)
    aws(world, "unprocessed", indexes=[0, 1, 2], times=None)
    world.time.to(NOON + HOUR + 600 + 5 * HOUR)
    report = world.meter()
    assert report.summary() == {
        "due": 3,
        "left": 3,
        "calls": 3,
        "records": {"unprocessed": 9},
        "units": {"unprocessed": 36},
        "errors": {},
        "oldest_unsettled_seconds": world.time.seconds() - (NOON + HOUR + 600),
        "units_at_risk": {},
        "standing_records": {"open": 3},
        "standing_units": {"open": 12},
        "in_other_region": 0,
        "unreadable": 0,
        "breaker_opened": False,
        "out_of_time": False,
    }
    world.time.to(NOON + 19 * HOUR)
    assert world.meter().units_at_risk == {6: 4 * len(found)}
    world.marketplace.faults.clear()
    report = world.meter()
    assert (report.left, report.oldest_unsettled_seconds, report.units_at_risk) == (0, 0, {})
    assert isinstance(report, MeteringReport)


def test_zero_is_a_quantity_like_any_other(world: World) -> None:
    (buyer,) = due(world, 1, quantity=0)
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, "api_calls"): 0}


def test_what_is_not_due_is_not_touched(world: World, calls: Calls) -> None:
    (buyer,) = buyers(world, 1)
    world.report(buyer, 1)
    world.time.to(hour_of(NOON) + HOUR + 599)
    assert world.meter().due == 0
    assert world.stored()[0]["seal"] == "-"
    world.time.advance(1)
    assert world.meter().due == 1
