"""The HTTP API: how a request becomes an event, and an answer a response (API Gateway Developer Guide, format 2.0)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.deployment import Route
from local.gateway import Gateway, IntegrationError, Routes, UnavailableError, http_event, http_response
from tests.local_stack.browser import call

NOW = datetime(2026, 11, 22, 12, 10, tzinfo=UTC)
JSON, TEXT = ("content-type", "application/json"), ("content-type", "text/plain; charset=utf-8")


def route(key: str, *, iam: bool = False) -> Route:
    method, _, path = key.partition(" ")
    return Route(method, path, "F", needs_iam=iam)


def event(target: str = "/things/a%20b?x=1&x=2&y=", *, iam: bool = False, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"parameters": {}, "headers": [], "body": b""} | changes
    return http_event(
        route("POST /things/{id}", iam=iam),
        method="POST",
        target=target,
        source_ip="203.0.113.9",
        now=NOW,
        host="api.example:8080",
        **given,
    )


def test_paths_and_queries_are_decoded_and_joined_as_api_gateway_does() -> None:
    made = event(parameters={"id": "a b"})

    assert made["routeKey"] == "POST /things/{id}"
    assert made["rawPath"] == "/things/a b"
    assert made["rawQueryString"] == "x=1&x=2&y="
    assert made["queryStringParameters"] == {"x": "1,2", "y": ""}
    assert made["pathParameters"] == {"id": "a b"}
    context = made["requestContext"]
    assert context["http"]["sourceIp"] == "203.0.113.9"
    assert context["time"] == "22/Nov/2026:12:10:00 +0000"
    assert context["timeEpoch"] == 1_795_349_400_000
    assert "authorizer" not in context


def test_what_is_not_there_is_left_out() -> None:
    made = event(target="/things")

    assert not {"queryStringParameters", "pathParameters", "cookies", "body"} & set(made)


def test_headers_are_joined_in_lower_case_and_cookies_stand_apart() -> None:
    made = event(headers=[("X-One", "1"), ("x-one", "2"), ("Cookie", "a=1; b=2"), ("User-Agent", "me")])

    assert made["headers"] == {"x-one": "1,2", "user-agent": "me"}
    assert made["cookies"] == ["a=1", "b=2"]
    assert made["requestContext"]["http"]["userAgent"] == "me"


@pytest.mark.parametrize(
    ("content_type", "body", "encoded"),
    [
        ("application/json; charset=utf-8", b'{"a": 1}', False),
        ("text/plain", "grün".encode(), False),
        ("application/vnd.api+json", b"{}", False),
        (None, b"plain", False),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("application/octet-stream", b"\x00\xff", True),
        ("text/plain", b"\xff", True),
    ],
)
def test_a_body_is_base64_unless_it_is_text(content_type: str | None, body: bytes, encoded: bool) -> None:
    made = event(headers=[("Content-Type", content_type)] if content_type else [], body=body)

    assert made["isBase64Encoded"] is encoded
    assert (base64.b64decode(made["body"]) if encoded else made["body"].encode()) == body


@pytest.mark.parametrize(
    ("authorization", "key"), [("AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1", "AKID"), ("", "LOCAL")]
)
def test_an_iam_route_names_a_caller(authorization: str, key: str) -> None:
    made = event(iam=True, headers=[("Authorization", authorization)])

    assert made["requestContext"]["authorizer"]["iam"]["accessKey"] == key


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a/b", "GET /a/b"),
        ("GET", "/a/c", "GET /a/{x}"),
        ("GET", "/a/c/d", "GET /a/{x+}"),
        ("PUT", "/a/b", "ANY /a/b"),
        ("GET", "/else", "$default"),
    ],
)
def test_the_most_specific_route_wins(method: str, path: str, expected: str) -> None:
    keys = ["GET /a/{x+}", "GET /a/{x}", "ANY /a/b", "GET /a/b"]
    routes = Routes([Route("ANY", "$default", "F", needs_iam=False), *map(route, keys)])
    found = routes.find(method, path)

    assert found is not None
    assert found[0].key == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [("HEAD", "/a"), ("POST", "/a"), ("GET", "/a/"), ("GET", "/a/x/"), ("GET", "//a"), ("OPTIONS", "/a"), ("GET", "/")],
)
def test_what_no_other_route_fits_goes_to_the_default_route(method: str, path: str) -> None:
    routes = Routes([Route("ANY", "$default", "F", needs_iam=False), *map(route, ["GET /a", "GET /a/{x}"])])
    found = routes.find(method, path)

    assert found is not None
    assert found == (Route("ANY", "$default", "F", needs_iam=False), {})
    assert found[0].key == "$default"


def test_a_greedy_parameter_takes_slashes() -> None:
    found = Routes([route("GET /usage/{record_id+}")]).find("GET", "/usage/a/b")

    assert found is not None
    assert found[1] == {"record_id": "a/b"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"hello": 1}, (200, [JSON], b'{"hello": 1}')),
        ("text", (200, [JSON], b"text")),
        (None, (200, [JSON], b"null")),
        (
            {"statusCode": 201, "headers": {"Content-Type": "text/html", "X-N": 1}, "body": "<p>"},
            (201, [("content-type", "text/html"), ("x-n", "1")], b"<p>"),
        ),
        (
            {"statusCode": "204", "cookies": ["a=1", "b=2"], "multiValueHeaders": {"X": ["1", True]}},
            (204, [("x", "1,true"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), TEXT], b""),
        ),
        ({"statusCode": 200, "isBase64Encoded": True, "body": "AP8="}, (200, [TEXT], b"\x00\xff")),
    ],
)
def test_answers(answer: Any, expected: tuple[int, list[tuple[str, str]], bytes]) -> None:
    assert http_response(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": "many"},
        {"statusCode": 700},
        {"statusCode": 200, "headers": {"x": ["1"]}},
        {"statusCode": 200, "headers": "x"},
        {"statusCode": 200, "isBase64Encoded": True, "body": "!"},
    ],
)
def test_malformed_answers(answer: Any) -> None:
    with pytest.raises(IntegrationError):
        http_response(answer)


def function(name: str, made: dict[str, Any]) -> Any:
    match made["rawPath"]:
        case "/fails":
            raise IntegrationError
        case "/busy":
            raise UnavailableError
        case "/page":
            return {"statusCode": 200, "headers": {"content-length": "5"}, "body": ""}
        case "/splits":
            return {"statusCode": 200, "headers": {"x-a": "1\r\nx-b: 2"}}
    return {"statusCode": 200, "body": f"{name} {made['rawPath']} {made.get('body', '')}"}


@pytest.fixture
def api() -> Iterator[str]:
    keys = ["POST /echo", "GET /fails", "GET /busy", "GET /splits", "HEAD /echo", "HEAD /page"]
    gateway = Gateway("127.0.0.1", 0, [route(key) for key in keys], function, lambda: NOW)
    yield gateway.url
    gateway.stop()


def test_a_request_and_its_answer(api: str) -> None:
    answer = call("POST", f"{api}/echo", "hello", {"content-type": "text/plain"})

    assert (answer.status, answer.text) == (200, "F /echo hello")
    assert answer.headers["apigw-requestid"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "/echo", 404, "Not Found"),
        ("GET", "/fails", 500, "Internal Server Error"),
        ("GET", "/busy", 503, "Service Unavailable"),
    ],
)
def test_errors_are_api_gateway_s(api: str, method: str, path: str, status: int, message: str) -> None:
    answer = call(method, f"{api}{path}")

    assert (answer.status, answer.json()) == (status, {"message": message})


def test_a_header_can_t_add_another(api: str) -> None:
    assert "x-b" not in call("GET", f"{api}/splits").headers


@pytest.fixture
def connection(api: str) -> Iterator[HTTPConnection]:
    opened = HTTPConnection(urlsplit(api).netloc, timeout=10)
    yield opened
    opened.close()


def test_a_body_beyond_ten_megabytes_is_refused(connection: HTTPConnection) -> None:
    connection.putrequest("POST", "/echo")
    connection.putheader("content-length", str(10 * 1024 * 1024 + 1))
    connection.endheaders()
    response = connection.getresponse()

    assert (response.status, response.read()) == (413, b'{"message":"Request Entity Too Large"}')


def test_chunks_are_put_together(connection: HTTPConnection) -> None:
    connection.request("POST", "/echo", iter([b"hel", b"lo"]), {"content-type": "text/plain"}, encode_chunked=True)

    assert connection.getresponse().read() == b"F /echo hello"


def test_a_head_request_gets_no_body(api: str) -> None:
    assert call("HEAD", f"{api}/echo").body == b""


def test_the_length_that_a_function_names_for_head_is_passed_on(api: str) -> None:
    answer = call("HEAD", f"{api}/page")

    assert (answer.headers["content-length"], answer.body) == ("5", b"")
