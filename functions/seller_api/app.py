"""API Gateway, AWS_IAM on every route: what the seller's own application calls."""

import time
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace import aws
from marketplace.claims import Claims
from marketplace.clock import utc_now
from marketplace.contract_terms import ContractTerms
from marketplace.entitlements import MINUTE, Entitlements, MarketplaceEntitlements
from marketplace.http import Request
from marketplace.logs import whereabouts
from marketplace.outbox import Outbox
from marketplace.recording import UsageRecorder
from marketplace.registration_codes import RegistrationCodes
from marketplace.requests import Requests
from marketplace.seller_events import SellerBus
from marketplace.seller_routes import SellerRoutes, failure
from marketplace.settings import Settings
from marketplace.subscription_queries import SubscriptionQueries
from marketplace.subscription_reader import SubscriptionReader
from marketplace.subscription_store import SubscriptionStore
from marketplace.usage_queries import UsageQueries
from marketplace.usage_retry import UsageRetry
from marketplace.usage_store import UsageStore

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")


@cache
def routes() -> SellerRoutes:
    """Everything put together, once per container."""
    settings = Settings.from_env()
    dynamodb, table = aws.dynamodb(), settings.subscriptions_table
    outbox = Outbox(SubscriptionStore(dynamodb, table), SellerBus(aws.events(), settings.event_bus_name))
    return SellerRoutes(
        claims=Claims(
            client=dynamodb,
            table=table,
            codes=RegistrationCodes(dynamodb, table, utc_now),
            queue=Requests(aws.sqs(), settings.notification_queue_url),
            clock=utc_now,
        ),
        subscriptions=SubscriptionQueries(dynamodb, table, utc_now),
        entitlements=Entitlements(
            client=dynamodb,
            table=table,
            source=MarketplaceEntitlements(aws.entitlement()),
            clock=utc_now,
            max_age_minutes=settings.entitlement_max_age_minutes,
            stale_limit_minutes=settings.entitlement_stale_limit_minutes,
            announce=outbox.publish,
        ),
        recorder=UsageRecorder(
            store=UsageStore(dynamodb, settings.usage_table, settings.usage_record_ttl_days),
            subscriptions=SubscriptionReader(dynamodb, table),
            clock=utc_now,
            seal_delay=settings.seal_delay_minutes * MINUTE,
            sleep=time.sleep,
            monotonic=time.monotonic,
            terms=ContractTerms(
                dynamodb,
                table=table,
                usage_table=settings.usage_table,
                overage_dimensions=settings.overage_dimensions,
            ),
        ),
        usage=UsageQueries(dynamodb, settings.usage_table),
        usage_retry=UsageRetry(dynamodb, settings.usage_table, SubscriptionReader(dynamodb, table), utc_now),
        clock=utc_now,
        entitlement_max_age=settings.entitlement_max_age_minutes * MINUTE,
    )


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    return handle(event)


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Answers one request, and tells of it in one log line and a few counts that hold nothing of its content."""
    try:
        answer = routes().answer(Request.from_event(event))
    except Exception as error:
        answer = failure(f"{type(error).__name__} at {', '.join(whereabouts(error))}")
    for name, count in {answer.outcome: 1, **answer.counts}.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    log = logger.error if answer.response.status >= 500 else logger.info
    log(
        answer.outcome,
        extra={"subscription_id": answer.subscription_id, "status": answer.response.status, "error": answer.error},
    )
    return answer.response.as_event()
