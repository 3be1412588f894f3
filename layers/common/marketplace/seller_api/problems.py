"""The error answers of the seller API: each has one status, code and text."""

from typing import Any

from marketplace.platform import problem
from marketplace.platform.problem import Problem

ROUTE_UNKNOWN = problem.ROUTE_UNKNOWN

BODY_TOO_LARGE = Problem(
    413,
    "request_too_large",
    "Request too large",
    "The body is larger than this route takes; send fewer records at a time.",
)

BODY_INVALID = Problem(
    400, "invalid_body", "Invalid body", "The body must be a JSON object, as docs/openapi.json describes it."
)

PARAMETER_INVALID = Problem(
    400, "invalid_parameter", "Invalid parameter", "A query parameter is unknown, given twice or has a wrong value."
)

CURSOR_INVALID = Problem(
    400,
    "invalid_cursor",
    "Invalid cursor",
    "The cursor isn't one that this query gave; leave it out to start from the beginning.",
)

CLAIM_UNKNOWN = Problem(
    404,
    "registration_unknown",
    "Registration unknown",
    "The registration code is unknown, older than an hour, or older than the release of its subscription; the buyer "
    "gets a new one by choosing Set up your account in AWS Marketplace.",
)

SUBSCRIPTION_UNKNOWN = Problem(
    404,
    "subscription_not_found",
    "Subscription not found",
    "There is no such subscription; find it with GET /subscriptions.",
)

RECORD_UNKNOWN = Problem(
    404,
    "usage_record_not_found",
    "Usage record not found",
    "This subscription has no usage record with that id; percent-encode the id in the path.",
)

CLAIMED_ELSEWHERE = Problem(
    409,
    "claimed_by_another_tenant",
    "Claimed by another tenant",
    "This subscription, or the other one of a customer who was moved to a licence, belongs to another tenant. Let the "
    "buyer log in with that tenant's own credentials; never sign anybody in because of this answer.",
)

CLAIM_CHANGED = Problem(
    409,
    "claim_changed",
    "Claim changed",
    "The claim is not, or no longer, the one that the request names; tenant_id and claim_revision say how it is now. "
    "Read the subscription and decide again.",
)

ACCOUNT_LINKED_ELSEWHERE = Problem(
    409,
    "account_linked_to_another_tenant",
    "Account linked to another tenant",
    'Another tenant belongs to the same AWS account. Claim for that tenant, or repeat with "share_account": true if '
    "two tenants are meant to share the account.",
)

NOT_METERED = Problem(
    409,
    "not_metered",
    "Not metered here",
    "This deployment meters nothing (MeteringEnabled), so no usage can be sent again.",
)

UNAVAILABLE = Problem(
    503, "unavailable", "Unavailable", "AWS gave no answer; repeat the request, which is safe.", retry_after=5
)

BUSY = Problem(
    503,
    "busy",
    "Busy",
    "AWS is throttling or others write the same data; repeat the request, which is safe.",
    retry_after=1,
)

INTERNAL = Problem(
    500, "internal_error", "Internal error", "This is a fault of the service and has been logged; repeating is safe."
)


class ProblemError(Exception):
    """A request that is answered with a problem; `details` go into the answer beside code and message."""

    def __init__(self, problem: Problem, **details: Any) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.details = details
