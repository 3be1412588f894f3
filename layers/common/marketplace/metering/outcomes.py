"""What an answer of BatchMeterUsage means for a record. A record whose answer is not named here stays due."""

from dataclasses import dataclass

from marketplace.metering.wire import ResultKey, Sendable
from marketplace.platform.errors import InvalidParameterError, RecordRefusedError, RefusedError


@dataclass(frozen=True, slots=True)
class Answer:
    """What AWS said about the records of one call that it took.

    `statuses` holds (Status, MeteringRecordId) by record; `unprocessed` the records that AWS asks to be sent again. A
    record in neither has no answer.
    """

    statuses: dict[ResultKey, tuple[str, str | None]]
    unprocessed: frozenset[ResultKey]


@dataclass(frozen=True, slots=True)
class Metered:
    """AWS has accepted the record. `earlier`: in an attempt whose answer was lost; AWS refuses the repetition as a
    duplicate."""

    metering_record_id: str | None
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another sender took the hour; AWS kept that quantity and does not say which it is."""


@dataclass(frozen=True, slots=True)
class Held:
    """AWS does not know the customer as subscribed: not yet, no more, or suspended. `reason` is its word for it."""

    reason: str = "CustomerNotSubscribed"


@dataclass(frozen=True, slots=True)
class TagsRefused:
    """AWS refused the allocations; `reason` is its error code. The quantity is money, a tag is a label: the record is
    sent again without them."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """AWS refused the record itself; `reason` is its error code."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unbillable:
    """AWS takes the record no more, by its answer about this one or about a younger one."""

    reason: str


@dataclass(frozen=True, slots=True)
class StaysDue:
    """Nothing is settled. `doubtful`: an attempt may have been accepted without an answer."""

    reason: str
    doubtful: bool


@dataclass(frozen=True, slots=True)
class AwaitsApproval:
    """The usage is unusual and was not sent; `reason` says why."""

    reason: str


type Outcome = AwaitsApproval | Metered | Conflict | Held | TagsRefused | Rejected | Unbillable | StaysDue

TOO_OLD = "TimestampOutOfBoundsException"


def outcome_of(record: Sendable, answer: Answer) -> Outcome:
    """The outcome of a record in a call that AWS answered with 200 (botocore model, BatchMeterUsageResult).

    An UnprocessedRecord was not taken in this attempt, which says nothing of an earlier one.
    """
    status, metering_record_id = answer.statuses.get(record.result_key, (None, None))
    outcome: Outcome = StaysDue("unanswered" if status is None else "unknown_status", doubtful=True)
    match status:
        case None if record.result_key in answer.unprocessed:
            outcome = StaysDue("unprocessed", record.doubtful)
        case "Success":
            outcome = Metered(metering_record_id)
        case "DuplicateRecord":
            outcome = Metered(metering_record_id, earlier=True) if record.doubtful else Conflict()
        case "CustomerNotSubscribed":
            outcome = Held()
    return outcome


def outcome_of_refusal(record: Sendable, error: RefusedError) -> Outcome:
    """The outcome of a record that AWS refused when it stood alone in a call (botocore model, the errors of
    BatchMeterUsage)."""
    match error.code:
        case "TimestampOutOfBoundsException":
            return Unbillable(error.code)
        case "InvalidLicenseException":
            return Held(error.code)
        case "InvalidTagException" | "InvalidUsageAllocationsException" if record.has_allocations:
            return TagsRefused(error.code)
    if isinstance(error, RecordRefusedError | InvalidParameterError):
        return Rejected(error.code)
    return StaysDue("unknown_refusal", record.doubtful)
