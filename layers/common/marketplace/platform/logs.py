"""What may be written about a failure: where it happened and of what class it is, never its message, which can quote
tokens, e-mail addresses or usage."""

import traceback


def whereabouts(error: BaseException) -> list[str]:
    """The last frames of the failure as `function:line`, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return [f"{frame.name}:{frame.lineno}" for frame in reversed(frames)]
