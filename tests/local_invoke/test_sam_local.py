"""The functions as deployed: built by `sam build`, run by `sam local invoke` in the Lambda image, layer and all."""

import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin

import boto3
import pytest

from local.queues import sqs_event
from marketplace.platform.clock import utc_now
from tests.local_invoke.conftest import PATIENCE, Invoke, Servers, started, wait_until
from tools import check_layer, template
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
    runtimes = template.load()["Parameters"]["Runtime"]["AllowedValues"]
    assert {path.name for path in (ROOT / "layers").iterdir()} - {"common"} == set(runtimes)


def test_a_built_function_holds_its_handler_alone(built: Path) -> None:
    for name in resources("AWS::Serverless::Function"):
        assert [path.name for path in (built / name).iterdir() if path.name != "__pycache__"] == ["app.py"]


@pytest.mark.parametrize("runtime", ["invoke", pytest.param("invoke_314", marks=pytest.mark.python314)])
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


KILLED_WHILE: dict[str, dict[str, Any]] = {
    "the first call is not carried out": {"fault": "timeout_before"},
    "the first call is carried out and not answered": {"fault": "timeout_after"},
    "the second call is carried out and not answered": {"fault": "timeout_after", "skip": 1},
}


@pytest.mark.parametrize("moment", KILLED_WHILE)
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

    marketplace("faults", {"operation": "BatchMeterUsage", "seconds": PATIENCE, **KILLED_WHILE[moment]})
    command = invocation("MeterUsageFunction", EVENTS / "schedule.json")
    with (tmp_path / "killed.log").open("w") as log, started(command, log) as process:
        wait_until(lambda: not marketplace("faults")["planned"], seconds=PATIENCE)
        partly = billed(marketplace, purchase["id"])
        kill_container_of("MeterUsageFunction", servers)
        process.wait(PATIENCE)
    assert partly != expected, "the run was over before it was killed"

    runs = [invoke_once("MeterUsageFunction", EVENTS / "schedule.json") for _ in range(2)]
    assert billed(marketplace, purchase["id"]) == expected
    assert runs[-1]["records"] == {}, runs


def test_a_buyers_registration_redirects_to_the_landing_page(api: str, marketplace: Callable[..., Any]) -> None:
    """As a browser does it: AWS Marketplace's form is posted, the answer leads to a page."""
    purchase = bought(marketplace, utc_now())
    form = marketplace(f"purchases/{purchase['id']}/token", {})["form"]
    redirect = _posted(f"{api}/register", form)
    assert redirect.status == 303
    with urllib.request.urlopen(urljoin(f"{api}/register", redirect.headers["location"])) as page:  # noqa: S310
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert "<form" in page.read().decode()


def test_a_token_that_aws_does_not_know_is_answered_with_a_page(api: str) -> None:
    refused = _posted(f"{api}/register", {"x-amzn-marketplace-token": "forged"})
    assert refused.status == 400
    assert "text/html" in refused.headers["content-type"]


def test_an_address_that_no_route_takes_is_answered_with_a_page(api: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(f"{api}/wp-login.php")  # noqa: S310
    assert refused.value.code == 404


@pytest.mark.parametrize("sample", ["usage_post", "registration_form", "request_measure_waiting", "schedule"])
def test_each_function_is_invoked_by_the_command_of_the_readme(invoke_once: Invoke, sample: str) -> None:
    answer = invoke_once(function_of(f"{sample}.json"), EVENTS / f"{sample}.json")
    assert "errorMessage" not in answer
    assert answer.get("statusCode", 200) < 500, answer
    assert not answer.get("batchItemFailures"), answer


SAMPLES = sorted(path.name for path in EVENTS.glob("*.json") if path.name != "env.json")


@pytest.mark.parametrize("runtime", ["invoke", pytest.param("invoke_314", marks=pytest.mark.python314)])
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_event_is_answered(request: pytest.FixtureRequest, runtime: str, sample: str) -> None:
    invoke: Invoke = request.getfixturevalue(runtime)
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


def billed(marketplace: Callable[..., Any], license_: str) -> dict[str, int]:
    """Answer the units that AWS has taken of a licence, by dimension."""
    units: Counter[str] = Counter()
    for one in marketplace(f"ledger?license={license_}")["records"]:
        units[one["dimension"]] += one["quantity"]
    return dict(units)


def kill_container_of(function: str, servers: Servers) -> None:
    """SIGKILL the one container that runs this function against these servers."""
    wanted = {f"AWS_LAMBDA_FUNCTION_NAME={function}", f":{servers.ports.dynamodb}"}
    listed = subprocess.run(["docker", "ps", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    killed = []
    for container in listed:
        command = ["docker", "inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", container]
        variables = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if all(part in variables for part in wanted):
            subprocess.run(["docker", "kill", container], capture_output=True, check=True)
            killed.append(container)
    assert len(killed) == 1, f"{len(killed)} containers of {function}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _posted(url: str, form: dict[str, str]) -> Any:
    """Post a form as a browser does, and answer the response, whatever its status; redirects are not followed."""
    try:
        return urllib.request.build_opener(_NoRedirect).open(url, urlencode(form).encode(), timeout=PATIENCE)
    except HTTPError as error:
        return error
