"""What a report of usage came to: a typed result for each usage record, and its form in the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketplace.dynamodb import keys
from marketplace.ledger.deadlines import month_of
from marketplace.platform.clock import EpochSeconds, iso
from marketplace.usage.record import Rejection

if TYPE_CHECKING:
    from marketplace.usage.report import UsageReport

NOT_ACTIVE = Rejection(
    "not_active",
    "AWS Marketplace has not activated this subscription yet; report the usage again once it is active",
    retryable=True,
)
ACCOUNT_UNKNOWN = Rejection(
    "account_unknown",
    "the subscription is active, but AWS Marketplace has not named its buyer's AWS account yet, without which it can't "
    "be metered; AWS is being asked, so send this record again with the same id",
    retryable=True,
)
NOT_METERED = Rejection(
    "not_metered",
    "this deployment meters nothing (MeteringEnabled), so the record was not recorded and is not billed; send it to "
    "the deployment that meters the product, or again with the same id once this one meters",
    retryable=True,
)
ENDED = Rejection("ended", "the subscription has ended and AWS Marketplace takes no more usage for it")
ENDED_RECENTLY = Rejection(
    "ended",
    "the subscription has ended; AWS Marketplace may still say that it goes on, so send this record again within a day",
    retryable=True,
)
FAILED = Rejection("failed", "the subscription failed and AWS Marketplace takes no usage for it")
UNKNOWN = Rejection("unknown_subscription", "there is no such subscription; look it up with GET /subscriptions")
REFUSING = {"pending": NOT_ACTIVE, "failed": FAILED, "ended": ENDED}
"""Why a subscription in this status takes no usage."""

IN_FUTURE = Rejection("in_future", "timestamp: more than 5 minutes in the future", retryable=True)
TOO_OLD = Rejection("too_old", "timestamp: AWS Marketplace takes usage for 24 hours only, this is older")
NO_HOUR = Rejection("no_open_hour", "no hour that AWS Marketplace still accepts can take this usage")
BUSY = Rejection(
    "busy", "other reports were changing the same hour; send this record again with the same id", retryable=True
)
UNAVAILABLE = Rejection(
    "unavailable",
    "the store gave no answer; send this record again with the same id, it is counted once",
    retryable=True,
)
ENTITLEMENTS_PENDING = Rejection(
    "entitlements_pending",
    "what this contract includes at the time of the usage is not known now, so nothing can be metered beyond it; send "
    "this record again with the same id",
    retryable=True,
)
_REPEATED = Rejection(
    "repeated_id",
    "this id stands earlier in the request with other content, which was not recorded; send this record again",
    retryable=True,
)


UNKNOWN_RECORD = Rejection("unknown_record", "no usage is recorded under this id, so there is nothing to void")
SEALED = Rejection(
    "sealed",
    "the hour of this record is sealed, so AWS Marketplace may have it; ask for a billing adjustment with the command "
    "`correct` (docs/operations.md) once it is invoiced",
)
TOO_LATE = Rejection(
    "too_late",
    "the contract includes this record whole, and AWS Marketplace takes no more usage of its hour: what its term "
    "includes is settled",
)
NOT_TRACEABLE = Rejection(
    "not_traceable",
    "the record was recorded by an earlier version, which did not keep which term of the contract it was counted in",
)


def not_a_quantity(included_dimension: str) -> Rejection:
    """Why usage can't be split that counts against this dimension's entitlement."""
    return Rejection(
        "included_not_a_quantity",
        f"the entitlement {included_dimension} of this contract is no number, so it is not known what exceeds it; "
        "correct the setting OverageDimensions and send this record again with the same id",
        retryable=True,
    )


_ONLY_TO_WAIT = frozenset(
    (one.reason, one.retryable) for one in (NOT_ACTIVE, ENDED_RECENTLY, ENTITLEMENTS_PENDING, BUSY, UNAVAILABLE)
)
"""Rejections that ask for the same record again and of which nobody has made a mistake."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Counted in `hour`. `own_hour` is the hour of the usage itself; `untagged`: its tags found no room. `included` of
    the `quantity` is what a contract includes; None where all usage is metered."""

    id: str
    hour: EpochSeconds
    own_hour: EpochSeconds
    quantity: int
    untagged: bool = False
    included: int | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Recorded before, with the same content, as `first` says."""

    first: Recorded


@dataclass(frozen=True, slots=True)
class Conflict:
    """The id was recorded before with other content."""

    id: str


@dataclass(frozen=True, slots=True)
class Voided:
    """Recorded in `hour` and taken back since: nothing of it is counted, and its id can't be used again."""

    id: str
    hour: EpochSeconds
    quantity: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not recorded. `id` is None where the record has none."""

    id: str | None
    rejection: Rejection

    @property
    def may_be_recorded(self) -> bool:
        """Whether the record may be recorded all the same, because nobody knows or because another attempt did it."""
        return self.rejection in (BUSY, UNAVAILABLE)


type Result = Recorded | Duplicate | Conflict | Voided | Rejected


def known(report: "UsageReport", stored: Mapping[str, Any]) -> Duplicate | Conflict | Voided:
    """The result of a report whose id is stored already."""
    if not report.is_kept_as(stored["digest"], keys.subscription_id_of(stored["pk"])):
        return Conflict(report.id)
    if "voided_at" in stored:
        return voided(stored)
    hour = EpochSeconds(stored["hour"])
    return Duplicate(Recorded(report.id, hour, hour, stored["quantity"], included=stored.get("included")))


def voided(stored: Mapping[str, Any]) -> Voided:
    return Voided(stored["record_id"], EpochSeconds(stored["hour"]), stored["quantity"])


def repetition(again: "UsageReport", first: "UsageReport", result: Result) -> Result:
    """The result of an id that stands twice in one request, from the result of the first. Only if the first was
    recorded can it be said at once what becomes of other content."""
    if not again.has_content_of(first):
        is_recorded = isinstance(result, Recorded | Duplicate | Voided)
        return Conflict(again.id) if is_recorded else Rejected(again.id, _REPEATED)
    return Duplicate(result) if isinstance(result, Recorded) else result


def id_of(raw: object) -> str | None:
    """The id of a record that can't be read otherwise, cut to the length that ids may have."""
    given = raw.get("id") if isinstance(raw, dict) else None
    return given[:128] if isinstance(given, str) else None


def as_json(result: Result) -> dict[str, object]:
    """The result as the API answers it (docs/integration.md)."""
    match result:
        case Recorded():
            return _recorded(result, "recorded")
        case Duplicate():
            return _recorded(result.first, "duplicate")
        case Conflict():
            return {
                "id": result.id,
                "status": "conflict",
                "reason": "other_content",
                "message": "this id was recorded with other content, and that stands; use a new id for other usage",
                "retryable": False,
            }
        case Voided():
            return {
                "id": result.id,
                "status": "voided",
                "hour": iso(result.hour),
                "reason": "voided",
                "message": f"the {result.quantity} units of this record were taken back, and its id can't be used "
                "again; report other usage under a new id",
                "retryable": False,
            }
        case Rejected():
            return {
                "id": result.id,
                "status": "rejected",
                "reason": result.rejection.reason,
                "message": result.rejection.message,
                "retryable": result.rejection.retryable,
            }


def metric_of(result: Mapping[str, object]) -> str:
    """The metric that counts a result in the form of `as_json`. A rejection that time cures, and usage that is reported
    to a deployment which meters nothing, have metrics of their own: `ReportRejected` raises an alarm."""
    if result["status"] != "rejected":
        return f"Report{str(result['status']).capitalize()}"
    if result["reason"] == NOT_METERED.reason:
        return "ReportNotMetered"
    return "ReportPostponed" if (result["reason"], result["retryable"]) in _ONLY_TO_WAIT else "ReportRejected"


def _recorded(result: Recorded, status: str) -> dict[str, object]:
    shown: dict[str, object] = {"id": result.id, "status": status, "hour": iso(result.hour)}
    if result.hour != result.own_hour:
        shown["own_hour"] = iso(result.own_hour)
        if month_of(result.hour) != month_of(result.own_hour):
            shown["month_shifted"] = True
    if result.untagged:
        shown["untagged"] = True
    if result.included is not None:
        shown |= {"included": result.included, "overage": result.quantity - result.included}
    return shown
