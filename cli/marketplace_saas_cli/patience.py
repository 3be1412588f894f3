"""How long something may wait before it needs a person: as long as its alarm waits (template.yaml). Pure rules."""

from collections.abc import Mapping

from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.subscriptions.waiting import Kind, Waiting

PATIENCE: Mapping[Kind, int] = {
    "registration": 2 * HOUR,
    "account": 2 * HOUR,
    "agreement": 2 * HOUR,
    "unassigned": DAY,
    "event": 20 * MINUTE,
    "correction": 0,
    "reconciliation": 30 * HOUR,
}


def overdue(waiting: Waiting, now: int) -> bool:
    """Whether it has waited for too long."""
    return now - waiting.since > PATIENCE[waiting.kind]
