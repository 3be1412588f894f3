"""Whatever an AWS call contains, the emulator answers with an error of the service, never with one of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from marketplace_emulator import Clock, Marketplace, Reply

AGREEMENTS = "AWSMPCommerceService_v20200301"
CLOUDTRAIL = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"
PARTIES = [
    {"name": "PartyType", "values": ["Proposer"]},
    {"name": "AgreementType", "values": ["PurchaseAgreement"]},
]


def market() -> tuple[Marketplace, dict[str, dict[str, Any]]]:
    """An emulator with two purchases, and a request of each operation that it carries out."""
    made = Marketplace(Clock.frozen("2026-11-22T12:00:00Z"))
    made.purchases.subscribe("ca1contractandconsumption", entitlements={"seats": 1}, provision=True)
    purchase = made.purchases.subscribe("ca1contractandconsumption", entitlements={"seats": 5}, provision=True)
    record = {
        "Timestamp": made.clock.timestamp(),
        "CustomerAWSAccountId": "111122223333",
        "LicenseArn": purchase.license_arn,
        "Dimension": "api_calls",
        "Quantity": 3,
        "UsageAllocations": [{"AllocatedUsageQuantity": 3, "Tags": [{"Key": "a", "Value": "b"}]}],
    }
    one = {"agreementId": purchase.agreement_id}
    adjustment = {
        "agreementId": purchase.agreement_id,
        "originalInvoiceId": "1234567890",
        "adjustmentAmount": "1.00",
        "currencyCode": "USD",
        "adjustmentReasonCode": "OTHER",
        "clientToken": "one",
        "description": "two",
    }
    made.settings.update({"trail_delay_seconds": 0})
    create = f"{AGREEMENTS}.BatchCreateBillingAdjustmentRequest"
    for number in range(2):
        entries = [{**adjustment, "clientToken": f"before-{number}"}]
        answer = made.handle(create, json.dumps({"billingAdjustmentRequestEntries": entries}).encode())
    created = answer.json()["items"][0]["billingAdjustmentRequestId"]  # type: ignore[union-attr]
    return made, {
        "AWSMPMeteringService.ResolveCustomer": {"RegistrationToken": made.registration_token(purchase.id)},
        "AWSMPMeteringService.BatchMeterUsage": {"UsageRecords": [record]},
        "AWSMPEntitlementService.GetEntitlements": {
            "ProductCode": "ca1contractandconsumption",
            "Filter": {"DIMENSION": ["seats"]},
            "MaxResults": 1,
        },
        f"{AGREEMENTS}.SearchAgreements": {
            "catalog": "AWSMarketplace",
            "filters": [*PARTIES, {"name": "AfterEndTime", "values": ["2026-11-22"]}],
            "sort": {"sortBy": "EndTime", "sortOrder": "ASCENDING"},
            "maxResults": 1,
        },
        f"{AGREEMENTS}.DescribeAgreement": one,
        f"{AGREEMENTS}.GetAgreementTerms": {**one, "maxResults": 1},
        f"{AGREEMENTS}.GetAgreementEntitlements": {**one, "maxResults": 1},
        create: {"billingAdjustmentRequestEntries": [adjustment]},
        f"{AGREEMENTS}.GetBillingAdjustmentRequest": {**one, "billingAdjustmentRequestId": created},
        f"{AGREEMENTS}.ListBillingAdjustmentRequests": {
            "agreementId": purchase.agreement_id,
            "status": "PENDING",
            "createdAfter": 1.0,
            "createdBefore": 9e9,
            "catalog": "AWSMarketplace",
            "agreementType": "PurchaseAgreement",
            "maxResults": 1,
        },
        f"{AGREEMENTS}.ListAgreementInvoiceLineItems": {
            "agreementId": purchase.agreement_id,
            "groupBy": "INVOICE_ID",
            "invoiceId": "1",
            "maxResults": 1,
            "invoiceType": "INVOICE",
            "invoiceBillingPeriod": {"month": 11, "year": 2026},
            "afterIssuedTime": 1.0,
        },
        f"{CLOUDTRAIL}.LookupEvents": {
            "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": create.rpartition(".")[2]}],
            "StartTime": 1.0,
            "EndTime": 9e9,
            "MaxResults": 1,
        },
    }


def places(content: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(content, dict | list):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(value, (*way, name))


def changed(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    copy = json.loads(json.dumps(content))
    inner = copy
    for step in way[:-1]:
        inner = inner[step]
    inner[way[-1]] = value
    return copy


VALUES = [
    *(None, True, 0, -1, 1.5, 1e308, 10**40, "", "x", "é" * 300, "\ud800"),
    *([], {}, [[]], [{}], [None], ["x"], {"x": 1}, {"x": []}),
]


@pytest.mark.parametrize("target", market()[1])
def test_a_value_of_another_type_is_refused_as_the_service_refuses(target: str) -> None:
    emulator, requests = market()
    for way in places(requests[target]):
        for value in VALUES:
            answer = emulator.handle(target, json.dumps(changed(requests[target], way, value)).encode())
            assert isinstance(answer, Reply)
            assert answer.status < 500, (way, value)


TOKENS = [
    *(("nextToken", f"{AGREEMENTS}.{name}") for name in ("SearchAgreements", "GetAgreementTerms")),
    ("nextToken", f"{AGREEMENTS}.ListBillingAdjustmentRequests"),
    ("NextToken", "AWSMPEntitlementService.GetEntitlements"),
    ("NextToken", f"{CLOUDTRAIL}.LookupEvents"),
]


@pytest.mark.parametrize(("member", "target"), TOKENS)
def test_a_forged_token_is_refused(member: str, target: str) -> None:
    emulator, requests = market()
    first = emulator.handle(target, json.dumps(requests[target]).encode()).json()  # type: ignore[union-attr]
    query, *numbers = json.loads(base64.urlsafe_b64decode(first[member]))
    forged = [
        *([query, *(bad for _ in numbers)] for bad in ("x", None, -1, 1.5, [], True)),
        *([query], [query, *numbers, 0], ["other", *numbers], numbers, {}, 7, None),
    ]
    texts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in forged]
    for token in (*texts, "!!!", "é", "=" * 5, base64.b64encode(b"[" * 100_000).decode()):
        answer = emulator.handle(target, json.dumps({**requests[target], member: token}).encode())
        assert answer.status == 400, token[:80]  # type: ignore[union-attr]
    assert emulator.handle(target, json.dumps({**requests[target], member: first[member]}).encode()).status == 200  # type: ignore[union-attr]
