"""The schedule's function: meters every hour of usage that is due."""

import random
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
from marketplace.metering.api import MeteringApi
from marketplace.metering.heartbeat import ActiveByStatus, Heartbeat
from marketplace.metering.rate import CallRate
from marketplace.metering.report import MeteringReport
from marketplace.metering.run import MeteringRun
from marketplace.metering.store import MeteringStore
from marketplace.platform import clients, clock
from marketplace.platform.errors import AwsError
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
def collaborators() -> dict[str, Any]:
    given = settings()
    return {
        "store": MeteringStore(clients.dynamodb(), given.usage_table, time.sleep),
        "api": MeteringApi(clients.metering_without_retries(given.metering_region)),
        "rate": CallRate(given.metering_calls_per_second, time.monotonic, time.sleep),
        "bus": SellerBus(clients.events(), given.event_bus_name),
        "requests": Requests(clients.sqs(), given.notification_queue_url),
    }


@cache
def heartbeat() -> Heartbeat:
    given, client = settings(), clients.dynamodb()
    subscriptions = SubscriptionReader(Table(client, given.subscriptions_table))
    active = ActiveByStatus(client, given.subscriptions_table, subscriptions)
    return Heartbeat(client, given.usage_table, active, given.heartbeat_dimension, given.seal_delay_minutes * 60)


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return metered(context)


def metered(context: LambdaContext) -> dict[str, Any]:
    """One metering run, reported in metrics and log lines; then the zero records of idle hours, for the next run."""

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    report = MeteringRun(
        **collaborators(),
        clock=clock.utc_now,
        monotonic=time.monotonic,
        sleep=time.sleep,
        time_left=time_left,
        new_token=lambda: uuid.uuid4().hex,
        jitter=random.random,
    ).run()
    summary = published(report)
    if settings().heartbeat_dimension:
        fill_heartbeat(lambda: time_left() - HEARTBEAT_RESERVE)
    if report.failure is not None:
        raise report.failure
    return summary


def fill_heartbeat(time_left: Callable[[], float]) -> None:
    """The zero records of idle hours. Without them the hour is only idle: they neither delay usage nor stop it."""
    try:
        filled = heartbeat().fill(clock.epoch(clock.utc_now()), time_left)
    except AwsError as error:
        metrics.add_metric("HeartbeatFailed", MetricUnit.Count, 1)
        logger.warning("heartbeat failed", extra={"error": error.code})
        return
    metrics.add_metric("HeartbeatRecords", MetricUnit.Count, filled.written)
    metrics.add_metric("HeartbeatUnfinished", MetricUnit.Count, int(not filled.complete))


def published(report: MeteringReport) -> dict[str, Any]:
    """The report as metrics (docs/operations.md names their alarms), as log lines, and as the answer."""
    for outcome, metric in METRIC_OF_OUTCOME.items():
        metrics.add_metric(metric, MetricUnit.Count, report.records[outcome])
    metrics.add_metric("MeteringCalls", MetricUnit.Count, report.calls)
    metrics.add_metric("MeteringErrors", MetricUnit.Count, report.errors.total())
    metrics.add_metric("UnitsAtRisk", MetricUnit.Count, report.units_at_risk)
    metrics.add_metric("OldestUnsettledAgeSeconds", MetricUnit.Seconds, report.oldest_unsettled_seconds)
    metrics.add_metric("BreakerOpened", MetricUnit.Count, int(report.breaker_opened))
    metrics.add_metric("UsageUnreadable", MetricUnit.Count, len(report.unreadable))
    for key in report.unreadable:
        logger.error("unreadable metering record", extra=key._asdict())
    for note in report.notes:
        logger.warning("usage not metered", extra=asdict(note))
    summary = report.summary()
    logger.info("metering run", extra=summary)
    return summary


METRIC_OF_OUTCOME = {
    "metered": "UsageMetered",
    "metered_earlier": "UsageMeteredEarlier",
    "held": "UsageHeld",
    "rejected": "UsageRejected",
    "conflict": "UsageConflict",
    "unbillable": "UsageUnbillable",
    "unprocessed": "UsageUnprocessed",
    "unanswered": "UsageUnanswered",
    "unknown_status": "UsageUnknownStatus",
    "unknown_refusal": "UsageUnknownRefusal",
    "metered_unwritten": "UsageMeteredUnwritten",
}
"""Every outcome that a run counts, and its metric."""
