"""How the handling of a message ended, and the metric that counts it."""

from typing import Literal

from marketplace.subscriptions.waiting import Kind

type Outcome = Literal[
    "applied",
    "waiting",  # of an agreement whose licence isn't known yet
    "ambiguous",  # as waiting, but an agreement has ended and its buyer holds licences: a person may have to look
    "noted",
    "own_purchase",  # the seller's account is the buyer: no sale, and not kept
    "unknown",
    "other_product",
    "unknown_subscription",
]

type ReadBackOutcome = Literal[
    "read_back",
    "activated",  # AWS grants something to a legacy customer whose subscribe-success has not come
    "read_back_later",  # its moment has not come yet
    "entitlements_refused",  # AWS refuses GetEntitlements for this product
    "unknown_subscription",
]

type ReconcileOutcome = Literal[
    "agrees",
    "corrected",
    "unconfirmed",  # a pending legacy customer, of whom AWS says nothing until it grants something
    "reconciliation_denied",  # the role may not call the agreement API; everything else was done
    "reconciliation_refused",  # the agreement API refuses the request
    "unknown_subscription",
    "account_unknown",  # an active licence whose buyer's account nobody has named, so that it can't be metered
    "page",  # a part of a run over all subscriptions was handed out
]

type AnyOutcome = Outcome | ReadBackOutcome | ReconcileOutcome | Literal["postponed", "measured"]
"""`postponed`: AWS gave no answer; the question is asked again later. `measured`: gauges were published."""

METRIC_OF_OUTCOME: dict[AnyOutcome, str] = {
    "applied": "NotificationApplied",
    "waiting": "NotificationWaiting",
    "ambiguous": "AmbiguousAgreement",
    "noted": "NotificationNoted",
    "own_purchase": "OwnPurchaseNotification",
    "unknown": "UnknownNotification",
    "other_product": "OtherProductNotification",
    "unknown_subscription": "RequestWithoutSubscription",
    "read_back": "EntitlementsReadBack",
    "activated": "EntitlementsActivated",
    "read_back_later": "ReadBackScheduled",
    "entitlements_refused": "EntitlementsRefused",
    "postponed": "ReadBackPostponed",
    "agrees": "SubscriptionReconciled",
    "corrected": "SubscriptionCorrected",
    "unconfirmed": "SubscriptionUnconfirmed",
    "reconciliation_denied": "ReconciliationDenied",
    "reconciliation_refused": "ReconciliationRefused",
    "account_unknown": "BuyerAccountUnknown",
    "page": "ReconciliationPage",
    "measured": "WaitingMeasured",
}
"""Every outcome of a message, and its metric (docs/operations.md names the alarms)."""

GAUGE_OF_WAITING: dict[Kind, str] = {
    "registration": "OldestPendingRegistrationSeconds",
    "account": "OldestUnknownAccountSeconds",
    "agreement": "OldestWaitingAgreementSeconds",
    "unassigned": "OldestUnassignedSeconds",
    "event": "OldestUnpublishedEventSeconds",
    "correction": "OldestOverageCorrectionSeconds",
    "reconciliation": "SecondsSinceReconciliation",
}
"""What waits, and the gauge of how long the oldest has waited."""

USAGE_STOPPED = "UsageStopped"
"""The gauge of subscriptions whose usage has stopped."""

WARNED_OF: frozenset[AnyOutcome] = frozenset(
    {
        "ambiguous",
        "unknown",
        "unknown_subscription",
        "entitlements_refused",
        "postponed",
        "activated",
        "corrected",
        "unconfirmed",
        "reconciliation_denied",
        "reconciliation_refused",
        "account_unknown",
    }
)
"""Outcomes that are logged as warnings."""
