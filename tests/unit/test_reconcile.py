"""Our ledger compared with CloudTrail and with seller reports: every planted difference is found, and nothing else."""

import csv
import gzip
import io
import json
from collections import Counter
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.archive.reader import UsageHistory
from marketplace.platform.clock import DAY, HOUR, hour_of, iso
from marketplace.platform.errors import ThrottledError
from marketplace.reconcile import sorting
from marketplace.reconcile.cloudtrail import (
    entries_of,
    events_in,
    events_under,
    looked_up,
)
from marketplace.reconcile.compare import reconcile
from marketplace.reconcile.difference import Acceptance, Difference
from marketplace.reconcile.evidence import (
    Entry,
    Gap,
    UnreadableEvidenceError,
    our_entries,
    period_of,
    quantity_of,
    within,
)
from marketplace.reconcile.ledger import metering_records, subscriptions_with_usage
from marketplace.reconcile.reports import our_report_payer, report_entries, span_of
from marketplace.subscriptions.model import Subscription
from marketplace_emulator.differences import KINDS as PLANTED_KINDS
from marketplace_emulator.reports import billed_revenue, usage
from marketplace_emulator.trail import Caller
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World

OUR_ROLE = "EMULATORACCESSKEY"
PRICES = {"api_calls": Decimal("0.002"), "emails": Decimal("0.01")}
METER = "AWSMPMeteringService.BatchMeterUsage"


@pytest.fixture
def world() -> World:
    """Six hours of four buyers: two licences of one account, another account's, and a legacy customer."""
    made = World.on(MemoryDynamoDB())
    payg = "ca2payasyougoproduct00000"
    buyers = [
        *(made.subscribe(account, payg) for account in ("111122223333", "111122223333", "444455556666")),
        made.subscribe("777788889999", "legacysubscriptionproduct"),
    ]
    for hour in range(6):
        made.time.to(NOON + hour * HOUR)
        for number, buyer in enumerate(buyers):
            dimension = "emails" if buyer.license_arn is None else "api_calls"
            made.report(buyer, 100 + hour * 10 + number, dimension=dimension, tags={"team": f"t{hour}"})
    made.to_due()
    made.meter()
    made.time.advance(DAY)
    return made


def events(world: World) -> list[dict[str, Any]]:
    return list(world.marketplace.trail.events(until=world.time.seconds()))


def ledger(world: World, start: int = NOON, end: int = NOON + DAY) -> list[Any]:
    ids = subscriptions_with_usage(world.table(world.tables.subscriptions), start)
    return list(metering_records(UsageHistory(world.usage_table(), world.time.now), ids, start, end))


def compared(world: World, **given: Any) -> list[Difference]:
    """The differences from CloudTrail."""
    gaps: list[Gap] = []
    theirs = entries_of((one for one in events(world) if one["eventName"] == "BatchMeterUsage"), gaps)
    ours = our_entries(ledger(world))
    return list(reconcile(ours, theirs, **{"senders": {OUR_ROLE}, "gaps": gaps, **given}))


def plant(world: World, **order: Any) -> None:
    market = world.marketplace
    market.differences.plant([order], market.ledger, market.registry, market.settings)


def compared_with(world: World, report: str, **given: Any) -> list[Difference]:
    """The differences from a seller report."""
    lines = report.splitlines()
    accounts = {one.id: one.account_id for one in subscriptions(world)}
    payer = our_report_payer(lambda record: accounts[record.subscription_id])
    ours = our_entries(ledger(world), payer_of=payer, span=span_of(lines))
    return list(reconcile(ours, report_entries(lines), shows_zeros=False, **given))


def subscriptions(world: World) -> list[Subscription]:
    return [Subscription.from_values(item) for item in world.subscription_items() if item["sk"] == "SUBSCRIPTION"]


# -- nothing differs ----------------------------------------------------------------------------------------


def test_what_was_metered_is_what_cloudtrail_shows(world: World) -> None:
    assert compared(world) == []


def test_a_lost_answer_and_its_repetition_make_no_difference(world: World) -> None:
    world.marketplace.faults.plan([{"fault": "timeout_after", "operation": "BatchMeterUsage", "seconds": 0}])
    buyer = subscriptions(world)[0]
    world.report(buyer, 5, dimension="emails" if buyer.license_arn is None else "api_calls")
    world.to_due()
    for _ in range(3):
        world.metering().run()
        world.time.advance(900)
    start = world.time.seconds() - DAY
    theirs = within(entries_of(metering_events(world), []), start, start + 2 * DAY)
    assert list(reconcile(our_entries(ledger(world, hour_of(start), start + 2 * DAY)), theirs)) == []


def metering_events(world: World) -> list[dict[str, Any]]:
    return [one for one in events(world) if one["eventName"] == "BatchMeterUsage"]


def test_seller_reports_of_what_was_metered_make_no_difference(world: World) -> None:
    assert compared_with(world, usage(world.marketplace, "2026-11")) == []
    assert compared_with(world, billed_revenue(world.marketplace, "2026-11")) == []


# -- each class of difference -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLANTED_KINDS)
@pytest.mark.parametrize("hour", [0, 3])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_each_planted_difference_is_found_and_nothing_else(world: World, kind: str, hour: int, number: int) -> None:
    purchase = world.marketplace.purchases.all()[number]
    plant(world, kind=kind, license=purchase.id, hour=iso(NOON + hour * HOUR), where=["trail"])
    (found,) = compared(world, prices=PRICES)
    assert found.kind == kind
    recorded = 100 + hour * 10 + number
    units = {"only_ours": -recorded, "only_theirs": recorded + 1, "other_quantity": 1}.get(kind, 0)
    price = PRICES["emails" if number == 3 else "api_calls"]
    assert (found.units, found.money) == (units, price * units)
    assert (found.ours, found.theirs) == {
        "only_ours": (recorded, None),
        "only_theirs": (None, recorded + 1),
        "other_quantity": (recorded, recorded + 1),
    }.get(kind, (recorded, recorded))
    assert (found.their_period is not None) == (kind == "other_hour")
    assert (found.their_payer is not None) == (kind == "other_identity")
    assert any("OldMeteringRole" in sender for sender in found.senders) == (kind == "sent_by_someone_else")


def test_differences_of_every_class_at_once_are_each_found(world: World) -> None:
    for hour, kind in enumerate(PLANTED_KINDS):
        # The first and the last hour have a free hour beside them.
        at = {"only_theirs": 0, "other_hour": 5}.get(kind, hour)
        buyer = world.marketplace.purchases.all()[hour % 3]
        plant(world, kind=kind, license=buyer.id, hour=iso(NOON + at * HOUR), where=["trail"])
    assert Counter(one.kind for one in compared(world)) == Counter(list(PLANTED_KINDS))


def test_a_record_under_another_of_our_licences_is_of_another_identity(world: World) -> None:
    first, _, third, _ = world.marketplace.purchases.all()
    third.product.dimensions.setdefault("unused", third.product.dimensions["api_calls"])
    plant(world, kind="other_identity", license=first.id, hour=iso(NOON), to=third.id, where=["trail"])
    (found, *more) = compared(world)
    # AWS shows two records of the third licence's hour, and none of the first's.
    assert {one.kind for one in (found, *more)} == {"other_quantity", "only_ours"}
    assert sum(one.units for one in (found, *more)) == 0


@pytest.mark.parametrize("kind", ["only_ours", "only_theirs", "other_quantity"])
def test_a_difference_in_a_report_is_found_by_day(world: World, kind: str) -> None:
    plant(world, kind=kind, hour=iso(NOON + 2 * HOUR), where=["reports"])
    (found,) = compared_with(world, usage(world.marketplace, "2026-11"))
    assert found.kind == "other_quantity"
    assert found.period == period_of(NOON, "day")
    (monthly,) = compared_with(world, billed_revenue(world.marketplace, "2026-11"))
    assert (monthly.units, monthly.period) == (found.units, period_of(NOON, "month"))
    assert found.units != 0


def test_a_buyer_that_only_a_report_has_is_only_theirs(world: World) -> None:
    plant(world, kind="other_identity", where=["reports"])
    found = compared_with(world, usage(world.marketplace, "2026-11"))
    assert sorted(one.kind for one in found) == ["only_theirs", "other_quantity"]
    assert sum(one.units for one in found) == 0


# -- real causes --------------------------------------------------------------------------------------------


def send(world: World, quantity: int, *, role: str, region: str = "us-east-1") -> str:
    purchase = world.marketplace.purchases.all()[0]
    record = {
        "Timestamp": world.time.seconds(),
        "Dimension": "api_calls",
        "Quantity": quantity,
        "LicenseArn": purchase.license_arn,
        "CustomerAWSAccountId": purchase.account_id,
    }
    body = json.dumps({"UsageRecords": [record]}).encode()
    answer = world.marketplace.handle(METER, body, region, Caller(role))
    return str(answer.json()["Results"][0]["Status"])  # type: ignore[union-attr]


@pytest.mark.parametrize(("theirs", "state"), [(9, "conflict"), (5, "metered")])
def test_another_sender_of_an_hour_is_told_with_numbers(theirs: int, state: str) -> None:
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe("111122223333", "ca2payasyougoproduct00000")
    assert send(world, theirs, role="SomebodyElse") == "Success"
    world.report(buyer, 5)
    world.to_due()
    world.meter()
    assert [item["state"] for item in world.stored()] == [state]
    world.time.advance(DAY)
    (found,) = compared(world)
    assert (found.kind, found.ours, found.theirs, found.our_state) == ("sent_by_someone_else", 5, theirs, state)
    assert any("SomebodyElse" in sender for sender in found.senders)


def test_a_record_that_a_second_region_has_too_is_billed_twice() -> None:
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe("111122223333", "ca2payasyougoproduct00000")
    world.report(buyer, 5)
    send(world, 5, role=OUR_ROLE, region="eu-west-1")
    world.to_due()
    world.meter()
    world.time.advance(DAY)
    (found,) = compared(world)
    assert (found.kind, found.ours, found.theirs, found.units) == ("other_quantity", 5, 10, 5)


def test_usage_that_is_not_metered_yet_is_no_difference() -> None:
    world = World.on(MemoryDynamoDB())
    world.report(world.subscribe(), 5)
    assert len(ledger(world)) == 1
    assert compared(world) == []


def test_what_aws_has_and_we_hold_as_open_is_only_theirs() -> None:
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe("111122223333", "ca2payasyougoproduct00000")
    world.report(buyer, 5)
    send(world, 5, role=OUR_ROLE)
    (found,) = compared(world)
    assert (found.kind, found.our_state, found.units) == ("only_theirs", "open", 5)


def test_what_was_settled_just_now_is_not_missed_yet(world: World) -> None:
    ours = list(our_entries(ledger(world), settled_before=NOON))
    assert {entry.state for entry in ours} == {"fresh"}
    assert list(reconcile(ours, [])) == []
    wrong = [entry._replace(quantity=1) for entry in entries_of(metering_events(world), [])]
    assert {one.kind for one in reconcile(ours, wrong)} == {"other_quantity"}


def test_a_record_whose_event_aws_left_out_is_unproven_and_not_missing(world: World) -> None:
    event, other = metering_events(world)
    event["responseElements"] = {"omitted": True, "originalSize": 200_000, "reason": "too large"}
    gaps: list[Gap] = []
    found = list(reconcile(our_entries(ledger(world)), entries_of([event, other], gaps), gaps=gaps))
    assert {one.kind for one in found} == {"unproven"}
    assert len(found) + len(other["responseElements"]["results"]) == 24
    assert [gap.event_id for gap in gaps] == [event["eventID"]]
    later = [gaps[0]._replace(moment=gaps[0].moment + HOUR)]
    assert {one.kind for one in reconcile(our_entries(ledger(world)), [], gaps=later)} == {"only_ours"}


# -- accepted differences -----------------------------------------------------------------------------------


def test_an_accepted_difference_is_found_again_with_its_reason(world: World) -> None:
    plant(world, kind="other_quantity", where=["trail"])
    (found,) = compared(world)
    (again,) = compared(world, accepted=[Acceptance(found.id, "credited by AWS"), Acceptance("dif-x", "other")])
    assert (again.id, again.accepted) == (found.id, "credited by AWS")
    assert again.as_json()["accepted"] == "credited by AWS"
    world.marketplace.differences.clear()
    plant(world, kind="other_quantity", by=2, where=["trail"])
    (changed,) = compared(world, accepted=[Acceptance(found.id, "credited by AWS")])
    assert changed.accepted is None


def test_a_difference_is_plain_json(world: World) -> None:
    plant(world, kind="only_ours", where=["trail"])
    (found,) = compared(world, prices=PRICES)
    assert json.loads(json.dumps(found.as_json())) == {
        "id": found.id,
        "kind": "only_ours",
        "payer": found.payer,
        "dimension": "api_calls",
        "period": "2026-11-18T17:00:00Z",
        "ours": 150,
        "theirs": None,
        "units": -150,
        "money": "-0.300",
        "our_state": "metered",
        "metering_record_ids": list(found.references),
    }


# -- the sources --------------------------------------------------------------------------------------------


def test_lookup_events_and_the_files_of_a_trail_show_the_same(world: World, tmp_path: Path) -> None:
    paused: list[float] = []
    trail = client("cloudtrail", world.marketplace)
    looked = list(entries_of(looked_up(trail, NOON, world.time.seconds(), sleep=paused.append), []))
    for key, content in world.marketplace.trail.files(until=world.time.seconds()):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    filed = list(entries_of(events_under(tmp_path), []))
    assert sorted(looked) == sorted(filed)
    assert len(looked) == 24


def test_lookups_page_slowly_and_wait_when_throttled(world: World) -> None:
    for number in range(120):
        send(world, number, role=OUR_ROLE)
    world.time.advance(HOUR)
    world.marketplace.faults.plan([{"fault": "throttle", "operation": "LookupEvents", "times": 2, "skip": 1}])
    trail = client("cloudtrail", world.marketplace)
    paused: list[float] = []
    found = list(looked_up(trail, NOON, world.time.seconds(), sleep=paused.append))
    assert len(found) == 122
    assert paused == [0.5, 0.5, 1.0, 0.5]
    world.marketplace.faults.plan([{"fault": "throttle", "operation": "LookupEvents", "times": None}])
    with pytest.raises(ThrottledError):
        list(looked_up(trail, NOON, world.time.seconds(), sleep=paused.append))


@pytest.mark.parametrize(
    "file",
    [b"no json", b'{"Records": 5}', b"{}", b"[]", b'{"Records": [5]}', gzip.compress(b"[]", mtime=0)[:-9]],
)
def test_a_file_of_another_form_is_named(file: bytes) -> None:
    with pytest.raises(UnreadableEvidenceError, match=r"odd\.json\.gz"):
        list(events_in(file, "odd.json.gz"))


@pytest.mark.parametrize(
    "result",
    [
        {"status": "Success"},
        {"status": "Success", "usageRecord": {"timestamp": "today", "dimension": "d", "licenseArn": "l-1"}},
        {"status": "Success", "usageRecord": {"timestamp": 1, "dimension": "d", "licenseArn": "l-1", "quantity": "x"}},
    ],
)
def test_an_event_of_another_form_is_named(result: dict[str, Any]) -> None:
    event = {"eventID": "e-7", "eventTime": "2026-11-18T12:00:00Z", "responseElements": {"results": [result]}}
    with pytest.raises(UnreadableEvidenceError, match="e-7"):
        list(entries_of([event], []))


@pytest.mark.parametrize(
    "text",
    [
        "Nov 18, 2026 12:30:00 PM",
        "Nov 18, 2026, 12:30:00\u202fPM",
        "2026-11-18T12:30:00Z",
        "2026-11-18 12:30:00",
        1795005000,
        1795005000123,
    ],
)
def test_times_are_read_in_every_form(text: Any) -> None:
    record = {"timestamp": text, "dimension": "d", "licenseArn": "l-0f", "quantity": 1}
    answer = {"results": [{"status": "Success", "usageRecord": record}]}
    (entry,) = entries_of([{"eventTime": iso(NOON), "responseElements": answer}], [])
    assert iso(entry.period) == "2026-11-18T12:00:00Z"


def test_the_daily_usage_feed_is_read_by_agreement() -> None:
    feed = "usage_date,agreement_id,dimension_key,usage_quantity\n2026-11-18,agmt-1,api_calls,24.00\n"
    (known,) = report_entries(feed.splitlines(), {"agmt-1": "l-0f"})
    (unknown,) = report_entries(feed.splitlines())
    assert known == Entry("l-0f", "api_calls", period_of(NOON, "day"), 24)
    assert unknown.payer == "agreement/agmt-1"
    assert span_of(feed.splitlines()) == "day"


def test_a_report_of_another_form_is_named(world: World) -> None:
    with pytest.raises(UnreadableEvidenceError, match="lacks the columns"):
        list(report_entries(["Date,Amount", "2026-11-18,5"]))
    rows = list(csv.reader(io.StringIO(usage(world.marketplace, "2026-11"))))
    rows[2][rows[0].index("Estimated usage")] = "many"
    text = "\n".join(",".join(row) for row in rows)
    with pytest.raises(UnreadableEvidenceError, match=r"line 3 .*many"):
        list(report_entries(text.splitlines()))


@pytest.mark.parametrize(("text", "quantity"), [("24.00", 24), ("1,234", 1234), (7, 7), ("0.5", 0.5), (0, 0)])
def test_quantities_are_read_as_numbers(text: Any, quantity: float) -> None:
    assert quantity_of(text) == quantity


def test_subscriptions_that_ended_before_are_not_read() -> None:
    world = World.on(MemoryDynamoDB())
    active, ended, long_ended, pending = (world.subscribe(f"11112222333{n}") for n in range(4))
    for one, status, deadline in ((ended, "ended", NOON), (long_ended, "ended", NOON - 1), (pending, "pending", None)):
        world.put_subscription(
            Subscription(
                id=one.id,
                integration="license",
                product_code=one.product_code,
                license_arn=one.license_arn,
                status=status,  # type: ignore[arg-type]
                closing_deadline=deadline,
            )
        )
    found = list(subscriptions_with_usage(world.table(world.tables.subscriptions), NOON))
    assert sorted(found) == sorted([active.id, ended.id])


# -- any size, and sums -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers())), st.integers(1, 7))
def test_rows_come_out_sorted_however_many_fit_into_memory(rows: list[Any], fit: int) -> None:
    with ExitStack() as files:
        one_by_one, together = sorting.Sorter(files, fit), sorting.Sorter(files, fit)
        for row in rows:
            one_by_one.add(row)
        together.add_all(rows)
        assert list(one_by_one.in_order()) == list(together.in_order()) == sorted(rows)


ENTRY = st.builds(
    Entry,
    payer=st.sampled_from(["l-1", "l-2", "p/c"]),
    dimension=st.sampled_from(["a", "b"]),
    period=st.integers(0, 3).map(lambda hour: hour * HOUR),
    quantity=st.integers(0, 4),
    reference=st.sampled_from(["", "m-1", "m-2", "m-3"]),
)
OURS = st.lists(
    st.builds(
        lambda entry, state: entry._replace(state=state), ENTRY, st.sampled_from(["metered", "open", "rejected"])
    ),
    unique_by=lambda entry: entry[:3],
    max_size=8,
)
THEIRS = st.lists(
    st.builds(lambda entry, sender: entry._replace(sender=sender), ENTRY, st.sampled_from(["", "us", "them"])),
    unique_by=(lambda entry: entry[:3], lambda entry: entry.reference or entry),
    max_size=8,
)


@settings(max_examples=400)
@given(ours=OURS, theirs=THEIRS, fit=st.integers(1, 9))
@pytest.mark.slow
def test_the_units_of_all_differences_are_the_difference_of_the_sums(
    ours: list[Entry], theirs: list[Entry], fit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting.Sorter.__init__, "__defaults__", (fit,))
        found = list(reconcile(ours, theirs, {"a": Decimal(2)}, senders={"us"}))
    metered = sum(entry.quantity for entry in ours if entry.state == "metered")
    assert sum(one.units for one in found) == sum(entry.quantity for entry in theirs) - metered
    assert sum(one.money or 0 for one in found) == 2 * sum(one.units for one in found if one.dimension == "a")
    assert list(reconcile(ours, [entry._replace(state="") for entry in ours if entry.state == "metered"])) == []
