"""The schedule's function as Lambda runs it: metered, counted, told, and nothing of the buyers in the logs."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest

from functions.meter_usage import app
from marketplace.metering import report
from marketplace.metering.api import MeteringApi
from marketplace.metering.metrics import METRIC_OF_OUTCOME
from marketplace.platform import clients, clock
from marketplace.platform.clock import HOUR
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.model import Subscription
from tests.functions.conftest import Queues
from tests.support import lasting
from tests.support.alarms import Emitted, emitted, is_raised, under_its_own_name
from tests.support.calls import Calls
from tests.support.deployed import Context, sample
from tests.support.in_process import client as in_process_client
from tests.support.tables import Tables
from tests.support.world import NOON, World


class LambdaContext(Context):
    """What the function uses of Lambda's context."""

    function_name = "meter_usage"

    def __init__(self) -> None:
        self.milliseconds = 900_000

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass
class Deployment:
    """The function, what it talks to, and what it leaves on its standard output."""

    world: World
    calls: Calls
    log: StringIO
    queues: Queues
    context: LambdaContext
    capture: pytest.CaptureFixture[str]
    printed: str = ""

    def run(self, event: dict[str, Any] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = app.lambda_handler(event or sample("schedule"), self.context)
        return answer

    def metrics(self) -> dict[str, float]:
        """The metrics since the last look, from the embedded metric format that CloudWatch reads."""
        out = self.capture.readouterr().out
        self.printed += out
        found: dict[str, float] = {}
        for line in out.splitlines():
            emitted = json.loads(line)
            (directive,) = emitted["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "MarketplaceSaaS"
            for metric in directive["Metrics"]:
                (value,) = emitted[metric["Name"]]
                found[metric["Name"]] = value
        return found

    def bodies(self, url: str) -> list[dict[str, Any]]:
        received = lasting.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def forget() -> None:
    for cached in (app.settings, app.metering, app.heartbeat):
        cached.cache_clear()


@pytest.fixture
def deployment(
    monkeypatch: pytest.MonkeyPatch,
    moto_dynamodb: Any,
    moto_tables: Tables,
    queues: Queues,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Deployment]:
    world = World(moto_dynamodb, moto_tables)
    monkeypatch.setenv("METERING_CALLS_PER_SECOND", "100")
    monkeypatch.setattr(app.metrics.provider, "namespace", "MarketplaceSaaS")
    calls = Calls()
    made = clients.dynamodb
    monkeypatch.setattr(clients, "dynamodb", lambda: calls.wrap(made()))
    monkeypatch.setattr(
        clients,
        "metering_without_retries",
        lambda region, **_: calls.wrap(in_process_client("meteringmarketplace", world.marketplace, region)),
    )
    monkeypatch.setattr(clock, "utc_now", world.time.now)
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=world.time.monotonic, sleep=world.time.sleep))
    log = StringIO()
    monkeypatch.setattr(app.logger.registered_handler, "stream", log)
    forget()
    yield Deployment(world, calls, log, queues, LambdaContext(), capsys)
    forget()


def due(world: World, count: int = 3) -> list[Subscription]:
    buyers = [world.subscribe(f"4444{n:08d}") for n in range(count)]
    world.report_all([world.usage(buyer, 7) for buyer in buyers])
    world.to_due()
    return buyers


def test_usage_that_is_due_is_metered_and_counted(deployment: Deployment) -> None:
    due(deployment.world)
    answer = deployment.run()
    assert answer["records"] == {"metered": 3}
    assert answer["units"] == {"metered": 21}
    assert sum(deployment.world.billed().values()) == 21
    metrics = deployment.metrics()
    assert metrics["UsageMetered"] == 3
    assert metrics["MeteringCalls"] == 1
    assert set(metrics) >= set(METRIC_OF_OUTCOME.values())
    assert {name for name, value in metrics.items() if value} == {"UsageMetered", "MeteredUnits", "MeteringCalls"}


def test_a_message_before_a_closing_deadline_is_a_run_like_any_other(deployment: Deployment) -> None:
    due(deployment.world)
    answer = app.lambda_handler(sample("metering_run"), deployment.context)
    assert answer["records"] == {"metered": 3}


def test_an_idle_run_still_reports(deployment: Deployment) -> None:
    """An alarm on missing data needs a value from every run."""
    assert deployment.run()["due"] == 0
    metrics = deployment.metrics()
    assert not any(metrics.values())
    assert {"UnitsAtRisk", "OldestUnsettledAgeSeconds", "BreakerOpened", "MeteringErrors"} <= set(metrics)


def test_an_outage_shows_in_the_metrics(deployment: Deployment) -> None:
    due(deployment.world)
    deployment.world.time.to(NOON + 20 * HOUR)
    deployment.world.marketplace.faults.plan([{"fault": "access_denied", "times": None}])
    deployment.run()
    metrics = deployment.metrics()
    assert (metrics["BreakerOpened"], metrics["MeteringErrors"], metrics["UnitsAtRisk"]) == (1, 5, 21)
    assert metrics["OldestUnsettledAgeSeconds"] >= 18 * HOUR


def test_the_seller_hears_of_usage_that_cannot_be_billed(deployment: Deployment) -> None:
    (buyer,) = due(deployment.world, 1)
    deployment.world.time.to(NOON + 25 * HOUR)
    deployment.run()
    assert deployment.metrics()["UsageUnbillable"] == 1
    (event,) = deployment.bodies(deployment.queues.heard)
    assert (event["source"], event["detail-type"]) == ("marketplace.saas", "Usage Not Billable")
    assert event["detail"]["subscription_id"] == buyer.id
    assert event["detail"]["quantity"] == 7


def test_held_usage_has_its_subscription_looked_at(deployment: Deployment) -> None:
    (buyer,) = due(deployment.world, 1)
    deployment.world.marketplace.purchases.suspend(buyer.account_id or "")
    deployment.run()
    assert deployment.metrics()["UsageHeld"] == 1
    (message,) = deployment.bodies(deployment.queues.notifications)
    assert message["subscription_id"] == buyer.id
    assert message["reason"] == "not_subscribed"
    assert message["since"] == deployment.world.time.seconds()


def test_what_is_not_metered_is_logged_by_its_place_and_reason(deployment: Deployment) -> None:
    (buyer,) = due(deployment.world, 1)
    deployment.world.marketplace.purchases.suspend(buyer.account_id or "")
    deployment.run()
    (line,) = [line for line in deployment.lines() if line["message"] == "usage not metered"]
    assert line["level"] == "WARNING"
    assert {name: line[name] for name in ("subscription_id", "hour", "dimension", "quantity", "state", "reason")} == {
        "subscription_id": buyer.id,
        "hour": "2026-11-18T12:00:00Z",
        "dimension": "api_calls",
        "quantity": 7,
        "state": "held",
        "reason": "CustomerNotSubscribed",
    }


def test_a_run_logs_so_many_causes_and_no_more(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_NOTES", 3)
    due(deployment.world, 5)
    deployment.world.time.to(NOON + 25 * HOUR)
    deployment.run()
    assert deployment.metrics()["UsageUnbillable"] == 5
    assert [line["message"] for line in deployment.lines()].count("usage not metered") == 3


def test_a_run_ends_before_lambda_ends_it(deployment: Deployment) -> None:
    due(deployment.world, 2)
    deployment.context.milliseconds = 29_000
    answer = deployment.run()
    assert (answer["out_of_time"], answer["calls"], answer["left"]) == (True, 0, 2)


def test_without_a_heartbeat_dimension_idle_hours_stay_empty(deployment: Deployment) -> None:
    deployment.world.subscribe()
    deployment.world.to_due()
    deployment.run()
    assert deployment.world.stored() == []
    assert "HeartbeatRecords" not in deployment.metrics()


def test_with_a_heartbeat_dimension_idle_hours_are_metered_as_zero(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTBEAT_DIMENSION", "api_calls")
    buyer = deployment.world.subscribe()
    deployment.world.to_due()
    deployment.run()
    metrics = deployment.metrics()
    assert (metrics["HeartbeatRecords"], metrics["HeartbeatUnfinished"]) == (1, 0)
    deployment.world.time.advance(15 * 60)
    assert deployment.run()["records"] == {"metered": 1}
    assert deployment.world.billed() == {(buyer.id, "api_calls"): 0}


def test_usage_is_metered_before_idle_hours_are_looked_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many subscriptions there are to look at, and however little time is left for them."""
    monkeypatch.setenv("HEARTBEAT_DIMENSION", "storage_gb_hours")
    due(deployment.world, 3)
    deployment.world.subscribe("555500000000")
    deployment.context.milliseconds = 59_000
    assert deployment.run()["records"] == {"metered": 3}
    metrics = deployment.metrics()
    assert (metrics["HeartbeatRecords"], metrics["HeartbeatUnfinished"]) == (0, 1)
    deployment.context.milliseconds = 900_000
    deployment.run()
    assert deployment.metrics()["HeartbeatUnfinished"] == 0


def test_a_heartbeat_that_fails_stops_no_metering(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTBEAT_DIMENSION", "api_calls")
    due(deployment.world)
    deployment.calls.fail("get_item")
    assert deployment.run()["records"] == {"metered": 3}
    assert deployment.metrics()["HeartbeatFailed"] == 1


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_a_store_that_does_not_answer_fails_the_function(deployment: Deployment) -> None:
    """Lambda's own Errors metric and the schedule's retry take it from there."""
    due(deployment.world)
    deployment.calls.fail("query")
    with pytest.raises(AwsError):
        deployment.run()
    assert deployment.run()["records"] == {"metered": 3}


def test_a_fault_of_our_own_is_reported_and_then_raised(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(deployment.world, 2)
    with monkeypatch.context() as patch:
        patch.setattr(MeteringApi, "send", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            deployment.run()
    metrics = deployment.metrics()
    assert (metrics["MeteringErrors"], metrics["UsageMetered"]) == (1, 0)
    assert deployment.run()["records"] == {"metered": 2}


def test_an_item_that_is_no_metering_record_is_counted_and_named(deployment: Deployment) -> None:
    due(deployment.world, 2)
    record = deployment.world.stored()[0]
    key = {name: {"S": record[name]} for name in ("pk", "sk")}
    deployment.world.dynamodb.update_item(
        TableName=deployment.world.tables.usage, Key=key, UpdateExpression="REMOVE quantity"
    )
    assert deployment.run()["records"] == {"metered": 1}
    assert deployment.metrics()["UsageUnreadable"] == 1
    (line,) = [line for line in deployment.lines() if line["message"] == "unreadable metering record"]
    assert (line["level"], line["pk"], line["sk"]) == ("ERROR", record["pk"], record["sk"])


MESSAGE = {"Records": [{"messageId": "m-1", "body": "{}", "eventSource": "aws:sqs"}]}
"""What the metering queue brings shortly before a subscription's closing deadline."""


def test_a_message_of_the_metering_queue_is_a_run(deployment: Deployment) -> None:
    due(deployment.world)
    assert deployment.run(MESSAGE)["records"] == {"metered": 3}


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
@pytest.mark.parametrize("trouble", ["AWS", "the store", "time"])
def test_a_message_whose_run_was_stopped_comes_back(deployment: Deployment, trouble: str) -> None:
    """The deadline that it stands for is minutes away; the schedule is content with its next run."""
    due(deployment.world)
    if trouble == "AWS":
        deployment.world.marketplace.faults.plan([{"fault": "access_denied", "times": None}])
    elif trouble == "the store":
        deployment.calls.fail("query")
    else:
        deployment.context.milliseconds = 29_000
    with pytest.raises(AwsError):
        deployment.run(MESSAGE)
    deployment.world.marketplace.faults.clear()
    deployment.context.milliseconds = 900_000
    assert deployment.run(MESSAGE)["records"] == {"metered": 3}


def test_a_message_whose_run_found_only_bad_records_is_done(deployment: Deployment) -> None:
    (buyer,) = due(deployment.world, 1)
    deployment.world.marketplace.purchases.suspend(buyer.account_id or "")
    assert deployment.run(MESSAGE)["records"] == {"held": 1}


def test_the_region_is_part_of_the_seal(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS removes duplicates within a region only: what is in doubt in one is not sent to another."""
    due(deployment.world, 1)
    deployment.world.marketplace.faults.plan([{"fault": "drop_after", "times": None}])
    deployment.run()
    assert deployment.world.stored()[0]["seal"].endswith("@us-east-1")
    deployment.world.marketplace.faults.clear()
    monkeypatch.setenv("METERING_REGION", "eu-west-1")
    forget()
    assert deployment.run()["calls"] == 0
    assert deployment.metrics()["UsageInOtherRegion"] == 1
    assert sum(deployment.world.billed().values()) == 7


def test_the_gauges_last_as_long_as_the_trouble(deployment: Deployment) -> None:
    (buyer,) = due(deployment.world, 1)
    deployment.world.marketplace.purchases.suspend(buyer.account_id or "")
    for _ in range(3):
        deployment.run()
        metrics = deployment.metrics()
        assert (metrics["UnitsHeld"], metrics["RecordsHeld"], metrics["UnitsAtRisk"]) == (7, 1, 0)
        deployment.world.time.advance(900)
    assert metrics["UsageHeld"] == 0


def test_one_container_serves_many_runs(deployment: Deployment) -> None:
    for hour in range(3):
        due(deployment.world, 2)
        assert deployment.run()["records"] == {"metered": 2}, hour
    assert deployment.metrics()["UsageMetered"] == 2


def test_logs_and_metrics_name_no_buyer(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTBEAT_DIMENSION", "api_calls")
    buyers = sorted(due(deployment.world, 4), key=lambda buyer: buyer.id)  # as they stand in the call
    deployment.world.marketplace.purchases.suspend(buyers[0].account_id or "")
    deployment.world.marketplace.faults.plan([{"fault": "duplicate", "indexes": [1]}])
    deployment.run()
    deployment.calls.fail("get_item")
    deployment.world.marketplace.faults.plan([{"fault": "access_denied", "times": None}])
    due(deployment.world, 2)
    deployment.run()
    deployment.metrics()
    lines = deployment.lines()
    assert Counter(line["message"] for line in lines) == {
        "usage not metered": 2,
        "metering run": 2,
        "heartbeat failed": 1,
    }
    told = deployment.log.getvalue() + deployment.printed
    arns = [buyer.license_arn or "" for buyer in buyers]
    secrets = {"testing", "license-manager", *(buyer.account_id or "" for buyer in buyers)}
    for secret in secrets | {arn.rpartition(":")[2] for arn in arns}:
        assert secret not in told


FAULTS = ("not_subscribed", "duplicate", "unprocessed", "omit", "unknown_status", "timeout_after")


@pytest.mark.parametrize("fault", FAULTS)
def test_no_outcome_is_without_a_metric(deployment: Deployment, fault: str) -> None:
    due(deployment.world, 1)
    deployment.world.marketplace.settings.update({"identical_resend": "duplicate"})
    deployment.world.marketplace.faults.plan([{"fault": fault}])
    answer = deployment.run()
    metrics = deployment.metrics()
    for outcome, count in answer["records"].items():
        assert metrics[METRIC_OF_OUTCOME[outcome]] == count


def emitted_by(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[Emitted]:
    """The metrics of one run, under the names that the template gives them."""
    under_its_own_name(monkeypatch, app.metrics, "MeterUsageFunction")
    deployment.capture.readouterr()
    deployment.run()
    return emitted(deployment.capture.readouterr().out)


def stops_metering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_ENABLED", "false")
    forget()


@pytest.mark.parametrize("event", [None, MESSAGE], ids=["schedule", "closing deadline"])
def test_a_deployment_that_does_not_meter_sends_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, event: dict[str, Any] | None
) -> None:
    due(deployment.world)
    stops_metering(monkeypatch)
    answer = deployment.run(event)
    assert (answer["calls"], answer["left"], answer["standing_units"]) == (0, 0, {"not_metered": 21})
    assert deployment.world.billed() == {}


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.slow
def test_usage_that_such_a_deployment_does_not_send_raises_an_alarm_until_it_meters_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    due(deployment.world, count)
    stops_metering(monkeypatch)
    deployment.world.time.to(NOON + 20 * HOUR)
    run = emitted_by(deployment, monkeypatch)
    alarms = ("UnitsNotMeteredAlarm", "UnitsAtRiskAlarm", "OldestUnsettledAgeSecondsAlarm")
    assert [is_raised(name, [run]) for name in alarms] == [True, False, False]
    monkeypatch.setenv("METERING_ENABLED", "true")
    forget()
    assert not is_raised("UnitsNotMeteredAlarm", [emitted_by(deployment, monkeypatch)])
    assert sum(deployment.world.billed().values()) == 7 * count


@pytest.mark.parametrize("hours", [1, 3, 30])
@pytest.mark.slow
def test_a_deployment_that_does_not_meter_never_fills_the_idle_hours_of_that_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setenv("HEARTBEAT_DIMENSION", "api_calls")
    stops_metering(monkeypatch)
    deployment.world.subscribe()
    for _ in range(hours):
        deployment.world.time.advance(HOUR)
        deployment.run()
    assert (deployment.metrics()["HeartbeatRecords"], deployment.world.stored()) == (0, [])
    monkeypatch.setenv("METERING_ENABLED", "true")
    forget()
    running = clock.hour_of(deployment.world.time.seconds())
    deployment.world.time.advance(2 * HOUR + 15 * 60)
    deployment.run()
    assert [record["hour"] for record in deployment.world.stored()] == [running + HOUR]
