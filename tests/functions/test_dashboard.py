"""The dashboard shows metrics that exist: the functions emit them with these dimensions while a seller's days are
played, or AWS documents them, and then their dimensions name resources of the stack. The same holds for the alarms."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from marketplace.archive.archiver import ArchiveReport
from tests.functions.test_buyer_addresses import unrouted
from tests.functions.test_sellers_mistakes import access_log, counted
from tests.support.alarms import of_stage
from tests.support.deployed import FORM
from tests.support.seller_days import CONTRACT, LEGACY, PAY_AS_YOU_GO, STORIES, forget
from tests.support.translated import of_type, resources
from tests.support.watched import Watched
from tools import template

OF_AWS: dict[tuple[str, str], set[tuple[str, ...]]] = {
    **{("AWS/Lambda", name): {("FunctionName",)} for name in ("Invocations", "Errors", "Throttles", "Duration")},
    **{("AWS/ApiGateway", name): {("ApiId",)} for name in ("Count", "4xx", "5xx")},
    **{
        ("AWS/SQS", name): {("QueueName",)}
        for name in (
            *("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"),
            "NumberOfMessagesSent",
        )
    },
    **{
        ("AWS/DynamoDB", name): {("TableName",), ("TableName", "GlobalSecondaryIndexName")}
        for name in (
            *("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"),
            *("ReadThrottleEvents", "WriteThrottleEvents"),
        )
    },
    ("AWS/Logs", "IncomingBytes"): {("LogGroupName",)},
    ("AWS/Events", "FailedInvocations"): {("RuleName",)},
    ("AWS/WAFV2", "BlockedRequests"): {("WebACL", "Rule")},
}
"""Metrics of AWS and their dimensions (Lambda Developer Guide, "Types of metrics"; API Gateway Developer Guide, "HTTP
API metrics"; SQS Developer Guide, "Available CloudWatch metrics"; DynamoDB Developer Guide, "Metrics and dimensions";
CloudWatch Logs User Guide, "Monitoring with CloudWatch metrics"; EventBridge User Guide, "Monitoring Amazon
EventBridge"; AWS WAF Developer Guide, "AWS WAF metrics and dimensions": CloudFront's have no dimension Region)."""

TYPES = {
    "FunctionName": "AWS::Lambda::Function",
    "ApiId": "AWS::ApiGatewayV2::Api",
    "QueueName": "AWS::SQS::Queue",
    "TableName": "AWS::DynamoDB::Table",
    "LogGroupName": "AWS::Logs::LogGroup",
    "RuleName": "AWS::Events::Rule",
}

type Metric = tuple[str, str, dict[str, str]]
"""Namespace, name, and the dimensions as the template writes them."""


def body() -> dict[str, Any]:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    content: dict[str, Any] = json.loads(dashboard["DashboardBody"]["Fn::Sub"])
    return content


def test_the_dashboard_shows_the_stacks_region_wherever_it_is_opened() -> None:
    """A dashboard is in the console of every region, and a widget without a region is of the one that is open
    (CloudWatch API Reference, "PutDashboard" and "Dashboard Body Structure and Syntax")."""
    for widget in body()["widgets"]:
        if widget["type"] == "metric":
            assert widget["properties"]["region"] == "${AWS::Region}", widget["properties"]["title"]
        elif widget["type"] == "alarm":
            assert all(re.fullmatch(r"\$\{\w+\.Arn\}", alarm) for alarm in widget["properties"]["alarms"])


def shown() -> Iterator[Metric]:
    for widget in body()["widgets"]:
        for namespace, name, *dimensions in widget["properties"].get("metrics", ()):
            yield namespace, name, dict(zip(dimensions[::2], dimensions[1::2], strict=True))


def watched_by_alarms() -> Iterator[Metric]:
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        math = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", ()) if "MetricStat" in one]
        for metric in math or [alarm]:
            dimensions = {one["Name"]: _written(one["Value"]) for one in metric["Dimensions"]}
            yield metric["Namespace"], metric["MetricName"], dimensions


def _written(value: Any) -> str:
    """A value as Fn::Sub writes it."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": text}:
            return str(text)
    return str(value)


@pytest.mark.slow
def test_what_the_seller_sees_is_what_the_functions_emit(watched: Watched) -> None:
    for story in STORIES:
        story(watched.seller)
    registered = watched.seller.world.marketplace.registration_token(watched.buyer().id)
    wrong_address = unrouted("POST", "/registration", FORM, body_of(registered).encode())
    watched.seller.invoke("ResolveCustomerFunction", wrong_address)
    for token, expected in (("made-up", 400), (expired(watched), 400), (of_another_seller(watched), 403)):
        answer = watched.seller.buyer("POST /register", headers=FORM, body=body_of(token))
        assert answer["statusCode"] == expected
    usage = {"subscription_id": watched.with_usage("999900001111"), "dimension": "api_calls"}
    for record in ({"id": "same", "quantity": 1}, {"id": "same", "quantity": 1}, {"id": "same", "quantity": 2}):
        watched.seller.call("POST /usage", {"records": [{**usage, **record}]})
    watched.seller.call("POST /usage", {"records": [{**usage, "id": "late", "quantity": -1}]})
    pending = watched.seller.signs_up(
        watched.seller.purchases.subscribe(PAY_AS_YOU_GO, "888800001111", provision=False)
    )
    watched.seller.call(
        "POST /usage", {"records": [{**usage, "id": "early", "quantity": 1, "subscription_id": pending}]}
    )
    watched.look()
    emitted = {(one.service, one.name) for quarter in watched.quarters for one in quarter}
    emitted |= {(one.service, one.name) for one in counted(access_log("POST /register", 429))}
    # An option of its own; tests/functions/test_archive_usage.py shows that the function emits them.
    emitted |= {("archive_usage-prod", name) for name in ArchiveReport().counts}
    own = {(of_stage(d["service"]), name, *d) for namespace, name, d in shown() if namespace == "MarketplaceSaaS"}
    assert {(service, name) for service, name, *_ in own} - emitted == set()
    assert {tuple(dimensions) for _, _, *dimensions in own} == {("service",)}


def body_of(token: str) -> str:
    return urlencode({"x-amzn-marketplace-token": token})


def expired(watched: Watched) -> str:
    return watched.seller.world.marketplace.registration_token(watched.buyer().id, lifetime=-1)


def of_another_seller(watched: Watched) -> str:
    watched.patch.setenv("PRODUCT_CODES", f"{CONTRACT},{PAY_AS_YOU_GO}")
    forget()
    return watched.seller.world.marketplace.registration_token(watched.buyer(product=LEGACY).id)


@pytest.mark.parametrize("source", [shown, watched_by_alarms], ids=["dashboard", "alarms"])
def test_a_metric_of_aws_is_one_that_aws_documents_of_a_resource_of_the_stack(source: Any) -> None:
    found = [metric for metric in source() if metric[0] != "MarketplaceSaaS"]
    assert found
    for namespace, name, dimensions in found:
        assert tuple(dimensions) in OF_AWS[namespace, name], (name, dimensions)
        for dimension, value in dimensions.items():
            if dimension == "GlobalSecondaryIndexName":
                table = of_type("AWS::DynamoDB::Table")[_logical(dimensions["TableName"])]
                assert value in {index["IndexName"] for index in table["GlobalSecondaryIndexes"]}
            elif namespace == "AWS/WAFV2":
                assert value in names_of_waf()
            else:
                assert resources()[_logical(value)]["Type"] == TYPES[dimension], value


def names_of_waf() -> set[str]:
    """What the metrics of the web ACL and of its rules are called."""
    return {
        _written(one["VisibilityConfig"]["MetricName"])
        for acl in of_type("AWS::WAFv2::WebACL").values()
        for one in (acl, *acl["Rules"])
    }


def _logical(value: str) -> str:
    found = re.fullmatch(r"\$\{(\w+)(\.QueueName)?\}", value)
    assert found, value
    return found[1]


def test_every_table_and_index_is_watched_for_throttling_and_counted() -> None:
    wanted = {
        (name, index)
        for name, table in of_type("AWS::DynamoDB::Table").items()
        for index in ("", *(one["IndexName"] for one in table["GlobalSecondaryIndexes"]))
    }
    for source, names in (
        (watched_by_alarms(), {"ReadThrottleEvents", "WriteThrottleEvents"}),
        (shown(), {"ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"}),
    ):
        found = {
            (name, _logical(dimensions["TableName"]), dimensions.get("GlobalSecondaryIndexName", ""))
            for namespace, name, dimensions in source
            if namespace == "AWS/DynamoDB"
        }
        assert found == {(name, *place) for name in names for place in wanted}


def test_the_dashboard_shows_the_state_of_every_alarm() -> None:
    """Alarms of options are not shown: a dashboard can't name what does not exist."""
    (alarms,) = [widget["properties"]["alarms"] for widget in body()["widgets"] if widget["type"] == "alarm"]
    always = [name for name in of_type("AWS::CloudWatch::Alarm") if "Condition" not in resources()[name]]
    assert set(alarms) == {f"${{{name}.Arn}}" for name in always}
    assert len(alarms) <= 100  # CloudWatch API reference: dashboard body structure, alarm widget


def test_the_widgets_lie_side_by_side_and_none_on_another() -> None:
    cells = [
        (x, y)
        for widget in body()["widgets"]
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(set(cells)) == len(cells) == 24 * (max(y for _, y in cells) + 1)


def test_every_name_in_the_dashboard_is_one_that_cloudformation_can_fill_in() -> None:
    names = set(re.findall(r"\$\{([^}]+)\}", json.dumps(body())))
    declared = {*resources(), *template.load()["Parameters"], "AWS::Region"}
    assert {name.partition(".")[0] for name in names} <= declared
    assert {name.partition(".")[2] for name in names} == {"", "Arn", "QueueName"}
