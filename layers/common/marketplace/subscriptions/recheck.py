"""Messages that the application sends to its own notification queue: "look at this subscription again".

They travel with AWS Marketplace's notifications, so one function, one dead-letter queue and one retry policy serve
both, and a registration or a metering run never waits for an entitlement check.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

REQUEST = "marketplace_request"
LOOK_AGAIN = "look_again"
RECONCILE = "reconcile"

REGISTERED = "registered"
CLAIMED = "claimed"
NOT_SUBSCRIBED = "not_subscribed"
CLOSING_TIMER = "closing_timer"
START_TIMER = "start_timer"
ENTITLEMENTS_PENDING = "entitlements_pending"
RECONCILED = "reconciled"

MAX_DELAY_SECONDS = 900
"""The longest that SQS holds a message back (SQS Developer Guide: message timers)."""
