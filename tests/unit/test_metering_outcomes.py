"""The outcome table: every answer of BatchMeterUsage, and nothing guessed."""

from typing import Any

import pytest

from marketplace.metering.outcomes import (
    Answer,
    Conflict,
    Held,
    Metered,
    Outcome,
    Rejected,
    StaysDue,
    TagsRefused,
    Unbillable,
    outcome_of,
    outcome_of_refusal,
)
from marketplace.metering.wire import Sendable
from marketplace.platform.errors import InvalidParameterError, RecordRefusedError, RefusedError
from tests.support.world import metering_record


def record(*, doubtful: bool = False, tagged: bool = False) -> Sendable:
    wire: dict[str, Any] = {"Timestamp": 7200, "Dimension": "d", "Quantity": 1, "CustomerIdentifier": "c"}
    if tagged:
        wire["UsageAllocations"] = [{"AllocatedUsageQuantity": 1}]
    return Sendable(metering_record(), wire, 100, doubtful=doubtful)


def answered(status: str, metering_record_id: str | None = None) -> Answer:
    return Answer({record().result_key: (status, metering_record_id)}, frozenset())


UNPROCESSED = Answer({}, frozenset({record().result_key}))
BOTH = Answer({record().result_key: ("Success", "m")}, frozenset({record().result_key}))


@pytest.mark.parametrize(
    ("doubtful", "answer", "outcome"),
    [
        (False, answered("Success", "m"), Metered("m")),
        (True, answered("Success", "m"), Metered("m")),
        (False, BOTH, Metered("m")),
        (True, answered("DuplicateRecord", "m"), Metered("m", earlier=True)),
        (False, answered("DuplicateRecord", "m"), Conflict()),
        (False, answered("CustomerNotSubscribed"), Held()),
        (True, answered("CustomerNotSubscribed"), Held()),
        (False, UNPROCESSED, StaysDue("unprocessed", doubtful=False)),
        (True, UNPROCESSED, StaysDue("unprocessed", doubtful=True)),
        (False, Answer({}, frozenset()), StaysDue("unanswered", doubtful=True)),
        (False, answered("Postponed"), StaysDue("unknown_status", doubtful=True)),
    ],
)
def test_each_answer_has_one_outcome(doubtful: bool, answer: Answer, outcome: Outcome) -> None:
    assert outcome_of(record(doubtful=doubtful), answer) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RecordRefusedError("InvalidUsageDimensionException"), Rejected("InvalidUsageDimensionException")),
        (RecordRefusedError("InvalidCustomerIdentifierException"), Rejected("InvalidCustomerIdentifierException")),
        (RecordRefusedError("InvalidProductCodeException"), Rejected("InvalidProductCodeException")),
        (InvalidParameterError("ValidationException"), Rejected("ValidationException")),
        (RecordRefusedError("InvalidLicenseException"), Held("InvalidLicenseException")),
        (RecordRefusedError("TimestampOutOfBoundsException"), Unbillable("TimestampOutOfBoundsException")),
        (RefusedError("SomethingNewException"), StaysDue("unknown_refusal", doubtful=False)),
    ],
)
@pytest.mark.parametrize("tagged", [False, True])
def test_each_refusal_of_a_lone_record_has_one_outcome(error: RefusedError, outcome: Outcome, tagged: bool) -> None:
    assert outcome_of_refusal(record(tagged=tagged), error) == outcome


@pytest.mark.parametrize("code", ["InvalidTagException", "InvalidUsageAllocationsException"])
def test_refused_tags_reject_the_record_only_if_it_has_none(code: str) -> None:
    assert outcome_of_refusal(record(tagged=True), RecordRefusedError(code)) == TagsRefused(code)
    assert outcome_of_refusal(record(), RecordRefusedError(code)) == Rejected(code)
