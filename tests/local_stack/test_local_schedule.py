"""When a schedule fires."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.schedule import ScheduleError, parse

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def ticks(expression: str, count: int, after: datetime = NOON) -> list[str]:
    schedule, moment, found = parse(expression, after.timestamp()), after.timestamp(), []
    for _ in range(count):
        tick = schedule.after(moment)
        assert tick is not None
        moment = tick
        found.append(f"{datetime.fromtimestamp(tick, UTC):%a %Y-%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(5/15 * * * ? *)", ["Sun 2026-11-22 12:05", "Sun 2026-11-22 12:20", "Sun 2026-11-22 12:35"]),
        ("cron(0 18 ? * MON-FRI *)", ["Mon 2026-11-23 18:00", "Tue 2026-11-24 18:00"]),
        ("cron(0 8 1 * ? *)", ["Tue 2026-12-01 08:00", "Fri 2027-01-01 08:00"]),
        ("cron(30 0,12 29 FEB ? *)", ["Tue 2028-02-29 00:30", "Tue 2028-02-29 12:30"]),
        ("cron(0 0 ? * 1 *)", ["Sun 2026-11-29 00:00"]),
        ("cron(0-10/5 12 * * ? 2026-2027)", ["Sun 2026-11-22 12:05", "Sun 2026-11-22 12:10", "Mon 2026-11-23 12:00"]),
        ("rate(5 minutes)", ["Sun 2026-11-22 12:05", "Sun 2026-11-22 12:10"]),
        ("rate(1 hour)", ["Sun 2026-11-22 13:00"]),
        ("rate(2 days)", ["Tue 2026-11-24 12:00"]),
    ],
)
def test_the_next_ticks(expression: str, expected: list[str]) -> None:
    assert ticks(expression, len(expected)) == expected


def test_a_schedule_of_past_years_never_fires() -> None:
    assert parse("cron(0 0 1 1 ? 2020)", 0).after(NOON.timestamp()) is None


@pytest.mark.parametrize(
    "expression",
    [
        "every hour",
        "cron(* * * * *)",
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(0 0 L * ? *)",
        "cron(0 0 ? * 6#3 *)",
        "cron(60 0 * * ? *)",
        "cron(0 5-2 * * ? *)",
        "cron(0/0 * * * ? *)",
        "cron(0/x * * * ? *)",
        "rate(1 minutes)",
        "rate(2 minute)",
        "rate(0 minutes)",
        "rate(1 month)",
    ],
)
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(ScheduleError):
        parse(expression, 0)


@given(st.integers(0, 2**31))
def test_a_tick_is_always_later_and_none_is_between(moment: int) -> None:
    schedule = parse("cron(5/15 * * * ? *)", 0)
    tick = schedule.after(moment)

    assert tick is not None
    assert moment < tick <= moment + 900
    assert tick % 900 == 300
