"""A handler behind a small HTTP server: requests become API Gateway HTTP API events (payload format 2.0) and answers
come back, with the routes and the decoding of paths as API Gateway does them."""

import base64
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

type Handler = Callable[[dict[str, Any]], dict[str, Any]]


def http_event(
    route: str,
    *,
    path: Mapping[str, str] | None = None,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    base64_body: bool = False,
) -> dict[str, Any]:
    """An event as API Gateway makes it; `route` is a route key and `path` its parameters, decoded."""
    method, _, template = route.partition(" ")
    raw_path = template
    for name, value in (path or {}).items():
        raw_path = raw_path.replace(f"{{{name}}}", value).replace(f"{{{name}+}}", value)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": {"host": "localhost", **(headers or {})},
        "requestContext": {
            "accountId": "222233334444",
            "apiId": "local",
            "domainName": "localhost",
            "http": {"method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "request-1",
            "routeKey": route,
            "stage": "$default",
        },
        "isBase64Encoded": base64_body,
    }
    if path:
        event["pathParameters"] = dict(path)
    if body is not None:
        event["body"] = base64.b64encode(body.encode()).decode() if base64_body else body
    return event


def _matcher(route: str) -> re.Pattern[str]:
    pattern = re.escape(route.partition(" ")[2])
    pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", pattern)
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern))


@contextmanager
def serving(handler: Handler, routes: list[str]) -> Iterator[str]:
    """Serves a handler's routes for the length of a `with` block, which gets the base address."""
    matchers = {route: _matcher(route) for route in routes}

    class Adapter(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length).decode() if length else None
            for route, matcher in matchers.items():
                match = matcher.fullmatch(path)
                if match and route.startswith(f"{self.command} "):
                    event = http_event(
                        route, path=match.groupdict(), query=parts.query, headers=dict(self.headers), body=body
                    )
                    answer = handler(event)
                    break
            else:
                answer = {"statusCode": 404, "headers": {}, "body": "{}"}
            content = answer["body"].encode()
            self.send_response(answer["statusCode"])
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = _answer  # noqa: N815 - http.server's name
        do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Adapter)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
