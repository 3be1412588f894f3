"""API Gateway's HTTP API on this machine: requests become events of payload format 2.0, answers become responses.

What API Gateway does to a request and an answer is done here too (API Gateway Developer Guide: working with AWS Lambda
proxy integrations for HTTP APIs): decoded paths, joined headers and queries, cookies apart, bodies in base64 unless
they are text. Calls of AWS_IAM routes are let through unsigned, and signed ones are not verified, unless signatures are
required (local/signature.py).
"""

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from werkzeug import Request, Response

from local import signature
from local.deployment import ACCOUNT, Route
from local.server import Server, failure

INTEGRATION_SECONDS = 30
"""API Gateway's quota: the integration timeout of HTTP APIs."""

type Invoke = Callable[[str, dict[str, Any]], Any]

_TEXT = re.compile(r"^(text/.*|application/(json|javascript|xml|[\w.-]+\+(json|xml)))$")
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")


class UnavailableError(Exception):
    """The integration gave no answer in time."""


class IntegrationError(Exception):
    """The integration failed, or answered with something that is no response."""


class Routes:
    """The API's routes: the most specific one that fits takes a request, and `$default` what no other one fits.

    A method fits by its name only, so HEAD is no GET, and a trailing slash makes another path (API Gateway Developer
    Guide: creating routes for HTTP APIs; the slash as AWS's own test tool for .NET has it in
    ApiGatewayRouteConfigService, aws/aws-lambda-dotnet).
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(route, _pattern(route.path)) for route in sorted(routes, key=_generality)]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route for a request and its path parameters; `path` is decoded."""
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match and route.method in (method, "ANY"):
                return route, match.groupdict()
        return None


def _generality(route: Route) -> tuple[int, ...]:
    """Later for what fits more: literal parts first, then parameters, greedy ones, the default route."""
    if route.path == "$default":
        return (9,)
    parts = [2 if part.endswith("+}") else int(part.startswith("{")) for part in route.path.split("/")]
    return (*parts, int(route.method == "ANY"))


def _pattern(path: str) -> re.Pattern[str]:
    if path == "$default":
        return re.compile(".*")
    parts = []
    for part in path.split("/"):
        match = re.fullmatch(r"\{(\w+)(\+?)\}", part)
        parts.append(f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})" if match else re.escape(part))
    return re.compile("/".join(parts))


def http_event(
    route: Route,
    *,
    method: str,
    target: str,
    parameters: Mapping[str, str],
    headers: Sequence[tuple[str, str]],
    body: bytes,
    source_ip: str,
    now: datetime,
    host: str,
) -> dict[str, Any]:
    """A request as the function gets it. `target` is the request's path and query as they were sent."""
    parts = urlsplit(target)
    joined: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in headers:
        if name.lower() == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            known = joined.get(name.lower())
            joined[name.lower()] = value if known is None else f"{known},{value}"
    path = unquote(parts.path)
    context: dict[str, Any] = {
        "accountId": ACCOUNT,
        "apiId": "local",
        "domainName": host.partition(":")[0],
        "domainPrefix": host.partition(".")[0].partition(":")[0],
        "http": {
            "method": method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": source_ip,
            "userAgent": joined.get("user-agent", ""),
        },
        "requestId": uuid.uuid4().hex[:15] + "=",
        "routeKey": route.key,
        "stage": "$default",
        "time": f"{now:%d/%b/%Y:%H:%M:%S +0000}",
        "timeEpoch": int(now.timestamp() * 1000),
    }
    if route.needs_iam:
        context["authorizer"] = {"iam": _caller(joined.get("authorization", ""))}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": path,
        "rawQueryString": parts.query,
        "headers": joined,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    query = _joined_query(parts.query)
    if query:
        event["queryStringParameters"] = query
    if parameters:
        event["pathParameters"] = dict(parameters)
    if body:
        event["body"], event["isBase64Encoded"] = _encoded(body, joined.get("content-type"))
    return event


def _joined_query(query: str) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _encoded(body: bytes, content_type: str | None) -> tuple[str, bool]:
    """The body as the event holds it, and whether that is base64: whatever is not text by its type, forms included."""
    if content_type is None or _TEXT.match(content_type.partition(";")[0].strip().lower()):
        with suppress(UnicodeDecodeError):
            return body.decode(), False
    return base64.b64encode(body).decode(), True


def _caller(authorization: str) -> dict[str, Any]:
    match = _CREDENTIAL.search(authorization)
    return {
        "accessKey": match[1] if match else "LOCAL",
        "accountId": ACCOUNT,
        "callerId": "LOCAL",
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{ACCOUNT}:user/local",
        "userId": "LOCAL",
    }


def http_response(answer: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a function's answer. Raises IntegrationError when it is no response."""
    if not isinstance(answer, dict) or "statusCode" not in answer:
        # Format 2.0 takes anything else for the body of a JSON answer.
        content = answer if isinstance(answer, str) else json.dumps(answer)
        return 200, [("content-type", "application/json")], content.encode()
    try:
        status = int(answer["statusCode"])
        headers = [(name.lower(), _header(value)) for name, value in (answer.get("headers") or {}).items()]
        for name, values in (answer.get("multiValueHeaders") or {}).items():
            headers.append((name.lower(), ",".join(_header(value) for value in values)))
        headers += [("set-cookie", str(cookie)) for cookie in answer.get("cookies") or []]
        body = answer.get("body") or ""
        content = body if isinstance(body, str) else json.dumps(body)
        encoded = base64.b64decode(content, validate=True) if answer.get("isBase64Encoded") else content.encode()
    except (TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise IntegrationError("the function's answer is no response of payload format 2.0") from error
    if not 100 <= status <= 599:
        raise IntegrationError(f"{status} is no HTTP status")
    if "content-type" not in dict(headers):
        headers.append(("content-type", "text/plain; charset=utf-8"))
    return status, headers, encoded


def _header(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise TypeError("a header is a text or a number")
    return str(value)


class Gateway(Server):
    """The HTTP API. `invoke` gets a function's name and an event; it raises UnavailableError or IntegrationError.
    `watch` is shown every request with its answer."""

    def __init__(
        self,
        host: str,
        port: int,
        routes: Sequence[Route],
        invoke: Invoke,
        now: Callable[[], datetime],
        *,
        require_signature: bool = False,
        watch: Callable[[Request, Response], None] = lambda _request, _response: None,
    ) -> None:
        self._require_signature = require_signature
        self._routes = Routes(routes)
        self._invoke = invoke
        self._now = now
        self._watch = watch
        super().__init__(host, port, self._watched)

    def _watched(self, request: Request) -> Response:
        response = self._answer(request)
        self._watch(request, response)
        return response

    def _answer(self, request: Request) -> Response:
        target = request.environ["REQUEST_URI"]
        body = request.get_data()
        found = self._routes.find(request.method, unquote(urlsplit(target).path))
        if found is None:
            return failure(404, "Not Found")
        route, parameters = found
        if self._require_signature and route.needs_iam and not signature.is_valid(request, body):
            return failure(403, "Forbidden")
        event = http_event(
            route,
            method=request.method,
            target=target,
            parameters=parameters,
            headers=list(request.headers.items()),
            body=body,
            source_ip=request.remote_addr or "",
            now=self._now(),
            host=request.headers.get("Host", "localhost"),
        )
        try:
            status, headers, content = http_response(self._invoke(route.function, event))
        except IntegrationError:
            return failure(500, "Internal Server Error")
        except UnavailableError:
            return failure(503, "Service Unavailable")
        headers.append(("apigw-requestid", event["requestContext"]["requestId"]))
        # Werkzeug counts the length of bytes. For HEAD a function names the length that GET's body has.
        body_sent = [content] if request.method == "HEAD" else content
        return Response(body_sent, status, [(name, _one_line(value)) for name, value in headers])


def _one_line(value: str) -> str:
    """A header's value without line ends, which would let it add headers of its own."""
    return re.sub(r"[\r\n]", " ", value).encode("latin-1", "replace").decode("latin-1")
