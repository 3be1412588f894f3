"""One schedule in which everything happens, to be told once for each call at which somebody may die."""

from tests.faults.schedule import Schedule, Step
from tests.support.memory_dynamodb import MemoryDynamoDB

STORY = [
    Step(kind, seed)
    for kind, seed in (
        ("report", 879), ("report", 212), ("report", 657), ("poison", 188), ("refusal", 725), ("together", 492),
        ("aws_fault", 487), ("meter", 19), ("hours", 386), ("repeat", 110), ("suspend", 590), ("report", 25),
        ("meter", 266), ("report", 354), ("close", 932), ("minutes", 719), ("unsuspend", 553), ("reopen", 508),
        ("mend", 844), ("foreign", 153), ("together", 475), ("report", 433), ("hours", 861), ("cancel", 286),
        ("together", 475), ("report", 136), ("minutes", 38), ("outage", 98), ("meter", 717),
    )
]  # fmt: skip
"""Everything once: recording, metering beside it, refusals and their mending, a closing that is taken back and one
that isn't, another sender, an outage."""

WORLDS = {"success": 1, "duplicate": 7}
"""A seed for each reading of what AWS answers to an identical resend."""


def told(seed: int, crash_at: int | None = None) -> Schedule:
    """The story in a seed's world, checked; raises InvariantError."""
    schedule = Schedule(seed, MemoryDynamoDB, crash_at)
    schedule.crash = 0.0
    schedule.play(STORY)
    schedule.drain()
    schedule.check()
    return schedule


def points(undisturbed: Schedule) -> list[int]:
    """The points at which a crash can make a difference: reading the index changes nothing, so one of a run's sixteen
    queries stands for all."""
    reading = [point for point, name in enumerate(undisturbed.points) if name == "query due"]
    return sorted({*range(len(undisturbed.points))} - {*reading} | {*reading[::16]})
