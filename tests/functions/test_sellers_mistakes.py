"""What is the seller's own mistake is told to the seller: each alarm in ALARM by the metrics that the functions emit,
and in no other alarm's cause."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from functions.resolve_customer import app as resolve_customer
from functions.seller_api import app as seller_api
from marketplace.dynamodb import keys
from marketplace.platform.clock import DAY, HOUR, epoch, iso, utc_now
from marketplace.seller_api.routes import ROUTES
from marketplace_emulator import Marketplace
from tests.functions.test_buyer_addresses import unrouted
from tests.functions.test_seller_api import ENTITLEMENTS, activated, with_seats
from tests.support.alarms import Emitted, emitted, is_raised, of_stage, under_its_own_name
from tests.support.deployed import FORM, Deployed, deployed, http_event
from tests.support.tables import Tables
from tests.support.translated import of_type

NEW = {
    *("ProductNotOfferedAlarm", "TokenInvalidAlarm", "RegistrationThrottledAlarm", "AccessFailedClosedAlarm"),
    "FulfilmentUrlWrongAlarm",
    *("EntitlementsNotReadAlarm", "ReportRejectedAlarm", "ReportConflictAlarm", "ReportNotMeteredAlarm"),
}
NONE: set[str] = set()

type Deploy = Callable[..., Deployed]
type Raised = Callable[[], set[str]]


@pytest.fixture
def periods(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[Emitted]]:
    """The metrics emitted since the last call: those of one period."""
    return lambda: emitted(capsys.readouterr().out)


@pytest.fixture
def raised(periods: Callable[[], list[Emitted]]) -> Raised:
    """Which alarms one period with everything emitted since the last call puts into ALARM."""

    def alarms() -> set[str]:
        period = periods()
        return {name for name in NEW if is_raised(name, [period])}

    return alarms


@pytest.fixture(autouse=True)
def _their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    under_its_own_name(monkeypatch, resolve_customer.metrics, "ResolveCustomerFunction")
    under_its_own_name(monkeypatch, seller_api.metrics, "SellerApiFunction")


# -- registration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["another", "ca2payasyougoproduct00000", "CA1CONTRACTANDCONSUMPTION"])
def test_a_buyer_of_a_product_that_is_not_in_the_parameters_raises_an_alarm(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, raised: Raised, codes: str
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, PRODUCT_CODES=codes) as deployment:
        token = deployment.token(deployment.marketplace.purchases.subscribe("ca1contractandconsumption"))
        assert deployment.register(token)["statusCode"] == 403
        assert raised() == {"ProductNotOfferedAlarm"}


@pytest.mark.parametrize("path", ["/registration", "/", "/register/a/b"])
def test_a_token_at_an_address_that_is_no_page_raises_an_alarm(deployment: Deployed, raised: Raised, path: str) -> None:
    deployment.buyer(unrouted("POST", path, FORM, b""))
    assert raised() == NONE
    body = urlencode({"x-amzn-marketplace-token": deployment.token()}).encode()
    assert deployment.buyer(unrouted("POST", path, FORM, body))["statusCode"] == 404
    assert raised() == {"FulfilmentUrlWrongAlarm"}


@pytest.mark.parametrize("tokens", [3, 5])
@pytest.mark.parametrize("source", ["another account", "made up", "malformed"])
def test_tokens_that_aws_does_not_know_raise_an_alarm_in_number(
    deployment: Deployed, raised: Raised, source: str, tokens: int
) -> None:
    """A stack in an account that does not publish the product sees nothing else."""
    other = Marketplace()
    bought = other.purchases.subscribe(provision=True)
    token = {
        "another account": other.registration_token(bought.id),
        "made up": "x" * 200,
        "malformed": "<script>",
    }[source]
    for number, alarms in ((2, NONE), (tokens, {"TokenInvalidAlarm"})):
        for _ in range(number):
            assert deployment.register(token)["statusCode"] == 400
        assert raised() == alarms


@pytest.mark.parametrize("answer", ["registered", "expired", "no token", "page"])
def test_what_buyers_do_themselves_raises_none(deployment: Deployed, raised: Raised, answer: str) -> None:
    for _ in range(5):
        if answer == "registered":
            deployment.register(deployment.token())
        elif answer == "expired":
            deployment.register(deployment.token(lifetime=-1))
        elif answer == "no token":
            deployment.buyer(http_event("POST /register", headers=FORM, body="a=b"))
        else:
            deployment.buyer(http_event("GET /register/{code}", path={"code": "unknown-code-abcdefghijkl"}))
    assert raised() == NONE


@pytest.mark.parametrize("fault", ["access_denied", "disabled_api", "internal_error"])
def test_a_role_that_may_not_ask_who_the_buyer_is_answers_a_server_error(deployment: Deployed, fault: str) -> None:
    """API Gateway counts it, and HttpApiServerErrorsAlarm watches that."""
    deployment.marketplace.faults.plan([{"fault": fault, "operation": "ResolveCustomer", "times": None}])
    assert deployment.register(deployment.token())["statusCode"] == 503
    alarm = of_type("AWS::CloudWatch::Alarm")["HttpApiServerErrorsAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("AWS/ApiGateway", "5xx", 0)


# -- what API Gateway refuses by itself -------------------------------------------------------------------


def access_log(route: str, status: int) -> dict[str, str]:
    """A line of the access log, as its format in the template has it."""
    stage = of_type("AWS::ApiGatewayV2::Stage")["HttpApiApiGatewayDefaultStage"]
    values = {"routeKey": route, "status": str(status)}
    line = re.sub(
        r"\$context\.([\w.]+)",
        lambda found: values.get(found[1], "-"),
        of_stage(stage["AccessLogSettings"]["Format"]),
    )
    content: dict[str, str] = json.loads(line)
    return content


def counted(line: dict[str, str]) -> list[Emitted]:
    """What the metric filters make of a line."""
    return [one for found in of_type("AWS::Logs::MetricFilter").values() for one in counted_by(found, line)]


def counted_by(found: dict[str, Any], line: dict[str, str]) -> list[Emitted]:
    """CloudWatch Logs compares texts, and * stands for any characters."""
    terms = re.findall(r'\$\.(\w+) = "([^"]+)"', found["FilterPattern"])
    assert re.sub(r'\$\.\w+ = "[^"]+"', "_", found["FilterPattern"]) in {
        "{ (_) && ((_) || (_)) }",
        "{ (_) && ((_) || (_) || (_)) }",
    }
    status, *routes = (re.fullmatch(re.escape(text).replace(r"\*", ".*"), line[name]) for name, text in terms)
    (made,) = found["MetricTransformations"]
    (dimension,) = made["Dimensions"]
    assert dimension == {"Key": "service", "Value": "$.service"}
    value = Emitted(line["service"], made["MetricName"], float(made["MetricValue"]))
    return [value] if status and any(routes) else []


THROTTLED = ("RegistrationThrottledAlarm", "SellerApiThrottledAlarm")
PUBLIC = [
    *("POST /register", "GET /register", "HEAD /register"),
    *("GET /register/{code}", "HEAD /register/{code}", "POST /register/{code}", "-"),
]


@pytest.mark.parametrize("route", PUBLIC)
def test_a_buyer_who_is_answered_429_raises_an_alarm(route: str) -> None:
    period = counted(access_log(route, 429))
    assert [is_raised(alarm, [period]) for alarm in THROTTLED] == [True, False]


@pytest.mark.parametrize("route", [route.key for route in ROUTES])
def test_an_application_that_is_answered_429_raises_an_alarm_of_its_own(route: str) -> None:
    period = counted(access_log(route, 429))
    assert [is_raised(alarm, [period]) for alarm in THROTTLED] == [False, True]


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ("POST /register", 303),
        ("POST /register", 400),
        ("GET /register/{code}", 404),
        ("-", 404),
        ("POST /usage", 503),
        ("GET /subscriptions", 200),
        ("$default", 429),
    ],
)
def test_no_other_answer_raises_one(route: str, status: int) -> None:
    assert counted(access_log(route, status)) == []


# -- access -----------------------------------------------------------------------------------------------


def asked_long_ago(deployment: Deployed, subscription_id: str, seconds: int | None) -> None:
    """AWS was last asked for the entitlements so many seconds ago, or never."""
    key = keys.subscription(subscription_id).item()
    where: dict[str, Any] = {"TableName": deployment.tables.subscriptions, "Key": key}
    if seconds is None:
        deployment.dynamodb.update_item(**where, UpdateExpression="REMOVE entitlements_synced_at")
    else:
        deployment.dynamodb.update_item(
            **where,
            UpdateExpression="SET entitlements_synced_at = :then",
            ExpressionAttributeValues={":then": {"N": str(epoch(utc_now()) - seconds)}},
        )


def check(deployment: Deployed, path: dict[str, str], dimension: str = "seats") -> dict[str, Any]:
    event = http_event(ENTITLEMENTS, path=path, query=urlencode({"dimension": dimension, "quantity": 1}))
    content: dict[str, Any] = json.loads(deployment.seller(event)["body"])
    return content


def refuse_entitlements(deployment: Deployed, fault: str) -> None:
    deployment.marketplace.faults.plan([{"fault": fault, "operation": "GetEntitlements", "times": None}])


@pytest.mark.parametrize("fault", ["access_denied", "throttle", "internal_error"])
@pytest.mark.parametrize(("asked", "reason"), [(None, "entitlements_unavailable"), (2 * DAY, "entitlements_too_old")])
def test_access_that_is_refused_only_because_aws_cannot_be_asked_raises_an_alarm(
    deployment: Deployed, raised: Raised, fault: str, asked: int | None, reason: str
) -> None:
    path = with_seats(deployment)
    check(deployment, path)
    assert raised() == NONE
    asked_long_ago(deployment, path["subscription_id"], asked)
    refuse_entitlements(deployment, fault)
    assert check(deployment, path)["reason"] == reason
    assert raised() == {"AccessFailedClosedAlarm"}


@pytest.mark.parametrize("dimension", ["seats", "unknown"])
def test_access_that_is_refused_for_a_reason_raises_none(deployment: Deployed, raised: Raised, dimension: str) -> None:
    path = with_seats(deployment)
    event = http_event(ENTITLEMENTS, path=path, query=urlencode({"dimension": dimension, "quantity": 1000}))
    assert json.loads(deployment.seller(event)["body"])["allowed"] is False
    assert raised() == NONE


@pytest.mark.parametrize("way", ["check", "list", "usage"])
def test_a_role_that_lost_its_permission_raises_an_alarm_while_old_answers_still_count(
    monkeypatch: pytest.MonkeyPatch,
    moto_dynamodb: Any,
    moto_tables: Tables,
    periods: Callable[[], list[Emitted]],
    way: str,
) -> None:
    """Long before access is refused to everybody at once."""
    overage = "ca1contractandconsumption/api_calls=seats"
    with deployed(monkeypatch, moto_dynamodb, moto_tables, OVERAGE_DIMENSIONS=overage) as deployment:
        path = with_seats(deployment)
        check(deployment, path)
        asked_long_ago(deployment, path["subscription_id"], HOUR)
        refuse_entitlements(deployment, "access_denied")
        past = [periods()]
        for quarter in range(4):
            if quarter in {1, 3}:
                if way == "check":
                    assert check(deployment, path)["stale"] is True
                elif way == "list":
                    deployment.seller(http_event(ENTITLEMENTS, path=path))
                else:
                    report(deployment, usage(path["subscription_id"]))
            past.append(periods())
            assert is_raised("EntitlementsNotReadAlarm", past) is (quarter == 3)
    assert '"error":"AccessDeniedException"' in deployment.logged.replace(" ", "")


# -- usage ------------------------------------------------------------------------------------------------


def usage(buyer: str, **change: Any) -> dict[str, Any]:
    return {"id": "r-1", "subscription_id": buyer, "dimension": "api_calls", "quantity": 5} | change


def report(deployment: Deployed, *records: Any, query: str = "", body: str | None = None) -> Any:
    sent = json.dumps({"records": records}) if body is None else body
    return json.loads(deployment.seller(http_event("POST /usage", query=query, body=sent))["body"])


MISTAKES: dict[str, dict[str, Any]] = {
    "an unknown subscription": {"subscription_id": "sub-" + "a" * 26},
    "no dimension": {"dimension": ""},
    "a negative quantity": {"quantity": -1},
    "too old": {"timestamp": iso(epoch(utc_now()) - 2 * DAY)},
    "a wrong clock": {"timestamp": iso(epoch(utc_now()) + DAY)},
    "no id": {"id": ""},
    "wrong tags": {"tags": {"a": ""}},
    "an unknown member": {"colour": "red"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_usage_that_is_rejected_for_what_it_contains_raises_an_alarm(
    deployment: Deployed, raised: Raised, mistake: str
) -> None:
    subscription_id = activated(deployment)
    (result,) = report(deployment, usage(subscription_id, **MISTAKES[mistake]))["results"]
    assert result["status"] == "rejected"
    assert raised() == {"ReportRejectedAlarm"}


@pytest.mark.parametrize("body", ["", "{", '{"records": []}', '{"usage": []}', json.dumps({"records": [{}] * 501})])
def test_a_report_that_cannot_be_read_raises_the_same(deployment: Deployed, raised: Raised, body: str) -> None:
    assert "error" in report(deployment, body=body)
    assert raised() == {"ReportRejectedAlarm"}


def test_an_id_that_is_used_again_for_other_usage_raises_an_alarm(deployment: Deployed, raised: Raised) -> None:
    subscription_id = activated(deployment)
    report(deployment, usage(subscription_id))
    assert raised() == NONE
    report(deployment, usage(subscription_id))
    assert raised() == NONE
    report(deployment, usage(subscription_id, quantity=6))
    assert raised() == {"ReportConflictAlarm"}


def test_usage_that_only_has_to_wait_raises_none(deployment: Deployed, raised: Raised) -> None:
    """A buyer who has registered and whom AWS has not activated yet is nobody's mistake."""
    event = http_event("POST /registrations/{code}/claim", path={"code": deployment.code()}, body='{"tenant_id": "a"}')
    subscription_id = json.loads(deployment.seller(event)["body"])["subscription_id"]
    (result,) = report(deployment, usage(subscription_id))["results"]
    assert (result["status"], result["reason"]) == ("rejected", "not_active")
    assert raised() == NONE


@pytest.mark.parametrize("sent", [{"quantity": -1}, {"subscription_id": "sub-" + "a" * 26}])
def test_a_validation_raises_none(deployment: Deployed, raised: Raised, sent: dict[str, Any]) -> None:
    record = usage(activated(deployment), **sent)
    assert report(deployment, record, query="validate=true")["results"][0]["status"] == "rejected"
    assert "error" in report(deployment, body="{", query="validate=true")
    assert raised() == NONE


# -- a deployment that does not meter ---------------------------------------------------------------------


@pytest.mark.parametrize("value", ["false", ""])
def test_a_deployment_that_does_not_meter_refuses_usage_and_says_so_after_an_hour(
    monkeypatch: pytest.MonkeyPatch,
    moto_dynamodb: Any,
    moto_tables: Tables,
    periods: Callable[[], list[Emitted]],
    value: str,
) -> None:
    """Not for a test by hand, but for an application that takes a test stage for the one that bills."""
    with deployed(monkeypatch, moto_dynamodb, moto_tables, METERING_ENABLED=value) as deployment:
        subscription_id = activated(deployment)
        past: list[list[Emitted]] = []
        for quarter in range(4):
            (result,) = report(deployment, usage(subscription_id, id=f"r-{quarter}"))["results"]
            assert (result["reason"], result["retryable"]) == ("not_metered", True)
            past.append(periods())
            assert {name for name in NEW if is_raised(name, past)} == (
                {"ReportNotMeteredAlarm"} if quarter == 3 else NONE
            )


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("retry", "{}"),
        ("retry", '{"dimension": "api_calls"}'),
        ("approval", '{"decision": "approve"}'),
        ("approval", '{"decision": "refuse"}'),
    ],
)
def test_a_deployment_that_does_not_meter_sends_nothing_again_and_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, route: str, body: str
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, METERING_ENABLED="false") as deployment:
        path = {"subscription_id": activated(deployment)}
        answer = deployment.seller(
            http_event(f"POST /subscriptions/{{subscription_id}}/usage/{route}", path=path, body=body)
        )
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (409, "not_metered")
