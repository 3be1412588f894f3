"""The error answers to buyers: each has one status, code and text."""

from marketplace.platform.problem import Problem

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


ADDRESS_CLOSED = Problem(
    403,
    "address_closed",
    "This address is no longer in use",
    "Choose “Set up your account” in AWS Marketplace again. Your subscription is not affected.",
)


FORM_TOO_LARGE = Problem(
    413, "request_too_large", "That was too much to read", "What was sent is larger than this page takes."
)


FORM_UNREADABLE = Problem(
    400, "form_unreadable", "This form could not be read", "Choose “Set up your account” in AWS Marketplace again."
)


TOO_MANY_CONTACTS = Problem(
    409,
    "too_many_contacts",
    "Contact us to change your details",
    "Contact details for this subscription have been entered too often, so this form takes no more. The details that "
    "were entered before are kept. Write to the support contact below to change them.",
)


PAGE_NOT_FOUND = Problem(
    404,
    "not_found",
    "Page not found",
    "To set up your account, choose “Set up your account” in AWS Marketplace. If that brought you here, "
    "please contact us.",
)


FULFILMENT_URL_WRONG = Problem(
    404,
    "fulfilment_url_wrong",
    "AWS Marketplace sent you to a wrong address",
    "Please contact us: only we can correct it. Your subscription is not affected.",
)
"""A buyer's token at an address that is no page: the listing names another fulfilment URL than the stack's."""


METHOD_NOT_ALLOWED = Problem(
    405,
    "method_not_allowed",
    "This page cannot be used that way",
    "To set up your account, choose “Set up your account” in AWS Marketplace.",
    allow="GET, HEAD, POST",
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
