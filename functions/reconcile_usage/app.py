"""Compares what was metered with CloudTrail: on a schedule, every hour, the days that are ready and not compared yet.
What the event contains makes no difference.
"""

import time
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.archive.bucket import archive_of
from marketplace.dynamodb.table import Table
from marketplace.platform import clients
from marketplace.platform.clock import utc_now
from marketplace.platform.settings import Settings
from marketplace.reconcile.schedule import ScheduledReconciliation
from marketplace.subscriptions.seller_events import SellerBus

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")

DAY_RESERVE = 420.0
"""Seconds before the function's end at which no further day is begun."""


@cache
def reconciliation() -> ScheduledReconciliation:
    """Everything put together, once per container."""
    settings = Settings.from_env()
    dynamodb = clients.dynamodb()
    return ScheduledReconciliation(
        usage=Table(dynamodb, settings.usage_table),
        subscriptions=Table(dynamodb, settings.subscriptions_table),
        trail=clients.cloudtrail(settings.metering_region),
        bus=SellerBus(clients.events(), settings.event_bus_name),
        clock=utc_now,
        sleep=time.sleep,
        senders={settings.metering_role} if settings.metering_role else None,
        archive=archive_of(clients.s3, settings.archive_bucket),
        metering_starts_at=settings.metering_starts_at,
    )


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Compares what is ready. Returns how many days that were, and how many differences of each kind they have."""
    end = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - DAY_RESERVE
    report = reconciliation().run(lambda: end - time.monotonic())
    for name, count in report.counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    log = logger.warning if report.standing else logger.info
    log("usage reconciled", extra={"found": dict(report.found), **report.counts})
    return {"days": report.days, "found": dict(report.found)}
