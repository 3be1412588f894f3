"""The words of the messages that the application sends to its own notification queue, to have a subscription rechecked.

They share the queue with AWS Marketplace's notifications, so one function, one dead-letter queue and one retry policy
serve both, and a registration or a metering run never waits for an entitlement check.
"""

REQUEST = "marketplace_request"
"""The attribute that tells such a message from a notification; it holds LOOK_AGAIN or RECONCILE."""
LOOK_AGAIN = "look_again"
RECONCILE = "reconcile"

# Why a subscription is rechecked; what a recheck does depends on it.
REGISTERED = "registered"
CLAIMED = "claimed"
NOT_SUBSCRIBED = "not_subscribed"
CLOSING_TIMER = "closing_timer"
START_TIMER = "start_timer"
ENTITLEMENTS_PENDING = "entitlements_pending"
RECONCILED = "reconciled"

MAX_DELAY_SECONDS = 900
"""The longest that SQS holds a message back (SQS Developer Guide: message timers)."""
