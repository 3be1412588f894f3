"""The story of a buyer and a seller, on the whole system, through HTTP alone.

A buyer subscribes, registers, uses the product and cancels; the seller's application claims, reports and checks. In the
end AWS Marketplace's ledger holds what was reported: per licence, dimension, hour and tag set, to the unit.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from local.stack import Stack
from marketplace_saas_cli.__main__ import main as marketplace_saas
from tests.local_stack.browser import Neighbourhood, call, lines, submit

CONTRACT = "ca1contractandconsumption"
LEGACY = "legacysubscriptionproduct"
DIMENSIONS = ("api_calls", "storage_gb_hours", "users")
TEAMS: tuple[Mapping[str, str], ...] = ({}, {"team": "search"}, {"team": "ads", "env": "prod"})
MINUTE, HOUR = 60, 3600

type Line = tuple[str, str, tuple[tuple[str, str], ...]]


def moment(stack: Stack) -> datetime:
    return stack.clock.now()


def start_of_hour(stack: Stack) -> None:
    """Ten past the next full hour, so that the stories do not see each other's hours."""
    stack.clock.to_next_hour()
    stack.advance(10 * MINUTE)


def usage(subscription_id: str, prefix: str, count: int, when: datetime) -> list[dict[str, Any]]:
    dice = random.Random(prefix)  # noqa: S311 - a repeatable choice
    return [
        {
            "id": f"{prefix}-{number}",
            "subscription_id": subscription_id,
            "dimension": DIMENSIONS[number % 3],
            "quantity": dice.randrange(1, 1000),
            "timestamp": when.isoformat(timespec="seconds"),
            **({"tags": dict(tags)} if (tags := TEAMS[dice.randrange(3)]) else {}),
        }
        for number in range(count)
    ]


def reported(records: Iterable[Mapping[str, Any]], results: Iterable[Mapping[str, Any]]) -> Counter[Line]:
    """The units that were acknowledged: by dimension, the hour they were booked to, and tag set."""
    lines: Counter[Line] = Counter()
    for record, result in zip(records, results, strict=True):
        tags = tuple(sorted(record.get("tags", {}).items()))
        lines[record["dimension"], result["hour"], tags] += record["quantity"]
    return lines


def billed(ledger: Iterable[Mapping[str, Any]]) -> Counter[Line]:
    """The units that AWS Marketplace has accepted, in the same terms."""
    lines: Counter[Line] = Counter()
    for record in ledger:
        allocations = record["allocations"] or [{"tags": {}, "quantity": record["quantity"]}]
        assert sum(one["quantity"] for one in allocations) == record["quantity"]
        for one in allocations:
            lines[record["dimension"], record["hour"], tuple(sorted(one["tags"].items()))] += one["quantity"]
    return lines


@pytest.mark.parametrize(("licence", "count"), [("before the registration", 1000), ("after the registration", 100)])
def test_a_subscription_from_purchase_to_the_last_unit(
    stack: Stack, neighbourhood: Neighbourhood, licence: str, count: int
) -> None:
    buyer, account = neighbourhood, "111122223333" if licence.startswith("before") else "444455556666"
    seller, tenant = neighbourhood, f"acme-{licence.split(maxsplit=1)[0]}"
    start_of_hour(stack)

    # The buyer subscribes, and is sent to the seller.
    bought = buyer.buy(CONTRACT, account, entitlements={"seats": 10})
    if licence.startswith("before"):
        buyer.advance(2 * MINUTE)
        landing = buyer.register(bought["id"])
    else:
        landing = buyer.register(bought["id"])
        buyer.advance(2 * MINUTE)
    page = call("GET", landing)
    assert page.status == 200
    assert bought["license_arn"] not in page.text
    contact = {"email": "buyer@example.com", "company": "Example", "name": "Kim"}
    assert submit(landing, contact).status == 303

    # The seller's application claims the registration; AWS Marketplace has activated it.
    claimed = seller.claim(landing.rsplit("/", 1)[1], tenant)
    subscription_id = claimed["subscription_id"]
    stack.settle()
    subscription = seller.get(f"/subscriptions/{subscription_id}")
    assert subscription["status"] == "active"
    assert subscription["tenant_id"] == tenant
    assert subscription["contact"]["email"] == "buyer@example.com"
    assert [(one["dimension"], one["value"]) for one in subscription["entitlements"]] == [("seats", 10)]
    check = f"/subscriptions/{subscription_id}/entitlements?dimension=seats&quantity="
    assert seller.get(f"{check}10")["allowed"] is True
    assert seller.get(f"{check}11")["allowed"] is False

    # It reports so many records over two hours: half of the first hour's twice, one of them when its hour is closed.
    first = usage(subscription_id, f"{tenant}-a", count // 2, moment(stack))
    expected = reported(first, seller.report(first))
    assert {result["status"] for result in seller.report(first[: count // 4])} == {"duplicate"}
    late = usage(subscription_id, f"{tenant}-late", 1, moment(stack))
    buyer.advance(HOUR - 2 * MINUTE)  # ten past: the first hour is over and not metered yet
    second = usage(subscription_id, f"{tenant}-b", count // 2 - 1, moment(stack))
    expected += reported(second, seller.report(second))
    assert buyer.ledger(bought["id"]) == []
    buyer.advance(15 * MINUTE)  # the schedule's run at twenty past meters the first hour
    assert {record["hour"] for record in buyer.ledger(bought["id"])} == {first_hour(first)}
    (result,) = seller.report(late)
    assert result["status"] == "recorded"
    assert result["hour"] > result["own_hour"] == first_hour(first)
    expected += reported(late, [result])

    # The clock passes the hours, and the ledger equals what was reported.
    buyer.advance(2 * HOUR)
    assert billed(buyer.ledger(bought["id"])) == expected
    assert sum(expected.values()) == sum(record["quantity"] for record in [*first, *second, *late])

    # Any record's way to the bill can be shown.
    by_id = {record["id"]: record for record in buyer.ledger(bought["id"])}
    for record in [*first[::40], *second[::40], *late]:
        proof = seller.get(f"/subscriptions/{subscription_id}/usage/{record['id']}")
        accepted = by_id[proof["metering_record"]["metering_record_id"]]
        assert proof["record"]["quantity"] == record["quantity"]
        assert proof["metering_record"]["state"] == "metered"
        assert (accepted["hour"], accepted["dimension"]) == (proof["hour"], record["dimension"])
        assert accepted["quantity"] == proof["metering_record"]["quantity"]

    # The buyer cancels while usage is open: it is metered inside the hour that AWS Marketplace leaves.
    last = usage(subscription_id, f"{tenant}-last", 30, moment(stack))
    expected += reported(last, seller.report(last))
    buyer.cancel(bought["id"])
    cancelled = moment(stack)
    buyer.advance(59 * MINUTE)
    assert seller.get(f"/subscriptions/{subscription_id}")["status"] == "closing"
    assert billed(buyer.ledger(bought["id"])) == expected
    received = max(datetime.fromisoformat(record["received_at"]) for record in buyer.ledger(bought["id"]))
    assert (received - cancelled).total_seconds() < HOUR

    # After it nothing is taken or allowed any more.
    buyer.advance(20 * MINUTE)
    assert seller.get(f"/subscriptions/{subscription_id}")["status"] == "ended"
    assert seller.get(f"{check}1")["allowed"] is False
    (refused,) = seller.report(usage(subscription_id, f"{tenant}-after", 1, moment(stack)))
    assert (refused["status"], refused["reason"]) == ("rejected", "ended")
    assert billed(buyer.ledger(bought["id"])) == expected
    heard = [event.detail_type for event in stack.aws.events if event.detail["subscription_id"] == subscription_id]
    assert set(heard) >= {
        "Registration Resolved",
        "Registration Completed",
        "Subscription Activated",
        "Entitlements Changed",
        "Subscription Closing",
        "Subscription Ended",
    }


def first_hour(records: list[dict[str, Any]]) -> str:
    moment = datetime.fromisoformat(records[0]["timestamp"]).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H}:00:00Z"


def test_a_legacy_customer_who_is_announced_by_sns(stack: Stack, neighbourhood: Neighbourhood) -> None:
    buyer = seller = neighbourhood
    start_of_hour(stack)
    bought = buyer.buy(LEGACY, "777788889999")
    landing = buyer.register(bought["id"])
    buyer.advance(2 * MINUTE)
    subscription_id = seller.claim(landing.rsplit("/", 1)[1], "globex")["subscription_id"]

    subscription = seller.get(f"/subscriptions/{subscription_id}")
    assert (subscription["status"], subscription["integration"]) == ("active", "legacy")
    assert subscription["customer_identifier"] == bought["customer_identifier"]

    records = [
        {"id": f"mail-{number}", "subscription_id": subscription_id, "dimension": "emails", "quantity": number}
        for number in range(1, 51)
    ]
    expected = reported(records, seller.report(records))
    buyer.advance(75 * MINUTE)
    assert billed(buyer.ledger(bought["id"])) == expected
    assert [record["product_code"] for record in buyer.ledger(bought["id"])] == [LEGACY]

    last = [{**records[0], "id": "mail-last", "quantity": 7}]
    expected += reported(last, seller.report(last))
    buyer.cancel(bought["id"])
    buyer.advance(59 * MINUTE)
    assert billed(buyer.ledger(bought["id"])) == expected
    buyer.advance(20 * MINUTE)
    assert seller.get(f"/subscriptions/{subscription_id}")["status"] == "ended"
    decision = seller.get(f"/subscriptions/{subscription_id}/entitlements?dimension=emails")
    assert decision["allowed"] is False


def test_a_legacy_customer_whose_subscribe_success_is_lost_is_seen_and_activated_by_an_operator(
    stack: Stack, neighbourhood: Neighbourhood, log: io.StringIO
) -> None:
    buyer = seller = neighbourhood
    start_of_hour(stack)
    buyer.admin("POST", "/delivery", {"match": "subscribe-success", "do": "drop"})
    bought = buyer.buy(LEGACY, "777788880000")
    landing = buyer.register(bought["id"])
    subscription_id = seller.claim(landing.rsplit("/", 1)[1], "initech")["subscription_id"]
    buyer.advance(3 * HOUR)
    assert seller.get(f"/subscriptions/{subscription_id}")["status"] == "pending"
    *_, measured = lines(log, "outcome=measured", f"oldest_registration=SUB#{subscription_id}")
    assert "OldestPendingRegistrationSeconds=10" in measured  # thousands of seconds

    given = ["subscriptions", "activate", subscription_id, "--reason", "AWS's console shows it", "--yes"]
    assert marketplace_saas([*given, "--local", stack.aws_url.rpartition(":")[2]]) == 0
    buyer.advance(2 * MINUTE)
    assert seller.get(f"/subscriptions/{subscription_id}")["status"] == "active"
    record = {"id": "mail-late", "subscription_id": subscription_id, "dimension": "emails", "quantity": 3}
    expected = reported([record], seller.report([record]))
    buyer.advance(75 * MINUTE)
    assert billed(buyer.ledger(bought["id"])) == expected
    assert "OldestPendingRegistrationSeconds=0" in lines(log, "outcome=measured")[-1]
    buyer.admin("DELETE", "/delivery")
