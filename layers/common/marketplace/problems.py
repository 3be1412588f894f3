"""Every way in which a request can be answered with an error: one table of statuses, codes and words.

`code` is for programs and never changes; `message` says what to do about it.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer. `title` is the heading of its page; `retry_after` is in seconds."""

    status: int
    code: str
    title: str
    message: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}

    @property
    def metric(self) -> str:
        """The code as a metric is named."""
        return "".join(word.capitalize() for word in self.code.split("_"))

    def as_json(self, **details: Any) -> dict[str, Any]:
        """The one JSON shape of every error answer."""
        return {"error": {"code": self.code, "message": self.message, **details}}

    def saying(self, message: str) -> "Problem":
        """The same problem with a message of its own."""
        return replace(self, message=message)


# What a buyer can meet

TOKEN_MISSING = Problem(
    400,
    "token_missing",
    "Start from AWS Marketplace",
    "This page opens when you choose “Set up your account” in AWS Marketplace. Nothing has been changed.",
)
TOKEN_INVALID = Problem(
    400,
    "token_invalid",
    "AWS Marketplace did not recognise this link",
    "Choose “Set up your account” in AWS Marketplace again. Your subscription is not affected.",
)
TOKEN_EXPIRED = Problem(
    400,
    "token_expired",
    "This link has expired",
    "Choose “Set up your account” in AWS Marketplace again. You do not need to subscribe again.",
)
PRODUCT_NOT_OFFERED = Problem(
    403,
    "product_not_offered",
    "This product is set up elsewhere",
    "The product you subscribed to is not set up on this page. Please contact us and we will help.",
)
REGISTRATION_UNKNOWN = Problem(
    404,
    "registration_unknown",
    "This registration link is no longer valid",
    "Links last one hour. Choose “Set up your account” in AWS Marketplace to get a new one; you do not need to "
    "subscribe again.",
)
FORM_TOO_LARGE = Problem(
    413, "request_too_large", "That was too much to read", "What was sent is larger than this page takes."
)
FORM_UNREADABLE = Problem(
    400, "form_unreadable", "This form could not be read", "Choose “Set up your account” in AWS Marketplace again."
)
PAGE_NOT_FOUND = Problem(
    404, "not_found", "Page not found", "To set up your account, choose “Set up your account” in AWS Marketplace."
)
REGISTRATION_BUSY = Problem(
    503,
    "busy",
    "Very many people are signing up right now",
    "Wait a minute, then reload this page or choose “Set up your account” in AWS Marketplace again.",
    retry_after=30,
)
REGISTRATION_UNAVAILABLE = Problem(
    503,
    "unavailable",
    "We cannot finish your registration right now",
    "Your subscription is not affected. Wait a few minutes, then reload this page or choose “Set up your account” in "
    "AWS Marketplace again.",
    retry_after=60,
)
REGISTRATION_FAILED = Problem(
    500,
    "internal_error",
    "Something went wrong on our side",
    "Your subscription is not affected. Choose “Set up your account” in AWS Marketplace again, or contact us.",
)

# What the seller's application can meet

ROUTE_UNKNOWN = Problem(
    404,
    "route_not_found",
    "Route not found",
    "There is no such method and path; the API is described in docs/openapi.json.",
)
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
    "The registration code is unknown or older than an hour; the buyer gets a new one by choosing Set up your account "
    "in AWS Marketplace.",
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
    "Another tenant has claimed this subscription. Sign the buyer in to that tenant; a subscription is never moved.",
)
ACCOUNT_LINKED_ELSEWHERE = Problem(
    409,
    "account_linked_to_another_tenant",
    "Account linked to another tenant",
    'Another tenant belongs to the same AWS account. Claim for that tenant, or repeat with "share_account": true if '
    "two tenants are meant to share the account.",
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
