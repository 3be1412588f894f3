"""Least privilege: what each function may do, and nothing more."""

from typing import Any

import pytest

from marketplace.dynamodb import keys
from tests.support.translated import of_type, statements

ROLES = ["ResolveCustomerRole", "MeterUsageRole", "EntitlementCheckRole", "SellerApiRole", "ReconcileUsageRole"]

ALLOWED: dict[str, dict[str, set[str]]] = {
    "ResolveCustomerRole": {
        "SubscriptionsTable": {"GetItem", "PutItem", "UpdateItem", "Query", "ConditionCheckItem"},
        "NotificationQueue": {"SendMessage"},
    },
    "MeterUsageRole": {
        "UsageTable": {
            *("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "BatchWriteItem"),
            "PartiQLUpdate",
        },
        "UsageTable/index/due": {"Query"},
        "SubscriptionsTable": {"GetItem", "BatchGetItem", "Query"},
        "SubscriptionsTable/index/by_status": {"Query"},
        "EventBus": {"PutEvents"},
        "NotificationQueue": {"SendMessage"},
        "MeteringQueue": {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"},
    },
    "EntitlementCheckRole": {
        "SubscriptionsTable": {
            *("GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "BatchWriteItem"),
            "ConditionCheckItem",
        },
        "SubscriptionsTable/index/by_account": {"Query"},
        "SubscriptionsTable/index/by_status": {"Query"},
        "SubscriptionsTable/index/waiting": {"Query"},
        "UsageTable": {"GetItem", "BatchGetItem", "Query", "UpdateItem", "DeleteItem"},
        "UsageTable/index/due": {"Query"},
        "EventBus": {"PutEvents"},
        **{
            queue: {
                *("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"),
                "SendMessage",
            }
            for queue in ("NotificationQueue", "ReadBackQueue")
        },
        "MeteringQueue": {"SendMessage"},
    },
    "SellerApiRole": {
        "SubscriptionsTable": {
            *("GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "BatchWriteItem"),
            "ConditionCheckItem",
        },
        "SubscriptionsTable/index/by_account": {"Query"},
        "SubscriptionsTable/index/by_status": {"Query"},
        "UsageTable": {"GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query"},
        "EventBus": {"PutEvents"},
        "NotificationQueue": {"SendMessage"},
    },
    "ReconcileUsageRole": {
        "SubscriptionsTable": {"BatchGetItem"},
        "SubscriptionsTable/index/by_status": {"Query"},
        "UsageTable": {"GetItem", "Query", "PutItem", "DeleteItem"},
        "EventBus": {"PutEvents"},
    },
}

WITHOUT_RESOURCE_TYPES = {
    "ResolveCustomerRole": {"aws-marketplace:ResolveCustomer"},
    "MeterUsageRole": {"aws-marketplace:BatchMeterUsage"},
    "EntitlementCheckRole": {
        "aws-marketplace:GetEntitlements",
        "aws-marketplace:SearchAgreements",
        "aws-marketplace:DescribeAgreement",
        "aws-marketplace:GetAgreementTerms",
        "aws-marketplace:GetAgreementEntitlements",
    },
    "SellerApiRole": {"aws-marketplace:GetEntitlements", "aws-marketplace:DescribeAgreement"},
    "ReconcileUsageRole": {"cloudtrail:LookupEvents"},
}


def _name(resource: Any) -> str:
    """Answer a policy's resource as `LogicalId` or `LogicalId/index/name`."""
    match resource:
        case {"Fn::GetAtt": [logical_id, "Arn"]}:
            return str(logical_id)
        case {"Fn::Sub": str(text)}:
            return text.replace("${", "").replace(".Arn}", "")
        case _:
            return str(resource)


def test_sam_adds_no_role_to_the_written_ones() -> None:
    assert sorted(of_type("AWS::IAM::Role")) == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_for_lambda_alone_and_takes_no_policy_from_elsewhere(role: str) -> None:
    declared = of_type("AWS::IAM::Role")[role]
    trusted = declared["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trusted] == [{"Service": "lambda.amazonaws.com"}]
    assert "ManagedPolicyArns" not in declared


def test_every_function_has_the_role_of_its_own() -> None:
    roles = {name: body["Role"]["Fn::GetAtt"][0] for name, body in of_type("AWS::Lambda::Function").items()}
    assert roles == {f"{role.removesuffix('Role')}Function": role for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_only_actions_without_resource_types_are_on_everything_and_all_others_on_one_resource(
    role: str,
) -> None:
    granted: dict[str, set[str]] = {}
    for statement in statements(role):
        for resource in statement["Resource"]:
            granted.setdefault(_name(resource), set()).update(statement["Action"])
    assert granted.pop("*") == WITHOUT_RESOURCE_TYPES[role]
    log_group = f"{role.removesuffix('Role')}LogGroup"
    named = {name: {action.split(":")[1] for action in actions} for name, actions in granted.items()}
    assert named == ALLOWED[role] | {log_group: {"CreateLogStream", "PutLogEvents"}}


def test_reconciliation_writes_nothing_but_what_it_found() -> None:
    writing = [
        statement
        for statement in statements("ReconcileUsageRole")
        if {"dynamodb:PutItem", "dynamodb:DeleteItem"} & set(statement["Action"])
    ]
    assert [one["Condition"] for one in writing] == [
        {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [keys.RECONCILIATION]}}
    ]


@pytest.mark.parametrize("role", ROLES)
def test_no_action_is_a_pattern_and_none_scans(role: str) -> None:
    actions = {action for statement in statements(role) for action in statement["Action"]}
    assert not [action for action in actions if "*" in action or action == "dynamodb:Scan"]


EVENTS, DAILY, GAUGES = (
    {"Fn::GetAtt": [name, "Arn"]} for name in ("AgreementEventsRule", "ReconciliationSchedule", "WaitingSchedule")
)


@pytest.mark.parametrize(
    ("queue", "rules"),
    [("NotificationQueue", [EVENTS, GAUGES]), ("NotificationDeadLetterQueue", [EVENTS, DAILY, GAUGES])],
)
def test_only_the_rules_and_the_legacy_topics_send_to_the_queues(queue: str, rules: Any) -> None:
    events, legacy = of_type("AWS::SQS::QueuePolicy")[f"{queue}Policy"]["PolicyDocument"]["Statement"]
    condition, topics, otherwise = legacy["Fn::If"]
    assert events["Principal"] == {"Service": "events.amazonaws.com"}
    assert events["Condition"] == {"ArnEquals": {"aws:SourceArn": rules}}
    assert (condition, otherwise) == ("HasLegacy", {"Ref": "AWS::NoValue"})
    assert topics["Principal"] == {"Service": "sns.amazonaws.com"}
    subscribed = [body["TopicArn"] for body in of_type("AWS::SNS::Subscription").values()]
    assert [allowed["Fn::If"][1] for allowed in topics["Condition"]["ArnEquals"]["aws:SourceArn"]] == subscribed
    assert {statement["Action"] for statement in (events, topics)} == {"sqs:SendMessage"}


def test_only_the_daily_reconciliation_sends_questions_from_outside() -> None:
    (daily,) = of_type("AWS::SQS::QueuePolicy")["ReadBackQueuePolicy"]["PolicyDocument"]["Statement"]
    assert daily["Principal"] == {"Service": "events.amazonaws.com"}
    assert daily["Condition"] == {"ArnEquals": {"aws:SourceArn": DAILY}}
    policies = of_type("AWS::SQS::QueuePolicy").values()
    assert {"Ref": "MeteringQueue"} not in [queue for policy in policies for queue in policy["Queues"]]


def test_only_api_gateway_the_schedule_and_the_queue_invoke_functions() -> None:
    principals = {body["Principal"] for body in of_type("AWS::Lambda::Permission").values()}
    assert principals == {"apigateway.amazonaws.com", "events.amazonaws.com"}
    assert all("SourceArn" in body for body in of_type("AWS::Lambda::Permission").values())
