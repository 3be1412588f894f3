"""Moves old usage from the table to the archive: on a schedule, every hour, until the months that are ready are done.
An event `{"again": true}` has it look at every subscription, whatever is marked as done; nothing else in it counts.
"""

import time
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.archive.archiver import UsageArchiver
from marketplace.archive.bucket import ArchiveBucket
from marketplace.dynamodb.table import Table
from marketplace.platform import clients
from marketplace.platform.clock import utc_now
from marketplace.platform.settings import Settings
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.reader import subscriptions_ever_active

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")

RESERVE = 60.0
"""Seconds before the function's end at which nothing more is begun."""


@cache
def archiver() -> UsageArchiver:
    """Everything put together, once per container."""
    settings = Settings.from_env()
    dynamodb = clients.dynamodb()
    usage, subscriptions = Table(dynamodb, settings.usage_table), Table(dynamodb, settings.subscriptions_table)
    bucket = ArchiveBucket(clients.s3, settings.archive_bucket)
    statements = StatementReader(usage, utc_now, bucket)
    return UsageArchiver(
        usage=usage,
        objects=bucket,
        clock=utc_now,
        after_months=settings.archive_after_months,
        subscription_ids=lambda: subscriptions_ever_active(subscriptions),
        close=lambda subscription_id, month: statements.statement(subscription_id, month).settled,
        tell=lambda what, details: logger.warning(what, extra=details),
    )


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Archives what is ready. Returns how many months and items that were."""
    end = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE
    report = archiver().run(lambda: end - time.monotonic(), again=event.get("again") is True)
    for name, count in report.counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    metrics.add_metric(name="SecondsUsageArchiveBehind", unit=MetricUnit.Seconds, value=report.seconds_behind)
    logger.info("usage archived", extra={**report.counts, "seconds_behind": report.seconds_behind})
    return {"months": report.months, "items": report.items}
