"""Every alarm on what the functions count is fired by what it is about, through the metrics that they really emit, and
none is fired by a calm day.

Alarms of the seller's own mistakes are fired in test_sellers_mistakes.py; those on AWS's own metrics name metrics and
dimensions that AWS documents.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from marketplace.commands.waiting import WaitingList
from marketplace.dynamodb import keys
from marketplace.lifecycle.agreement_api import MarketplaceAgreements
from marketplace.metering.api import MeteringApi
from marketplace.metering.heartbeat import Heartbeat
from marketplace.platform.clock import DAY, HOUR, MINUTE, iso
from marketplace.platform.errors import NoAnswerError, RefusedError
from marketplace.subscriptions.waiting import WITHOUT_END
from tests.functions.test_sellers_mistakes import NEW as OF_THE_SELLERS_MISTAKES
from tests.support.alarms import in_periods_of, is_told
from tests.support.deployed import sample
from tests.support.seller_days import CONTRACT, ENTITLEMENTS, PAY_AS_YOU_GO, forget
from tests.support.watched import QUARTER, Watched
from tools import template

# -- a calm day -------------------------------------------------------------------------------------------

ALARMS = {
    name
    for name, body in template.resources("AWS::CloudWatch::Alarm").items()
    if body["Properties"].get("Namespace") == "MarketplaceSaaS" and "Condition" not in body
}
"""Those of options are in test_alarms_of_options.py."""


def test_a_calm_day_raises_no_alarm(watched: Watched) -> None:
    """Buyers come, use and go; the reconciliation runs."""
    subscription = watched.seller.signs_up(bought := watched.buyer())
    for _ in range(4):
        watched.seller.reports(subscription, 5)
        watched.runs(4)
    watched.seller.asks("reconcile")
    watched.seller.purchases.cancel(bought.id)
    watched.runs(8)
    assert {name for name in ALARMS if watched.raised(name)} == set()
    assert {name for name in ALARMS if is_told(name, in_periods_of(name, watched.quarters)[:1])} == set()


# -- what fires each alarm ----------------------------------------------------------------------------------

type Trouble = Callable[[Watched], None]


def a_message_that_cannot_be_read(watched: Watched) -> None:
    watched.seller.arrives(watched.seller.queues.notifications, "no JSON")
    watched.runs()


def aws_gives_no_answer_about_entitlements(watched: Watched) -> None:
    watched.faults.plan([{"fault": "throttle", "operation": "GetEntitlements", "times": None}])
    watched.seller.signs_up(watched.buyer())
    watched.runs(5)


def aws_refuses_every_call_for_most_of_a_day(watched: Watched) -> None:
    watched.with_usage()
    watched.faults.plan([{"fault": "access_denied", "operation": "BatchMeterUsage", "times": None}])
    watched.time.advance(20 * HOUR)
    watched.runs()


def aws_refuses_every_call_for_longer_than_a_day(watched: Watched) -> None:
    watched.with_usage()
    watched.time.advance(26 * HOUR)
    watched.runs(2)


def a_dimension_that_the_listing_lacks(watched: Watched) -> None:
    watched.with_usage(dimension="misspelt")
    watched.runs()


def another_sender_meters_the_same_hour(watched: Watched) -> None:
    watched.with_usage()
    watched.faults.plan([{"fault": "duplicate"}])
    watched.runs()


def the_buyers_account_is_suspended(watched: Watched) -> None:
    watched.with_usage()
    watched.seller.purchases.suspend("111122223333")
    watched.runs()


def the_region_is_changed_while_an_answer_is_missing(watched: Watched) -> None:
    watched.with_usage()
    watched.faults.plan([{"fault": "drop_after", "operation": "BatchMeterUsage", "times": None}])
    watched.runs()
    watched.faults.clear()
    watched.patch.setenv("METERING_REGION", "eu-west-1")
    forget()
    watched.runs()


def an_item_loses_an_attribute(watched: Watched) -> None:
    watched.with_usage()
    world = watched.seller.world
    (record,) = world.stored()
    key = {name: {"S": record[name]} for name in ("pk", "sk")}
    world.dynamodb.update_item(TableName=world.tables.usage, Key=key, UpdateExpression="REMOVE quantity")
    watched.runs()


def aws_answers_with_a_new_error_code(watched: Watched) -> None:
    watched.with_usage()

    def refuse(*_: Any) -> None:
        raise RefusedError("SomethingNewException")

    watched.patch.setattr(MeteringApi, "send", refuse)
    watched.runs()


def aws_answers_with_a_new_status(watched: Watched) -> None:
    watched.with_usage()
    watched.faults.plan([{"fault": "unknown_status"}])
    watched.runs()


def answers_are_lost_on_three_days(watched: Watched) -> None:
    watched.seller.world.marketplace.settings.update({"identical_resend": "duplicate"})
    subscription = watched.seller.signs_up(watched.buyer())
    for _ in range(3):
        watched.look()
        watched.quarters += [[]] * (-len(watched.quarters) % 96)
        watched.seller.reports(subscription, 7)
        watched.time.advance(HOUR + 9 * MINUTE)
        watched.faults.plan([{"fault": "drop_after", "operation": "BatchMeterUsage", "times": 6}])
        watched.runs(3)
        watched.time.advance(DAY - 2 * HOUR)


def dynamodb_does_not_answer_for_idle_hours(watched: Watched) -> None:
    def no_answer(*_: Any) -> None:
        raise NoAnswerError("InternalServerError")

    watched.patch.setattr(Heartbeat, "fill", no_answer)
    watched.runs(4)


def idle_hours_are_not_filled_in_time(watched: Watched) -> None:
    watched.seller.signs_up(watched.buyer())
    watched.time.advance(2 * HOUR)
    watched.seller.time_left = 59
    watched.runs(8)


def usage_that_is_far_above_the_usual(watched: Watched) -> None:
    watched.patch.setenv("ANOMALY_HOLD_FACTOR", "10")
    forget()
    subscription = watched.seller.signs_up(watched.buyer())
    for quantity in (7, 71):
        watched.seller.reports(subscription, quantity)
        watched.time.advance(DAY if quantity == 7 else HOUR + 10 * MINUTE)
        watched.runs()


def usage_was_recorded_before_metering_was_switched_off(watched: Watched) -> None:
    watched.with_usage()
    watched.patch.setenv("METERING_ENABLED", "false")
    forget()
    watched.runs()


def aws_sends_what_nothing_here_knows(watched: Watched) -> None:
    body = json.loads(sample("eventbridge_unknown_type")["Records"][0]["body"])
    watched.seller.arrives(watched.seller.queues.notifications, json.dumps({**body, "detail": {}}))
    watched.time.advance(25 * HOUR)
    watched.runs()


def an_agreement_ends_whose_licence_nobody_names(watched: Watched) -> None:
    watched.seller.signs_up(watched.buyer())
    for name in ("created", "ended"):
        (record,) = sample(f"eventbridge_purchase_agreement_{name}")["Records"]
        watched.seller.arrives(watched.seller.queues.notifications, record["body"])
    watched.runs(2)
    watched.time.advance(3 * HOUR)
    watched.runs(2)


def a_registration_that_stays_pending(watched: Watched) -> None:
    watched.seller.signs_up(watched.seller.purchases.subscribe(PAY_AS_YOU_GO, "111122223333", provision=False))
    watched.seller.world.marketplace.agenda.clear()
    watched.time.advance(3 * HOUR)
    watched.runs()


def a_licence_of_an_unknown_account(watched: Watched) -> None:
    """Its product is not sold at AWS either, so that its entitlements are refused."""
    body = json.loads(sample("eventbridge_license_updated")["Records"][0]["body"])
    body["detail"].pop("acceptor", None)
    watched.patch.setenv("PRODUCT_CODES", body["detail"]["product"]["code"])
    watched.patch.setenv("OVERAGE_DIMENSIONS", "")
    forget()
    watched.seller.arrives(watched.seller.queues.notifications, json.dumps(body))
    watched.runs()
    watched.time.advance(3 * HOUR)
    watched.seller.asks("reconcile")
    watched.runs(2)


def the_agreement_api_is_denied(watched: Watched) -> None:
    watched.seller.world.marketplace.settings.access_denied = ["SearchAgreements"]
    watched.seller.signs_up(watched.buyer())
    watched.seller.asks("reconcile")
    watched.runs()


def the_agreement_api_refuses_the_request(watched: Watched) -> None:
    def refuse(*_: Any) -> None:
        raise RefusedError("ValidationException")

    watched.seller.signs_up(watched.buyer())
    watched.patch.setattr(MarketplaceAgreements, "of_license", refuse)
    watched.seller.asks("reconcile")
    watched.runs()


def aws_takes_fewer_tags_than_it_says(watched: Watched) -> None:
    """The seller API gives a metering record no tags that AWS's documents don't allow."""
    send = MeteringApi.send

    def refuse_tags(api: MeteringApi, group: Any, records: Any) -> Any:
        if any(record.has_allocations for record in records):
            raise RefusedError("InvalidTagException")
        return send(api, group, records)

    subscription = watched.seller.signs_up(watched.buyer())
    watched.seller.reports(subscription, 5, tags={"team": "search"})
    watched.time.advance(HOUR + 9 * MINUTE)
    watched.patch.setattr(MeteringApi, "send", refuse_tags)
    watched.runs()


def a_reporter_that_breaks(watched: Watched) -> None:
    """Usage in every hour of a day, and then none."""
    subscription = watched.seller.signs_up(watched.buyer())
    steady_hours(watched, subscription, 24)
    idle_hours(watched, 5)
    assert f'"usage_stopped":"{subscription}"' in watched.log.getvalue()


def the_bus_takes_nothing(watched: Watched) -> None:
    watched.seller.signs_up(watched.buyer())
    watched.seller.silent = {"PutEvents"}
    watched.seller.purchases.cancel(watched.buyer("222211113333").id)
    watched.runs(4)


def overage_is_charged_that_the_contract_includes(watched: Watched) -> None:
    """AWS is heard to include it when its hour is metered already."""
    bought = watched.buyer(product=CONTRACT, entitlements={"seats": 2})
    subscription = watched.seller.signs_up(bought)
    watched.seller.call(ENTITLEMENTS, subscription=subscription)
    watched.seller.reports(subscription, 2)
    watched.seller.purchases.amend(bought.id, entitlements={"seats": 100})
    watched.time.advance(MINUTE)
    watched.seller.reports(subscription, 5)
    watched.time.advance(HOUR + 10 * MINUTE)
    watched.seller.invoke("MeterUsageFunction", sample("schedule"))
    watched.runs(2)


def the_reconciliation_does_not_run(watched: Watched) -> None:
    watched.runs()
    watched.time.advance(30 * HOUR)
    watched.runs()


def steady_hours(watched: Watched, subscription: str, hours: int) -> None:
    for _ in range(hours):
        watched.seller.reports(subscription, 5)
        idle_hours(watched, 1)


def idle_hours(watched: Watched, hours: int) -> None:
    """Hours in which metering runs and gauges are published, once each."""
    for _ in range(hours):
        watched.time.advance(HOUR - QUARTER)
        watched.runs()


FIRED_BY: dict[str, Trouble] = {
    "NotificationFailedAlarm": a_message_that_cannot_be_read,
    "ReadBackPostponedAlarm": aws_gives_no_answer_about_entitlements,
    "BreakerOpenedAlarm": aws_refuses_every_call_for_most_of_a_day,
    "UnitsAtRiskAlarm": aws_refuses_every_call_for_most_of_a_day,
    "OldestUnsettledAgeSecondsAlarm": aws_refuses_every_call_for_most_of_a_day,
    "UnitsUnbillableAlarm": aws_refuses_every_call_for_longer_than_a_day,
    "UnitsRejectedAlarm": a_dimension_that_the_listing_lacks,
    "UsageConflictAlarm": another_sender_meters_the_same_hour,
    "UnitsConflictAlarm": another_sender_meters_the_same_hour,
    "UnitsHeldAlarm": the_buyers_account_is_suspended,
    "UnitsAwaitingApprovalAlarm": usage_that_is_far_above_the_usual,
    "UsageInOtherRegionAlarm": the_region_is_changed_while_an_answer_is_missing,
    "UsageUnreadableAlarm": an_item_loses_an_attribute,
    "UsageUnknownRefusalAlarm": aws_answers_with_a_new_error_code,
    "UsageUnknownStatusAlarm": aws_answers_with_a_new_status,
    "UsageMeteredEarlierAlarm": answers_are_lost_on_three_days,
    "HeartbeatFailedAlarm": dynamodb_does_not_answer_for_idle_hours,
    "HeartbeatUnfinishedAlarm": idle_hours_are_not_filled_in_time,
    "UnitsNotMeteredAlarm": usage_was_recorded_before_metering_was_switched_off,
    "UnknownNotificationAlarm": aws_sends_what_nothing_here_knows,
    "OldestUnassignedSecondsAlarm": aws_sends_what_nothing_here_knows,
    "AmbiguousAgreementAlarm": an_agreement_ends_whose_licence_nobody_names,
    "OldestWaitingAgreementSecondsAlarm": an_agreement_ends_whose_licence_nobody_names,
    "OldestPendingRegistrationSecondsAlarm": a_registration_that_stays_pending,
    "OldestUnknownAccountSecondsAlarm": a_licence_of_an_unknown_account,
    "BuyerAccountUnknownAlarm": a_licence_of_an_unknown_account,
    "EntitlementsRefusedAlarm": a_licence_of_an_unknown_account,
    "ReconciliationDeniedAlarm": the_agreement_api_is_denied,
    "ReconciliationRefusedAlarm": the_agreement_api_refuses_the_request,
    "TagsRefusedAlarm": aws_takes_fewer_tags_than_it_says,
    "UsageStoppedAlarm": a_reporter_that_breaks,
    "OldestUnpublishedEventSecondsAlarm": the_bus_takes_nothing,
    "OldestOverageCorrectionSecondsAlarm": overage_is_charged_that_the_contract_includes,
    "SecondsSinceReconciliationAlarm": the_reconciliation_does_not_run,
}
OTHERWISE = OF_THE_SELLERS_MISTAKES | {"SellerApiThrottledAlarm", "WaitingNotMeasuredAlarm"}
"""Alarms that other tests fire: test_sellers_mistakes.py, and the last one below."""


def test_every_alarm_is_fired_by_a_test() -> None:
    assert set(FIRED_BY) | OTHERWISE == ALARMS
    assert not set(FIRED_BY) & OTHERWISE


@pytest.mark.parametrize("alarm", sorted(FIRED_BY))
@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_an_alarm_is_raised_by_what_it_is_about(watched: Watched, alarm: str) -> None:
    periods: list[bool] = []
    look = watched.look

    def look_and_judge() -> None:
        look()
        periods.append(watched.raised(alarm))

    watched.seller.after_quarter = look_and_judge
    FIRED_BY[alarm](watched)
    assert any(periods)


# -- what begins and ends an alarm --------------------------------------------------------------------------


def test_gauges_that_are_not_published_any_more_are_told_and_a_new_deployment_is_not(watched: Watched) -> None:
    watched.runs(4)
    periods = in_periods_of(alarm := "WaitingNotMeasuredAlarm", watched.quarters)
    assert [is_told(alarm, periods[:count]) for count in range(5)] == [False] * 5
    assert not is_told(alarm, [[], [], [], [], []])
    for count in (1, 3):
        assert not is_told(alarm, [*periods, *[[]] * count])
    assert is_told(alarm, [*periods, *[[]] * 4])
    assert not is_told(alarm, [*periods, *[[]] * 4, periods[0]])


@pytest.mark.parametrize("change", ["used again", "ended", "a day has passed"])
@pytest.mark.slow
def test_usage_that_has_stopped_is_an_alarm_until_something_changes(watched: Watched, change: str) -> None:
    subscription = watched.seller.signs_up(bought := watched.buyer())
    steady_hours(watched, subscription, 24)
    idle_hours(watched, 5)
    assert watched.raised("UsageStoppedAlarm")
    if change == "used again":
        steady_hours(watched, subscription, 2)
    elif change == "ended":
        watched.seller.purchases.cancel(bought.id)
        idle_hours(watched, 2)
    else:
        idle_hours(watched, 25)
    assert not watched.raised("UsageStoppedAlarm")


@pytest.mark.parametrize(("hours", "idle"), [(20, 8), (24, 2)])
def test_usage_that_was_not_steady_or_pauses_raises_none(watched: Watched, hours: int, idle: int) -> None:
    subscription = watched.seller.signs_up(watched.buyer())
    steady_hours(watched, subscription, hours)
    idle_hours(watched, idle)
    assert not any(one.value for quarter in watched.quarters for one in quarter if one.name == "UsageStopped")


@pytest.mark.slow
def test_an_application_that_reports_every_six_hours_has_not_stopped(watched: Watched) -> None:
    subscription = watched.seller.signs_up(watched.buyer())
    for _ in range(6):
        idle_hours(watched, 6)
        for hours in range(1, 6):
            then = iso(watched.time.seconds() - hours * HOUR)
            watched.seller.reports(subscription, 5, timestamp=then)
    idle_hours(watched, 6)
    assert not any(one.value for quarter in watched.quarters for one in quarter if one.name == "UsageStopped")


@pytest.mark.slow
def test_of_many_subscriptions_the_one_that_stops_is_named(watched: Watched) -> None:
    """Also beside zeros for idle hours, which are no usage."""
    buyers = [watched.seller.signs_up(watched.buyer(f"{number:012d}")) for number in range(1, 6)]
    for hour in range(30):
        for subscription in buyers[1:] if hour >= 24 else buyers:
            watched.seller.reports(subscription, 5)
        idle_hours(watched, 1)
    assert f'"usage_stopped":"{buyers[0]}"' in watched.log.getvalue()
    assert [one.value for one in watched.quarters[-1] if one.name == "UsageStopped"] == [1]


@pytest.mark.parametrize("times", [1, 3])
def test_an_overage_correction_is_an_alarm_until_somebody_says_that_it_is_made(watched: Watched, times: int) -> None:
    overage_is_charged_that_the_contract_includes(watched)
    watched.runs(times)
    assert watched.raised("OldestOverageCorrectionSecondsAlarm")
    world = watched.seller.world
    waiting = WaitingList(world.table(world.tables.subscriptions), world.time.now)
    (correction,) = [listed for listed in waiting.all() if listed.waiting.kind == "correction"]
    waiting.expect(correction, WITHOUT_END, "credited")
    watched.runs()
    assert not watched.raised("OldestOverageCorrectionSecondsAlarm")


def test_events_that_are_published_at_last_end_their_alarm(watched: Watched) -> None:
    the_bus_takes_nothing(watched)
    assert watched.raised("OldestUnpublishedEventSecondsAlarm")
    watched.seller.silent = set()
    for subscription in watched.seller.world.subscription_items():
        if "status" in subscription:
            watched.seller.asks("look_again", subscription_id=keys.subscription_id_of(subscription["pk"]), reason="x")
    watched.runs()
    assert not watched.raised("OldestUnpublishedEventSecondsAlarm")


def test_the_daily_reconciliation_ends_its_alarm(watched: Watched) -> None:
    watched.seller.signs_up(watched.buyer())
    the_reconciliation_does_not_run(watched)
    assert watched.raised("SecondsSinceReconciliationAlarm")
    watched.seller.asks("reconcile")
    watched.runs(4)  # a status after the other, with a pause between them
    assert not watched.raised("SecondsSinceReconciliationAlarm")
