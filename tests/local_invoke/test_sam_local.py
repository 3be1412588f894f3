"""The functions as deployed: built by `sam build`, run by `sam local invoke` in the Lambda image, layer and all."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest

from local.queues import sqs_event
from marketplace.platform.clock import utc_now
from tests.local_invoke.conftest import Invoke, Servers, wait_until
from tools import check_layer
from tools.template import ROOT, resources

pytestmark = [pytest.mark.docker, pytest.mark.dynamodb_local, pytest.mark.timeout(900)]

EVENTS = ROOT / "events"


def function_of(name: str) -> str:
    """Answer the function that a sample event is for, by what the event is."""
    event = json.loads((EVENTS / name).read_text())
    if "Records" in event:
        return "MeterUsageFunction" if "metering_run" in name else "EntitlementCheckFunction"
    if "detail-type" in event:
        return "MeterUsageFunction"
    return "ResolveCustomerFunction" if "/register" in event["routeKey"] else "SellerApiFunction"


def http(sample: str, **changes: Any) -> dict[str, Any]:
    """Answer a sample HTTP event with some members changed."""
    event: dict[str, Any] = json.loads((EVENTS / sample).read_text())
    return event | changes


def test_the_built_layer_is_right(built: Path) -> None:
    assert check_layer.problems(built / "CommonLayer") == []


def test_a_build_leaves_nothing_in_the_source(built: Path) -> None:
    source = {path.name for path in (ROOT / "layers" / "common").iterdir() if path.name != "__pycache__"}
    assert source == {"Makefile", "build_layer.py", "marketplace", "requirements.in", "requirements.txt"}


def test_a_built_function_holds_its_handler_alone(built: Path) -> None:
    for name in resources("AWS::Serverless::Function"):
        assert [path.name for path in (built / name).iterdir() if path.name != "__pycache__"] == ["app.py"]


def test_a_purchase_goes_all_the_way(invoke: Invoke, servers: Servers, marketplace: Callable[..., Any]) -> None:
    """A licence of three hours ago, usage of two hours ago: due, so the schedule's event has it billed."""
    now = utc_now()
    marketplace("clock", {"set": (now - timedelta(hours=3)).isoformat(), "force": True})
    purchase = marketplace("purchases", {"provision": True, "entitlements": {"seats": 25}})
    marketplace("clock", {"set": now.isoformat()})
    form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]

    registered = invoke("ResolveCustomerFunction", http("registration_form.json", body=urlencode(form)))
    assert registered["statusCode"] == 303
    code = registered["headers"]["location"].rsplit("/", 1)[1]

    records = wait_until(lambda: _received(servers))
    assert invoke("EntitlementCheckFunction", {"Records": records}) == {"batchItemFailures": []}

    claim = http(
        "claim.json",
        pathParameters={"code": code},
        rawPath=f"/registrations/{code}/claim",
        body='{"tenant_id": "acme"}',
    )
    claimed = invoke("SellerApiFunction", claim)
    assert claimed["statusCode"] == 200, claimed
    subscription = json.loads(claimed["body"])
    subscription_id = subscription.get("subscription", subscription)["subscription_id"]

    record = {
        "id": "r1",
        "subscription_id": subscription_id,
        "dimension": "api_calls",
        "quantity": 7,
        "timestamp": (now - timedelta(hours=2)).isoformat(),
    }
    reported = invoke("SellerApiFunction", http("usage_post.json", body=json.dumps({"records": [record]})))
    assert reported["statusCode"] == 200, reported
    assert [result["status"] for result in json.loads(reported["body"])["results"]] == ["recorded"]

    assert invoke("MeterUsageFunction", EVENTS / "schedule.json")["records"] == {"metered": 1}
    billed = marketplace(f"ledger?license={purchase['id']}")["records"]
    assert [(one["dimension"], one["quantity"]) for one in billed] == [("api_calls", 7)]


def test_one_function_is_invoked_by_the_command_of_the_readme(invoke_once: Invoke) -> None:
    answer = invoke_once("SellerApiFunction", EVENTS / "usage_post.json")
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["results"], answer


SAMPLES = sorted(path.name for path in EVENTS.glob("*.json") if path.name != "env.json")


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_event_is_answered(invoke: Invoke, sample: str) -> None:
    answer = invoke(function_of(sample), EVENTS / sample)
    assert "errorMessage" not in answer
    assert answer.get("statusCode", 200) < 500, answer
    assert len(answer.get("batchItemFailures", [])) == (1 if "poison" in sample else 0), answer


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
