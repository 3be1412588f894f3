"""One schedule in which everything happens, to be played once for each call at which a process may die."""

from tests.faults.plays import is_whole, made
from tests.faults.schedule import Schedule, Step
from tests.support.memory_dynamodb import MemoryDynamoDB

STORY = [
    Step(kind, seed)
    for kind, seed in (
        ("report", 869), ("report", 431), ("report", 679), ("poison", 814), ("refusal", 555), ("together", 252),
        ("void", 1), ("aws_fault", 978), ("meter", 194), ("store_partial", 76), ("hours", 875), ("repeat", 232),
        ("suspend", 87), ("report", 260), ("void", 3), ("meter", 698), ("index_lag", 430), ("report", 758),
        ("close", 228), ("minutes", 504),
        ("unsuspend", 656), ("reopen", 262), ("hurry", 881), ("mend", 34), ("foreign", 958), ("together", 403),
        ("report", 352), ("hours", 411), ("cancel", 944), ("together", 475), ("report", 426), ("minutes", 209),
        ("outage", 55), ("meter", 292),
    )
]  # fmt: skip
"""Everything once: recording, voiding, metering beside it, refusals and their mending, batches half done, a lagging
index, a run ended early, a closing that is taken back and one that isn't, another sender, an outage."""

WORLDS = {"success": 13, "duplicate": 77}
"""A seed for each reading of what AWS answers to an identical resend."""

HELD_STORY = [
    Step(kind, seed)
    for kind, seed in (
        ("report", 869), ("together", 252), ("hours", 875), ("approve", 5), ("report", 431), ("meter", 194),
        ("report", 679), ("hours", 411), ("refuse", 6), ("aws_fault", 978), ("meter", 698), ("suspend", 87),
        ("approve", 8), ("report", 758), ("unsuspend", 656), ("close", 228), ("minutes", 504), ("reopen", 262),
        ("report", 352), ("hours", 221), ("approve", 1), ("mend", 34), ("outage", 55), ("refuse", 3),
    )
]  # fmt: skip
"""The same with unusual usage: held, approved, refused, refused by AWS after its approval, released by its deadline and
while its subscription closes."""

HELD_WORLDS = {"success": 412, "duplicate": 449}

WHOLE_STORY = [
    Step(kind, seed)
    for kind, seed in (
        ("report", 168), ("late_usage", 428), ("grow", 706), ("refusal", 428), ("question_fault", 650),
        ("hours", 288), ("meter", 490), ("lapse", 863), ("hours", 221), ("late_usage", 811),
        ("suspend", 486), ("report", 827), ("void", 2), ("meter", 986), ("unsuspend", 524), ("mend", 187),
        ("shrink", 517), ("cancel", 540), ("report", 241), ("minutes", 807), ("hours", 3),
    )
]  # fmt: skip
"""The same for a whole deployment: a contract that grows, renews with the news of it late, shrinks and is cancelled."""

WHOLE_WORLDS = {"success": 167, "duplicate": 815}

DISPUTED_STORY = [Step("report", 431), *(Step("resolve", seed) for seed in (33, 34, 35))]
"""Conflicts that a person resolves: AWS has too little, and too much."""

DISPUTED_WORLDS = {"success": 17, "duplicate": 21}

_WRITES = (
    *("put", "update", "delete", "transact", "batch_write", "batch_execute", "batch_meter", "send", "change"),
    "look_again",
)


def played(seed: int, crash_at: int | None = None) -> Schedule:
    """The story of a seed's world, drained and checked; raises InvariantError."""
    held = seed in HELD_WORLDS.values()
    schedule = made(seed, MemoryDynamoDB, crash_at, apart=held)
    schedule.crash = 0.0
    disputed = seed in DISPUTED_WORLDS.values()
    schedule.play(HELD_STORY if held else DISPUTED_STORY if disputed else WHOLE_STORY if is_whole(seed) else STORY)
    schedule.drain()
    schedule.check()
    return schedule


def points(undisturbed: Schedule) -> list[int]:
    """The points at which a crash can make a difference: reading the index changes nothing, so one of a run's sixteen
    queries stands for all."""
    reading = [point for point, name in enumerate(undisturbed.points) if name == "query due"]
    return sorted({*range(len(undisturbed.points))} - {*reading} | {*reading[::16]})


def writes(undisturbed: Schedule) -> list[int]:
    """The points before and after each call that changes something."""
    return [point for point, name in enumerate(undisturbed.points) if name.startswith(_WRITES)]
