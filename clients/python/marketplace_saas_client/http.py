"""One request to the API: signed by botocore, sent by urllib3, its answer read. Nothing is repeated here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.session
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from marketplace_saas_client.calls import Call
from marketplace_saas_client.errors import ApiError, NoAnswerError, NoCredentialsError

REGION = "us-east-1"
"""Marketplace SaaS is deployed in this region only."""
_TIMEOUT = urllib3.Timeout(connect=5, read=35)
"""API Gateway answers within 30 seconds."""
_THROTTLED = 429
_BUSY = (_THROTTLED, 503)
_SERVER_ERRORS = 500
_GOOD = 200


@dataclass(frozen=True)
class Request:
    """A signed request as it goes to the network."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Response:
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport = Callable[[Request], Response]
"""Sends one request once. Raises OSError when there is no answer."""


class Urllib3Transport:
    """The transport that a client uses unless it is given another: kept-alive connections, certificates checked."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    def __call__(self, request: Request) -> Response:
        try:
            answer = self._pool.request(
                request.method, request.url, body=request.body, headers=dict(request.headers), redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise OSError(str(error)) from error
        return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)


class Http:
    """The API at `url`. Credentials come from botocore's own chain unless they are given; they are read again for every
    request, so they may be renewed."""

    def __init__(
        self, url: str, credentials: Credentials | None, transport: Transport, now: Callable[[], datetime]
    ) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._transport = transport
        self._now = now

    def exchange(self, call: Call[Any], content: bytes | None = None) -> Any:
        """Send a call once and answer the body of a good answer. `content` is the body, if it is in bytes already.

        Raises NoCredentialsError, ApiError, or NoAnswerError.
        """
        if content is None and call.body is not None:
            content = json.dumps(call.body, allow_nan=False).encode()
        try:
            response = self._transport(self._signed(call, content))
        except OSError as error:
            raise NoAnswerError(f"no answer: {error}") from error
        return self._read(response)

    def _signed(self, call: Call[Any], content: bytes | None) -> Request:
        if self._credentials is None:
            self._credentials = botocore.session.get_session().get_credentials()
        if self._credentials is None:
            raise NoCredentialsError("there are no AWS credentials to sign with")
        headers = {"accept": "application/json"}
        if content is not None:
            headers["content-type"] = "application/json"
        url = self._url + call.target
        request = AWSRequest(call.method, url, headers=headers, data=content)
        SigV4Auth(self._credentials.get_frozen_credentials(), "execute-api", REGION).add_auth(request)
        return Request(call.method, url, dict(request.headers), content)

    def _read(self, response: Response) -> Any:
        try:
            body = json.loads(response.body)
        except ValueError:
            body = None
        if response.status == _GOOD and body is not None:
            return body
        error = body.get("error") if isinstance(body, dict) else None
        details = dict(error) if isinstance(error, dict) else {}
        code = str(details.pop("code", ""))
        message = str(details.pop("message", "") or (body.get("message", "") if isinstance(body, dict) else ""))
        if response.status in (_GOOD, _THROTTLED) or response.status >= _SERVER_ERRORS:
            text = f"{response.status} {code} {message}".strip()
            is_busy = response.status in _BUSY
            raise NoAnswerError(text, self._retry_after(response), is_asked_to_wait=is_busy)
        raise ApiError(response.status, code, message, details)

    def _retry_after(self, response: Response) -> float | None:
        """RFC 9110, section 10.2.3: seconds, or a date."""
        given = response.headers.get("retry-after", "").strip()
        if given.isascii() and given.isdigit():
            return float(given)
        try:
            return max(0.0, (parsedate_to_datetime(given) - self._now()).total_seconds())
        except (ValueError, TypeError):
            return None
