"""SQS: AWS Marketplace's notifications about subscriptions and entitlements, requests to recheck a subscription, and
questions to AWS Marketplace, which have a queue of their own."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.corrections.decisions import AdjustmentDecisions
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.entitlements.store import EntitlementStore
from marketplace.ledger.rescheduling import UsageDeadlines
from marketplace.lifecycle.agreement_api import MarketplaceAgreements, license_finder, terms_finder
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.messages import Messages
from marketplace.lifecycle.notifications import QueueMessage
from marketplace.lifecycle.outcomes import METRIC_OF_OUTCOME, WARNED_OF
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.lifecycle.sqs_batch import Failure, handle_each, response
from marketplace.lifecycle.stopped_usage import StoppedUsage
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.lifecycle.waiting_gauges import WaitingGauges
from marketplace.platform import clients
from marketplace.platform.clock import MINUTE, utc_now
from marketplace.platform.logs import traceback_frames
from marketplace.platform.seller_role import seller_role
from marketplace.platform.settings import Settings
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus
from marketplace.subscriptions.waiting import WaitingItems
from marketplace.usage.rerating import Rerating

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def messages() -> Messages:
    """Everything put together, once per container."""
    given, dynamodb = settings(), clients.dynamodb()
    table, usage_table = Table(dynamodb, given.subscriptions_table), Table(dynamodb, given.usage_table)
    store = SubscriptionStore(table)
    queue = LifecycleRequests(
        clients.sqs(),
        given.notification_queue_url,
        read_back_queue_url=given.read_back_queue_url,
        metering_queue_url=given.metering_queue_url,
    )
    seller = seller_role(given, logger, metrics)
    agreements = MarketplaceAgreements(clients.agreement(seller))
    bus = SellerBus(clients.events(), given.event_bus_name)
    outbox = Outbox(table, bus)
    lifecycle = Lifecycle(
        store=store,
        entitlements=Entitlements(
            store=EntitlementStore(table),
            source=MarketplaceEntitlements(clients.entitlement(seller)),
            clock=utc_now,
            max_age=given.entitlement_max_age_minutes * MINUTE,
            stale_limit=given.entitlement_stale_limit_minutes * MINUTE,
            announce=outbox.publish,
            rerate=Rerating(usage_table, table, given.overage_dimensions, utc_now),
        ),
        usage=UsageDeadlines(usage_table, given.seal_delay_minutes * MINUTE),
        bus=bus,
        outbox=outbox,
        queue=queue,
        clock=utc_now,
        products=Products(table, terms_finder(agreements)),
        product_codes=given.product_codes,
        find_licenses=license_finder(agreements),
        adjustments=AdjustmentDecisions(usage_table),
    )
    reconciliation = Reconciliation(store=store, agreements=agreements, lifecycle=lifecycle, queue=queue, clock=utc_now)
    gauges = WaitingGauges(WaitingItems(table), utc_now, StoppedUsage(usage_table, table, utc_now).find)
    return Messages(lifecycle, reconciliation, gauges, queue)


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handles every message of the batch by itself; the answer names those that SQS has to deliver again."""
    records, given = event["Records"], settings()
    is_question = given.read_back_queue_url.endswith("/" + records[0]["eventSourceARN"].rpartition(":")[2])
    failures = handle_each(
        records,
        handle,
        sqs=clients.sqs(),
        queue_url=given.read_back_queue_url if is_question else given.notification_queue_url,
        time_left=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    for failure in failures:
        report(failure, "ReadBackFailed" if is_question else "NotificationFailed")
    return response(failures)


def handle(message: QueueMessage) -> None:
    """One message, with its metrics and log line. Raises what stands in its way: the message comes again then."""
    handled = messages().handle(message)
    metrics.add_metric(METRIC_OF_OUTCOME[handled.outcome], MetricUnit.Count, 1)
    for gauge, seconds in handled.gauges.items():
        metrics.add_metric(gauge, MetricUnit.Seconds, seconds)
    for gauge, count in handled.counts.items():
        metrics.add_metric(gauge, MetricUnit.Count, count)
    log = logger.warning if handled.outcome in WARNED_OF else logger.info
    about = {
        "outcome": handled.outcome,
        "message_id": message.message_id,
        **handled.about,
        **handled.gauges,
        **handled.counts,
    }
    log("message handled", extra=about)


def report(failure: Failure, metric: str) -> None:
    """A message that goes back to its queue as a log line and a metric: `metric`, or NotificationPostponed for one
    that was not begun. The log line names the cause without its text, which may quote personal data."""
    error = failure.error
    metrics.add_metric(metric if error else "NotificationPostponed", MetricUnit.Count, 1)
    cause = {} if error is None else {"error": type(error).__name__, "at": traceback_frames(error)}
    logger.warning(
        "message given back",
        extra={"message_id": failure.message_id, "receive_count": failure.receive_count, **cause},
    )
