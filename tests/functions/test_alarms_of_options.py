"""The alarms that exist with an option of the template alone, raised by what the functions really emit. Those of the
seller's role are in test_seller_account.py."""

from types import ModuleType
from typing import Any

import pytest

from functions.reconcile_usage import app as reconcile_usage
from functions.resolve_customer import app as resolve_customer
from functions.seller_api import app as seller_api
from marketplace.platform.clock import DAY, HOUR
from marketplace.reconcile.schedule import ScheduledReconciliation
from tests.support.alarms import Emitted, emitted, is_raised, of_stage, under_its_own_name
from tests.support.deployed import Context, http_event
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.translated import of_type
from tests.support.world import NOON, World
from tools import template

TODAY = NOON - NOON % DAY
NEXT_MORNING = TODAY + DAY + 7 * HOUR


class Invocation(Context):
    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return self.seconds * 1000


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> World:
    """A buyer whose usage of one hour was metered, in a deployment whose function reconciles it."""
    world = World.on(MemoryDynamoDB())
    world.report(world.subscribe(product="ca2payasyougoproduct00000"), 7)
    world.to_due()
    world.meter()
    under_its_own_name(monkeypatch, reconcile_usage.metrics, "ReconcileUsageFunction")
    monkeypatch.setattr(
        reconcile_usage,
        "reconciliation",
        lambda: ScheduledReconciliation(
            usage=world.usage_table(),
            subscriptions=world.table(world.tables.subscriptions),
            trail=client("cloudtrail", world.marketplace),
            bus=world.bus,
            clock=world.time.now,
            sleep=lambda _: None,
            senders=None,
        ),
    )
    return world


def invoked(capture: pytest.CaptureFixture[str], seconds: int = 900) -> list[Any]:
    capture.readouterr()
    reconcile_usage.lambda_handler({}, Invocation(seconds))
    return emitted(capture.readouterr().out)


def test_what_agrees_raises_no_alarm(metered: World, capsys: pytest.CaptureFixture[str]) -> None:
    metered.time.to(NEXT_MORNING)
    period = invoked(capsys)
    assert not is_raised("UsageDifferencesAlarm", [period])
    assert not is_raised("UsageReconciliationBehindAlarm", [period] * 3)


@pytest.mark.parametrize("kind", ["only_ours", "only_theirs", "other_quantity"])
def test_a_difference_raises_an_alarm(metered: World, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    market = metered.marketplace
    market.differences.plant([{"kind": kind, "where": ["trail"]}], market.ledger, market.registry, market.settings)
    metered.time.to(NEXT_MORNING)
    assert is_raised("UsageDifferencesAlarm", [invoked(capsys)])


def test_days_that_no_run_has_time_for_raise_an_alarm(metered: World, capsys: pytest.CaptureFixture[str]) -> None:
    metered.time.to(NEXT_MORNING)
    invoked(capsys)
    metered.time.advance(3 * DAY)
    assert is_raised("UsageReconciliationBehindAlarm", [invoked(capsys, 60) for _ in range(3)])


@pytest.mark.parametrize(
    ("app", "function", "alarm"),
    [
        (resolve_customer, "ResolveCustomerFunction", "RegistrationFailedAlarm"),
        (seller_api, "SellerApiFunction", "RequestFailedAlarm"),
    ],
)
def test_a_new_version_that_fails_raises_the_alarm_that_takes_it_back(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    app: ModuleType,
    function: str,
    alarm: str,
) -> None:
    def broken() -> None:
        raise RuntimeError("no such table")

    under_its_own_name(monkeypatch, app.metrics, function)
    monkeypatch.setattr(app, "routes", broken)
    capsys.readouterr()
    app.lambda_handler(http_event("GET /register"), Context())
    assert is_raised(alarm, [emitted(capsys.readouterr().out)])


def refused_by_waf(requests: int) -> list[Emitted]:
    """What AWS WAF counts in five minutes with so many requests of one client where the limit is the default: under
    the names of the rule and of its web ACL (AWS WAF Developer Guide, "AWS WAF metrics and dimensions")."""
    acl = of_type("AWS::WAFv2::WebACL")["BuyersWebAcl"]
    (rule,) = acl["Rules"]
    assert rule["Statement"]["RateBasedStatement"]["EvaluationWindowSec"] == 300
    limit = template.load()["Parameters"][rule["Statement"]["RateBasedStatement"]["Limit"]["Ref"]]["Default"]
    named = "/".join(of_stage(one["VisibilityConfig"]["MetricName"]) for one in (acl, rule))
    return [Emitted(named, "BlockedRequests", requests - limit)] if requests > limit else []


@pytest.mark.parametrize(
    ("requests", "raised"),
    [
        ([300, 300, 300], False),
        ([5000, 5000], False),
        ([5000, 5000, 20], False),
        ([301, 301, 301], True),
        ([5000, 5000, 5000], True),
        ([20, 301, 900, 500], True),
    ],
)
def test_a_client_that_waf_keeps_out_for_a_quarter_of_an_hour_raises_an_alarm(
    requests: list[int], raised: bool
) -> None:
    assert is_raised("BuyersBlockedAlarm", [refused_by_waf(count) for count in requests]) is raised


def test_two_stacks_of_an_account_count_apart() -> None:
    acl = of_type("AWS::WAFv2::WebACL")["BuyersWebAcl"]
    id_of_the_stack = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    for one in (acl, *acl["Rules"]):
        text, values = one["VisibilityConfig"]["MetricName"]["Fn::Sub"]
        assert "${Unique}" in text
        assert values == {"Unique": id_of_the_stack}
