"""The words of the messages that the application sends to its own queues.

The notification queue carries AWS Marketplace's notifications and rechecks: what is done with them needs no answer of
AWS Marketplace. What needs one travels on the read-back queue, so that no closing waits behind it. One function works
both. The metering queue starts metering runs.
"""

REQUEST = "marketplace_request"
"""The attribute that tells such a message from a notification; it holds one of the six words below."""
LOOK_AGAIN = "look_again"
READ_BACK = "read_back"
RECONCILE = "reconcile"
FIND_LICENSES = "find_licenses"
METERING_RUN = "metering_run"
MEASURE_WAITING = "measure_waiting"

# Why a subscription is rechecked; what a recheck does depends on it.
REGISTERED = "registered"
CLAIMED = "claimed"
CONTACT_PROVIDED = "contact_provided"
NOT_SUBSCRIBED = "not_subscribed"
CLOSING_TIMER = "closing_timer"
START_TIMER = "start_timer"
RECONCILED = "reconciled"
COMPARED = "compared"
CONFLICT_RESOLVED = "conflict_resolved"

MAX_DELAY_SECONDS = 900
"""The longest that SQS holds a message back (SQS Developer Guide: message timers)."""
