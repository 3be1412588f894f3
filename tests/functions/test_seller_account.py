"""The functions of a deployment whose product another account published: they call AWS Marketplace as its role, and
what they can't do without it is done later."""

import json
from collections.abc import Iterator
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest

from functions.entitlement_check import app as entitlement_check
from functions.meter_usage import app as meter_usage
from functions.resolve_customer import app as resolve_customer
from functions.seller_api import app as seller_api
from marketplace.metering.run import MeteringRun
from marketplace.platform import clock
from marketplace.platform.clock import HOUR, MINUTE
from tests.functions.conftest import Queues
from tests.functions.test_meter_usage import LambdaContext
from tests.support import lasting
from tests.support.alarms import emitted, is_raised, under_its_own_name
from tests.support.deployed import Deployed, http_event, sample
from tests.support.seller_account import ACCOUNT, EXTERNAL_ID, SECRET, TOKEN, SellerAccount, Sts, refused
from tests.support.tables import Tables
from tests.support.world import World

pytestmark = pytest.mark.slow

APPS = {
    "ResolveCustomerFunction": resolve_customer,
    "MeterUsageFunction": meter_usage,
    "EntitlementCheckFunction": entitlement_check,
    "SellerApiFunction": seller_api,
}


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for function, app in APPS.items():
        under_its_own_name(monkeypatch, app.metrics, function)


@pytest.fixture(autouse=True)
def own_loggers() -> Iterator[None]:
    """A logger outlives its test, with the account in whose name it speaks."""
    yield
    for app in APPS.values():
        app.logger.remove_keys(["seller_account"])


class Metering:
    """The metering function over a world of records that are due, three batches of them."""

    def __init__(self, world: World, seller: SellerAccount, log: StringIO) -> None:
        self.world, self.seller, self.log = world, seller, log
        self.buyers = [world.subscribe(f"4444{n:08d}") for n in range(60)]
        world.report_all([world.usage(buyer, 7) for buyer in self.buyers])
        world.to_due()

    def run(self) -> dict[str, Any]:
        answer: dict[str, Any] = meter_usage.lambda_handler(sample("schedule"), LambdaContext())
        return answer

    def billed(self) -> int:
        return sum(self.world.billed().values())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def metering(
    moto_dynamodb: Any, moto_tables: Tables, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Metering]:
    world = World(moto_dynamodb, moto_tables)
    seller = SellerAccount(Sts(world.time.now))
    seller.install(monkeypatch, world.marketplace)
    monkeypatch.setenv("METERING_CALLS_PER_SECOND", "100")
    monkeypatch.setattr(clock, "utc_now", world.time.now)
    monkeypatch.setattr(meter_usage, "time", SimpleNamespace(monotonic=world.time.monotonic, sleep=world.time.sleep))
    # One call after the other, so that it is known which of them meets the end of the credentials.
    monkeypatch.setattr(meter_usage, "MeteringRun", partial(MeteringRun, workers=1))
    log = StringIO()
    monkeypatch.setattr(meter_usage.logger.registered_handler, "stream", log)
    cached = (meter_usage.settings, meter_usage.metering, meter_usage.heartbeat)
    for one in cached:
        one.cache_clear()
    yield Metering(world, seller, log)
    for one in cached:
        one.cache_clear()


def test_a_run_whose_credentials_end_in_its_middle_goes_on_with_new_ones(metering: Metering) -> None:
    metering.seller.arrived = lambda: metering.world.time.advance(30 * MINUTE)
    assert metering.run()["records"] == {"metered": 60}
    assert metering.billed() == 60 * 7
    first, second = metering.seller.sts.sessions
    assert metering.seller.keys == [first, first, second]


def test_a_run_that_gets_no_new_credentials_leaves_the_rest_for_the_next_one(
    metering: Metering, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_the_second_call() -> None:
        if len(metering.seller.keys) == 2:
            metering.world.time.advance(HOUR)
            metering.seller.sts.failure = refused("ValidationError", 400)

    metering.seller.arrived = at_the_second_call
    answer = metering.run()
    assert answer["records"] == {"metered": 50}
    assert (answer["left"], answer["breaker_opened"]) == (10, True)
    assert answer["errors"] == {"SellerRoleError": 5}
    periods = [emitted(capsys.readouterr().out)]
    assert is_raised("MeterUsageSellerRoleAlarm", periods)
    assert is_raised("BreakerOpenedAlarm", periods)
    metering.seller.sts.failure = None
    assert metering.run()["records"] == {"metered": 10}
    assert metering.billed() == 60 * 7
    assert not is_raised("MeterUsageSellerRoleAlarm", [*periods, emitted(capsys.readouterr().out)])


@pytest.mark.parametrize("code", ["AccessDenied", "ValidationError", "InternalFailure"])
def test_without_the_role_nothing_is_sent_refused_or_in_doubt(metering: Metering, code: str) -> None:
    """A record in doubt must stay in its region; these were never sent, whatever STS calls its trouble."""
    metering.seller.sts.failure = refused(code, 400)
    assert metering.run()["records"] == {}
    assert metering.seller.keys == []
    assert {record["state"] for record in metering.world.stored() if "due_at" in record} == {"open"}
    metering.seller.sts.failure = None
    assert metering.run()["records"] == {"metered": 60}


def test_the_log_says_who_called_and_holds_no_secret(metering: Metering) -> None:
    metering.run()
    lines = metering.lines()
    assert {line["seller_account"] for line in lines} == {ACCOUNT}
    (assumed,) = [line for line in lines if line["message"] == "seller role assumed"]
    assert assumed["session"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/seller/marketplace-saas-dev"
    for secret in (SECRET, TOKEN, EXTERNAL_ID, *metering.seller.sts.sessions):
        assert secret not in metering.log.getvalue()


@pytest.fixture
def http(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> SellerAccount:
    """The HTTP functions call as the seller's role."""
    seller = SellerAccount(Sts())
    seller.install(monkeypatch, deployment.marketplace)
    return seller


def test_a_buyer_is_asked_to_try_again_and_can(
    deployment: Deployed, http: SellerAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    """The role is refused, not the buyer's token: whatever STS calls its trouble, the token is still good."""
    token = deployment.token()
    for code in ("AccessDenied", "ExpiredTokenException", "ValidationError"):
        http.sts.failure = refused(code, 400)
        assert deployment.register(token)["statusCode"] == 503
    assert is_raised("ResolveCustomerSellerRoleAlarm", [emitted(capsys.readouterr().out)])
    http.sts.failure = None
    assert deployment.register(token)["statusCode"] == 303
    assert http.keys == list(http.sts.sessions)
    assert {json.loads(line).get("seller_account") for line in deployment.logged.splitlines()} == {ACCOUNT}


def test_a_claim_and_entitlements_are_answered_as_well_as_they_can_be(
    deployment: Deployed, http: SellerAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    code = deployment.code(deployment.marketplace.purchases.subscribe("ca1contractandconsumption", provision=True))
    http.sts.failure = refused("AccessDenied")
    http.sts.sessions.clear()
    seller_api.routes.cache_clear()
    claim = http_event(
        "POST /registrations/{code}/claim",
        path={"code": code},
        headers={"content-type": "application/json"},
        body=json.dumps({"tenant_id": "acme"}),
    )
    claimed = deployment.seller(claim)
    assert claimed["statusCode"] == 200
    key = "GET /subscriptions/{subscription_id}/entitlements"
    path = {"subscription_id": json.loads(claimed["body"])["subscription_id"]}
    assert json.loads(deployment.seller(http_event(key, path=path))["body"])["stale"] is True
    assert is_raised("SellerApiSellerRoleAlarm", [emitted(capsys.readouterr().out)])
    http.sts.failure = None
    assert json.loads(deployment.seller(http_event(key, path=path))["body"])["stale"] is False


def test_a_question_that_can_not_be_asked_is_asked_later(
    moto_dynamodb: Any,
    moto_tables: Tables,
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World(moto_dynamodb, moto_tables)
    seller = SellerAccount(Sts())
    seller.install(monkeypatch, world.marketplace)
    sqs = lasting.client("sqs")
    asked = {"marketplace_request": "read_back", "subscription_id": world.subscribe().id, "attempt": 0}
    sqs.send_message(QueueUrl=queues.read_backs, MessageBody=json.dumps(asked))
    (message,) = sqs.receive_message(QueueUrl=queues.read_backs)["Messages"]
    record = {
        **sample("request_read_back")["Records"][0],
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
    }
    cached = (entitlement_check.settings, entitlement_check.messages)
    for one in cached:
        one.cache_clear()
    seller.sts.failure = refused("AccessDenied")
    log = StringIO()
    monkeypatch.setattr(entitlement_check.logger.registered_handler, "stream", log)
    assert entitlement_check.lambda_handler({"Records": [record]}, LambdaContext())["batchItemFailures"] == []
    assert json.loads(log.getvalue().splitlines()[-1])["outcome"] == "postponed"
    counts = sqs.get_queue_attributes(QueueUrl=queues.read_backs, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesDelayed"] == "1"
    assert is_raised("EntitlementCheckSellerRoleAlarm", [emitted(capsys.readouterr().out)])
    seller.sts.failure = None
    answer = entitlement_check.lambda_handler({"Records": [record]}, LambdaContext())
    assert (answer["batchItemFailures"], len(seller.keys)) == ([], 1)
    for one in cached:
        one.cache_clear()
