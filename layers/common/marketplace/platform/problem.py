"""Every way in which a request can be answered with an error: one table of statuses, codes and words.

`code` is for programs and never changes; `message` says what to do about it.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer. `title` is the heading of its page; `retry_after` is in seconds."""

    status: int
    code: str
    title: str
    message: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}

    @property
    def metric(self) -> str:
        """The code as a metric is named."""
        return "".join(word.capitalize() for word in self.code.split("_"))

    def as_json(self, **details: Any) -> dict[str, Any]:
        """The one JSON shape of every error answer."""
        return {"error": {"code": self.code, "message": self.message, **details}}

    def saying(self, message: str) -> "Problem":
        """The same problem with a message of its own."""
        return replace(self, message=message)
