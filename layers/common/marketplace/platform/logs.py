"""What may be logged about a failure: its class and where it happened, never its message, which can quote tokens,
e-mail addresses or usage."""

import traceback


def traceback_frames(error: BaseException) -> list[str]:
    """The last frames of the failure as `function:line`, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return [f"{frame.name}:{frame.lineno}" for frame in reversed(frames)]
