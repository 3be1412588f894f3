"""SQS: what AWS Marketplace says about subscriptions and entitlements, and our own requests to look again."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements, MarketplaceEntitlements
from marketplace.ledger.rescheduling import UsageDeadlines
from marketplace.lifecycle.agreement_api import MarketplaceAgreements
from marketplace.lifecycle.lifecycle import Lifecycle, Outcome
from marketplace.lifecycle.notifications import LookAgain, Notification, QueueMessage, Reconcile, parsed
from marketplace.lifecycle.reconciliation import ReconcileOutcome, Reconciliation, license_finder
from marketplace.lifecycle.sqs_batch import Failure, handle_each, response
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform import clients
from marketplace.platform.clock import utc_now
from marketplace.platform.logs import whereabouts
from marketplace.platform.settings import Settings
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerBus

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def store() -> SubscriptionStore:
    return SubscriptionStore(clients.dynamodb(), settings().subscriptions_table)


@cache
def queue() -> Requests:
    return Requests(clients.sqs(), settings().notification_queue_url)


@cache
def agreements() -> MarketplaceAgreements:
    return MarketplaceAgreements(clients.agreement())


@cache
def lifecycle() -> Lifecycle:
    given, dynamodb = settings(), clients.dynamodb()
    bus = SellerBus(clients.events(), given.event_bus_name)
    outbox = Outbox(Table(dynamodb, given.subscriptions_table), bus)
    entitlements = Entitlements(
        client=dynamodb,
        table=given.subscriptions_table,
        source=MarketplaceEntitlements(clients.entitlement()),
        clock=utc_now,
        max_age_minutes=given.entitlement_max_age_minutes,
        stale_limit_minutes=given.entitlement_stale_limit_minutes,
        announce=outbox.publish,
    )
    return Lifecycle(
        store=store(),
        entitlements=entitlements,
        usage=UsageDeadlines(Table(dynamodb, given.usage_table), given.seal_delay_minutes * 60),
        bus=bus,
        outbox=outbox,
        queue=queue(),
        clock=utc_now,
        product_codes=given.product_codes,
        find_licenses=license_finder(agreements()),
    )


@cache
def reconciliation() -> Reconciliation:
    return Reconciliation(store=store(), agreements=agreements(), lifecycle=lifecycle(), queue=queue(), clock=utc_now)


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return handled(event, context)


def handled(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Every message of the batch by itself; the answer names those that have to come again."""
    failures = handle_each(
        event["Records"],
        handle,
        sqs=clients.sqs(),
        queue_url=settings().notification_queue_url,
        time_left=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    for failure in failures:
        report(failure)
    return response(failures)


def handle(message: QueueMessage) -> None:
    """One message. Raises what stands in its way; it comes again then."""
    outcome: Outcome | ReconcileOutcome
    match content := parsed(message):
        case Notification():
            outcome, about = lifecycle().receive(content), {"title": content.title, "event_id": content.id}
        case LookAgain():
            outcome = lifecycle().look_again(content)
            about = {"subscription_id": content.subscription_id, "reason": content.reason}
        case Reconcile():
            outcome = reconciliation().reconcile(content)
            about = {"subscription_id": content.subscription_id or ""}
    metrics.add_metric(METRIC_OF_OUTCOME[outcome], MetricUnit.Count, 1)
    log = logger.warning if outcome in REPORTED else logger.info
    log("message handled", extra={"outcome": outcome, "message_id": message.message_id, **about})


def report(failure: Failure) -> None:
    error = failure.error
    metrics.add_metric("NotificationFailed" if error else "NotificationPostponed", MetricUnit.Count, 1)
    where = {} if error is None else {"error": type(error).__name__, "at": whereabouts(error)}
    logger.warning(
        "message given back",
        extra={"message_id": failure.message_id, "receive_count": failure.receive_count, **where},
    )


METRIC_OF_OUTCOME: dict[Outcome | ReconcileOutcome, str] = {
    "applied": "NotificationApplied",
    "waiting": "NotificationWaiting",
    "ambiguous": "AmbiguousAgreement",
    "noted": "NotificationNoted",
    "unknown": "UnknownNotification",
    "other_product": "OtherProductNotification",
    "unknown_subscription": "RequestWithoutSubscription",
    "entitlements_refused": "EntitlementsRefused",
    "agrees": "SubscriptionReconciled",
    "corrected": "SubscriptionCorrected",
    "reconciliation_denied": "ReconciliationDenied",
    "reconciliation_refused": "ReconciliationRefused",
    "page": "ReconciliationPage",
}
"""Every outcome of a message, and its metric (docs/operations.md names their alarms)."""
REPORTED: frozenset[Outcome | ReconcileOutcome] = frozenset(
    {
        "ambiguous",
        "unknown",
        "unknown_subscription",
        "entitlements_refused",
        "corrected",
        "reconciliation_denied",
        "reconciliation_refused",
    }
)
"""Outcomes that are logged as warnings."""
