"""The wiring: routes and who may call them, queues, tables, logs and alarms."""

import json
import re
import tomllib
from typing import Any

import pytest

from functions.resolve_customer import app as resolve_customer
from marketplace.lifecycle.notifications import MeasureWaiting, QueueMessage, parsed
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.registration.routes import SELLER_PATHS
from marketplace.subscriptions.waiting import Kind
from tests.support.translated import of_type, resources
from tools import template

PUBLIC_ROUTES = {
    ("post", "/register"),
    ("get", "/register"),
    ("head", "/register"),
    ("get", "/register/{code}"),
    ("head", "/register/{code}"),
    ("post", "/register/{code}"),
    ("x-amazon-apigateway-any-method", "$default"),
}
SELLER_ROUTES = {
    ("get", "/registrations/{code}"),
    ("post", "/registrations/{code}/claim"),
    ("post", "/subscriptions/{subscription_id}/claim"),
    ("post", "/subscriptions/{subscription_id}/claim/release"),
    ("post", "/subscriptions/{subscription_id}/claim/transfer"),
    ("get", "/subscriptions/{subscription_id}/claims"),
    ("get", "/subscriptions"),
    ("get", "/subscriptions/{subscription_id}"),
    ("get", "/subscriptions/{subscription_id}/entitlements"),
    ("post", "/usage"),
    ("post", "/usage/void"),
    ("get", "/subscriptions/{subscription_id}/usage"),
    ("get", "/subscriptions/{subscription_id}/statement"),
    ("post", "/subscriptions/{subscription_id}/usage/retry"),
    ("post", "/subscriptions/{subscription_id}/usage/approval"),
    ("get", "/subscriptions/{subscription_id}/usage/{record_id+}"),
}
OWN_KEY = {"Fn::GetAtt": ["DataKey", "Arn"]}


def _routes() -> dict[tuple[str, str], dict[str, Any]]:
    (api,) = of_type("AWS::ApiGatewayV2::Api").values()
    paths = api["Body"]["paths"]
    return {(method, path): body for path, methods in paths.items() for method, body in methods.items()}


def _target(route: dict[str, Any]) -> str:
    found = re.search(r"(\w+Function)(\.Arn|Aliaslive)", json.dumps(route["x-amazon-apigateway-integration"]["uri"]))
    assert found
    return found[1]


def test_the_routes_are_the_contract() -> None:
    assert {key: _target(route) for key, route in _routes().items()} == (
        dict.fromkeys(PUBLIC_ROUTES, "ResolveCustomerFunction") | dict.fromkeys(SELLER_ROUTES, "SellerApiFunction")
    )


@pytest.mark.parametrize("route", sorted(SELLER_ROUTES), ids=" ".join)
def test_a_seller_route_takes_signed_calls_only(route: tuple[str, str]) -> None:
    (api,) = of_type("AWS::ApiGatewayV2::Api").values()
    scheme = api["Body"]["components"]["securitySchemes"]["AWS_IAM"]
    assert scheme["x-amazon-apigateway-authtype"] == "awsSigv4"
    assert _routes()[route]["security"] == [{"AWS_IAM": []}]


@pytest.mark.parametrize("route", sorted(PUBLIC_ROUTES), ids=" ".join)
def test_a_public_route_is_open_and_throttled(route: tuple[str, str]) -> None:
    stage = of_type("AWS::ApiGatewayV2::Stage")["HttpApiApiGatewayDefaultStage"]
    method, path = route
    key = path if path == "$default" else f"{method.upper()} {path}"
    assert "security" not in _routes()[route]
    assert stage["RouteSettings"][key]["ThrottlingRateLimit"] <= 20


def test_whatever_no_route_takes_has_a_smaller_limit_of_its_own() -> None:
    stage = of_type("AWS::ApiGatewayV2::Stage")["HttpApiApiGatewayDefaultStage"]
    settings = stage["RouteSettings"]
    assert _routes()["x-amazon-apigateway-any-method", "$default"]["isDefaultRoute"] is True
    assert settings["$default"]["ThrottlingRateLimit"] < settings["POST /register"]["ThrottlingRateLimit"]
    assert settings["$default"]["ThrottlingBurstLimit"] < settings["POST /register"]["ThrottlingBurstLimit"]


def test_head_is_routed_wherever_a_buyers_browser_sends_get() -> None:
    gets = {path for method, path in PUBLIC_ROUTES if method == "get"}
    assert gets == {path for method, path in PUBLIC_ROUTES if method == "head"}


def test_the_buyers_function_knows_the_paths_of_the_seller_api() -> None:
    def first(routes: set[tuple[str, str]]) -> set[str]:
        return {path.split("/")[1] for _, path in routes if path != "$default"}

    assert first(SELLER_ROUTES) == SELLER_PATHS
    assert not first(PUBLIC_ROUTES) & SELLER_PATHS


def test_a_buyer_is_answered_before_lambda_ends_the_function() -> None:
    assert of_type("AWS::Lambda::Function")["ResolveCustomerFunction"]["Timeout"] > resolve_customer.ANSWER_WITHIN


def test_the_access_log_never_holds_what_a_url_or_a_body_may_carry() -> None:
    stage = of_type("AWS::ApiGatewayV2::Stage")["HttpApiApiGatewayDefaultStage"]
    logged = stage["AccessLogSettings"]["Format"]["Fn::Sub"]
    variables = set(re.findall(r"\$context\.([\w.]+)", logged))
    assert not variables & {"path", "rawPath", "queryString", "requestOverride", "authorizer.claims"}
    assert {"routeKey", "status", "requestId", "identity.sourceIp"} <= variables
    assert json.loads(logged)["route"] == "$context.routeKey"


def test_timeouts_and_memory() -> None:
    functions = of_type("AWS::Lambda::Function")
    assert {name: (body["Timeout"], body["MemorySize"]) for name, body in functions.items()} == {
        "ResolveCustomerFunction": (15, 512),
        "MeterUsageFunction": (840, 1024),
        "EntitlementCheckFunction": (60, 512),
        "SellerApiFunction": (29, 1024),
        "ReconcileUsageFunction": (900, 1024),
        "ArchiveUsageFunction": (900, 1024),
    }


def test_what_cannot_be_applied_or_delivered_is_kept() -> None:
    dead_letters = {"Fn::GetAtt": ["NotificationDeadLetterQueue", "Arn"]}
    for queue in ("NotificationQueue", "ReadBackQueue"):
        assert of_type("AWS::SQS::Queue")[queue]["RedrivePolicy"]["deadLetterTargetArn"] == dead_letters
    assert of_type("AWS::SQS::Queue")["NotificationDeadLetterQueue"]["MessageRetentionPeriod"] == 14 * 86400
    for rule in ("AgreementEventsRule", "ReconciliationSchedule", "WaitingSchedule"):
        (target,) = of_type("AWS::Events::Rule")[rule]["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": dead_letters}
    for subscription in of_type("AWS::SNS::Subscription").values():
        assert subscription["RedrivePolicy"] == {"deadLetterTargetArn": dead_letters}
        assert subscription["RawMessageDelivery"] is False


def test_the_queues_are_encrypted() -> None:
    """With SQS's keys or with the stack's own, never with both, which SQS refuses, and never with none."""
    for body in of_type("AWS::SQS::Queue").values():
        assert body["SqsManagedSseEnabled"] == {"Fn::If": ["HasOwnKey", False, True]}
        assert body["KmsMasterKeyId"]["Fn::If"] == ["HasOwnKey", OWN_KEY, {"Ref": "AWS::NoValue"}]


def test_agreement_events_are_matched_by_source_alone() -> None:
    rule = of_type("AWS::Events::Rule")["AgreementEventsRule"]
    assert rule["EventPattern"] == {"source": ["aws.agreement-marketplace"]}
    assert "EventBusName" not in rule


@pytest.mark.parametrize(
    ("function", "expression"),
    [
        ("MeterUsage", "cron(5/15 * * * ? *)"),
        ("ReconcileUsage", "cron(50 * * * ? *)"),
        ("ArchiveUsage", "cron(20 * * * ? *)"),
    ],
)
def test_a_schedule_runs_its_function_and_nothing_repeats_a_run(function: str, expression: str) -> None:
    schedule = of_type("AWS::Events::Rule")[f"{function}Schedule"]
    assert schedule["ScheduleExpression"] == expression
    assert [target["Arn"] for target in schedule["Targets"]] == [{"Fn::GetAtt": [f"{function}Function", "Arn"]}]
    configs = {body["FunctionName"]["Ref"]: body for body in of_type("AWS::Lambda::EventInvokeConfig").values()}
    assert sorted(configs) == ["ArchiveUsageFunction", "MeterUsageFunction", "ReconcileUsageFunction"]
    assert configs[f"{function}Function"]["MaximumRetryAttempts"] == 0


def test_reconciliation_of_usage_is_deployed_only_if_it_is_asked_for() -> None:
    named = {name for name in resources() if re.match("ReconcileUsage|UsageDifferences|UsageReconciliation", name)}
    optional = {name for name, body in resources().items() if body.get("Condition") == "ReconcilesUsage"}
    assert {name for name in optional if not name.endswith("EventInvokeConfig")} == {
        name for name in named if not name.endswith("EventInvokeConfig")
    }
    assert len(named) > 8
    assert template.load()["Parameters"]["UsageReconciliation"]["Default"] == "false"


def test_an_archive_is_deployed_only_if_it_is_asked_for() -> None:
    parts = re.compile(r"ArchiveUsage|UsageArchive|SecondsUsageArchive|ArchiveReading")
    named = {name for name in resources() if parts.match(name) and not name.endswith("EventInvokeConfig")}
    optional = {name for name, body in resources().items() if body.get("Condition") == "ArchivesUsage"}
    assert {name for name in optional if not name.endswith("EventInvokeConfig")} == named
    assert len(named) > 10
    assert template.load()["Parameters"]["ArchiveAfterMonths"]["Default"] == 0
    assert template.load()["Parameters"]["ArchiveLockDays"]["Default"] == 0


def test_the_archive_outlives_the_stack_and_is_open_to_nobody() -> None:
    whole, body = resources()["UsageArchiveBucket"], of_type("AWS::S3::Bucket")["UsageArchiveBucket"]
    assert (whole["DeletionPolicy"], whole["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert body["VersioningConfiguration"] == {"Status": "Enabled"}
    assert body["ObjectLockEnabled"] is True
    (rule,) = body["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == {"Fn::If": ["HasOwnKey", "aws:kms", "AES256"]}
    assert set(body["PublicAccessBlockConfiguration"].values()) == {True}
    (denied,) = of_type("AWS::S3::BucketPolicy")["UsageArchiveBucketPolicy"]["PolicyDocument"]["Statement"]
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", "s3:*")
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    lock = body["ObjectLockConfiguration"]["Rule"]["Fn::If"]
    assert (lock[0], lock[2]) == ("LocksTheArchive", {"Ref": "AWS::NoValue"})
    assert lock[1]["DefaultRetention"]["Mode"] == "COMPLIANCE"


@pytest.mark.parametrize("table", ["SubscriptionsTable", "UsageTable"])
def test_a_table_outlives_mistakes(table: str) -> None:
    whole, body = resources()[table], of_type("AWS::DynamoDB::Table")[table]
    assert (whole["DeletionPolicy"], whole["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert body["DeletionProtectionEnabled"] is True
    assert body["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert body["SSESpecification"]["SSEEnabled"] is True
    assert body["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert body["BillingMode"] == "PAY_PER_REQUEST"


def test_every_log_is_kept_as_long_as_was_asked() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert all(body["RetentionInDays"] == {"Ref": "LogRetentionDays"} for body in groups.values())
    used = {body["LoggingConfig"]["LogGroup"]["Ref"] for body in of_type("AWS::Lambda::Function").values()}
    assert used | {"HttpApiLogGroup"} == set(groups)
    assert template.load()["Parameters"]["LogRetentionDays"]["Default"] >= 365


def test_every_alarm_tells_whoever_is_to_be_told() -> None:
    for name, body in of_type("AWS::CloudWatch::Alarm").items():
        condition, actions, otherwise = body["AlarmActions"]["Fn::If"]
        assert (condition, otherwise) == ("Notifies", {"Ref": "AWS::NoValue"}), name
        assert actions == [{"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AlarmTopic"}]}], name
        assert body["AlarmDescription"], name


def test_every_function_has_alarms_for_errors_and_throttles() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    for function in of_type("AWS::Lambda::Function"):
        stem = function.removesuffix("Function")
        for metric in ("Errors", "Throttles"):
            assert alarms[f"{stem}{metric}Alarm"]["Dimensions"] == [
                {"Name": "FunctionName", "Value": {"Ref": function}}
            ]


@pytest.mark.parametrize("state", ["AtRisk", "Held", "Rejected", "Conflict", "Unbillable", "NotMetered"])
def test_a_gauges_alarm_lasts_as_long_as_the_trouble(state: str) -> None:
    """Every run publishes the gauge, each quarter of an hour; a period in which none ended changes nothing."""
    alarm = of_type("AWS::CloudWatch::Alarm")[f"Units{state}Alarm"]
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Maximum", 900, 1)
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (0, "ignore")


@pytest.mark.parametrize(
    ("kind", "threshold"),
    [
        *(("registration", 2 * HOUR), ("account", 2 * HOUR), ("agreement", 2 * HOUR), ("unassigned", DAY)),
        *(("correction", 0), ("reconciliation", 30 * HOUR)),
    ],
)
def test_an_alarm_of_what_waits_lasts_as_long_as_the_wait(kind: Kind, threshold: int) -> None:
    """The schedule publishes the gauge each quarter of an hour; a period without one changes nothing."""
    gauge = GAUGE_OF_WAITING[kind]
    alarm = of_type("AWS::CloudWatch::Alarm")[f"{gauge}Alarm"]
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Period"]) == (gauge, "Maximum", 900)
    assert (alarm["EvaluationPeriods"], alarm["Threshold"], alarm["TreatMissingData"]) == (1, threshold, "ignore")


def test_an_event_counts_as_unpublished_when_two_gauges_say_so() -> None:
    """The event's own time may be long ago when it is stored, a moment before it is published."""
    alarm = of_type("AWS::CloudWatch::Alarm")["OldestUnpublishedEventSecondsAlarm"]
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Period"]) == (GAUGE_OF_WAITING["event"], "Maximum", 900)
    assert (alarm["EvaluationPeriods"], alarm["Threshold"], alarm["TreatMissingData"]) == (2, 20 * MINUTE, "ignore")


def test_alarms_look_back_no_further_than_cloudwatch_does() -> None:
    """CloudWatch API reference, PutMetricAlarm, Period: a day, and seven days for periods of an hour or more."""
    for name, body in of_type("AWS::CloudWatch::Alarm").items():
        periods = {one["MetricStat"]["Period"] for one in body.get("Metrics", ()) if "MetricStat" in one}
        (period,) = periods or {body["Period"]}
        assert period * body["EvaluationPeriods"] <= (7 * DAY if period >= HOUR else DAY), name


def test_the_gauges_of_what_waits_are_asked_for_each_quarter_of_an_hour() -> None:
    schedule = of_type("AWS::Events::Rule")["WaitingSchedule"]
    assert schedule["ScheduleExpression"] == "cron(10/15 * * * ? *)"
    (target,) = schedule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["NotificationQueue", "Arn"]}
    assert parsed(QueueMessage(message_id="m", body=target["Input"], sent_at_ms=0)) == MeasureWaiting()


def test_the_runbook_says_of_every_alarm_what_to_do() -> None:
    runbook = (template.ROOT / "docs" / "operations.md").read_text()
    assert [name for name in of_type("AWS::CloudWatch::Alarm") if f"`{name}`" not in runbook] == []


def test_metering_that_does_not_run_alarms_by_its_silence() -> None:
    """A new stack has no data yet, which is no change; metering that stops has none any more, which is one."""
    alarm = of_type("AWS::CloudWatch::Alarm")["MeteringDidNotRunAlarm"]
    assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("Invocations", "missing")
    assert alarm["InsufficientDataActions"] == alarm["AlarmActions"]


def test_a_schedule_that_can_start_no_run_has_an_alarm() -> None:
    alarm = of_type("AWS::CloudWatch::Alarm")["MeteringNotStartedAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Events", "FailedInvocations")
    assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": {"Ref": "MeterUsageSchedule"}}]


def test_an_alarm_waits_for_the_next_value_of_a_metric_that_comes_every_15_minutes() -> None:
    """Shorter periods would have values in one of three, and send the same news at each run."""
    of_each_run = {"Fn::Sub": "meter_usage-${Stage}"}
    for name, body in of_type("AWS::CloudWatch::Alarm").items():
        values = [dimension["Value"] for dimension in body.get("Dimensions", ())]
        runs = any(one in values for one in (of_each_run, {"Ref": "MeterUsageFunction"}, {"Ref": "MeterUsageSchedule"}))
        if runs or body.get("MetricName") in GAUGE_OF_WAITING.values():
            assert body["Period"] % 900 == 0, name


def test_a_business_alarm_counts_this_stage_alone() -> None:
    services = {
        name: body["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
        for name, body in of_type("AWS::Lambda::Function").items()
    }
    assert len({json.dumps(service) for service in services.values()}) == len(services)
    # The access log is the HTTP API's own; a metric filter makes a metric of it.
    services["HttpApi"] = {"Fn::Sub": "http_api-${Stage}"}
    for body in of_type("AWS::CloudWatch::Alarm").values():
        if body.get("Namespace") == "MarketplaceSaaS":
            ((dimension),) = body["Dimensions"]
            assert dimension["Name"] == "service"
            assert dimension["Value"] in services.values()


def test_every_parameter_is_described_and_constrained() -> None:
    for name, parameter in template.load()["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter), name


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "ProductCodes",
            ["examplecode00000000000000", "a1,b-2", "1,2,3,4,5,6,7,8,9,10"],
            ["", "a, b", "a,,b", ",", "a_b", "1,2,3,4,5,6,7,8,9,10,11"],
        ),
        (
            "SignUpUrl",
            ["", "https://app.example/sign-up?plan=1"],
            ["http://app.example", "https://a b", "javascript:x"],
        ),
        ("LoginUrl", ["", "https://app.example/login"], ["app.example", "http://app.example"]),
        ("SupportContact", ["help@seller.example", "https://seller.example/help"], ["", "help", "http://x"]),
        ("LegacyProductCodes", ["", "a", "a,b,c,d"], ["a,b,c,d,e", "a b", ","]),
        ("Stage", ["prod", "dev-2"], ["", "Prod", "-a"]),
        ("AlarmEmail", ["", "ops@seller.example"], ["ops"]),
        ("AlarmTopicArn", ["", "arn:aws:sns:us-east-1:123456789012:alarms"], ["alarms"]),
        (
            "OverageDimensions",
            ["", "code1/api_calls=seats", "code1/api_calls=seats,code1/gb=storage,code2/a/b=c"],
            ["code1", "code1/a", "a=b", "code1/a=b,", "code1/a=b, code1/c=d", "/a=b", "code1/a=b=c"],
        ),
        ("SellerName", ["", "Acme", "Müller & Söhne <GmbH>", "A", "x" * 100], [" ", " Acme", "Ac\nme", "x" * 101]),
        (
            "SellerLogoUrl",
            ["", "https://cdn.acme.example/logo.svg?v=2", "https://acme.example:8443/a'b"],
            [
                *("http://acme.example/logo.svg", "https://acme.example", "//acme.example/l.svg", "data:image/png;x"),
                *("https://acme.example; script-src */l", "https://user@acme.example/l", "https://acme.example/a b"),
            ],
        ),
        ("SellerColor", ["", "#0b5cad", "#FFFFFF"], ["0b5cad", "#fff", "#0b5cad80", "red", "#0b5cad;"]),
        (
            "ProductTitles",
            ["", "code1=Acme Search", "code1=Acme Search,code2=A=B <b>", "prod-1=日本語"],
            ["code1", "=Acme", "code1=", "code1= Acme", "code1=A,", "code1=A,B", "code1=A\nB", "a b=C"],
        ),
        ("MeteringRegion", ["us-east-1", "ap-southeast-2"], ["", "useast1"]),
    ],
)
def test_a_parameter_refuses_what_would_fail_later(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = template.load()["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in good if not re.search(pattern, value)] == []
    assert [value for value in bad if re.search(pattern, value)] == []


def test_nothing_that_looks_like_a_secret_is_in_the_template() -> None:
    text = template.TEMPLATE.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|SecretString|[Pp]assword|-----BEGIN", text)


def test_sam_local_is_given_this_machine_and_every_stage_its_own_name() -> None:
    config = tomllib.loads((template.ROOT / "samconfig.toml").read_text())
    local = config["default"]["local_invoke"]["parameters"]
    assert local["env_vars"] == "events/env.json"
    assert {"Stage=local", "MeteringEnabled=true"} <= set(local["parameter_overrides"])
    assert local["add_host"] == ["host.docker.internal:host-gateway"]
    assert config["default"]["validate"]["parameters"]["lint"] is True
    names = [config[stage]["deploy"]["parameters"]["stack_name"] for stage in ("default", "dev", "prod")]
    assert len(set(names)) == 3
