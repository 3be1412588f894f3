"""How the handling of a message ended, and the metric that counts it."""

from typing import Literal

type Outcome = Literal[
    "applied",
    "waiting",  # of an agreement whose licence isn't known yet
    "ambiguous",  # as waiting, but an agreement has ended and its buyer holds licences: a person may have to look
    "noted",
    "unknown",
    "other_product",
    "unknown_subscription",
    "entitlements_refused",  # AWS refuses GetEntitlements for this product; the rest is done
]

type ReconcileOutcome = Literal[
    "agrees",
    "corrected",
    "reconciliation_denied",  # the role may not call the agreement API; everything else was done
    "reconciliation_refused",  # the agreement API refuses the request
    "unknown_subscription",
    "page",  # a part of a run over all subscriptions was handed out
]

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
"""Every outcome of a message, and its metric (docs/operations.md names the alarms)."""

WARNED_OF: frozenset[Outcome | ReconcileOutcome] = frozenset(
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
