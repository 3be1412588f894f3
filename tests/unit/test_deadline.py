"""A caller is answered in time: what takes too long is interrupted, and nothing else is."""

import signal
import threading

import pytest

from marketplace.platform.deadline import DeadlineError, deadline


def for_ever() -> None:
    threading.Event().wait()


def test_what_takes_too_long_is_interrupted() -> None:
    with pytest.raises(DeadlineError), deadline(0.01):
        for_ever()


def test_nothing_on_the_way_takes_the_interruption_for_its_own_error() -> None:
    def catching_everything() -> None:
        try:
            for_ever()
        except Exception:
            pytest.fail("an Exception would be retried or turned into another one")

    with pytest.raises(DeadlineError), deadline(0.01):
        catching_everything()


@pytest.mark.parametrize("ends", ["in time", "with an error", "too late"])
def test_signal_and_timer_are_left_as_they_were(ends: str) -> None:
    handler, (timer, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    try:
        with deadline(60 if ends != "too late" else 0.01):
            if ends == "with an error":
                raise ValueError
            if ends == "too late":
                for_ever()
    except (ValueError, DeadlineError):
        pass

    assert signal.getsignal(signal.SIGALRM) is handler
    after, _ = signal.getitimer(signal.ITIMER_REAL)
    assert (after > 0) is (timer > 0)
    assert after == 0 or after > 60


def test_in_another_thread_there_is_no_deadline() -> None:
    done: list[bool] = []

    def work() -> None:
        with deadline(0):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert done == [True]
