"""API Gateway HTTP API events (payload format 2.0) in, answers out; nothing here knows what a route does.

An event is read defensively: whatever a caller can make API Gateway pass on is a request, never an exception that isn't
one of this module's.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl


class RequestError(ValueError):
    """A request that can't be read."""


class BodyTooLargeError(RequestError):
    """The body is larger than the route takes."""


class UnreadableBodyError(RequestError):
    """The body isn't what its encoding says."""


class UnreadableQueryError(RequestError):
    """The query string holds too many parameters, or one of them twice."""


_MAX_PARAMETERS = 20

SECURITY_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "x-content-type-options": "nosniff",
}
"""On every answer: nothing is cached, no address with a code in it reaches another site, no plain HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    `route` is API Gateway's route key, such as `GET /register/{code}`; `path` holds its path parameters, which
    HTTP APIs hand over percent-decoded; `raw_path` is the path that was asked for, with any base path except the name
    of the stage. `caller` is the ARN of the principal that signed the request, empty on a public route. `stage` is the
    stage of the API that was asked.
    """

    method: str
    route: str
    raw_path: str
    path: Mapping[str, str]
    headers: Mapping[str, str]
    raw_query: str
    raw_body: str
    is_base64: bool
    caller: str = ""
    stage: str = ""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "Request":
        """A request from an event; parts that are missing or of another type count as empty."""
        context = event.get("requestContext")
        http = context.get("http") if isinstance(context, Mapping) else None
        stage = _text(_member(event, "requestContext", "stage"))
        return cls(
            method=_text(http.get("method")) if isinstance(http, Mapping) else "",
            route=_text(event.get("routeKey")),
            raw_path=_without_stage(_text(event.get("rawPath")), stage),
            path=_texts(event.get("pathParameters")),
            headers={name.lower(): value for name, value in _texts(event.get("headers")).items()},
            raw_query=_text(event.get("rawQueryString")),
            raw_body=_text(event.get("body")),
            is_base64=event.get("isBase64Encoded") is True,
            caller=_text(_member(event, "requestContext", "authorizer", "iam", "userArn")),
            stage=stage,
        )

    def body(self, limit: int) -> bytes:
        """The body's bytes.

        Raises BodyTooLargeError when they are more than `limit`, UnreadableBodyError when they can't be decoded.
        """
        if len(self.raw_body) > (limit * 4 // 3 + 4 if self.is_base64 else limit):
            raise BodyTooLargeError
        try:
            content = base64.b64decode(self.raw_body, validate=True) if self.is_base64 else self.raw_body.encode()
        except (binascii.Error, ValueError) as error:
            raise UnreadableBodyError from error
        if len(content) > limit:
            raise BodyTooLargeError
        return content

    def form(self, limit: int) -> dict[str, str]:
        """The fields of a submitted form, each with its first value. Raises as `body` does."""
        try:
            pairs = parse_qsl(
                self.body(limit).decode(), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict"
            )
        except BodyTooLargeError:
            raise
        except ValueError as error:
            raise UnreadableBodyError from error
        return dict(reversed(pairs))

    def query(self) -> dict[str, str]:
        """The query parameters. Raises UnreadableQueryError when one is given twice or there are too many."""
        try:
            pairs = parse_qsl(self.raw_query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict")
        except ValueError as error:
            raise UnreadableQueryError from error
        parameters = dict(pairs)
        if len(parameters) < len(pairs):
            raise UnreadableQueryError
        return parameters

    @property
    def wants_json(self) -> bool:
        """Whether the caller asked for JSON rather than a page."""
        accept = self.headers.get("accept", "").lower()
        return "application/json" in accept and "text/html" not in accept


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def to(self, request: Request) -> "Response":
        """The answer as the request's method wants it: a HEAD request gets no body, and the length that the body would
        have (RFC 9110, 9.3.2 and 8.6)."""
        if request.method != "HEAD":
            return self
        return replace(self, body="", headers={**self.headers, "content-length": str(len(self.body.encode()))})

    def as_event(self) -> dict[str, Any]:
        """The answer in the form that API Gateway takes from a Lambda function."""
        return {
            "statusCode": self.status,
            "headers": {**SECURITY_HEADERS, **self.headers},
            "body": self.body,
            "isBase64Encoded": False,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what may be told of it in logs and metrics: the outcome's name, further counts by name, the
    subscription, and the class and code of the error behind it; never what was sent."""

    response: Response
    outcome: str
    subscription_id: str | None = None
    error: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def json_response(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, separators=(",", ":"))
    return Response(status, body, {"content-type": "application/json", **(headers or {})})


def _member(value: object, *names: str) -> object:
    """The member of nested mappings under these names; None when there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _without_stage(path: str, stage: str) -> str:
    """The path without the stage's name, which API Gateway puts first on every stage but `$default`. CloudFront alone
    knows it (decision 0070), so it may stand in no answer."""
    return path.removeprefix(f"/{stage}") if stage and path.startswith(f"/{stage}/") else path


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {name: text for name, text in value.items() if isinstance(name, str) and isinstance(text, str)}
