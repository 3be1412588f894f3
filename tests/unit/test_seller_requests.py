"""What the seller's application may ask: exactly what the models say, with complaints that name the field."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.seller_api.requests import (
    EntitlementsQuery,
    RecordUsageQuery,
    SubscriptionsQuery,
    UsageBody,
    UsageQuery,
)
from marketplace.seller_api.subscription_queries import Filter

NOW = int(datetime.fromisoformat("2026-11-22T14:05:00Z").timestamp())


def usage_query(**given: str) -> UsageQuery:
    return UsageQuery.model_validate({name.rstrip("_"): value for name, value in given.items()})


def hours(**given: str) -> tuple[str, str]:
    start, end = usage_query(**given).hours(NOW)
    return iso(start), iso(end)


def test_without_a_time_the_last_day_is_meant_with_the_current_hour() -> None:
    assert hours() == ("2026-11-21T15:00:00Z", "2026-11-22T15:00:00Z")


def test_hours_that_overlap_the_time_asked_for_are_meant() -> None:
    assert hours(from_="2026-11-22T10:30:00Z", to="2026-11-22T12:30:00Z") == (
        "2026-11-22T10:00:00Z",
        "2026-11-22T13:00:00Z",
    )
    assert hours(from_="2026-11-22T10:00:00Z", to="2026-11-22T12:00:00Z") == (
        "2026-11-22T10:00:00Z",
        "2026-11-22T12:00:00Z",
    )


def test_one_end_is_enough() -> None:
    assert hours(from_="2026-11-20T00:00:00Z") == ("2026-11-20T00:00:00Z", "2026-11-22T15:00:00Z")
    assert hours(from_="2027-01-01T00:00:00Z") == ("2027-01-01T00:00:00Z", "2027-01-01T01:00:00Z")
    assert hours(to="2026-11-20T00:00:00Z") == ("2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z")


def test_any_offset_from_utc_is_understood() -> None:
    assert hours(from_="2026-11-22T10:00:00+05:30", to="2026-11-22T12:00:00+05:30") == (
        "2026-11-22T04:00:00Z",
        "2026-11-22T07:00:00Z",
    )


@given(st.integers(978_307_200, 221_845_000_000), st.integers(1, 400 * DAY))
def test_hours_are_whole_and_in_order(start: int, seconds: int) -> None:
    query = UsageQuery.model_validate({"from": iso(start)})

    first, last = query.hours(NOW + seconds)

    assert first % HOUR == last % HOUR == 0
    assert first < last


@pytest.mark.parametrize(
    "given",
    [
        {"from": "2026-11-22"},
        {"from": "1795356300"},
        {"from": "2026-11-22T14:00:00"},
        {"from": "2026-11-22T14:00:00 00:00"},
        {"from": "1999-11-22T14:00:00Z"},
        {"to": "9999-12-31T23:59:59Z"},
        {"from": "2026-11-22T14:00:00Z", "to": "2026-11-22T14:00:00Z"},
        {"limit": "0"},
        {"limit": "501"},
        {"cursor": ""},
        {"start": "2026-11-22T14:00:00Z"},
    ],
)
def test_other_times_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        UsageQuery.model_validate(given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"tenant_id": "acme"}, Filter("tenant_id", "acme")),
        ({"account_id": "111122223333"}, Filter("account_id", "111122223333")),
        ({"status": "closing"}, Filter("status", "closing")),
    ],
)
def test_one_filter_is_given(given: dict[str, str], wanted: Filter) -> None:
    assert SubscriptionsQuery.model_validate(given).filter == wanted


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"tenant_id": "acme", "status": "active"},
        {"status": "cancelled"},
        {"account_id": "1111"},
        {"account_id": "１１１１２２２２３３３３"},  # noqa: RUF001 - digits of another script
        {"tenant_id": ""},
        {"tenant_id": "acme", "limit": "101"},
        {"tenant": "acme"},
    ],
)
def test_none_or_two_or_unknown_filters_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SubscriptionsQuery.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {"quantity": "5"},
        {"dimension": "d", "quantity": "-1"},
        {"dimension": "d", "quantity": "1.5"},
        {"dimension": ""},
        {"dimension": "租" * 86},
    ],
)
def test_an_entitlement_check_is_about_a_dimension_and_a_whole_number(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        EntitlementsQuery.model_validate(given)


@pytest.mark.parametrize("given", [{"validate": "yes"}, {"validate_only": "true"}])
def test_validate_is_true_or_false(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RecordUsageQuery.model_validate(given)


@pytest.mark.parametrize(
    "body", [[], {}, {"records": []}, {"records": [{}] * 501}, {"records": {}}, {"records": [1], "x": 1}]
)
def test_a_usage_body_holds_records_and_nothing_else(body: Any) -> None:
    with pytest.raises(ValidationError):
        UsageBody.model_validate(body)


def test_records_themselves_are_not_looked_at() -> None:
    assert UsageBody.model_validate({"records": [1, None, {"a": []}]}).records == [1, None, {"a": []}]
