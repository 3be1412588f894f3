"""Every way in which a request can be answered with an error: one table of statuses, codes and words.

`code` is for programs and never changes; `message` says what to do about it.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer. `title` is the heading of its page; `retry_after` is in seconds; `allow` names the methods that
    the address takes."""

    status: int
    code: str
    title: str
    message: str
    retry_after: int | None = None
    allow: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {"retry-after": self.retry_after, "allow": self.allow}
        return {name: str(value) for name, value in headers.items() if value is not None}

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


ROUTE_UNKNOWN = Problem(
    404,
    "route_not_found",
    "Route not found",
    "There is no such method and path; the API is described in docs/openapi.json.",
)
"""What an application is answered whose request no route takes, by whichever function."""
