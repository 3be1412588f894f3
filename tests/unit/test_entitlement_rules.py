"""What an entitlement covers, and when it no longer does."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from marketplace.entitlements.rules import (
    EXPIRY_GRACE,
    Entitlement,
    Reason,
    ValueType,
    decide,
    granted_together,
    refused_by_status,
)
from marketplace.subscriptions.model import Status

NOW = 1_787_236_200


def granted(value_type: ValueType, value: Any, expires_at: int | None = None) -> Entitlement:
    return Entitlement(dimension="d", value_type=value_type, value=value, expires_at=expires_at)


@pytest.mark.parametrize(
    ("entitlement", "quantity", "expected"),
    [
        (None, None, (False, "not_entitled")),
        (granted("integer", 25), None, (True, "entitled")),
        (granted("integer", 25), 25, (True, "entitled")),
        (granted("integer", 25), 26, (False, "quantity_exceeded")),
        (granted("integer", 0), None, (False, "not_entitled")),
        (granted("integer", -1), 0, (False, "not_entitled")),
        (granted("double", "2.5"), 2, (True, "entitled")),
        (granted("double", "2.5"), 3, (False, "quantity_exceeded")),
        (granted("double", "1e30"), 2**62, (True, "entitled")),
        (granted("boolean", True), None, (True, "entitled")),
        (granted("boolean", True), 7, (True, "entitled")),
        (granted("boolean", False), None, (False, "not_entitled")),
        (granted("string", "gold"), None, (True, "entitled")),
        (granted("string", "10"), 5, (False, "quantity_not_comparable")),
        (granted("string", ""), None, (False, "not_entitled")),
        (granted("integer", 5, NOW + 1), None, (True, "entitled")),
        (granted("integer", 5, NOW), None, (True, "in_grace")),
        (granted("integer", 5, NOW - EXPIRY_GRACE), None, (False, "expired")),
        (granted("integer", 5, NOW - 1), 6, (False, "quantity_exceeded")),
    ],
)
def test_decisions(entitlement: Entitlement | None, quantity: int | None, expected: tuple[bool, Reason]) -> None:
    assert decide(entitlement, quantity, NOW) == expected


@pytest.mark.parametrize("status", ["pending", "closing", "ended", "failed"])
def test_only_an_active_subscription_is_let_in(status: Status) -> None:
    assert refused_by_status(status) == f"subscription_{status}"
    assert refused_by_status("active") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"IntegerValue": 3}, ("integer", 3)),
        ({"IntegerValue": 0}, ("integer", 0)),
        ({"DoubleValue": 2.5}, ("double", "2.5")),
        ({"BooleanValue": False}, ("boolean", False)),
        ({"StringValue": "gold"}, ("string", "gold")),
    ],
)
def test_all_four_kinds_of_values_are_read(value: dict[str, Any], expected: tuple[str, Any]) -> None:
    found = Entitlement.from_answer(
        {"Dimension": "d", "Value": value, "ExpirationDate": datetime(2027, 1, 1, tzinfo=UTC)}
    )
    assert found is not None
    assert (found.value_type, found.value, found.expires_at) == (*expected, 1_798_761_600)
    assert Entitlement.from_values("d", found.as_values()) == found


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"Dimension": "d"},
        {"Dimension": "d", "Value": {}},
        {"Dimension": "d", "Value": {"DoubleValue": float("nan")}},
        {"Dimension": "d", "Value": {"DoubleValue": "much"}},
        {"Value": {"IntegerValue": 3}},
    ],
)
def test_a_row_that_grants_nothing_is_none(row: dict[str, Any]) -> None:
    assert Entitlement.from_answer(row) is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("integer", 3, NOW + 9), ("integer", 5, NOW + 5)], ("integer", 8, NOW + 5)),
        ([("integer", 3, None), ("integer", 5, NOW + 5)], ("integer", 8, NOW + 5)),
        ([("integer", 3, None), ("integer", 5, None)], ("integer", 8, None)),
        ([("integer", 3, NOW), ("integer", 5, NOW + 5)], ("integer", 5, NOW + 5)),
        ([("integer", 3, NOW), ("integer", 5, NOW - 5)], ("integer", 8, NOW - 5)),
        ([("integer", 3, None), ("double", "0.5", None)], ("double", "3.5", None)),
        ([("double", "2.50", None)], ("double", "2.50", None)),
        ([("boolean", False, None), ("boolean", True, NOW + 5)], ("boolean", True, NOW + 5)),
        ([("string", "silver", NOW + 5), ("string", "gold", NOW + 9)], ("string", "gold", NOW + 9)),
        ([("string", "gold", None), ("integer", 3, NOW + 5)], ("integer", 3, NOW + 5)),
    ],
)
def test_grants_that_are_valid_at_once_are_added_up(rows: list[tuple[Any, ...]], expected: tuple[Any, ...]) -> None:
    together = granted_together([granted(*row) for row in rows], NOW)
    assert together == {"d": granted(*expected)}
    assert granted_together([granted(*row) for row in reversed(rows)], NOW) == together


def test_grants_of_different_dimensions_stay_apart() -> None:
    rows = [replace(granted("integer", 3), dimension=name) for name in "aba"]
    assert {name: found.value for name, found in granted_together(rows, NOW).items()} == {"a": 6, "b": 3}
