"""The function as Lambda calls it: real SQS event shapes, a real queue, table and bus (on moto), the emulator's
GetEntitlements."""

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from functions.entitlement_check import app
from marketplace.dynamodb.table import Table
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING, USAGE_STOPPED
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform import clients
from marketplace.platform.clock import HOUR
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.waiting import Kind
from marketplace_emulator import Clock as EmulatorClock
from marketplace_emulator import Marketplace
from tests.functions.conftest import Queues
from tests.support import lasting
from tests.support.in_process import client as in_process_client
from tests.support.lifecycle_world import AGREEMENT, EVENTS, LEGACY, LICENSED, QueueClient, Timeline, at, sample
from tests.support.tables import Tables

HISTORY = [
    "eventbridge_purchase_agreement_created",
    "eventbridge_license_updated",
    "eventbridge_purchase_agreement_ended",
    "eventbridge_license_deprovisioned",
]
NOTIFICATIONS = sorted(
    path.stem for pattern in ("eventbridge_*", "sns_*", "request_*") for path in EVENTS.glob(f"{pattern}.json")
)


class Context:
    """What the handler asks of Lambda's context."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "test"

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> float:
        return self.seconds * 1000


@dataclass
class Deployment:
    dynamodb: Any
    sqs: Any
    tables: Tables
    queues: Queues
    time: Timeline
    marketplace: Marketplace

    def invoke(self, records: list[dict[str, Any]], seconds: float = 60.0) -> list[str]:
        """The ids of the messages that are given back."""
        answer = app.lambda_handler({"Records": records}, Context(seconds))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def subscription(self, subscription_id: str = LICENSED) -> Subscription | None:
        stored = SubscriptionStore(Table(self.dynamodb, self.tables.subscriptions)).read(subscription_id)
        return None if stored is None else stored.subscription

    def heard(self) -> list[dict[str, Any]]:
        """What reached the seller's queue behind the bus, and is taken from it."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.queues.heard, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queues.heard, ReceiptHandle=message["ReceiptHandle"])
        return found

    def asked(self) -> list[dict[str, Any]]:
        """The records of what the read-back queue holds and shows, taken from it as Lambda hands them over."""
        shape, found = sample("request_read_back")[0], []
        url = self.queues.read_backs
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append({**shape, "messageId": message["MessageId"], "body": message["Body"]})
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def forget(self) -> None:
        for item in self.dynamodb.scan(TableName=self.tables.subscriptions)["Items"]:
            key = {"pk": item["pk"], "sk": item["sk"]}
            self.dynamodb.delete_item(TableName=self.tables.subscriptions, Key=key)


@pytest.fixture
def deployment(
    moto_dynamodb: Any, moto_tables: Tables, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    time = Timeline()
    marketplace = Marketplace(clock=EmulatorClock.frozen(time.now()))
    monkeypatch.setattr(app, "utc_now", time.now)
    monkeypatch.setattr(clients, "entitlement", lambda *_: in_process_client("marketplace-entitlement", marketplace))
    monkeypatch.setattr(clients, "agreement", lambda *_: in_process_client("marketplace-agreement", marketplace))
    yield Deployment(moto_dynamodb, lasting.client("sqs"), moto_tables, queues, time, marketplace)
    for cached in (app.settings, app.messages):
        cached.cache_clear()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the function logs."""
    written = io.StringIO()
    monkeypatch.setattr(app.logger.registered_handler, "stream", written)
    return written


def metric_counts(output: str) -> dict[str, int]:
    """Metrics as CloudWatch reads them from the function's output."""
    found: dict[str, int] = {}
    for line in output.splitlines():
        content = json.loads(line) if line.startswith("{") else {}
        for described in content.get("_aws", {}).get("CloudWatchMetrics", ()):
            for metric in described["Metrics"]:
                found[metric["Name"]] = found.get(metric["Name"], 0) + int(sum(content[metric["Name"]]))
    return found


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_every_notification_is_handled(deployment: Deployment, name: str) -> None:
    assert deployment.invoke(sample(name)) == []


@pytest.mark.parametrize("name", [name for name in NOTIFICATIONS if name.startswith("request_")])
def test_every_request_is_done_for_a_subscription(deployment: Deployment, name: str) -> None:
    deployment.invoke(sample("eventbridge_license_updated"))
    assert deployment.invoke(sample(name)) == []


def test_the_captured_history_in_its_real_order(deployment: Deployment) -> None:
    for name in HISTORY:
        assert deployment.invoke(sample(name)) == []
    found = deployment.subscription()
    assert found is not None
    assert (found.status, found.activated_at) == ("closing", at("2026-08-20T14:24:23Z"))
    assert found.closing_deadline == at("2026-08-20T14:25:28Z") + HOUR
    heard = deployment.heard()
    assert [event["detail-type"] for event in heard] == ["Subscription Activated", "Subscription Closing"]
    assert {event["source"] for event in heard} == {"marketplace.saas"}


@pytest.mark.slow
@pytest.mark.parametrize("repeated", [False, True])
def test_the_captured_history_in_every_order(deployment: Deployment, repeated: bool) -> None:
    reached = set()
    for order in itertools.permutations(HISTORY):
        for name in [*order, *reversed(order)] if repeated else order:
            assert deployment.invoke(sample(name)) == []
        found = deployment.subscription()
        assert found is not None
        reached.add((found.status, found.activated_at, found.closing_deadline, found.agreement_ids))
        deployment.forget()
    activated_at, deadline = at("2026-08-20T14:24:23Z"), at("2026-08-20T14:25:28Z") + HOUR
    assert reached == {("closing", activated_at, deadline, (AGREEMENT,))}


def test_a_batch_is_handled_message_by_message(deployment: Deployment) -> None:
    assert deployment.invoke(sample("sqs_batch_eventbridge")) == []
    assert deployment.invoke(sample("sqs_batch_sns")) == []
    licensed, legacy = deployment.subscription(), deployment.subscription(LEGACY)
    assert licensed is not None
    assert legacy is not None
    assert (licensed.status, legacy.status) == ("closing", "ended")


def test_a_poison_message_is_given_back_alone(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    records = sample("sqs_batch_poison")
    assert deployment.invoke(records) == [records[1]["messageId"]]
    found = deployment.subscription()
    assert found is not None
    assert found.status == "active"
    assert metric_counts(capsys.readouterr().out)["NotificationFailed"] == 1
    assert "MalformedMessageError" in log.getvalue()
    assert "this is not JSON" not in log.getvalue()


def test_a_message_that_fails_waits_longer_each_time(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = QueueClient()
    monkeypatch.setattr(clients, "sqs", lambda: queue)
    record = sample("sqs_batch_poison")[1]
    for receive_count in range(1, 9):
        attributes = {**record["attributes"], "ApproximateReceiveCount": str(receive_count)}
        deployment.invoke([{**record, "attributes": attributes}])
    assert [seconds for _, seconds in queue.hidden] == [10, 20, 30, 60, 120, 180, 180, 0]


def test_messages_that_there_is_no_time_for_are_given_back_untouched_and_at_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = QueueClient()
    monkeypatch.setattr(clients, "sqs", lambda: queue)
    records = sample("sqs_batch_mixed")
    assert deployment.invoke(records, seconds=5) == [record["messageId"] for record in records]
    assert queue.hidden == [(record["receiptHandle"], 0) for record in records]
    assert deployment.subscription() is None


@pytest.mark.parametrize(
    ("name", "metric"), [("eventbridge_license_updated", "NotificationFailed"), ("request_read_back", "ReadBackFailed")]
)
def test_a_message_that_fails_is_put_back_into_its_own_queue_and_counted(
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    metric: str,
) -> None:
    used: list[str] = []

    class Queue:
        def change_message_visibility(self, **call: Any) -> None:
            used.append(call["QueueUrl"])

    monkeypatch.setattr(clients, "sqs", Queue)
    (record,) = sample(name)
    assert deployment.invoke([{**record, "body": "no JSON"}]) == [record["messageId"]]
    queues = deployment.queues
    assert used == [queues.notifications if metric == "NotificationFailed" else queues.read_backs]
    assert metric_counts(capsys.readouterr().out)[metric] == 1


def test_a_silent_get_entitlements_fails_no_message(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    purchase = deployment.marketplace.purchases.subscribe(provision=True)
    assert deployment.invoke([_delivered(deployment.marketplace)[-1]]) == []
    (question,) = deployment.asked()
    deployment.marketplace.faults.plan([{"fault": "throttle", "operation": "GetEntitlements"}])
    assert deployment.invoke([question]) == []
    counts = metric_counts(capsys.readouterr().out)
    assert (counts["ReadBackPostponed"], counts.get("ReadBackFailed")) == (1, None)
    assert deployment.asked() == []  # for a minute
    assert deployment.invoke([question]) == []
    heard = {event["detail-type"]: event["detail"] for event in deployment.heard()}
    assert heard["Entitlements Changed"]["after"]["seats"]["value"] == purchase.entitlements["seats"]


def test_a_buyers_life_as_the_emulator_tells_it(deployment: Deployment) -> None:
    market = deployment.marketplace
    purchase = market.purchases.subscribe(provision=True, entitlements={"seats": 5})
    market.purchases.amend(purchase.id, entitlements={"seats": 9})
    market.clock.advance(100)
    market.purchases.renew(purchase.id)
    market.clock.advance(100)
    market.purchases.cancel(purchase.id)
    market.clock.advance(100)
    records = _delivered(market)
    deployment.time.seconds = int(market.clock.timestamp())
    assert deployment.invoke(records) == []
    (subscription_id,) = {event["detail"]["subscription_id"] for event in deployment.heard()}
    found = deployment.subscription(subscription_id)
    assert found is not None
    assert found.status == "closing"
    assert len(found.agreement_ids) == 2


@pytest.mark.slow
def test_the_log_names_no_account(deployment: Deployment, log: io.StringIO) -> None:
    for name in NOTIFICATIONS:
        deployment.invoke(sample(name))
    assert "message handled" in log.getvalue()
    for secret in ("111122223333", "222233334444", "X01EXAMPLEX"):
        assert secret not in log.getvalue()


def test_the_schedules_message_publishes_how_long_the_oldest_has_waited(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    deployment.invoke(sample("sns_entitlement_updated"))
    deployment.invoke(sample("eventbridge_purchase_agreement_created"))
    (record,) = sample("eventbridge_unknown_type")
    nobodys = {**json.loads(record["body"]), "detail": {}}
    deployment.invoke([{**record, "body": json.dumps(nobodys)}])
    deployment.time.seconds += 3 * HOUR
    capsys.readouterr()
    log.truncate(0)
    assert deployment.invoke(sample("request_measure_waiting")) == []
    counts = metric_counts(capsys.readouterr().out)
    assert counts.pop("WaitingMeasured") == 1
    assert set(counts) == {*GAUGE_OF_WAITING.values(), USAGE_STOPPED}
    idle: tuple[Kind, ...] = ("account", "event", "correction", "reconciliation")
    assert {counts.pop(gauge) for gauge in (USAGE_STOPPED, *(GAUGE_OF_WAITING[kind] for kind in idle))} == {0}
    assert all(3 * HOUR <= seconds < 4 * HOUR for seconds in counts.values())
    assert f'"oldest_registration":"SUB#{LEGACY}"' in log.getvalue().replace(" ", "")


def test_the_gauges_are_published_when_nothing_waits_too(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alarm ends by a value of 0, not by silence."""
    deployment.invoke(sample("request_measure_waiting"))
    assert metric_counts(capsys.readouterr().out) == {
        "WaitingMeasured": 1,
        **dict.fromkeys((*GAUGE_OF_WAITING.values(), USAGE_STOPPED), 0),
    }


def test_unknown_types_are_counted(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    deployment.invoke(sample("sqs_batch_mixed"))
    deployment.invoke(deployment.asked())
    counts = metric_counts(capsys.readouterr().out)
    # The emulator sells none of the samples' products, so it refuses to name their entitlements.
    assert (counts["UnknownNotification"], counts["EntitlementsRefused"]) == (1, 3)


@pytest.mark.parametrize("denied", [[], ["GetAgreementEntitlements", "SearchAgreements"]])
def test_the_end_of_another_product_is_nobodys_alarm(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], denied: list[str]
) -> None:
    monkeypatch.setenv("PRODUCT_CODES", "ca2payasyougoproduct00000")
    app.settings.cache_clear()
    market = deployment.marketplace
    market.settings.access_denied = denied
    buyer: dict[str, Any] = {"account_id": "111122223333", "provision": True}
    market.purchases.subscribe("ca2payasyougoproduct00000", **buyer)
    other = market.purchases.subscribe("ca1contractandconsumption", **buyer)
    market.clock.advance(100)
    market.purchases.cancel(other.id)
    market.clock.advance(100)
    assert deployment.invoke(_delivered(market)) == []
    deployment.invoke(deployment.asked())
    counts = metric_counts(capsys.readouterr().out)
    assert counts.get("AmbiguousAgreement") is None
    assert counts.get("UnknownNotification") is None
    assert counts["OtherProductNotification"] >= 2


def test_what_the_sellers_account_buys_is_counted_and_logged_as_nothing_to_do(
    deployment: Deployment, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("created", "amended", "ended", "ending"):
        (record,) = sample(f"eventbridge_purchase_agreement_{name}")
        deployment.invoke([{**record, "body": record["body"].replace("Proposer", "Acceptor")}])
    counts = metric_counts(capsys.readouterr().out)
    assert (counts["OwnPurchaseNotification"], counts.get("UnknownNotification")) == (4, None)
    assert '"level":"WARNING"' not in log.getvalue()


def test_the_handler_can_be_imported_without_any_environment() -> None:
    assert callable(app.lambda_handler)


def _delivered(marketplace: Marketplace) -> list[dict[str, Any]]:
    """The emulator's notifications so far, as records of an SQS event."""
    shape = sample("eventbridge_license_updated")[0]
    return [
        {**shape, "messageId": f"message-{delivery.seq}", "body": json.dumps(delivery.notification.body)}
        for delivery in marketplace.outbox.deliveries()
    ]
