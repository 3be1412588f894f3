"""What the seller is answered for each usage record: recorded, duplicate, conflict or rejected."""

from collections.abc import Mapping
from typing import Any

from marketplace.platform.clock import iso
from marketplace.usage.report import Rejection, UsageReport

type Result = dict[str, object]


_NOT_ACTIVE = Rejection(
    "not_active",
    "AWS Marketplace has not activated this subscription yet; report the usage again once it is active",
    retryable=True,
)


_ENDED = Rejection("ended", "the subscription has ended and AWS Marketplace takes no more usage for it")


_FAILED = Rejection("failed", "the subscription failed and AWS Marketplace takes no usage for it")


_UNKNOWN = Rejection("unknown_subscription", "there is no such subscription; look it up with GET /subscriptions")


_REFUSING = {"pending": _NOT_ACTIVE, "failed": _FAILED, "ended": _ENDED}


_IN_FUTURE = Rejection("in_future", "timestamp: more than 5 minutes in the future", retryable=True)


_TOO_OLD = Rejection("too_old", "timestamp: AWS Marketplace takes usage for 24 hours only, this is older")


_NO_HOUR = Rejection("no_open_hour", "no hour that AWS Marketplace still accepts can take this usage")


_BUSY = Rejection(
    "busy", "other reports were changing the same hour; send this record again with the same id", retryable=True
)


_REPEATED = Rejection(
    "repeated_id",
    "this id stands earlier in the request with other content, which was not recorded; send this record again",
    retryable=True,
)


_UNAVAILABLE = Rejection(
    "unavailable",
    "the store gave no answer; send this record again with the same id, it is counted once",
    retryable=True,
)


_OPEN = frozenset({_BUSY.reason, _UNAVAILABLE.reason})
"""Reasons that say nothing of what becomes of the record: it is to be sent again."""


def _split(quantity: int, included: int | None) -> Result:
    """What of a quantity a contract includes and what is metered, for usage that counts against a contract."""
    return {} if included is None else {"included": included, "overage": quantity - included}


def _known(report: UsageReport, stored: Mapping[str, Any]) -> Result:
    if stored["digest"] == report.content_digest:
        split = _split(stored["quantity"], stored.get("included"))
        return {"id": report.id, "status": "duplicate", "hour": iso(stored["hour"]), **split}
    return _conflict(report.id)


def _conflict(record_id: str) -> Result:
    return {
        "id": record_id,
        "status": "conflict",
        "reason": "other_content",
        "message": "this id was recorded with other content, and that stands; use a new id for other usage",
        "retryable": False,
    }


def _rejected(record_id: str | None, rejection: Rejection) -> Result:
    return {
        "id": record_id,
        "status": "rejected",
        "reason": rejection.reason,
        "message": rejection.message,
        "retryable": rejection.retryable,
    }


def _repetition(again: UsageReport | Rejection, first: UsageReport | Rejection, result: Result) -> Result:
    """The result of an id that stands twice in one request. Only if the first was recorded can it be said at once what
    becomes of other content."""
    if isinstance(again, Rejection) or isinstance(first, Rejection):
        raise TypeError("only valid reports are compared")
    if again.content_digest != first.content_digest:
        recorded = result["status"] in {"recorded", "duplicate"}
        return _conflict(again.id) if recorded else _rejected(again.id, _REPEATED)
    return {**result, "status": "duplicate"} if result["status"] == "recorded" else dict(result)


def _id_of(raw: object) -> str | None:
    given = raw.get("id") if isinstance(raw, dict) else None
    return given[:128] if isinstance(given, str) else None
