"""Which schedule a seed plays, and the fewest steps of it that still fail."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.faults import lifecycle_schedule, schedule
from tests.faults.invariant import Outcome
from tests.faults.lifecycle_schedule import LifecycleSchedule
from tests.faults.schedule import Schedule, Step


def is_whole(seed: int) -> bool:
    """Whether the seed plays the whole deployment. The others play recording and metering alone, with every closing
    written by hand, and come to more of both."""
    return seed % 4 > 1


def steps_of(seed: int) -> list[Step]:
    return schedule.steps_of(seed, lifecycle_schedule.KINDS if is_whole(seed) else schedule.KINDS)


def made(seed: int, make_dynamodb: Callable[[], Any], crash_at: int | None = None, *, apart: bool = True) -> Schedule:
    return (LifecycleSchedule if is_whole(seed) else Schedule)(seed, make_dynamodb, crash_at, apart=apart)


def run(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> Outcome:
    """Plays the steps in the seed's world, drains and checks; raises InvariantError."""
    played = made(seed, make_dynamodb)
    played.play(steps)
    played.drain()
    played.check()
    return played.outcome


def minimised(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> list[Step]:
    """The fewest steps found that still fail, by leaving out ever smaller parts."""
    current = list(steps)
    size = max(1, len(current) // 2)
    while size:
        start = 0
        while start < len(current):
            without = current[:start] + current[start + size :]
            if _fails(seed, without, make_dynamodb):
                current = without
            else:
                start += size
        size //= 2
    return current


def _fails(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> bool:
    try:
        run(seed, steps, make_dynamodb)
    except Exception:
        return True
    return False
