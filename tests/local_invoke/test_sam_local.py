"""The functions as deployed: built by `sam build`, run by `sam local invoke` in the Lambda image, layer and all."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from marketplace.ledger.seal import in_doubt
from marketplace.metering.wire import MAX_RECORDS_PER_CALL
from marketplace.platform.clock import epoch, hour_of, iso, utc_now
from tests.local_invoke.conftest import PATIENCE, Invoke, Servers
from tests.local_invoke.mid_run import kill_in_mid_run
from tests.local_invoke.story import (
    EVENTS,
    Place,
    billed,
    bought,
    customers,
    metering_records,
    report,
    stored,
    taken_by_aws,
)
from tools import check_layer, template
from tools.template import ROOT, resources

pytestmark = [pytest.mark.docker, pytest.mark.dynamodb_local, pytest.mark.timeout(900)]

PYTHON_314 = pytest.param("invoke_314", marks=[pytest.mark.python314, pytest.mark.containers])


def function_of(name: str) -> str:
    """Answer the function that a sample event is for, by what the event is."""
    event = json.loads((EVENTS / name).read_text())
    if "Records" in event:
        return "MeterUsageFunction" if "metering_run" in name else "EntitlementCheckFunction"
    if "detail-type" in event:
        return "MeterUsageFunction"
    return "ResolveCustomerFunction" if "/register" in event["routeKey"] else "SellerApiFunction"


def test_the_built_layer_is_right(built: Path) -> None:
    assert check_layer.problems(built / "CommonLayer") == []


def test_a_build_leaves_nothing_in_the_source(built: Path) -> None:
    source = {path.name for path in (ROOT / "layers" / "common").iterdir() if path.name != "__pycache__"}
    programs = {"Makefile", "build_layer.py", "dataclass_methods.py"}
    assert source == programs | {"marketplace", "requirements.in", "requirements.txt"}
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
    [(subscription_id, purchase)] = customers(invoke, servers, marketplace, now).items()
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


KILLED = {
    "twice, before and after AWS carries the calls out": ["timeout_before", "timeout_after"],
    "before AWS carries the calls out": ["timeout_before"],
    "after AWS has carried the calls out": ["timeout_after"],
}
"""When the containers are killed, by the faults of the emulator that hold their calls back there. The first says what
the others say, and takes fewer containers."""


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(faults, id=name, marks=[pytest.mark.containers] if len(faults) == 1 else [])
        for name, faults in KILLED.items()
    ],
)
def test_a_metering_container_killed_in_mid_run_and_invoked_again_ends_in_the_right_bill(
    servers: Servers, marketplace: Callable[..., Any], env_json: Path, invoke_once: Invoke, faults: list[str]
) -> None:
    """320 metering records of 40 licences, each the sum of two usage records: 13 calls of BatchMeterUsage."""
    now = utc_now()
    hours = [now - timedelta(hours=ago) for ago in range(2, 6)]  # AWS still takes these on the first of a month
    sold = customers(servers.invoke, servers, marketplace, now, hours=7, count=40)
    expected: dict[Place, int] = {}
    for number, (subscription_id, purchase) in enumerate(sold.items(), start=1):
        usage = {name: [(hour, part) for hour in hours for part in (number, 1000)] for name in ("api_calls", "users")}
        assert set(report(servers.invoke, subscription_id, usage)) == {"recorded"}
        places = [Place(purchase["license_arn"], name, iso(hour_of(epoch(hour)))) for name in usage for hour in hours]
        expected |= dict.fromkeys(places, number + 1000)

    for fault in faults:
        kill_in_mid_run(env_json, marketplace, fault)
        at_aws, ours = taken_by_aws(marketplace, expected), metering_records(servers, expected)
        settled = {place for place, record in ours.items() if record.state == "metered"}
        doubtful = {place for place, record in ours.items() if record.state == "open" and in_doubt(record.seal)}
        assert settled, "AWS had answered no call"
        assert len(doubtful) > MAX_RECORDS_PER_CALL, "no more than one call was under way"
        unknown_to_us = {place for place, *_ in at_aws} - settled
        assert unknown_to_us <= doubtful
        assert bool(unknown_to_us) == (fault == "timeout_after")

    again = invoke_once("MeterUsageFunction", EVENTS / "schedule.json")
    assert (again["left"], again["records"].keys()) == (0, {"metered"})
    at_aws, ours = taken_by_aws(marketplace, expected), metering_records(servers, expected)
    assert sorted((place, quantity) for place, quantity, _ in at_aws) == sorted(expected.items())
    assert {place: record.metering_record_id for place, record in ours.items()} == {
        place: id_ for place, _, id_ in at_aws
    }
    assert {(record.state, record.due_at) for record in ours.values()} == {("metered", None)}


def test_a_buyers_post_is_redirected_to_a_page_and_the_customer_is_in_dynamodb(
    api: str, servers: Servers, marketplace: Callable[..., Any]
) -> None:
    """As a browser does it: AWS Marketplace's form is posted, the answer leads to a page."""
    [purchase] = bought(marketplace, utc_now())
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

    found = [item for item in stored(servers, "SubscriptionsTable") if purchase["license_arn"] in json.dumps(item)]
    assert found, "the purchase is not in the table of subscriptions"
    assert any(purchase["account_id"] in json.dumps(item) for item in found), found


@pytest.mark.parametrize("form", [{"x-amzn-marketplace-token": "forged"}, {"x-amzn-marketplace-token": ""}, {}])
def test_a_token_that_aws_does_not_know_is_answered_with_a_page_and_stores_nothing(
    api: str, servers: Servers, form: dict[str, str]
) -> None:
    before = stored(servers, "SubscriptionsTable")
    refused = asked(api, "POST", "/register", form)
    assert refused.status == 400
    assert "text/html" in refused.headers["content-type"]
    assert "location" not in refused.headers
    assert stored(servers, "SubscriptionsTable") == before


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
        assert answer["left"] == 0, answer
        assert sum(answer["records"].values()) == answer["due"], answer  # each due metering record came to an end
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
