"""What the seller's application may ask, as the models understand it; tests/functions/test_seller_api.py holds what
they refuse."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.seller_api.requests import (
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
    ("given", "wanted"),
    [
        ({"tenant_id": "acme"}, Filter("tenant_id", "acme")),
        ({"account_id": "111122223333"}, Filter("account_id", "111122223333")),
        ({"status": "closing"}, Filter("status", "closing")),
    ],
)
def test_one_filter_is_given(given: dict[str, str], wanted: Filter) -> None:
    assert SubscriptionsQuery.model_validate(given).filter == wanted


def test_records_themselves_are_not_looked_at() -> None:
    assert UsageBody.model_validate({"records": [1, None, {"a": []}]}).records == [1, None, {"a": []}]
