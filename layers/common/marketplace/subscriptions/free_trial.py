"""What is stored of a subscription about a free trial: whether its agreement has one, and until when."""

from typing import Any


def free_trial_values(agreement_id: str, *, has_trial: bool, ends_at: int | None, now: int) -> dict[str, Any]:
    """The attributes. A trial is a term of an agreement, and its conversion is another agreement; so what AWS said
    holds for the agreement that is named beside it. Times are seconds since the epoch."""
    over = ends_at is not None and ends_at <= now
    return {
        "free_trial": has_trial and not over,
        "has_free_trial": has_trial,
        "free_trial_agreement_id": agreement_id,
        "free_trial_ends_at": ends_at,
    }
