"""What the API says to a program, as the console says it to a person."""

import typing

import pytest

from local.console import words
from local.console.timeline import about
from marketplace.entitlements.rules import Reason
from marketplace.ledger.record import State
from marketplace.platform.problem import Problem
from marketplace.seller_api import problems
from marketplace.subscriptions.model import Status
from marketplace.usage import results
from marketplace.usage.record import Rejection


def of_kind(module: object, kind: type) -> list[typing.Any]:
    return [value for value in vars(module).values() if isinstance(value, kind)]


@pytest.mark.parametrize("problem", of_kind(problems, Problem), ids=lambda problem: problem.code)
def test_no_problem_speaks_of_methods_paths_and_encodings(problem: Problem) -> None:
    said = words.of_problem(problem.as_json(), problem.status)

    for word in ("GET /", "POST /", "percent", '"', "_"):
        assert word not in said


@pytest.mark.parametrize("rejection", of_kind(results, Rejection), ids=lambda rejection: rejection.reason)
def test_every_reason_to_reject_usage_has_words(rejection: Rejection) -> None:
    said = words.of_rejection({"status": "rejected", "reason": rejection.reason, "message": rejection.message})

    assert said.startswith("Rejected: ")
    assert said.endswith(".")
    assert "GET /" not in said
    assert "timestamp:" not in said


def test_every_status_state_and_reason_has_words() -> None:
    assert set(words.STATUS) == set(typing.get_args(Status.__value__))
    assert set(words.STATE) == set(typing.get_args(State.__value__))
    assert set(typing.get_args(Reason.__value__)) == set(words.REASONS)


@pytest.mark.parametrize("decision", ["approve", "refuse"])
def test_a_decision_about_unusual_usage_is_told_with_what_came_too_late(decision: str) -> None:
    held = {"quantity": 1200, "dimension": "users", "hour": "2026-12-01T07:00:00Z", "state": "awaiting_approval"}
    sent = {**held, "quantity": 7, "state": "metered"}

    assert words.of_decision(decision, {"decided": [held], "undecided": []})[1] == ""
    notice, problem = words.of_decision(decision, {"decided": [held], "undecided": [sent]})
    assert f"{decision.capitalize()}" in notice
    assert "1,200 users of 2026-12-01 07:00" in notice
    assert problem == "The decision came too late: 7 users of 2026-12-01 07:00 is metered."
    assert words.of_decision(decision, {"decided": [], "undecided": [sent]}) == ("", problem)
    assert words.of_decision(decision, {"decided": [], "undecided": []})[1].startswith("Nothing of this")


def test_an_event_tells_why_usage_is_unusual_in_words() -> None:
    assert "reason the subscription has not used this dimension before" in about({"reason": "new_dimension"})


def test_usage_that_moved_to_another_month_says_so() -> None:
    result = {
        "status": "recorded",
        "hour": "2026-12-01T07:00:00Z",
        "own_hour": "2026-11-30T23:00:00Z",
        "month_shifted": True,
    }
    said = words.of_outcome(result, {"id": "r", "quantity": 1200, "dimension": "users"})

    assert "Recorded 1,200 users, booked to the hour 2026-12-01 07:00." in said
    assert "on the bill of December 2026 and not of November 2026" in said


def test_an_outcome_tells_of_tags_without_room_and_of_what_a_contract_includes() -> None:
    result = {"status": "recorded", "hour": "2026-12-01T07:00:00Z", "untagged": True, "included": 1, "overage": 2}
    said = words.of_outcome(result, {"id": "r", "quantity": 3, "dimension": "users"})

    assert "counts as untagged" in said
    assert "1 of it are included in the contract; 2 will be metered" in said


def test_an_event_is_told_in_one_line_without_what_every_event_says() -> None:
    detail = {
        "subscription_id": "sub-1",
        "status": "closing",
        "tenant_id": None,
        "closing_deadline": "2026-09-01T10:12:57Z",
        "after": {"seats": {"value": 10, "expires_at": None}},
    }

    assert about(detail) == "status closing; closing deadline 2026-09-01 10:12; after seats value 10"
    assert about("text") == "text"
