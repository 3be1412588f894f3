"""How long to wait before asking again what was refused for being too much: longer each time, never in step."""


def pause(attempt: int, *, first: float, longest: float, jitter: float) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0): `first`, doubled each time up to `longest`, of
    which `jitter` (0 to 1) decides the second half, so that callers that failed together do not come back together."""
    whole: float = min(longest, first * 2**attempt)
    return whole * (0.5 + jitter / 2)
