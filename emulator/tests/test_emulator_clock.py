"""The settable clock: forward only, unless forced."""

from datetime import UTC, datetime, timedelta

import pytest

from marketplace_emulator import Clock
from marketplace_emulator.clock import parse_duration, parse_time


def test_a_real_clock_follows_its_source_plus_an_offset():
    real = [1000.0]
    clock = Clock(source=lambda: real[0])
    assert clock.timestamp() == 1000
    clock.advance(60)
    real[0] += 5
    assert clock.timestamp() == 1065
    assert clock.offset == 60


def test_a_frozen_clock_stands_still():
    clock = Clock.frozen("2026-11-22T12:00:00Z")
    assert clock.is_frozen
    assert clock.now() == datetime(2026, 11, 22, 12, tzinfo=UTC)
    clock.advance(timedelta(hours=1))
    assert clock.now() == datetime(2026, 11, 22, 13, tzinfo=UTC)


def test_the_clock_goes_back_only_when_forced():
    clock = Clock.frozen(1000)
    with pytest.raises(ValueError, match="forward only"):
        clock.set(999)
    with pytest.raises(ValueError, match="forward only"):
        clock.advance(-1)
    assert clock.timestamp() == 1000
    clock.set(999, force=True)
    assert clock.timestamp() == 999


def test_moving_by_nothing_is_no_step_back_while_time_runs():
    real = iter(range(100))
    clock = Clock(source=lambda: float(next(real)))
    assert clock.advance(0) == datetime.fromtimestamp(0, UTC)


def test_to_the_next_hour():
    clock = Clock.frozen("2026-11-22T12:34:56Z")
    assert clock.to_next_hour() == datetime(2026, 11, 22, 13, tzinfo=UTC)
    assert clock.to_next_hour() == datetime(2026, 11, 22, 14, tzinfo=UTC)


def test_freezing_and_running_keep_the_moment():
    real = [1000.0]
    clock = Clock(source=lambda: real[0])
    clock.advance(500)
    clock.freeze()
    real[0] += 100
    assert clock.timestamp() == 1500
    clock.run()
    real[0] += 1
    assert clock.timestamp() == 1501


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT1H", 3600), ("P1D", 86400), ("P1DT2H3M4.5S", 93784.5), (7, 7), (timedelta(minutes=1), 60)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1h", "P", "PT", "", "-PT1H", "PT1H\n"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


def test_times_without_an_offset_are_utc():
    assert parse_time("2026-11-22T12:00:00") == parse_time("2026-11-22T13:00:00+01:00")
    assert Clock.frozen(datetime(2026, 11, 22, 12)).now().hour == 12  # noqa: DTZ001  the case under test
