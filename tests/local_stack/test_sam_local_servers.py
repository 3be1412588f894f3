"""`make sam-local` without the containers: what it refuses, what it says, and that it carries the queues."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.options import StackError
from local.workers import Workers
from marketplace.subscriptions.identity import LicenseIdentity
from tools import dynamodb_local, sam_local
from tools.template import ROOT


@pytest.fixture(scope="module", params=["moto", pytest.param("aws", marks=pytest.mark.dynamodb_local)])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """The servers with AWS's DynamoDB Local, and with moto in its place."""
    dynamodb, aws, marketplace = (dynamodb_local.free_port() for _ in range(3))
    ports = sam_local.Ports(aws if request.param == "moto" else dynamodb, aws, marketplace, host="127.0.0.1")
    with sam_local.running(ports) as running:
        yield running


def invoke(workers: Workers, sample: str, **changes: Any) -> Any:
    """The answer to one of the files in events/, from the function of the source."""
    event = json.loads((ROOT / "events" / sample).read_text()) | changes
    answer = workers.runtime.invoke("SellerApiFunction", event)
    return json.loads(answer["body"])


def test_the_example_of_the_readme_is_recorded(workers: Workers) -> None:
    results = invoke(workers, "usage_post.json")["results"]

    assert [one["status"] for one in results] == ["recorded", "recorded"], results
    assert invoke(workers, "subscription_get.json")["status"] == "active"
    assert [one["status"] for one in invoke(workers, "usage_post.json")["results"]] == ["duplicate", "duplicate"]


def test_a_purchase_becomes_active_and_its_usage_is_metered(workers: Workers) -> None:
    purchase = workers.marketplace.purchases.subscribe("ca2payasyougoproduct00000", "444455556666")
    workers.clock.advance(60)
    subscription_id = LicenseIdentity(purchase.license_arn).subscription_id
    named = {"pathParameters": {"subscription_id": subscription_id}, "rawPath": f"/subscriptions/{subscription_id}"}
    assert invoke(workers, "subscription_get.json", **named)["status"] == "active"

    record = {
        "id": "r",
        "subscription_id": subscription_id,
        "dimension": "api_calls",
        "quantity": 3,
    }
    invoke(workers, "usage_post.json", body=json.dumps({"records": [record]}))
    workers.clock.advance(2 * 3600)
    assert [one.quantity for one in workers.marketplace.ledger.bill(purchase.id)] == [3]

    logged = workers.marketplace.trail.events(since=0, until=workers.clock.timestamp(), region="us-east-1")
    sender = [one["userIdentity"]["arn"] for one in logged if one["eventName"] == "BatchMeterUsage"][-1]
    assert sender.endswith(f":assumed-role/{workers.deployment.resources['MeterUsageRole']}/MeterUsageFunction")


def test_set_up_your_account_leads_to_start_api(workers: Workers) -> None:
    assert workers.marketplace.settings.fulfilment_url == "http://127.0.0.1:3000/register"


@pytest.mark.parametrize("taken", ["aws", "marketplace", "dynamodb"])
def test_a_port_that_somebody_else_holds_is_refused_before_anything_is_written(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_json = tmp_path / "env.json"
    monkeypatch.setattr(sam_local, "ENV_JSON", env_json)
    with socket.create_server(("127.0.0.1", 0)) as other:
        chosen = {"aws": 1, "marketplace": 1, "dynamodb": 1} | {
            name: dynamodb_local.free_port() for name in ("aws", "marketplace", "dynamodb")
        }
        wanted = sam_local.Ports(**{**chosen, taken: other.getsockname()[1]}, host="127.0.0.1")
        with (
            pytest.raises(StackError, match=f"is taken; choose another with --{taken}-port"),
            sam_local.running(wanted),
        ):
            pass

    assert not env_json.exists()


def test_port_0_is_refused() -> None:
    with pytest.raises(StackError, match="0 is none"), sam_local.running(sam_local.Ports(0, 0, 0)):
        pass


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (sam_local.EVERY_INTERFACE, "whoever reaches this machine over the network"),
        ("172.17.0.1", "http://172.17.0.1:4566"),
    ],
)
def test_what_it_prints_is_where_it_listens(host: str, said: str) -> None:
    printed = sam_local.welcome(sam_local.Ports(8000, 4566, 4599, host), sam_local.START_API)

    assert said in printed
    assert f"http://{host}:8000" in printed
