"""The seller API as an application calls it: with signed requests."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from local.console.words import of_problem
from local.signature import signed
from local.traffic import CONSOLE

STATUSES = ("active", "pending", "closing", "ended", "failed")
TIMEOUT = 35


class ApiError(Exception):
    """The API refused a call: the message says it in a person's words, `status` is the answer's (503 without one)."""

    def __init__(self, message: str, status: int = 503) -> None:
        super().__init__(message)
        self.status = status


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

    def subscriptions(self, **query: str) -> dict[str, Any]:
        """One page of the subscriptions of a status or an account, with the cursor of the next one."""
        page: dict[str, Any] = self.get("/subscriptions", **query)
        return page

    def subscriptions_of(self, account: str) -> Iterator[dict[str, Any]]:
        """All subscriptions of a buyer's account."""
        query = {"account_id": account}
        while True:
            page = self.subscriptions(**query)
            yield from page["subscriptions"]
            if not page["cursor"]:
                return
            query["cursor"] = page["cursor"]

    def usage(self, subscription_id: str, start: str, end: str) -> Iterator[dict[str, Any]]:
        """The metering records of the hours from `start` to before `end`, oldest first."""
        query = {"from": start, "to": end, "limit": "500"}
        while True:
            page = self.get(f"{path_of(subscription_id)}/usage", **query)
            yield from page["metering_records"]
            if not page["cursor"]:
                return
            query["cursor"] = page["cursor"]

    def _call(self, method: str, path: str, body: Any) -> Any:
        connection = HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            content = None if body is None else json.dumps(body).encode()
            given = {"content-type": "application/json", "user-agent": CONSOLE}
            headers = signed(method, f"{self._url}{path}", content, given)
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            raise ApiError(f"The API gave no answer ({type(error).__name__}).") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(of_problem(answer, response.status), response.status)
        return answer


def path_of(subscription_id: str) -> str:
    """Where a subscription is found, in the API and in the console."""
    return f"/subscriptions/{quote(subscription_id, safe='')}"
