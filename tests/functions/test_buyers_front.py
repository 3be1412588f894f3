"""CloudFront in front of the buyers' pages: they are answered on the stage that only CloudFront knows, nothing answers
its name, and the API's own address shows no page any more."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from marketplace.registration.routes import TOKEN_FIELD
from tests.functions.test_buyer_addresses import unrouted
from tests.support.deployed import FORM, Deployed, deployed, http_event
from tests.support.tables import Tables

STAGE = "7hJ2kQ9mX4vB8nL1pR6tW3yZ5cD0fG2s"
JSON = {"accept": "application/json"}
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y"}


def on_stage(event: dict[str, Any], stage: str = STAGE) -> dict[str, Any]:
    """The request as it arrives on a named stage: its name stands in front of the path."""
    context = {**event["requestContext"], "stage": stage}
    return {**event, "rawPath": f"/{stage}{event['rawPath']}", "requestContext": context}


def registration(deployment: Deployed, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    body = urlencode({TOKEN_FIELD: deployment.token()})
    return http_event("POST /register", headers={**FORM, **(headers or {})}, body=body)


@pytest.fixture
def deployment(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, request: pytest.FixtureRequest
) -> Iterator[Deployed]:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, FRONT_STAGE=getattr(request, "param", STAGE)) as running:
        yield running


def test_a_buyer_registers_through_the_front(deployment: Deployed) -> None:
    answer = deployment.buyer(on_stage(registration(deployment)))
    assert answer["statusCode"] == 303
    code = answer["headers"]["location"].removeprefix("register/")
    page = deployment.buyer(on_stage(http_event("GET /register/{code}", path={"code": code})))
    assert page["statusCode"] == 200


@pytest.mark.parametrize("stage", ["$default", "another"])
@pytest.mark.parametrize("headers", [{}, SIGNED, {"x-forwarded-for": "1.2.3.4", "via": "CloudFront"}])
def test_nobody_registers_around_the_front(deployment: Deployed, stage: str, headers: dict[str, str]) -> None:
    event = registration(deployment, headers)
    answer = deployment.buyer(event if stage == "$default" else on_stage(event, stage))
    assert answer["statusCode"] == (404 if "authorization" in headers else 403)
    assert deployment.messages() == []


@pytest.mark.parametrize(
    "key", ["GET /register", "HEAD /register", "GET /register/{code}", "HEAD /register/{code}", "POST /register/{code}"]
)
def test_no_page_is_shown_around_the_front(deployment: Deployed, key: str) -> None:
    path = {"code": "A" * 32} if "{code}" in key else None
    assert deployment.buyer(http_event(key, path=path, body=""))["statusCode"] == 403


def test_a_program_is_told_of_the_closed_address_as_json(deployment: Deployed) -> None:
    answer = deployment.buyer(http_event("GET /register", headers=JSON))
    assert (answer["statusCode"], '"code":"address_closed"' in answer["body"]) == (403, True)


@pytest.mark.parametrize("path", ["/usage/x", "/subscriptions/a/b/c", "/registrations"])
def test_an_unknown_address_of_the_seller_api_is_unknown_still(deployment: Deployed, path: str) -> None:
    answer = deployment.buyer(unrouted("GET", path))
    assert (answer["statusCode"], '"route_not_found"' in answer["body"]) == (404, True)


@pytest.mark.parametrize("slashes", ["/", "//", "///"])
@pytest.mark.parametrize("page", ["/register", "/register/" + "A" * 32])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("deployment", [STAGE, ""], indirect=True)
def test_no_answer_names_the_stage(deployment: Deployed, method: str, page: str, slashes: str) -> None:
    answer = deployment.buyer(on_stage(unrouted(method, page + slashes)))
    assert answer["statusCode"] == 308
    assert STAGE not in str(answer)
    assert answer["headers"]["location"] in (page, f"../{page.rpartition('/')[2]}")


@pytest.mark.parametrize("target", ["/", "/nowhere", "/register/short", f"/{STAGE}", "/usage", "/favicon.ico"])
def test_no_page_and_no_log_line_names_the_stage(deployment: Deployed, target: str) -> None:
    event = on_stage(unrouted("GET", "/"))
    answer = deployment.buyer({**event, "rawPath": f"/{STAGE}{target}"})
    assert STAGE not in str(answer)
    assert STAGE not in deployment.logged


@pytest.mark.parametrize("deployment", [""], indirect=True)
@pytest.mark.parametrize("stage", ["$default", STAGE])
def test_without_the_option_or_beside_the_api_every_stage_has_the_pages(deployment: Deployed, stage: str) -> None:
    event = http_event("GET /register")
    assert deployment.buyer(event if stage == "$default" else on_stage(event, stage))["statusCode"] == 200
