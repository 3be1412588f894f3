"""When a run stops calling AWS, and how fast it calls."""

from marketplace.metering.breaker import FAILURES_IN_A_ROW, Breaker
from marketplace.metering.rate import CallRate


class Stopwatch:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_five_failures_in_a_row_open_the_breaker_for_good() -> None:
    watch = Stopwatch()
    breaker = Breaker(watch, lambda: 1.0)
    for _ in range(FAILURES_IN_A_ROW):
        assert not breaker.is_open
        watch.sleep(breaker.failed(watch()))
    assert breaker.is_open
    breaker.succeeded()
    assert breaker.is_open


def test_an_answer_in_between_starts_the_count_again() -> None:
    watch = Stopwatch()
    breaker = Breaker(watch, lambda: 1.0)
    for _ in range(FAILURES_IN_A_ROW - 1):
        watch.sleep(breaker.failed(watch()))
    breaker.succeeded()
    breaker.failed(watch())
    assert not breaker.is_open


def test_calls_under_way_when_one_failed_count_once() -> None:
    watch = Stopwatch()
    breaker = Breaker(watch, lambda: 1.0)
    began = watch()
    watch.now += 1
    for _ in range(20):
        breaker.failed(began)
    assert not breaker.is_open


def test_pauses_double_within_bounds_and_are_jittered() -> None:
    watch = Stopwatch()
    longest = Breaker(watch, lambda: 1.0, failures=100)
    pauses = []
    for _ in range(8):
        pauses.append(longest.failed(watch()))
        watch.sleep(pauses[-1])
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert Breaker(watch, lambda: 0.0).failed(watch()) == 0.25


def test_calls_are_spaced_evenly_and_idle_time_is_not_saved_up() -> None:
    watch = Stopwatch()
    rate = CallRate(10, watch, watch.sleep)
    for _ in range(11):
        rate.wait()
    assert abs(watch.now - 101.0) < 1e-9
    watch.now += 60
    rate.wait()
    began = watch.now
    rate.wait()
    assert abs(watch.now - began - 0.1) < 1e-9
