"""The functions as deployed: built by `sam build`, run by `sam local invoke` in the Lambda image, layer and all."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import boto3
import pytest

from local.queues import sqs_event
from marketplace.platform.clock import utc_now
from tests.local_invoke.conftest import PATIENCE, Invoke, Servers, started, wait_until
from tools import check_layer, template
from tools.template import ROOT, resources

pytestmark = [pytest.mark.docker, pytest.mark.dynamodb_local, pytest.mark.timeout(900)]

EVENTS = ROOT / "events"
PYTHON_314 = pytest.param("invoke_314", marks=[pytest.mark.python314, pytest.mark.containers])


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
    runtimes = template.load()["Parameters"]["Runtime"]["AllowedValues"]
    assert {path.name for path in (ROOT / "layers").iterdir()} - {"common"} == set(runtimes)


def test_a_built_function_holds_its_handler_alone(built: Path) -> None:
    for name in resources("AWS::Serverless::Function"):
        assert [path.name for path in (built / name).iterdir() if path.name != "__pycache__"] == ["app.py"]


@pytest.mark.parametrize("runtime", ["invoke", PYTHON_314])
def test_a_purchase_goes_all_the_way(
    request: pytest.FixtureRequest, runtime: str, servers: Servers, marketplace: Callable[..., Any]
) -> None:
    """A licence of three hours ago, usage of two hours ago: due, so the schedule's event has it billed."""
    invoke: Invoke = request.getfixturevalue(runtime)
    now = utc_now()
    purchase = bought(marketplace, now)
    form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]

    registered = invoke("ResolveCustomerFunction", http("registration_form.json", body=urlencode(form)))
    assert registered["statusCode"] == 303
    code = registered["headers"]["location"].rsplit("/", 1)[1]

    activate(invoke, servers)
    subscription_id = claimed(invoke, code)
    assert report(invoke, subscription_id, {"api_calls": [(now - timedelta(hours=2), 7)]}) == ["recorded"]

    assert invoke("MeterUsageFunction", EVENTS / "schedule.json")["records"] == {"metered": 1}
    assert billed(marketplace, purchase["id"]) == {"api_calls": 7}


BAD_MESSAGES = {"no JSON": "{", "nothing": "", "JSON that is no object": "[1]"}


@pytest.mark.parametrize("body", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_bad_message_alone_of_its_batch_comes_back_to_the_queue(invoke: Invoke, body: str) -> None:
    good = json.loads((EVENTS / "sqs_batch_mixed.json").read_text())["Records"]
    bad = good[0] | {"messageId": "the-bad-one", "body": body}
    answer = invoke("EntitlementCheckFunction", {"Records": [*good[:1], bad, *good[1:]]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "the-bad-one"}]}


KILLED_WHILE: dict[str, tuple[dict[str, Any], int]] = {
    "the first call is not carried out": ({"fault": "timeout_before"}, 0),
    "the first call is carried out and not answered": ({"fault": "timeout_after"}, 25),
    "the second call is carried out and not answered": ({"fault": "timeout_after", "skip": 1}, 34),
}
"""What becomes of every call until the faults are cleared, and how many metering records AWS has by then."""


@pytest.mark.parametrize(
    "moment",
    [
        "the first call is carried out and not answered",
        pytest.param("the first call is not carried out", marks=pytest.mark.containers),
        pytest.param("the second call is carried out and not answered", marks=pytest.mark.containers),
    ],
)
def test_a_metering_container_killed_in_mid_run_and_invoked_again_bills_every_unit_once(
    request: pytest.FixtureRequest, servers: Servers, marketplace: Callable[..., Any], tmp_path: Path, moment: str
) -> None:
    """34 metering records are two calls. The container is killed (SIGKILL) while it waits for an answer of AWS."""
    invoke, invoke_once, invocation = map(request.getfixturevalue, ("invoke", "invoke_once", "invocation"))
    now = utc_now()
    purchase = bought(marketplace, now, hours=20)
    form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]
    registered = invoke("ResolveCustomerFunction", http("registration_form.json", body=urlencode(form)))
    activate(invoke, servers)
    subscription_id = claimed(invoke, registered["headers"]["location"].rsplit("/", 1)[1])
    moments = [now - timedelta(hours=hours) for hours in range(2, 19)]
    usage = {
        dimension: [(one, first + 10 * number) for number, one in enumerate(moments)]
        for dimension, first in (("api_calls", 1), ("users", 2))
    }
    assert set(report(invoke, subscription_id, usage)) == {"recorded"}
    expected = {dimension: sum(quantity for _, quantity in given) for dimension, given in usage.items()}

    fault, carried_out = KILLED_WHILE[moment]
    planned = {"operation": "BatchMeterUsage", "seconds": PATIENCE, "times": None, **fault}
    marketplace("faults", planned)
    command = invocation("MeterUsageFunction", EVENTS / "schedule.json")
    with (tmp_path / "killed.log").open("w") as log, started(command, log) as process:
        wait_until(lambda: any(one["hits"] for one in marketplace("faults")["planned"]), seconds=PATIENCE)
        wait_until(lambda: len(records_of(marketplace, purchase["id"])) == carried_out, seconds=PATIENCE)
        process.kill()  # SAM CLI does not end by itself when its container is gone, or removes it when it can
        process.wait(PATIENCE)
        kill_container_of("MeterUsageFunction", servers)
    cut_off = listed(invoke, subscription_id)
    assert any(one["in_doubt"] for one in cut_off), cut_off
    assert {one["state"] for one in cut_off} != {"metered"}, "the run was over before it was killed"
    marketplace("faults", method="DELETE")

    runs = [invoke_once("MeterUsageFunction", EVENTS / "schedule.json") for _ in range(2)]
    assert billed(marketplace, purchase["id"]) == expected
    assert len(records_of(marketplace, purchase["id"])) == 34
    settled = listed(invoke, subscription_id)
    assert {one["state"] for one in settled} == {"metered"}
    assert {one["metering_record_id"] for one in settled} == {
        one["id"] for one in records_of(marketplace, purchase["id"])
    }
    assert not any(one["in_doubt"] for one in settled)
    assert runs[-1]["records"] == {}, runs


def test_a_buyers_post_is_redirected_to_a_page_and_the_customer_is_in_dynamodb(
    api: str, servers: Servers, marketplace: Callable[..., Any]
) -> None:
    """As a browser does it: AWS Marketplace's form is posted, the answer leads to a page."""
    purchase = bought(marketplace, utc_now())
    form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]
    redirect = asked(api, "POST", "/register", form)
    assert redirect.status == 303
    location = redirect.headers["location"]
    assert urljoin(api, location).startswith(f"{api}/register/"), location

    page = asked(api, "GET", location)
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<form" in page.body
    head = asked(api, "HEAD", location)
    assert (head.status, head.body) == (200, "")

    found = [item for item in stored(servers) if purchase["license_arn"] in json.dumps(item)]
    assert found, "the purchase is not in the table of subscriptions"
    assert any(purchase["account"] in json.dumps(item) for item in found), found


@pytest.mark.parametrize("form", [{"x-amzn-marketplace-token": "forged"}, {"x-amzn-marketplace-token": ""}, {}])
def test_a_token_that_aws_does_not_know_is_answered_with_a_page_and_stores_nothing(
    api: str, servers: Servers, form: dict[str, str]
) -> None:
    before = stored(servers)
    refused = asked(api, "POST", "/register", form)
    assert refused.status == 400
    assert "text/html" in refused.headers["content-type"]
    assert "location" not in refused.headers
    assert stored(servers) == before


def test_who_opens_the_registration_address_without_a_token_gets_a_page(api: str) -> None:
    got, head = asked(api, "GET", "/register"), asked(api, "HEAD", "/register")
    assert got.status == head.status == 200
    assert "text/html" in got.headers["content-type"]
    assert got.body
    assert not head.body


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/wp-login.php"), ("GET", "/"), ("POST", "/registers"), ("GET", "/register/not-a-code")],
)
def test_an_address_that_leads_nowhere_is_not_found(api: str, method: str, path: str) -> None:
    assert asked(api, method, path, {} if method == "POST" else None).status == 404


SAMPLES = sorted(path.name for path in EVENTS.glob("*.json") if path.name != "env.json")


IN_CI = ("usage_post.json", "registration_form.json", "sqs_batch_poison.json", "schedule.json")
"""One for each function; the others take their time, and a `make` target of their own."""


def assert_answered(sample: str, answer: Any) -> None:
    """Each sample gets the answer that its function owes it."""
    event, function = json.loads((EVENTS / sample).read_text()), function_of(sample)
    assert "errorMessage" not in answer, answer
    if function == "EntitlementCheckFunction":
        failed = [one["messageId"] for one in event["Records"] if _is_poison(one)]
        assert answer == {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}
    elif function == "MeterUsageFunction":
        assert answer.get("records", {}) == {}, answer
        assert not answer.get("batchItemFailures"), answer
    else:
        assert 200 <= answer["statusCode"] < 500, answer
        kind = "application/json" if function == "SellerApiFunction" else "text/html"
        if answer["statusCode"] != 303:
            assert answer["headers"]["content-type"].startswith(kind), answer
            assert answer["body"]


def _is_poison(record: dict[str, Any]) -> bool:
    try:
        return not isinstance(json.loads(record["body"]), dict)
    except ValueError:
        return True


@pytest.mark.parametrize(
    "sample", [one if one in IN_CI else pytest.param(one, marks=pytest.mark.containers) for one in SAMPLES]
)
def test_a_sample_event_is_answered_by_a_new_container(invoke_once: Invoke, sample: str) -> None:
    assert_answered(sample, invoke_once(function_of(sample), EVENTS / sample))


@pytest.mark.parametrize("runtime", ["invoke", PYTHON_314])
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_event_is_answered(request: pytest.FixtureRequest, runtime: str, sample: str) -> None:
    invoke: Invoke = request.getfixturevalue(runtime)
    assert_answered(sample, invoke(function_of(sample), EVENTS / sample))


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


def stored(servers: Servers) -> list[dict[str, Any]]:
    """Answer the items of the table of subscriptions."""
    with closing(boto3.client("dynamodb", endpoint_url=servers.ports.urls()[0])) as dynamodb:
        pages = dynamodb.get_paginator("scan").paginate(
            TableName=servers.deployment.resources["SubscriptionsTable"], ConsistentRead=True
        )
        return sorted((dict(item) for page in pages for item in page["Items"]), key=json.dumps)


def activate(invoke: Invoke, servers: Servers) -> None:
    """Hand all that waits in the notification queue to its function."""
    records = wait_until(lambda: _received(servers))
    while records:
        assert invoke("EntitlementCheckFunction", {"Records": records}) == {"batchItemFailures": []}
        records = _received(servers)


def bought(marketplace: Callable[..., Any], now: datetime, hours: int = 3) -> dict[str, Any]:
    """Have a licence bought so many hours ago."""
    marketplace("clock", {"set": (now - timedelta(hours=hours)).isoformat(), "force": True})
    purchase: dict[str, Any] = marketplace("purchases", {"provision": True, "entitlements": {"seats": 25}})
    marketplace("clock", {"set": now.isoformat()})
    return purchase


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


def records_of(marketplace: Callable[..., Any], license_: str) -> list[dict[str, Any]]:
    """Answer the metering records that AWS has taken of a licence."""
    found: list[dict[str, Any]] = marketplace(f"ledger?license={license_}")["records"]
    return found


def listed(invoke: Invoke, subscription_id: str) -> list[dict[str, Any]]:
    """Answer what this application says of each metering record of a subscription."""
    event = http(
        "usage_get.json",
        pathParameters={"subscription_id": subscription_id},
        rawPath=f"/subscriptions/{subscription_id}/usage",
        rawQueryString="",
        queryStringParameters={},
    )
    answer = invoke("SellerApiFunction", event)
    assert answer["statusCode"] == 200, answer
    content = json.loads(answer["body"])
    assert content["cursor"] is None
    found: list[dict[str, Any]] = content["metering_records"]
    return found


def billed(marketplace: Callable[..., Any], license_: str) -> dict[str, int]:
    """Answer the units that AWS has taken of a licence, by dimension."""
    units: Counter[str] = Counter()
    for one in records_of(marketplace, license_):
        units[one["dimension"]] += one["quantity"]
    return dict(units)


def kill_container_of(function: str, servers: Servers) -> None:
    """End with SIGKILL, and remove, the one container that runs this function against these servers."""
    wanted = {f"AWS_LAMBDA_FUNCTION_NAME={function}", f":{servers.ports.dynamodb}"}
    listed = subprocess.run(["docker", "ps", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    killed = []
    for container in listed:
        command = ["docker", "inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", container]
        variables = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if all(part in variables for part in wanted):
            subprocess.run(["docker", "kill", container], capture_output=True, check=True)
            killed.append(container)
            subprocess.run(["docker", "rm", container], capture_output=True, check=True)
    assert len(killed) == 1, f"{len(killed)} containers of {function}"


class Answered(NamedTuple):
    """What a client of `sam local start-api` got."""

    status: int
    headers: Message
    body: str


def asked(api: str, method: str, path: str, form: dict[str, str] | None = None) -> Answered:
    """Answer what a request is answered; no redirect is followed."""
    address = urlsplit(urljoin(api, path))
    headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
    with closing(HTTPConnection(address.netloc, timeout=PATIENCE)) as connection:
        connection.request(method, address.path, None if form is None else urlencode(form), headers)
        response = connection.getresponse()
        return Answered(response.status, response.headers, response.read().decode())
