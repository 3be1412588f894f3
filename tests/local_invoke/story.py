"""What buyers and the seller's application do before a function is looked at, through the functions themselves."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Container
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import boto3

from local.queues import sqs_event
from marketplace.dynamodb.keys import HOUR_PREFIX, TAGS_MARK, subscription_id_of
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import iso
from tests.local_invoke.conftest import Invoke, Servers, wait_until
from tools.template import ROOT

EVENTS = ROOT / "events"


def http(sample: str, **changes: Any) -> dict[str, Any]:
    """Answer a sample HTTP event with some members changed."""
    event: dict[str, Any] = json.loads((EVENTS / sample).read_text())
    return event | changes


def _received(servers: Servers) -> list[dict[str, Any]]:
    """Answer what waits in the queue, as Lambda hands it to a function."""
    mapping = next(one for one in servers.deployment.queue_mappings if "NotificationQueue" in one.queue)
    with closing(boto3.client("sqs", endpoint_url=servers.ports.urls()[1])) as sqs:
        found: Any = sqs.receive_message(
            QueueUrl=sqs.get_queue_url(QueueName=mapping.queue)["QueueUrl"],
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
        )
    records: list[dict[str, Any]] = sqs_event(found.get("Messages", []), mapping.queue)["Records"]
    return records


def stored(servers: Servers, table: str) -> list[dict[str, Any]]:
    """Answer the items of a table, by its name in template.yaml."""
    with closing(boto3.client("dynamodb", endpoint_url=servers.ports.urls()[0])) as dynamodb:
        pages = dynamodb.get_paginator("scan").paginate(
            TableName=servers.deployment.resources[table], ConsistentRead=True
        )
        return sorted((dict(item) for page in pages for item in page["Items"]), key=json.dumps)


def activate(invoke: Invoke, servers: Servers, subscription_ids: Collection[str]) -> None:
    """Hand what comes into the notification queue to its function, until these subscriptions are active."""

    def active() -> bool:
        if records := _received(servers):
            assert invoke("EntitlementCheckFunction", {"Records": records}) == {"batchItemFailures": []}
        found = [item for item in stored(servers, "SubscriptionsTable") if item["sk"]["S"] == "SUBSCRIPTION"]
        states = {subscription_id_of(item["pk"]["S"]): item["status"]["S"] for item in found}
        return {states[one] for one in subscription_ids} == {"active"}

    wait_until(active)


def bought(marketplace: Callable[..., Any], now: datetime, hours: int = 3, count: int = 1) -> list[dict[str, Any]]:
    """Have licences bought so many hours ago, each by an account of its own."""
    marketplace("clock", {"set": (now - timedelta(hours=hours)).isoformat(), "force": True})
    order = {"provision": True, "entitlements": {"seats": 25}}
    purchases = [marketplace("purchases", order | {"account_id": f"{111122223333 + one}"}) for one in range(count)]
    marketplace("clock", {"set": now.isoformat()})
    return purchases


def customers(
    invoke: Invoke, servers: Servers, marketplace: Callable[..., Any], now: datetime, *, hours: int = 3, count: int = 1
) -> dict[str, dict[str, Any]]:
    """Have licences bought so many hours ago, registered, claimed and active; answer each purchase by the id of its
    subscription."""
    found = {}
    for purchase in bought(marketplace, now, hours, count):
        form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]
        registered = invoke("ResolveCustomerFunction", http("registration_form.json", body=urlencode(form)))
        assert registered["statusCode"] == 303, registered
        found[claimed(invoke, registered["headers"]["location"].rsplit("/", 1)[1])] = purchase
    activate(invoke, servers, found)
    return found


def claimed(invoke: Invoke, code: str) -> str:
    """Claim a registration for a tenant, and answer the subscription's id."""
    path = f"/registrations/{code}/claim"
    body = json.dumps({"tenant_id": f"tenant-{code[:8]}", "share_account": True})
    answer = invoke("SellerApiFunction", http("claim.json", pathParameters={"code": code}, rawPath=path, body=body))
    assert answer["statusCode"] == 200, answer
    content = json.loads(answer["body"])
    subscription_id: str = content.get("subscription", content)["subscription_id"]
    return subscription_id


def report(invoke: Invoke, subscription_id: str, usage: dict[str, list[tuple[datetime, int]]]) -> list[str]:
    """Report usage by dimension, moment and quantity, and answer what became of each record."""
    records = [
        {
            "id": f"{dimension}-{number}",
            "subscription_id": subscription_id,
            "dimension": dimension,
            "quantity": quantity,
            "timestamp": moment.isoformat(),
        }
        for dimension, given in usage.items()
        for number, (moment, quantity) in enumerate(given)
    ]
    answer = invoke("SellerApiFunction", http("usage_post.json", body=json.dumps({"records": records})))
    assert answer["statusCode"] == 200, answer
    return [result["status"] for result in json.loads(answer["body"])["results"]]


class Place(NamedTuple):
    """What a metering record is of: AWS takes one for each."""

    license_arn: str
    dimension: str
    hour: str


def taken_by_aws(marketplace: Callable[..., Any], places: Container[Place]) -> list[tuple[Place, int, str]]:
    """Answer the metering records that AWS has taken of these places, each with its quantity and its id."""
    found = [
        (Place(one["license_arn"], one["dimension"], one["hour"]), one["quantity"], one["id"])
        for one in marketplace("ledger")["records"]
    ]
    return [one for one in found if one[0] in places]


def metering_records(servers: Servers, places: Container[Place]) -> dict[Place, MeteringRecord]:
    """Answer the metering records of these places as the usage table holds them."""
    items = [item for item in stored(servers, "UsageTable") if item["sk"]["S"].startswith(HOUR_PREFIX)]
    records = [MeteringRecord.from_item(item) for item in items if TAGS_MARK not in item["sk"]["S"]]
    found = {Place(str(one.license_arn), one.dimension, iso(one.hour)): one for one in records}
    return {place: record for place, record in found.items() if place in places}


def billed(marketplace: Callable[..., Any], license_: str) -> dict[str, int]:
    """Answer the units that AWS has taken of a licence, by dimension."""
    units: Counter[str] = Counter()
    for one in marketplace(f"ledger?license={license_}")["records"]:
        units[one["dimension"]] += one["quantity"]
    return dict(units)
