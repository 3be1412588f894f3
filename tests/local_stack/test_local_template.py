"""The stack follows the template: what it declares is played, what can't be played is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.deployment import Bucket, Deployment, Route
from local.template import parameters_of, read
from local.template_yaml import TemplateError
from tools.template import TEMPLATE

GIVEN = {
    "ProductCodes": "one,two",
    "SupportContact": "help@seller.example",
    "Stage": "local",
    "MeteringEnabled": "true",
}
SQS = "http://127.0.0.1:1"


def deployed(path: Path = TEMPLATE, **parameters: str) -> Deployment:
    return read(path, {**GIVEN, **parameters}, sqs_endpoint=SQS, root=TEMPLATE.parent)


def small(tmp_path: Path, resources: dict[str, Any], **rest: Any) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(json.dumps({"Resources": resources, **rest}))
    return path


def of(path: Path) -> Deployment:
    return read(path, {}, sqs_endpoint=SQS)


def function(**properties: Any) -> dict[str, Any]:
    """The resources of a template with one function."""
    known = {"CodeUri": "f", "Handler": "app.handler"}
    return {"F": {"Type": "AWS::Serverless::Function", "Properties": {**known, **properties}}}


def test_functions_carry_their_environment_with_globals_merged_in() -> None:
    meter = deployed(SealDelayMinutes="20").functions["MeterUsageFunction"]

    assert meter.environment["SEAL_DELAY_MINUTES"] == "20"
    assert meter.environment["PRODUCT_CODES"] == "one,two"
    assert meter.environment["POWERTOOLS_SERVICE_NAME"] == "meter_usage-local"
    for queue in ("NOTIFICATION_QUEUE_URL", "READ_BACK_QUEUE_URL", "METERING_QUEUE_URL"):
        assert meter.environment[queue].startswith(SQS)
    assert meter.folder == TEMPLATE.parent / "functions" / "meter_usage"
    assert (meter.handler, meter.concurrency) == ("app.lambda_handler", None)


def test_a_parameter_decides_reserved_concurrency() -> None:
    assert deployed(MeteringReservedConcurrency="2").functions["MeterUsageFunction"].concurrency == 2
    assert deployed(MeteringReservedConcurrency="0").functions["MeterUsageFunction"].concurrency is None


def test_routes_say_who_may_call() -> None:
    routes = {route.key: route for route in deployed().routes}

    assert routes["POST /register"] == Route("POST", "/register", "ResolveCustomerFunction", needs_iam=False)
    assert routes["POST /usage"].needs_iam


def test_a_legacy_product_brings_its_sns_subscriptions() -> None:
    assert deployed().subscriptions == []
    (one,) = deployed(LegacyProductCodes="mail").subscriptions

    assert one.topic_arn.endswith(":aws-mp-subscription-notification-mail")
    assert not one.raw


def test_a_queue_keeps_its_timeout_and_its_dead_letter_queue() -> None:
    queues = {queue.name: queue.attributes for queue in deployed().queues}
    redrive = json.loads(queues["marketplace-saas-NotificationQueue"]["RedrivePolicy"])

    assert queues["marketplace-saas-NotificationQueue"]["VisibilityTimeout"] == "90"
    assert redrive["deadLetterTargetArn"].endswith(":marketplace-saas-NotificationDeadLetterQueue")


def test_a_changed_template_is_followed(changed: Callable[..., Path]) -> None:
    path = changed(
        ("Method: POST, Path: /register }", "Method: PUT, Path: /sign-up }"),
        ("BatchSize: 1  #", "BatchSize: 3  #"),
        ("VisibilityTimeout: 90\n      MessageRetentionPeriod: 345600", "VisibilityTimeout: 77"),
        ("cron(5/15 * * * ? *)", "rate(1 hour)"),
        ("source: [aws.agreement-marketplace]", "source: [other]"),
        ("IndexName: due\n", "IndexName: due_soon\n"),
    )
    deployment = deployed(path)

    assert any(route.key == "PUT /sign-up" for route in deployment.routes)
    mappings = {mapping.queue.removeprefix("marketplace-saas-"): mapping for mapping in deployment.queue_mappings}
    assert {queue: (mapping.batch_size, mapping.function) for queue, mapping in mappings.items()} == {
        "NotificationQueue": (3, "EntitlementCheckFunction"),
        "ReadBackQueue": (1, "EntitlementCheckFunction"),
        "MeteringQueue": (1, "MeterUsageFunction"),
    }
    assert {
        queue.name.removeprefix("marketplace-saas-"): queue.attributes.get("VisibilityTimeout")
        for queue in deployment.queues
    } == {
        "NotificationQueue": "77",
        "ReadBackQueue": "77",
        "MeteringQueue": "900",
        "NotificationDeadLetterQueue": None,
    }
    assert [rule.pattern for rule in deployment.rules] == [{"source": ["other"]}]
    assert [one.expression for one in deployment.schedules] == [
        "rate(1 hour)",
        "cron(40 7 * * ? *)",
        "cron(10/15 * * * ? *)",
    ]
    assert [(one.function, one.queue is None) for one in deployment.schedules] == [
        ("MeterUsageFunction", True),
        (None, False),
        (None, False),
    ]
    assert any(
        index["IndexName"] == "due_soon"
        for table in deployment.tables
        for index in table.get("GlobalSecondaryIndexes", ())
    )


def test_the_fulfilment_path_is_the_output_s() -> None:
    assert deployed().fulfilment_path == "/register"


def test_parameters_are_listed_missing_ones_named_and_unknown_ones_refused() -> None:
    assert "ProductCodes" in parameters_of(TEMPLATE)
    with pytest.raises(TemplateError, match="ProductCodes"):
        read(TEMPLATE, {}, sqs_endpoint=SQS)
    with pytest.raises(TemplateError, match="no parameter Colour"):
        deployed(Colour="red")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Fn::Join": ["-", ["a", {"Ref": "AWS::Region"}]]}, "a-us-east-1"),
        ({"Fn::Sub": "${!Literal} ${AWS::AccountId}"}, "${Literal} 123456789012"),
        ({"Fn::Sub": ["${X}!", {"X": {"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}}]}, "b!"),
        ({"Fn::If": ["Yes", "then", "else"]}, "then"),
        ({"Fn::GetAtt": ["Q", "QueueName"]}, "marketplace-saas-Q"),
        ({"Fn::GetAtt": "Q.Arn"}, "arn:aws:sqs:us-east-1:123456789012:marketplace-saas-Q"),
        ({"Ref": "Q"}, "http://127.0.0.1:1/123456789012/marketplace-saas-Q"),
        ({"Ref": "T"}, "named"),
    ],
)
def test_intrinsic_functions(tmp_path: Path, value: Any, expected: str) -> None:
    table = {"Type": "AWS::DynamoDB::Table", "Properties": {"TableName": "named"}}
    path = small(
        tmp_path,
        {**function(Environment={"Variables": {"V": value}}), "Q": {"Type": "AWS::SQS::Queue"}, "T": table},
        Conditions={
            "Yes": {"Fn::And": [{"Fn::Not": [{"Fn::Equals": [1, 2]}]}, {"Condition": "Or"}]},
            "Or": {"Fn::Or": [{"Fn::Equals": [1, "1"]}, {"Fn::Equals": [1, 2]}]},
        },
    )

    assert of(path).functions["F"].environment == {"V": expected}


def test_no_value_leaves_a_variable_out(tmp_path: Path) -> None:
    resources = function(Environment={"Variables": {"V": {"Ref": "AWS::NoValue"}}})

    assert of(small(tmp_path, resources)).functions["F"].environment == {}


def with_event(kind: str, **properties: Any) -> dict[str, Any]:
    return function(Events={"E": {"Type": kind, "Properties": properties}})


def test_a_sam_schedule_is_a_schedule_too(tmp_path: Path) -> None:
    (one,) = of(small(tmp_path, with_event("Schedule", Schedule="rate(5 minutes)", Input='{"a": 1}'))).schedules

    assert (one.expression, one.function, one.event) == ("rate(5 minutes)", "F", '{"a": 1}')


QUEUE: dict[str, Any] = {"Type": "AWS::SQS::Queue"}
TARGET = {"Id": "q", "Arn": {"Fn::GetAtt": ["Q", "Arn"]}}
TOPIC = "arn:aws:sns:us-east-1:222233334444:topic"


def rule(target: dict[str, Any] = TARGET, **properties: Any) -> dict[str, Any]:
    given = properties or {"EventPattern": {"source": ["x"]}}
    return {"Q": QUEUE, "R": {"Type": "AWS::Events::Rule", "Properties": {**given, "Targets": [target]}}}


def delay(value: Any) -> dict[str, Any]:
    return {"Q": {**QUEUE, "Properties": {"DelaySeconds": value}}}


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        (with_event("S3", Bucket="b"), "S3"),
        (with_event("HttpApi", Auth={"Authorizer": "Mine"}), "Mine"),
        (rule(EventPattern={"source": ["x"]}, EventBusName="b"), "other buses"),
        (rule({**TARGET, "InputPath": "$.detail"}), "InputPath"),
        (rule({"Id": "Topic", "Arn": TOPIC}, ScheduleExpression="rate(1 hour)"), "is no queue"),
        (rule({"Arn": "arn:x"}), "arn:x"),
        (
            {"S": {"Type": "AWS::SNS::Subscription", "Properties": {"Protocol": "email", "Endpoint": "x"}}},
            "only SNS subscriptions of queues",
        ),
        (delay({"Fn::ImportValue": "x"}), "Fn::ImportValue"),
        (delay({"Ref": "Nobody"}), "Nobody"),
        (delay({"Fn::GetAtt": ["Nobody", "Arn"]}), "Nobody"),
        (delay({"Fn::GetAtt": ["Q", "Colour"]}), "Q.Colour"),
    ],
)
def test_what_can_t_be_played_is_named(tmp_path: Path, resources: dict[str, Any], named: str) -> None:
    with pytest.raises(TemplateError, match=named):
        of(small(tmp_path, resources))


@pytest.mark.parametrize("text", ["a: [", "[]", "{}"])
def test_what_is_no_template_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(text)
    with pytest.raises(TemplateError, match="no template"):
        of(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="can't be read"):
        of(tmp_path / "missing.yaml")


def test_an_archive_brings_its_bucket_its_schedule_and_its_name_for_who_reads_it() -> None:
    plain, archiving = deployed(), deployed(ArchiveAfterMonths="3")
    assert plain.buckets == []
    assert "ArchiveUsageFunction" not in plain.functions

    (bucket,) = archiving.buckets
    assert bucket == Bucket("marketplace-saas-usagearchivebucket", versioned=True)
    assert archiving.outputs["UsageArchiveBucketName"] == bucket.name
    assert archiving.functions["SellerApiFunction"].environment["ARCHIVE_BUCKET"] == bucket.name
    assert archiving.functions["ArchiveUsageFunction"].environment["ARCHIVE_AFTER_MONTHS"] == "3"
    assert ("ArchiveUsageFunction", "cron(20 * * * ? *)") in {
        (one.function, one.expression) for one in archiving.schedules
    }


def test_a_table_names_the_attribute_by_which_its_items_expire(changed: Callable[..., Path]) -> None:
    names = {"marketplace-saas-SubscriptionsTable", "marketplace-saas-UsageTable"}
    assert deployed().time_to_live == dict.fromkeys(names, "expires_at")
    off = changed(("{ AttributeName: expires_at, Enabled: true }", "{ AttributeName: expires_at, Enabled: false }"))
    assert deployed(off).time_to_live == {}


def test_a_bucket_has_the_name_that_the_template_gives_it_or_one_in_lower_case(tmp_path: Path) -> None:
    found = of(
        small(
            tmp_path,
            {
                "Named": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "mine"}},
                "UnNamed": {"Type": "AWS::S3::Bucket"},
            },
            Outputs={"Arn": {"Value": {"Fn::GetAtt": ["UnNamed", "Arn"]}}},
        )
    )
    assert [one.name for one in found.buckets] == ["mine", "marketplace-saas-unnamed"]
    assert found.outputs["Arn"] == "arn:aws:s3:::marketplace-saas-unnamed"
