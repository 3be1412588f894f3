"""The calls of docs/operations.md on one machine: outputs, redrive, a run by hand, with stock SDK clients."""

from __future__ import annotations

import io
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.stack import Stack
from tests.local_stack.browser import lines

MAIN_QUEUE, READ_BACK, DEAD_LETTERS = (
    f"marketplace-saas-{name}" for name in ("NotificationQueue", "ReadBackQueue", "NotificationDeadLetterQueue")
)
HOUR = 3600


def client(stack: Stack, service: str) -> Any:
    made: Any = boto3.client  # the stubs want a literal service name
    return made(
        service,
        endpoint_url=stack.aws_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def arn(stack: Stack, queue: str) -> str:
    attributes = client(stack, "sqs").get_queue_attributes(
        QueueUrl=stack.queue_url(queue), AttributeNames=["QueueArn"]
    )["Attributes"]
    return str(attributes["QueueArn"])


def dead_letter(stack: Stack, body: str, queue: str = MAIN_QUEUE) -> None:
    """A message that fails until it is in the dead-letter queue."""
    client(stack, "sqs").send_message(QueueUrl=stack.queue_url(queue), MessageBody=body)
    stack.advance(HOUR)


@pytest.fixture(autouse=True)
def no_dead_letters(stack: Stack) -> None:
    stack.advance(61)  # SQS purges a queue once a minute
    client(stack, "sqs").purge_queue(QueueUrl=stack.queue_url(DEAD_LETTERS))


def test_a_message_that_falls_into_the_dead_letter_queue_is_logged(stack: Stack, log: io.StringIO) -> None:
    before = len(lines(log, "could not be handled"))
    dead_letter(stack, "not JSON")

    (line,) = lines(log, "could not be handled")[before:]
    assert MAIN_QUEUE in line
    assert DEAD_LETTERS in line


def test_redrive_moves_the_dead_letters_where_the_command_says(stack: Stack, log: io.StringIO) -> None:
    sqs = client(stack, "sqs")
    dead_letter(stack, "not JSON")
    started = sqs.start_message_move_task(SourceArn=arn(stack, DEAD_LETTERS), DestinationArn=arn(stack, READ_BACK))
    (task,) = sqs.list_message_move_tasks(SourceArn=arn(stack, DEAD_LETTERS))["Results"]

    assert started["TaskHandle"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1)
    assert task["DestinationArn"] == arn(stack, READ_BACK)
    stack.settle()
    assert stack.aws.visible_messages(DEAD_LETTERS) == 0
    stack.advance(HOUR)
    assert stack.aws.visible_messages(DEAD_LETTERS) == 1  # it was tried anew, and failed anew
    assert lines(log, "could not be handled", READ_BACK)


def test_without_a_destination_a_message_goes_back_where_it_came_from(stack: Stack, log: io.StringIO) -> None:
    sqs = client(stack, "sqs")
    dead_letter(stack, "one", READ_BACK)
    dead_letter(stack, "two", MAIN_QUEUE)
    sqs.start_message_move_task(SourceArn=arn(stack, DEAD_LETTERS))
    assert stack.aws.visible_messages(DEAD_LETTERS) == 0
    before = len(lines(log, "could not be handled"))
    stack.advance(HOUR)

    again = lines(log, "could not be handled")[before:]
    assert sorted(queue for queue in (MAIN_QUEUE, READ_BACK) for line in again if f"of {queue} " in line) == [
        MAIN_QUEUE,
        READ_BACK,
    ]


def test_a_message_without_an_origin_stays_and_the_task_has_failed(stack: Stack) -> None:
    sqs = client(stack, "sqs")
    sqs.send_message(QueueUrl=stack.queue_url(DEAD_LETTERS), MessageBody="as EventBridge puts it")
    sqs.start_message_move_task(SourceArn=arn(stack, DEAD_LETTERS))
    (task,) = sqs.list_message_move_tasks(SourceArn=arn(stack, DEAD_LETTERS))["Results"]

    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert stack.aws.visible_messages(DEAD_LETTERS) == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"SourceArn": "arn:aws:sqs:us-east-1:123456789012:nobody"}, "ResourceNotFoundException"),
        ({"SourceArn": f"arn:aws:sqs:us-east-1:123456789012:{MAIN_QUEUE}"}, "InvalidParameterValue"),
        (
            {"SourceArn": f"arn:aws:sqs:us-east-1:123456789012:{DEAD_LETTERS}", "DestinationArn": "arn:x"},
            "ResourceNotFoundException",
        ),
    ],
)
def test_a_wrong_queue_is_refused(stack: Stack, request_: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        client(stack, "sqs").start_message_move_task(**request_)

    assert refused.value.response["Error"]["Code"] == code


def test_the_stack_s_outputs_are_those_of_the_template_and_lead_here(stack: Stack) -> None:
    (described,) = client(stack, "cloudformation").describe_stacks(StackName="marketplace-saas")["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}

    assert outputs["UsageTableName"] == "marketplace-saas-UsageTable"
    assert outputs["NotificationQueueUrl"] == stack.queue_url(MAIN_QUEUE)
    assert outputs["ApiUrl"] == stack.api_url
    assert outputs["FulfilmentUrl"] == f"{stack.api_url}/register"
    with pytest.raises(ClientError, match="does not exist"):
        client(stack, "cloudformation").describe_stacks(StackName="another")


def test_a_metering_run_by_hand(stack: Stack) -> None:
    resource = client(stack, "cloudformation").describe_stack_resource(
        StackName="marketplace-saas", LogicalResourceId="MeterUsageFunction"
    )["StackResourceDetail"]
    answer = client(stack, "lambda").invoke(FunctionName=resource["PhysicalResourceId"])

    assert "FunctionError" not in answer
    assert json.load(answer["Payload"])["due"] == 0


def test_a_function_that_fails_or_is_unknown_is_answered_as_lambda_answers(stack: Stack) -> None:
    failed = client(stack, "lambda").invoke(FunctionName="EntitlementCheckFunction", Payload=b"[]")

    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorType"]
    with pytest.raises(ClientError, match="Function not found"):
        client(stack, "lambda").invoke(FunctionName="nobody")


def test_what_is_not_played_is_answered_with_a_sentence(stack: Stack) -> None:
    with pytest.raises(ClientError, match="not played on one machine"):
        client(stack, "cloudformation").delete_stack(StackName="marketplace-saas")
    with pytest.raises(ClientError, match="not played on one machine"):
        client(stack, "dynamodb").list_imports()
