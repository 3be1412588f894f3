"""Least privilege: whom the roles are for and what their policies may name. That they grant what the functions use, and
nothing else, is for tests/functions/test_roles.py."""

from typing import Any

import pytest

from marketplace.dynamodb import keys
from tests.support.translated import of_type, resources, statements

CALLING_AWS_MARKETPLACE = ["ResolveCustomerRole", "MeterUsageRole", "EntitlementCheckRole", "SellerApiRole"]
ROLES = [*CALLING_AWS_MARKETPLACE, "ReconcileUsageRole", "ArchiveUsageRole"]


def test_sam_adds_no_role_to_the_written_ones() -> None:
    """The roles of options stand under a condition."""
    always = [name for name in of_type("AWS::IAM::Role") if "Condition" not in resources()[name]]
    assert sorted(always) == sorted(CALLING_AWS_MARKETPLACE)


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
def test_only_actions_which_have_no_resource_types_are_on_everything(role: str) -> None:
    """All others name resources of this stack: a table, an index, a queue, the bus, the function's log group."""
    for statement in statements(role):
        for resource in statement["Resource"]:
            untyped = {
                action.startswith("aws-marketplace:") or action == "cloudtrail:LookupEvents"
                for action in statement["Action"]
            }
            assert untyped == {resource == "*"}
            assert resource == "*" or not isinstance(resource, str)


@pytest.mark.parametrize("role", CALLING_AWS_MARKETPLACE)
def test_with_a_sellers_role_a_function_may_assume_exactly_that_and_call_aws_marketplace_only_as_it(role: str) -> None:
    with_role, without = (statements(role, conditions) for conditions in (["HasSellerRole"], []))
    assert [statement for statement in with_role if statement not in without] == [
        {
            "Sid": "ActAsSeller",
            "Effect": "Allow",
            "Action": ["sts:AssumeRole"],
            "Resource": [{"Ref": "SellerRoleArn"}],
        }
    ]
    (own,) = [statement for statement in without if statement not in with_role]
    assert all(action.startswith("aws-marketplace:") for action in own["Action"])
    assert not [action for one in with_role for action in one["Action"] if action.startswith("aws-marketplace:")]


def test_reconciliation_writes_nothing_but_what_it_found() -> None:
    writing = [
        statement
        for statement in statements("ReconcileUsageRole")
        if {"dynamodb:PutItem", "dynamodb:DeleteItem"} & set(statement["Action"])
    ]
    assert [one["Condition"] for one in writing] == [
        {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [keys.RECONCILIATION]}}
    ]


def test_whoever_reads_usage_may_read_the_archive_and_write_nothing_there() -> None:
    (allowed,) = of_type("AWS::IAM::Policy")["ArchiveReading"]["PolicyDocument"]["Statement"]
    assert (allowed["Action"], allowed["Resource"]) == (
        "s3:GetObject",
        {"Fn::Sub": "${UsageArchiveBucket.Arn}/usage/*"},
    )
    assert of_type("AWS::IAM::Policy")["ArchiveReading"]["Roles"] == [
        {"Ref": "SellerApiRole"},
        {"Fn::If": ["ReconcilesUsage", {"Ref": "ReconcileUsageRole"}, {"Ref": "AWS::NoValue"}]},
    ]
    for role in ROLES:
        actions = {action for statement in statements(role) for action in statement["Action"]}
        assert {action for action in actions if action.startswith("s3:")} == (
            {"s3:GetObject", "s3:PutObject"} if role == "ArchiveUsageRole" else set()
        )


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
    events, legacy, *_ = of_type("AWS::SQS::QueuePolicy")[f"{queue}Policy"]["PolicyDocument"]["Statement"]
    condition, topics, otherwise = legacy["Fn::If"]
    assert events["Principal"] == {"Service": "events.amazonaws.com"}
    assert events["Condition"] == {"ArnEquals": {"aws:SourceArn": rules}}
    assert (condition, otherwise) == ("HasLegacy", {"Ref": "AWS::NoValue"})
    assert topics["Principal"] == {"Service": "sns.amazonaws.com"}
    subscribed = [body["TopicArn"] for body in of_type("AWS::SNS::Subscription").values()]
    assert [allowed["Fn::If"][1] for allowed in topics["Condition"]["ArnEquals"]["aws:SourceArn"]] == subscribed
    assert {statement["Action"] for statement in (events, topics)} == {"sqs:SendMessage"}


def test_only_the_daily_reconciliation_sends_questions_from_outside() -> None:
    daily, _ = of_type("AWS::SQS::QueuePolicy")["ReadBackQueuePolicy"]["PolicyDocument"]["Statement"]
    assert daily["Principal"] == {"Service": "events.amazonaws.com"}
    assert daily["Condition"] == {"ArnEquals": {"aws:SourceArn": DAILY}}
    policies = of_type("AWS::SQS::QueuePolicy").values()
    assert {"Ref": "MeteringQueue"} not in [queue for policy in policies for queue in policy["Queues"]]


@pytest.mark.parametrize("queue", ["NotificationQueue", "ReadBackQueue"])
def test_where_an_operator_is_named_nobody_else_in_the_account_sends_to_a_queue(queue: str) -> None:
    """Whoever may send by a role of the template, and AWS's services, still may."""
    *_, declared = of_type("AWS::SQS::QueuePolicy")[f"{queue}Policy"]["PolicyDocument"]["Statement"]
    condition, denied, otherwise = declared["Fn::If"]
    assert (condition, otherwise) == ("NamesSenders", {"Ref": "AWS::NoValue"})
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", "sqs:SendMessage")
    assert denied["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}
    assert denied["Condition"]["Bool"] == {"aws:PrincipalIsAWSService": "false"}
    *functions, operator = denied["Condition"]["ArnNotLike"]["aws:PrincipalArn"]
    senders = [
        role
        for role in ROLES
        for statement in statements(role)
        if "sqs:SendMessage" in statement["Action"] and {"Fn::GetAtt": [queue, "Arn"]} in statement["Resource"]
    ]
    assert functions == [{"Fn::GetAtt": [role, "Arn"]} for role in senders]
    assert operator == {"Ref": "OperatorRoleArn"}


def test_only_api_gateway_the_schedule_and_the_queue_invoke_functions() -> None:
    principals = {body["Principal"] for body in of_type("AWS::Lambda::Permission").values()}
    assert principals == {"apigateway.amazonaws.com", "events.amazonaws.com"}
    assert all("SourceArn" in body for body in of_type("AWS::Lambda::Permission").values())
