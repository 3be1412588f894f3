"""`due_at`, the sort key of the `due` index: a moment, and by its sign what the metering record waits for.

    state open                to be sent at `due_at`
    another state, positive   decided at `due_at` + FOUND_BY_ANY_CLOCK, and not told yet: the next metering run tells it
    another state, negative   told; the next step comes at -due_at

A run asks the index for `due_at` up to now, so it finds every record in trouble: what is told by the negative sign, and
what is not told although the clock of the run that decided it was up to a day ahead.
"""

from marketplace.platform.clock import DAY, EpochSeconds

FOUND_BY_ANY_CLOCK = DAY


def of_decision(decided_at: EpochSeconds) -> EpochSeconds:
    """`due_at` of a record whose state was decided then, and is to be told."""
    return EpochSeconds(decided_at - FOUND_BY_ANY_CLOCK)


def of_next_step(moment: EpochSeconds) -> EpochSeconds:
    """`due_at` of a record whose state was told, and whose next step comes at this moment."""
    return EpochSeconds(-moment)


def is_told(due_at: EpochSeconds) -> bool:
    """Whether the state of a record that is not open has been told."""
    return due_at < 0


def moment_of(state: str, due_at: EpochSeconds) -> EpochSeconds:
    """When the record is sent, was decided, or has its next step."""
    if state == "open":
        return due_at
    return EpochSeconds(-due_at if is_told(due_at) else due_at + FOUND_BY_ANY_CLOCK)
