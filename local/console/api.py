"""The seller API as an application calls it: with signed requests."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from local.signature import signed

STATUSES = ("active", "pending", "closing", "ended", "failed")
TIMEOUT = 35


class ApiError(Exception):
    """The API refused a call; the message is the API's own."""


class Api:
    """The API at one address. Every call raises ApiError where the API refuses or does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)

    def get(self, path: str, **query: str) -> Any:
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, body)

    def subscriptions(self) -> list[dict[str, Any]]:
        """All of them, the active ones first."""
        return [one for status in STATUSES for one in self.get("/subscriptions", status=status)["subscriptions"]]

    def _call(self, method: str, path: str, body: Any) -> Any:
        connection = HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            content = None if body is None else json.dumps(body).encode()
            headers = signed(method, f"{self._url}{path}", content, {"content-type": "application/json"})
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            raise ApiError(f"The API gave no answer ({type(error).__name__}).") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(_message(answer, response.status))
        return answer


def _message(answer: Any, status: int) -> str:
    problem = answer.get("error", answer) if isinstance(answer, dict) else {}
    if isinstance(problem, dict):
        return str(problem.get("message") or problem.get("code") or f"The API answered {status}.")
    return str(answer.get("message") or problem)
