"""What the API says to a program, said to a person: states, reasons, problems, outcomes."""

from collections.abc import Mapping
from typing import Any

from marketplace_emulator.views import sentences

STATUS = {
    "active": ("good", "Active"),
    "pending": ("wait", "Waiting for AWS Marketplace"),
    "closing": ("wait", "Closing: final usage"),
    "ended": ("", "Ended"),
    "failed": ("bad", "Failed"),
}
STATE = {
    "open": ("", "Open"),
    "metered": ("good", "Metered"),
    "held": ("wait", "Held"),
    "awaiting_approval": ("wait", "Awaits your approval"),
    "rejected": ("bad", "Rejected"),
    "conflict": ("bad", "Conflict"),
    "unbillable": ("bad", "Not billable"),
    "shadow": ("", "In shadow: not sent"),
}
RESULT = {
    "recorded": ("good", "Recorded"),
    "duplicate": ("", "Already recorded"),
    "conflict": ("bad", "Conflict"),
    "rejected": ("bad", "Rejected"),
}
UNUSUAL = {
    "far_above_usual": "far more than the subscription's greatest hour of the last days",
    "new_dimension": "the subscription has not used this dimension before",
    "not_approved": "it was unusual, and nobody approved it in time",
    "refused_by_seller": "it was unusual, and you refused it",
}
"""Why usage awaits approval, or was not sent after it."""
REASONS = {
    "entitled": "AWS grants it.",
    "in_grace": "Its date has passed, but AWS still lists it: a renewal may be on its way.",
    "not_entitled": "AWS grants no such dimension.",
    "quantity_exceeded": "More than AWS grants.",
    "quantity_not_comparable": "What AWS grants is a text, with which no quantity can be compared.",
    "expired": "The entitlement has expired.",
    "entitlements_pending": "The subscription is active, and AWS has not listed what it grants yet.",
    "entitlements_unavailable": "What AWS grants was never read, and AWS cannot be asked now.",
    "entitlements_too_old": "AWS could not be asked for too long.",
    "unknown_subscription": "There is no such subscription.",
    "subscription_pending": "AWS Marketplace has not activated the subscription yet.",
    "subscription_closing": "The subscription is ending.",
    "subscription_ended": "The subscription has ended.",
    "subscription_failed": "The subscription failed.",
}
_PROBLEMS = {
    "registration_unknown": "This registration code is not known, or it is older than an hour. The buyer gets a new "
    "one by choosing “Set up your account” on AWS Marketplace again.",
    "subscription_not_found": "There is no such subscription.",
    "usage_record_not_found": "This subscription has no usage record with that id.",
    "claimed_by_another_tenant": "Another tenant has claimed this subscription already.",
    "account_linked_to_another_tenant": "Another tenant belongs to the same AWS account. If both are meant to use it, "
    "tick “The AWS account belongs to other tenants too”.",
    "claim_changed": "Who has the subscription has changed in the meantime. Look at the history, and decide anew.",
    "invalid_cursor": "This page of the list is not there any more; begin with the first one.",
    "unavailable": "AWS gave no answer. Try again; nothing is done twice.",
    "busy": "Others are changing the same thing. Try again; nothing is done twice.",
    "internal_error": "Something went wrong inside the application; its log says what.",
}
_REJECTIONS = {
    "not_active": "AWS Marketplace has not activated this subscription yet. Report the usage again once it is active.",
    "ended": "The subscription has ended, and AWS Marketplace takes no more usage for it.",
    "failed": "The subscription failed, and AWS Marketplace takes no usage for it.",
    "unknown_subscription": "There is no such subscription.",
    "in_future": "The time of the usage is more than 5 minutes in the future.",
    "too_old": "The time of the usage is more than 24 hours ago, and AWS Marketplace takes none that is so old.",
    "no_open_hour": "AWS Marketplace takes usage of that time no more.",
    "busy": "Others are reporting for the same hour. Try again with the same id.",
    "unavailable": "The store gave no answer. Try again with the same id; it is counted once.",
    "account_unknown": "AWS Marketplace has not named the buyer's AWS account yet. Report the usage again in a while.",
    "invalid_quantity": "The quantity is a whole number from 0 to 2,147,483,647.",
    "invalid_timestamp": "The time of the usage is no time, or a year that cannot be meant.",
    "invalid_id": "The id of a record is 1 to 128 characters of ASCII, without spaces.",
    "invalid_dimension": "The dimension is a text of 1 to 255 characters.",
    "invalid_subscription_id": "That is no id of a subscription.",
    "invalid_license_arn": "That is no ARN of a licence.",
    "other_content": "A record with this id was recorded with other content, and that one counts. Choose another id "
    "for other usage.",
}


def of_problem(answer: Any, status: int) -> str:
    """A refused call in words."""
    problem = answer.get("error", answer) if isinstance(answer, dict) else {}
    if not isinstance(problem, dict):
        return sentences(str(problem))
    known = _PROBLEMS.get(str(problem.get("code", "")))
    return known or sentences(str(problem.get("message") or problem.get("code") or f"The API answered {status}"))


def of_rejection(result: Mapping[str, Any]) -> str:
    """Why a usage record was not recorded, in words."""
    known = _REJECTIONS.get(str(result.get("reason", "")))
    said = known or sentences(str(result.get("message") or result.get("reason") or ""))
    return f"{RESULT.get(result['status'], ('', str(result['status'])))[1]}: {said}"


def of_outcome(result: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """What became of one usage record that the API took, in sentences."""
    if result["status"] == "duplicate":
        return f"Already recorded under the id {record['id']}: it is counted once."
    said = f"Recorded {record['quantity']:,} {record['dimension']}, booked to the hour {short(result['hour'])}."
    if "own_hour" in result:
        said += f" Its own hour, {short(result['own_hour'])}, is closed."
    if result.get("month_shifted"):
        said += f" So it is on the bill of {month_name(result['hour'])} and not of {month_name(result['own_hour'])}."
    if result.get("untagged"):
        said += " Its tags found no room in that hour: the quantity counts as untagged."
    if result.get("included"):
        said += f" {result['included']:,} of it are included in the contract; {result['overage']:,} will be metered."
    return said


def of_decision(decision: str, made: Mapping[str, Any]) -> tuple[str, str]:
    """What became of a decision about unusual usage: the notice, and the problem where it came too late."""
    decided = ", ".join(map(_named, made["decided"]))
    late = "; ".join(f"{_named(one)} is {STATE[one['state']][1].lower()}" for one in made["undecided"])
    if not decided and not late:
        return "", "Nothing of this awaits your approval any more."
    follows = {
        "approve": f"Approved: {decided}. The next metering run sends it to AWS Marketplace.",
        "refuse": f"Refused: {decided}. It is not sent to AWS Marketplace.",
    }
    return follows[decision] if decided else "", f"The decision came too late: {late}." if late else ""


def _named(record: Mapping[str, Any]) -> str:
    return f"{record['quantity']:,} {record['dimension']} of {short(record['hour'])}"


def short(text: Any) -> str:
    """`2026-11-22 14:00` for an ISO time; an empty text for none."""
    return str(text)[:16].replace("T", " ") if text else ""


def month_name(text: Any) -> str:
    """`November 2026` for an ISO time or a month."""
    year, month = str(text)[:7].split("-")
    return f"{_MONTHS[int(month) - 1]} {year}"


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
