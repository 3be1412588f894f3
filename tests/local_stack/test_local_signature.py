"""With --require-signature the seller API takes what AWS takes: calls signed by a caller that may call it, now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore import auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.deployment import Route
from local.gateway import Gateway
from local.signature import ACCESS_KEY, SECRET_KEY
from marketplace.platform.clock import utc_now
from tests.local_stack.browser import Answer, call

ROUTES = [
    Route("POST", "/usage", "seller", needs_iam=True),
    Route("GET", "/subscriptions/{id}/usage/{record+}", "seller", needs_iam=True),
    Route("GET", "/register", "buyer", needs_iam=False),
]
type Change = Callable[[dict[str, str]], Any]


@pytest.fixture
def api() -> Iterator[str]:
    gateway = Gateway("127.0.0.1", 0, ROUTES, lambda name, _event: name, utc_now, require_signature=True)
    yield gateway.url
    gateway.stop()


def signed(
    method: str,
    url: str,
    body: bytes = b"",
    *,
    key: str = ACCESS_KEY,
    secret: str = SECRET_KEY,
    token: str | None = None,
    service: str = "execute-api",
    region: str = "us-east-1",
) -> dict[str, str]:
    request = AWSRequest(method, url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(request)
    return dict(request.headers)


def post(api: str, body: bytes, headers: dict[str, str]) -> Answer:
    return call("POST", f"{api}/usage", body, headers)


def test_a_signed_call_is_taken(api: str) -> None:
    body = json.dumps({"records": []}).encode()

    assert post(api, body, signed("POST", f"{api}/usage", body)).text == "seller"
    assert post(api, body, signed("POST", f"{api}/usage", body, token="session")).status == 200


@pytest.mark.parametrize(
    "path", ["a%20b/usage/2026-11-22T14%2Facme", "x/usage/1?to=2&from=1", "x/usage/1?a=%2F&b=&a=1", "x/usage/~_-.!"]
)
def test_paths_and_queries_are_signed_as_they_are_sent(api: str, path: str) -> None:
    url = f"{api}/subscriptions/{path}"

    assert call("GET", url, None, signed("GET", url)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "other"},
        {"key": "AKIAOTHER"},
        {"service": "sqs"},
        {"region": "eu-west-1"},
    ],
)
def test_another_caller_service_or_region_is_forbidden(api: str, change: dict[str, str]) -> None:
    answer = post(api, b"{}", signed("POST", f"{api}/usage", b"{}", **change))

    assert (answer.status, answer.json()) == (403, {"message": "Forbidden"})


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: headers.pop("Authorization"),
        lambda headers: headers.update(Authorization="Bearer x"),
        lambda headers: headers.update(Authorization=headers["Authorization"][:-1]),
        lambda headers: headers.update({"content-type": "text/plain"}),
        lambda headers: headers.update({"X-Amz-Date": "20200101T000000Z"}),
        lambda headers: headers.update({"X-Amz-Date": "today"}),
        lambda headers: headers.pop("X-Amz-Date"),
        lambda headers: headers.update({"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
    ],
)
def test_a_call_that_is_not_as_it_was_signed_is_forbidden(api: str, change: Change) -> None:
    headers = signed("POST", f"{api}/usage", b"{}")
    change(headers)
    if "X-Amz-Content-SHA256" in headers:  # said, but not signed: nothing is taken from it
        assert post(api, b"[]", headers).status == 403
    else:
        assert post(api, b"{}", headers).status == 403


def test_another_body_or_path_than_the_signed_one_is_forbidden(api: str) -> None:
    headers = signed("POST", f"{api}/usage", b"{}")

    assert post(api, b"[]", headers).status == 403
    assert call("POST", f"{api}/usage?validate=true", b"{}", headers).status == 403


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_signature_of_another_time_is_forbidden(api: str, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "get_current_datetime", lambda: utc_now() + timedelta(minutes=minutes))

    assert post(api, b"{}", signed("POST", f"{api}/usage", b"{}")).status == 403


def test_what_is_open_to_buyers_needs_no_signature(api: str) -> None:
    assert call("GET", f"{api}/register").text == "buyer"
    assert call("GET", f"{api}/nowhere").status == 404
