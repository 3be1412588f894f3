"""API Gateway, AWS_IAM on every route: what the seller's own application calls."""

import time
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.archive.bucket import archive_of
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.entitlements.store import EntitlementStore
from marketplace.platform import clients
from marketplace.platform.clock import MINUTE, utc_now
from marketplace.platform.errors import AwsError
from marketplace.platform.http import Request
from marketplace.platform.logs import traceback_frames
from marketplace.platform.seller_role import seller_role
from marketplace.platform.settings import Settings
from marketplace.platform.snapshot import reseed_after_restore
from marketplace.registration.claim import Claims
from marketplace.registration.codes import RegistrationCodes
from marketplace.registration.free_trials import FreeTrials
from marketplace.seller_api.routes import SellerRoutes, failure, known_route
from marketplace.seller_api.subscription_queries import SubscriptionQueries
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerBus
from marketplace.usage.approval import UsageApproval
from marketplace.usage.booking import UsageStore
from marketplace.usage.contract_terms import ContractTerms
from marketplace.usage.queries import UsageQueries
from marketplace.usage.recorder import UsageRecorder
from marketplace.usage.rerating import Rerating
from marketplace.usage.retry import UsageRetry
from marketplace.usage.void import UsageVoid

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")
reseed_after_restore()


@cache
def routes() -> SellerRoutes:
    """Everything put together, once per container."""
    settings = Settings.from_env()
    dynamodb = clients.dynamodb()
    table, usage_table = Table(dynamodb, settings.subscriptions_table), Table(dynamodb, settings.usage_table)
    reader = SubscriptionReader(table)
    seller = seller_role(settings, logger, metrics)
    archive = archive_of(clients.s3, settings.archive_bucket)
    outbox = Outbox(table, SellerBus(clients.events(), settings.event_bus_name))
    entitlement_store = EntitlementStore(table)
    rerate = Rerating(usage_table, table, settings.overage_dimensions, utc_now)
    entitlements = Entitlements(
        store=entitlement_store,
        source=MarketplaceEntitlements(clients.entitlement_while_waiting(seller)),
        clock=utc_now,
        max_age=settings.entitlement_max_age_minutes * MINUTE,
        stale_limit=settings.entitlement_stale_limit_minutes * MINUTE,
        announce=outbox.publish,
        rerate=rerate,
        on_unread=report_unread,
    )
    return SellerRoutes(
        claims=Claims(
            table=table,
            codes=RegistrationCodes(table, utc_now),
            queue=Requests(clients.sqs(), settings.notification_queue_url),
            clock=utc_now,
        ),
        free_trials=FreeTrials(clients.agreement_while_waiting(seller), table, utc_now),
        subscriptions=SubscriptionQueries(table, utc_now),
        entitlements=entitlements,
        recorder=UsageRecorder(
            store=UsageStore(usage_table, settings.usage_record_ttl_days, table),
            subscriptions=reader,
            clock=utc_now,
            seal_delay=settings.seal_delay_minutes * MINUTE,
            sleep=time.sleep,
            monotonic=time.monotonic,
            terms=ContractTerms(entitlement_store, entitlements, settings.overage_dimensions),
            metering_enabled=settings.metering_enabled,
            metering_starts_at=settings.metering_starts_at,
        ),
        usage=UsageQueries(usage_table, utc_now, archive),
        statements=StatementReader(usage_table, utc_now, archive),
        usage_retry=UsageRetry(usage_table, reader, utc_now),
        usage_void=UsageVoid(usage_table, reader, utc_now, rerate, outbox.publish),
        usage_approval=UsageApproval(usage_table, reader, utc_now),
        clock=utc_now,
        entitlement_max_age=settings.entitlement_max_age_minutes * MINUTE,
        metering_enabled=settings.metering_enabled,
    )


def report_unread(error: AwsError) -> None:
    """Entitlements that could not be read from AWS: the caller is answered from what is stored, or refused."""
    metrics.add_metric(name="EntitlementsNotRead", unit=MetricUnit.Count, value=1)
    logger.warning("entitlements not read", extra={"error": error.code})


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    return handle(event)


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Answers one request. The log line and the metrics about it hold nothing of its content."""
    try:
        answer = routes().answer(Request.from_event(event))
    except Exception as error:
        answer = failure(f"{type(error).__name__} at {', '.join(traceback_frames(error))}")
    for name, count in {answer.outcome: 1, **answer.counts}.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    log = logger.error if answer.response.status >= 500 else logger.info
    log(
        answer.outcome,
        extra={
            "route": known_route(event.get("routeKey")),
            "subscription_id": answer.subscription_id,
            "status": answer.response.status,
            "counts": dict(answer.counts) or None,
            "error": answer.error,
        },
    )
    return answer.response.as_event()
