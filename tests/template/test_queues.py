"""The queues: what a message waits for, how often it is received, and when one that fails is told."""

from typing import Any

import pytest

from marketplace.ledger.deadlines import FINAL_RUN
from marketplace.lifecycle.sqs_batch import TIME_FOR_ONE, WAITS
from marketplace.platform.clock import HOUR, MINUTE
from marketplace.subscriptions.recheck import MAX_DELAY_SECONDS
from tests.rehearsal.parameters import at_least
from tests.rehearsal.rehearsal import rehearsed
from tests.support.translated import of_type
from tools import template

WORKED_BY = {
    "NotificationQueue": "EntitlementCheckFunction",
    "ReadBackQueue": "EntitlementCheckFunction",
    "MeteringQueue": "MeterUsageFunction",
}
GET_ENTITLEMENTS_A_SECOND = 20
"""AWS Marketplace's quota for an account (AWS Marketplace: entitlement service quotas)."""
QUICKEST_READING = 0.2
"""Seconds that one reading takes at least: GetEntitlements, and five requests to DynamoDB."""


def mapping_of(queue: str) -> dict[str, Any]:
    (mapping,) = (
        body
        for body in of_type("AWS::Lambda::EventSourceMapping").values()
        if body["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}
    )
    return mapping


def queue_of(name: str) -> dict[str, Any]:
    return of_type("AWS::SQS::Queue")[name]


def timeout_of(queue: str) -> int:
    return int(of_type("AWS::Lambda::Function")[WORKED_BY[queue]]["Timeout"])


def seconds_to_dead_letter(queue: str, handling: int) -> int:
    """How long after its first receive a message is in the dead-letter queue that fails whenever it is received.
    handling: seconds until it fails. At the function's timeout nobody sets its wait: the visibility timeout is it."""
    body = queue_of(queue)
    waits = (*WAITS, 0)
    assert body["RedrivePolicy"]["maxReceiveCount"] == len(waits)
    if handling >= timeout_of(queue):
        return len(waits) * int(body["VisibilityTimeout"])
    return sum(handling + wait for wait in waits)


def slowest(queue: str) -> int:
    """The same for a message that fails or times out as slowly as it can, each time in the slower way."""
    hidden, timeout = int(queue_of(queue)["VisibilityTimeout"]), timeout_of(queue)
    return sum(max(hidden, timeout + wait) for wait in (*WAITS, 0))


@pytest.mark.parametrize("queue", sorted(WORKED_BY))
def test_every_queue_has_its_function(queue: str) -> None:
    mapping = mapping_of(queue)
    assert mapping["FunctionName"] == {"Ref": WORKED_BY[queue]}
    assert len(of_type("AWS::Lambda::EventSourceMapping")) == len(WORKED_BY)
    assert queue_of(queue)["VisibilityTimeout"] >= timeout_of(queue)  # or Lambda refuses the mapping


@pytest.mark.parametrize("queue", sorted(WORKED_BY))
def test_no_message_is_received_without_being_begun(queue: str) -> None:
    """A receive is counted whether or not there is time for the message; so each has an invocation of its own."""
    mapping = mapping_of(queue)
    assert mapping["BatchSize"] == 1
    assert "MaximumBatchingWindowInSeconds" not in mapping
    assert timeout_of(queue) > TIME_FOR_ONE


@pytest.mark.parametrize("queue", ["NotificationQueue", "ReadBackQueue"])
def test_a_message_that_fails_is_in_the_dead_letter_queue_within_20_minutes(queue: str) -> None:
    assert mapping_of(queue)["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert slowest(queue) <= 20 * MINUTE
    assert seconds_to_dead_letter(queue, 0) >= 10 * MINUTE  # what is wrong for some minutes only dead-letters nothing


def test_what_fails_is_told_by_alarms() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    first, last = alarms["NotificationFailedAlarm"], alarms["DeadLetterQueueDepthAlarm"]
    assert (first["MetricName"], first["Statistic"], first["Threshold"]) == ("NotificationFailed", "Sum", 0)
    assert last["Dimensions"] == [
        {"Name": "QueueName", "Value": {"Fn::GetAtt": ["NotificationDeadLetterQueue", "QueueName"]}}
    ]
    assert slowest("NotificationQueue") + last["Period"] <= 20 * MINUTE
    for queue in WORKED_BY:
        assert alarms[f"{queue}AgeAlarm"]["Dimensions"] == [
            {"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}
        ]
        assert alarms[f"{queue}AgeAlarm"]["Threshold"] > MAX_DELAY_SECONDS


def test_the_runbook_names_the_times_that_follow_from_the_template() -> None:
    runbook = (template.ROOT / "docs" / "operations.md").read_text()
    quick, slow = (
        seconds // MINUTE for seconds in (seconds_to_dead_letter("NotificationQueue", 0), slowest("NotificationQueue"))
    )
    receives = queue_of("NotificationQueue")["RedrivePolicy"]["maxReceiveCount"]
    assert f"a message failed {receives} times (within {quick} to {slow} minutes)" in runbook
    timing_out = seconds_to_dead_letter("NotificationQueue", timeout_of("NotificationQueue")) // MINUTE
    assert runbook.count(f"| {timing_out} minutes until the dead-letter queue |") == 2


def test_reading_back_leaves_the_seller_api_a_share_of_the_quota() -> None:
    concurrency = mapping_of("ReadBackQueue")["ScalingConfig"]["MaximumConcurrency"]
    assert concurrency / QUICKEST_READING <= 0.75 * GET_ENTITLEMENTS_A_SECOND


def test_a_run_before_a_deadline_can_go_beside_a_scheduled_one() -> None:
    """Nothing limits the function by default, so the mapping's own limit is the only one."""
    concurrency = mapping_of("MeteringQueue")["ScalingConfig"]["MaximumConcurrency"]
    assert concurrency >= 2
    reserved = template.load()["Parameters"]["MeteringReservedConcurrency"]["Default"]
    assert (
        rehearsed(template.load(), at_least(template.load()))
        .of("AWS::Lambda::Function")["MeterUsageFunction"]
        .get("ReservedConcurrentExecutions", concurrency)
        >= concurrency
    )
    assert reserved == 0  # a new account's quota leaves nothing to reserve


def test_a_metering_run_that_comes_too_late_is_not_kept() -> None:
    queue = queue_of("MeteringQueue")
    assert "RedrivePolicy" not in queue
    assert MAX_DELAY_SECONDS + FINAL_RUN < queue["MessageRetentionPeriod"] <= HOUR


def test_the_daily_reconciliation_goes_to_the_queue_of_questions() -> None:
    (target,) = of_type("AWS::Events::Rule")["ReconciliationSchedule"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["ReadBackQueue", "Arn"]}
