"""Meters every hour of usage that is due: on the schedule, and on each message of the metering queue, which starts a
run shortly before a subscription's closing deadline. What the event contains makes no difference.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.dynamodb.table import Table
from marketplace.ledger.activity import HourlyActivity
from marketplace.metering.api import MeteringApi
from marketplace.metering.approval import Approvals
from marketplace.metering.heartbeat import ActiveByStatus, Heartbeat
from marketplace.metering.metrics import counts_of, seconds_of
from marketplace.metering.rate import CallRate
from marketplace.metering.report import MeteringReport
from marketplace.metering.run import MeteringRun
from marketplace.metering.store import MeteringStore
from marketplace.metering.usual_usage import UsualUsage
from marketplace.platform import clients, clock
from marketplace.platform.clock import MINUTE
from marketplace.platform.errors import AwsError, UnavailableError
from marketplace.platform.seller_role import seller_role
from marketplace.platform.settings import Settings
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerBus

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")

HEARTBEAT_RESERVE = 60.0
"""Seconds before the function's end at which no more zeros are begun."""


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def metering() -> Callable[[Callable[[], float]], MeteringRun]:
    """Makes a run from the seconds that it has left; the clients and the call rate are the container's."""
    given = settings()
    table = Table(clients.dynamodb(), given.usage_table, sleep=time.sleep)
    store, activity = MeteringStore(table), HourlyActivity(table)
    seller = seller_role(given, logger, metrics)
    api = MeteringApi(clients.metering_without_retries(given.metering_region, seller=seller))
    rate = CallRate(given.metering_calls_per_second, time.monotonic, time.sleep)
    bus = SellerBus(clients.events(), given.event_bus_name)
    requests = Requests(clients.sqs(), given.notification_queue_url)
    usual = UsualUsage(table, given.anomaly_hold_factor) if given.anomaly_hold_factor else None
    approvals = Approvals(usual, refuses=given.anomaly_hold_at_deadline == "Refuse")

    def run(time_left: Callable[[], float]) -> MeteringRun:
        return MeteringRun(
            store=store,
            api=api,
            region=given.metering_region,
            rate=rate,
            bus=bus,
            requests=requests,
            clock=clock.utc_now,
            monotonic=time.monotonic,
            sleep=time.sleep,
            time_left=time_left,
            new_token=lambda: uuid.uuid4().hex,
            metering_enabled=given.metering_enabled,
            metering_starts_at=given.metering_starts_at,
            found_usage=activity.found,
            approvals=approvals,
        )

    return run


@cache
def heartbeat() -> Heartbeat:
    given, client = settings(), clients.dynamodb()
    subscriptions, usage = Table(client, given.subscriptions_table), Table(client, given.usage_table, sleep=time.sleep)
    active = ActiveByStatus(subscriptions, SubscriptionReader(subscriptions))
    delay = given.seal_delay_minutes * MINUTE
    return Heartbeat(usage, active, given.heartbeat_dimension, delay, starts_at=given.metering_starts_at)


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One metering run, reported in metrics and log lines; then the zero records of idle hours, for the next run.

    Raises what stopped the run. A run that a message started also fails when AWS or DynamoDB did not work, so that the
    message comes back: the deadline that it stands for is minutes away.
    """

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    report = metering()(time_left).run()
    publish(report)
    if settings().heartbeat_dimension:
        fill_heartbeat(lambda: time_left() - HEARTBEAT_RESERVE)
    if report.failure is not None:
        raise report.failure
    if "Records" in event and (report.breaker_opened or report.out_of_time):
        raise UnavailableError("MeteringRunStopped", "usage was left that a later run must take")
    return report.summary()


def publish(report: MeteringReport) -> None:
    """The report of a run as metrics (docs/operations.md names their alarms) and as log lines."""
    for name, value in counts_of(report).items():
        metrics.add_metric(name, MetricUnit.Count, value)
    for name, value in seconds_of(report).items():
        metrics.add_metric(name, MetricUnit.Seconds, value)
    for key in report.unreadable:
        logger.error("unreadable metering record", extra=key._asdict())
    for note in report.notes:
        logger.warning("usage not metered", extra=asdict(note))
    logger.info("metering run", extra=report.summary())


def fill_heartbeat(time_left: Callable[[], float]) -> None:
    """The zero records of idle hours; none from a deployment that meters nothing. A failure here only leaves the hours
    idle: no usage is delayed or lost."""
    now = clock.epoch(clock.utc_now())
    try:
        filled = heartbeat().fill(now, time_left) if settings().metering_enabled else heartbeat().skip(now)
    except AwsError as error:
        metrics.add_metric("HeartbeatFailed", MetricUnit.Count, 1)
        logger.warning("heartbeat failed", extra={"error": error.code})
        return
    metrics.add_metric("HeartbeatRecords", MetricUnit.Count, filled.written)
    metrics.add_metric("HeartbeatUnfinished", MetricUnit.Count, int(not filled.complete))
