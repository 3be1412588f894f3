"""CloudTrail's events, for LookupEvents and as files; seller reports; planted differences in both."""

from __future__ import annotations

import csv
import gzip
import io
import json
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any

import pytest

from marketplace_emulator.differences import KINDS

CLOUDTRAIL = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
RESOLVE = "AWSMPMeteringService.ResolveCustomer"


@pytest.fixture
def cloudtrail(client: Any) -> Any:
    return client("cloudtrail")


def events(emulator: Any, name: str = "BatchMeterUsage") -> list[dict[str, Any]]:
    now = emulator.clock.timestamp()
    return [one for one in emulator.m.trail.events(until=now) if one["eventName"] == name]


def metered(emulator: Any) -> list[tuple[str, str, int]]:
    """Licence, time and quantity of every record that the events show as accepted."""
    return [
        (one["usageRecord"]["licenseArn"], one["usageRecord"]["timestamp"], one["usageRecord"]["quantity"])
        for event in events(emulator)
        for one in event["responseElements"]["results"]
        if one["status"] == "Success"
    ]


def rows(server: Any, name: str, month: str = "2026-11") -> list[dict[str, str]]:
    with urllib.request.urlopen(f"{server.url}/admin/reports/{name}?month={month}") as answer:  # noqa: S310  loopback
        assert answer.headers["Content-Type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(answer.read().decode())))


def test_an_event_has_the_documented_shape(emulator, metering, cloudtrail):
    emulator.m.settings.update({"callers": {"testing": "arn:aws:sts::222233334444:assumed-role/Meter/one"}})
    purchase = emulator.buy()
    tags = [{"AllocatedUsageQuantity": 7, "Tags": [{"Key": "Team", "Value": "Blue"}]}]
    record = emulator.record(purchase, 7, UsageAllocations=tags) | {"Timestamp": emulator.clock.now()}
    metering.batch_meter_usage(UsageRecords=[record])
    assert cloudtrail.lookup_events()["Events"] == []
    emulator.clock.advance(900)
    name = {"AttributeKey": "EventName", "AttributeValue": "BatchMeterUsage"}
    (found,) = cloudtrail.lookup_events(LookupAttributes=[name])["Events"]
    event = json.loads(found["CloudTrailEvent"])
    shown = {
        "timestamp": "Nov 22, 2026 12:00:00 PM",
        "customerAWSAccountId": purchase.account_id,
        "licenseArn": purchase.license_arn,
        "dimension": record["Dimension"],
        "quantity": 7,
        "usageAllocations": [{"allocatedUsageQuantity": 7, "tags": [{"key": "Team", "value": "Blue"}]}],
    }
    assert event["requestParameters"] == {"usageRecords": [shown]}
    (result,) = event["responseElements"]["results"]
    assert result == {
        "usageRecord": shown,
        "meteringRecordId": emulator.m.ledger.records[0].id,
        "status": "Success",
    }
    assert event["responseElements"]["unprocessedRecords"] == []
    assert event["userIdentity"]["arn"] == "arn:aws:sts::222233334444:assumed-role/Meter/one"
    assert event["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"] == "Meter"
    assert (event["eventSource"], event["eventName"]) == ("metering-marketplace.amazonaws.com", "BatchMeterUsage")
    assert (event["awsRegion"], event["recipientAccountId"]) == ("us-east-1", "222233334444")
    assert (event["readOnly"], event["eventTime"]) == (False, "2026-11-22T12:00:00Z")
    assert "Boto3" in event["userAgent"]
    assert (found["EventId"], found["EventName"], found["Username"]) == (event["eventID"], "BatchMeterUsage", "one")
    assert found["EventTime"].isoformat() == "2026-11-22T12:00:00+00:00"


def test_a_registration_token_is_hidden_and_a_read_has_no_answer(emulator, client):
    purchase = emulator.buy()
    emulator.call(RESOLVE, RegistrationToken=emulator.m.registration_token(purchase.id))
    client("marketplace-entitlement").get_entitlements(
        ProductCode="ca1contractandconsumption", Filter={"CUSTOMER_AWS_ACCOUNT_ID": ["111122223333"]}
    )
    (resolved,) = events(emulator, "ResolveCustomer")
    assert resolved["requestParameters"] == {"registrationToken": "HIDDEN_DUE_TO_SECURITY_REASONS"}
    assert resolved["responseElements"]["licenseArn"] == purchase.license_arn
    (read,) = events(emulator, "GetEntitlements")
    assert (read["readOnly"], read["responseElements"]) == (True, None)
    assert read["requestParameters"]["filter"] == {"CUSTOMER_AWS_ACCOUNT_ID": ["111122223333"]}


def test_a_refused_call_has_an_error_and_no_answer(emulator):
    emulator.send(emulator.record(emulator.buy(), dimension="misspelt"))
    (event,) = events(emulator)
    assert (event["errorCode"], event["responseElements"]) == ("InvalidUsageDimensionException", None)
    assert event["requestParameters"]["usageRecords"][0]["dimension"] == "misspelt"


@pytest.mark.parametrize(
    ("fault", "recorded"), [("drop_after", 1), ("timeout_after", 1), ("drop_before", 0), ("unavailable", 0)]
)
def test_a_call_has_an_event_if_it_reached_the_service(emulator, fault, recorded):
    emulator.m.faults.plan([{"fault": fault, "seconds": 0}])
    emulator.send(emulator.record(emulator.buy()))
    assert len(events(emulator)) == recorded == len(metered(emulator))


def test_what_is_larger_than_100_kb_is_omitted(emulator):
    purchase = emulator.buy()
    pieces = [
        {"AllocatedUsageQuantity": 1, "Tags": [{"Key": "k", "Value": f"{number:0>60}"}]} for number in range(1500)
    ]
    emulator.send(emulator.record(purchase, 1500, UsageAllocations=pieces))
    (event,) = events(emulator)
    assert event["requestParameters"]["omitted"] is True
    assert event["responseElements"]["originalSize"] > 100_000


def test_lookups_are_of_one_region_and_newest_first_in_pages(emulator, client):
    purchase = emulator.buy()
    for number in range(7):
        emulator.clock.advance(3600)
        emulator.send(emulator.record(purchase, number))
    emulator.send(emulator.record(purchase), region="eu-west-1")
    emulator.clock.advance(900)
    name = [{"AttributeKey": "EventName", "AttributeValue": "BatchMeterUsage"}]
    pages = client("cloudtrail").get_paginator("lookup_events").paginate(
        LookupAttributes=name, PaginationConfig={"PageSize": 3}
    )  # fmt: skip
    found = [[event["EventTime"].hour for event in page["Events"]] for page in pages]
    assert found == [[19, 18, 17], [16, 15, 14], [13]]
    assert len(client("cloudtrail", region="eu-west-1").lookup_events()["Events"]) == 1
    other = [{"AttributeKey": "EventName", "AttributeValue": "MeterUsage"}]
    assert client("cloudtrail").lookup_events(LookupAttributes=other)["Events"] == []
    emulator.clock.advance("P91D")
    assert client("cloudtrail").lookup_events(LookupAttributes=name)["Events"] == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"MaxResults": 51}, "InvalidMaxResultsException"),
        ({"StartTime": 2.0, "EndTime": 1.0}, "InvalidTimeRangeException"),
        ({"LookupAttributes": [{"AttributeKey": "Colour", "AttributeValue": "x"}]}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "x"}] * 2}, None),
        ({"EventCategory": "all"}, "InvalidEventCategoryException"),
        ({"NextToken": "x"}, "InvalidNextTokenException"),
    ],
)
def test_a_lookup_that_does_not_fit_is_refused(emulator, request_, code):
    assert emulator.call(CLOUDTRAIL, **request_).error == (code or "InvalidLookupAttributesException")


def test_a_lookup_is_signed_for_cloudtrail(server):
    scope = "20261122/us-east-1/aws-marketplace/aws4_request"
    headers = {"X-Amz-Target": CLOUDTRAIL, "Authorization": f"AWS4-HMAC-SHA256 Credential=testing/{scope}, x"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(server.url, b"{}", headers))  # noqa: S310  loopback


def test_a_trail_delivers_every_event_once_as_gzip(emulator, server):
    purchase = emulator.buy()
    for number in range(12):
        emulator.clock.advance(100)
        emulator.send(emulator.record(purchase, number + 1), region=("us-east-1", "eu-west-1")[number % 2])
    emulator.clock.advance(900)
    listed = json.load(urllib.request.urlopen(f"{server.url}/admin/trail"))["files"]  # noqa: S310  loopback
    found = []
    for file in listed:
        account, region = "222233334444", file["key"].split("/")[3]
        assert file["key"].startswith(
            f"AWSLogs/{account}/CloudTrail/{region}/2026/11/22/{account}_CloudTrail_{region}_"
        )
        content = urllib.request.urlopen(f"{server.url}/admin/trail/{file['key']}").read()  # noqa: S310  loopback
        records = json.loads(gzip.decompress(content))["Records"]
        assert {one["awsRegion"] for one in records} == {region}
        found += [one["eventID"] for one in records]
    assert sorted(found) == sorted(one["eventID"] for one in events(emulator))
    assert len(listed) > 4


def test_reports_add_up_to_the_bill(emulator, server):
    first, second, legacy = emulator.buy(), emulator.buy(), emulator.buy("legacysubscriptionproduct")
    for hours in (1, 30):
        emulator.clock.advance(hours * 3600)
        emulator.send(emulator.record(first, 2000), emulator.record(second, 500))
        emulator.send(emulator.record(legacy, 40), ProductCode=legacy.product_code)
    bill = emulator.m.ledger.bill()
    usage, billed, monthly = (rows(server, name) for name in ("usage", "billed_revenue", "monthly"))
    assert sum(Decimal(row["Estimated usage"]) for row in usage) == sum(line.quantity for line in bill)
    assert {row["Usage date"] for row in usage} == {"2026-11-22", "2026-11-23"}
    assert len(usage) == 6
    assert {row["Agreement ID"] for row in usage} == {one.agreement_id for one in (first, second, legacy)}
    amount = sum(line.amount for line in bill)
    assert sum(Decimal(row["Gross revenue"]) for row in billed) == pytest.approx(amount, abs=Decimal("0.02"))
    assert {row["Invoice date"] for row in billed} == {"2026-12-03"}
    assert sum(Decimal(row["Customer Billed Amount"]) for row in monthly) == pytest.approx(amount, abs=Decimal("0.02"))
    assert rows(server, "usage", "2026-10") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_difference_changes_the_evidence_and_not_the_bill(emulator, server, kind):
    purchase, other = emulator.buy(), emulator.buy()
    emulator.send(emulator.record(purchase, 5), emulator.record(other, 6))
    before, bill = metered(emulator), [line.as_dict() for line in emulator.m.ledger.bill()]
    usage = rows(server, "usage")
    body = json.dumps({"kind": kind, "license": purchase.license_arn, "where": ["trail"]}).encode()
    urllib.request.urlopen(f"{server.url}/admin/differences", body)  # noqa: S310  loopback
    changed = metered(emulator)
    noon, eleven = "Nov 22, 2026 12:00:00 PM", "Nov 22, 2026 11:00:00 AM"
    mine, theirs = (purchase.license_arn, noon, 5), (other.license_arn, noon, 6)
    expected = {
        "only_ours": [theirs],
        "only_theirs": [theirs, mine, (purchase.license_arn, eleven, 6)],
        "other_quantity": [theirs, (purchase.license_arn, noon, 6)],
        "other_hour": [theirs, (purchase.license_arn, eleven, 5)],
        "other_identity": [theirs, (changed[-1][0], noon, 5)],
        "sent_by_someone_else": [theirs, mine],
    }
    assert before == [mine, theirs]
    assert changed == expected[kind]
    senders = {event["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"] for event in events(emulator)}
    assert ("OldMeteringRole" in senders) == (kind == "sent_by_someone_else")
    assert [line.as_dict() for line in emulator.m.ledger.bill()] == bill
    assert rows(server, "usage") == usage
    emulator.m.differences.clear()
    assert metered(emulator) == before


def test_a_planted_difference_shows_in_reports_too(emulator, server):
    purchase = emulator.buy()
    emulator.send(emulator.record(purchase, 5))
    before = rows(server, "usage")
    emulator.m.differences.plant(
        [{"kind": "other_quantity", "by": 3, "where": ["reports"]}],
        emulator.m.ledger, emulator.m.registry, emulator.m.settings,
    )  # fmt: skip
    assert [row["Estimated usage"] for row in (*before, *rows(server, "usage"))] == ["5", "8"]
    assert [quantity for _, _, quantity in metered(emulator)] == [5]


@pytest.mark.parametrize("order", [{"kind": "odd"}, {"kind": "only_ours", "hour": "x"}, {}, {"kind": 1}])
def test_an_order_that_does_not_fit_is_refused(emulator, server, order):
    emulator.send(emulator.record(emulator.buy(), 5))
    request = urllib.request.Request(f"{server.url}/admin/differences", json.dumps(order).encode())  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)  # noqa: S310
