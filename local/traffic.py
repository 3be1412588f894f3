"""What passed through the HTTP API: the last requests with their answers, and the usage records that were reported."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from werkzeug import Request, Response

KEPT = 1000
BODY_KEPT = 65_536
REPORTS_KEPT = 20_000
NOT_KEPT = b"(a registration token, which is not kept)"
CONSOLE = "marketplace-console"
"""The user agent of the console. What it only reads, in order to show it, is not kept."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer. `at`: seconds since the epoch, by the emulator's clock. `target`: path and query."""

    seq: int
    at: float
    method: str
    target: str
    content_type: str
    body: bytes
    status: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class Reported:
    """One usage record of a `POST /usage`, and what it came to. `names`: the subscription's id or its licence."""

    at: float
    names: str
    record: Mapping[str, Any]
    result: Mapping[str, Any]


class Traffic:
    """Keeps what it is shown; thread-safe. `passed` is a number that grows with each request."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._exchanges: deque[Exchange] = deque(maxlen=KEPT)
        self._reports: deque[Reported] = deque(maxlen=REPORTS_KEPT)
        self.passed = 0

    def add(self, request: Request, response: Response) -> None:
        """Keep one request and its answer."""
        if request.method == "GET" and request.headers.get("User-Agent") == CONSOLE:
            return
        target: str = request.environ["REQUEST_URI"]
        body, answer, now = request.get_data(), response.get_data(), self._now()
        path = urlsplit(target).path
        reports = list(_reported(now, body, answer)) if path == "/usage" and response.status_code == 200 else []
        if path == "/register" and request.method == "POST":
            body = NOT_KEPT
        with self._lock:
            self.passed += 1
            self._reports.extend(reports)
            self._exchanges.append(
                Exchange(
                    self.passed,
                    now,
                    request.method,
                    target,
                    request.mimetype,
                    body[:BODY_KEPT],
                    response.status_code,
                    answer[:BODY_KEPT],
                )
            )

    def exchanges(self) -> list[Exchange]:
        """The last requests, newest first."""
        with self._lock:
            return list(self._exchanges)[::-1]

    def exchange(self, seq: str) -> Exchange | None:
        """One request by its number."""
        return next((one for one in self.exchanges() if str(one.seq) == seq), None)

    def reports(self, *names: str) -> list[Reported]:
        """The usage records that were reported for a subscription, by any of its names, newest first."""
        wanted = set(filter(None, names))
        with self._lock:
            return [one for one in reversed(self._reports) if one.names in wanted]


def _reported(now: float, body: bytes, answer: bytes) -> Iterable[Reported]:
    try:
        pairs = list(zip(json.loads(body)["records"], json.loads(answer)["results"], strict=False))
    except (ValueError, KeyError, TypeError):
        return
    for record, result in pairs:
        if isinstance(record, dict):
            names = record.get("subscription_id") or record.get("license_arn") or ""
            yield Reported(now, str(names), record, result)
