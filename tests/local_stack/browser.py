"""Everyone outside the stack: the buyer with a browser, the seller's application, whoever moves the emulator's clock.

HTTP only. Redirects are answers here, not followed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

TIMEOUT = 120


@dataclass(frozen=True)
class Answer:
    """A response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def call(
    method: str, url: str, body: bytes | str | None = None, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
) -> Answer:
    """One request."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        content = body.encode() if isinstance(body, str) else body
        connection.putrequest(method, f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            connection.putheader(name, value)
        if content is not None:
            connection.putheader("content-length", str(len(content)))
        connection.endheaders(content)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def submit(url: str, fields: Mapping[str, str]) -> Answer:
    """A form, as a browser sends it."""
    return call("POST", url, urlencode(fields), {"content-type": "application/x-www-form-urlencoded"})


def lines(log: io.StringIO, *wanted: str) -> list[str]:
    """The log's lines that hold all of these words."""
    return [line for line in log.getvalue().splitlines() if all(word in line for word in wanted)]


@dataclass(frozen=True)
class Neighbourhood:
    """The three addresses of a stack."""

    api: str
    marketplace: str
    console: str

    # -- AWS Marketplace -----------------------------------------------------------------------------------

    def buy(self, product: str, account: str, **terms: Any) -> dict[str, Any]:
        """A purchase, as the emulator describes it."""
        bought: dict[str, Any] = self.admin(
            "POST", "/purchases", {"product_code": product, "account_id": account, **terms}
        )
        return bought

    def cancel(self, purchase: str) -> None:
        self.admin("POST", f"/purchases/{purchase}/cancel", {})

    def ledger(self, purchase: str) -> list[dict[str, Any]]:
        """What AWS Marketplace has accepted for one purchase."""
        records: list[dict[str, Any]] = self.admin("GET", f"/ledger?license={quote(purchase)}")["records"]
        return records

    def advance(self, seconds: int) -> str:
        """Moves the clock, as its page does; answers the time then."""
        clock: dict[str, str] = self.admin("POST", "/clock", {"advance": seconds})
        return clock["now"]

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = call(method, f"{self.marketplace}/admin{path}", None if body is None else json.dumps(body))
        assert answer.status == 200, answer.text
        return answer.json()

    # -- the buyer -----------------------------------------------------------------------------------------

    def register(self, purchase: str) -> str:
        """Sends the buyer's browser to the seller, as "Set up your account" does; answers where it lands."""
        sent = self.admin("POST", f"/purchases/{purchase}/token", {})
        answer = submit(sent["fulfilment_url"], sent["form"])
        assert answer.status == 303, answer.text
        landing: str = urljoin(sent["fulfilment_url"], answer.headers["location"])
        return landing

    # -- the seller's application ----------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        answer = call("GET", f"{self.api}{path}")
        assert answer.status == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Answer:
        return call("POST", f"{self.api}{path}", json.dumps(body), {"content-type": "application/json"})

    def claim(self, code: str, tenant: str) -> dict[str, Any]:
        answer = self.post(f"/registrations/{code}/claim", {"tenant_id": tenant})
        assert answer.status == 200, answer.text
        claimed: dict[str, Any] = answer.json()
        return claimed

    def report(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One result per record, in order."""
        answer = self.post("/usage", {"records": records})
        assert answer.status == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        return results
