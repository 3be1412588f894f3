"""Whatever an AWS call contains, the emulator answers with an error of the service, never with one of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from marketplace_emulator import Clock, Marketplace, Reply

AGREEMENTS = "AWSMPCommerceService_v20200301"
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
    ("NextToken", "AWSMPEntitlementService.GetEntitlements"),
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
