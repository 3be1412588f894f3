"""Every address of the API in a buyer's browser, a monitor and a seller's application: HEAD, slashes, unknown paths, a
function that would take too long, and the seller's name on all of it."""

import base64
import json
import signal
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from local.deployment import Route
from local.gateway import http_event as gateway_event
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import utc_now
from marketplace.platform.http import SECURITY_HEADERS
from marketplace.registration import problems
from marketplace.registration.register import MarketplaceResolver
from marketplace.registration.routes import BuyerRoutes
from marketplace.registration.seller import AWS_SUBSCRIPTIONS
from marketplace.subscriptions.recheck_queue import Requests
from tests.support.deployed import FORM, Deployed, deployed, http_event
from tests.support.tables import Tables

JSON = {"accept": "application/json"}
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
CODE = "A" * 32


def unrouted(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", route: str = "$default"
) -> dict[str, Any]:
    """A request that no other route takes, as API Gateway hands it over."""
    key = Route("ANY", "$default", "function", needs_iam=False)
    event = gateway_event(
        key,
        method=method,
        target=target,
        parameters={},
        headers=list({"host": "localhost", **(headers or {})}.items()),
        body=body,
        source_ip="127.0.0.1",
        now=utc_now(),
        host="localhost",
    )
    return {**event, "routeKey": route}


def is_page(answer: dict[str, Any]) -> bool:
    return bool(answer["headers"]["content-type"] == "text/html; charset=utf-8" and "<h1>" in answer["body"])


def as_head(answer: dict[str, Any]) -> dict[str, Any]:
    """What HEAD is answered where GET is answered this."""
    length = str(len(answer["body"].encode()))
    return {**answer, "body": "", "headers": {**answer["headers"], "content-length": length}}


# HEAD


def test_head_is_answered_as_get_without_the_body(deployment: Deployed) -> None:
    code = deployment.code()
    for key, path, query in (
        ("/register", {}, ""),
        ("/register/{code}", {"code": code}, ""),
        ("/register/{code}", {"code": code}, "saved=1"),
        ("/register/{code}", {"code": CODE}, ""),
        ("/register/{code}", {"code": "short"}, ""),
    ):
        for headers in ({}, JSON, BROWSER):
            get = deployment.buyer(http_event(f"GET {key}", path=path, query=query, headers=headers))
            head = deployment.buyer(http_event(f"HEAD {key}", path=path, query=query, headers=headers))
            assert get["body"]
            assert head == as_head(get)


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/register/a/b", "/usage", "/register/"])
def test_head_of_any_other_address_has_no_body_either(deployment: Deployed, path: str) -> None:
    get = deployment.buyer(unrouted("GET", path))

    assert deployment.buyer(unrouted("HEAD", path)) == as_head(get)


def test_head_changes_nothing(deployment: Deployed) -> None:
    code = deployment.code()
    before = deployment.dynamodb.scan(TableName=deployment.tables.subscriptions)["Items"]
    deployment.messages()

    for _ in range(3):
        deployment.buyer(http_event("HEAD /register/{code}", path={"code": code}))
        deployment.buyer(http_event("HEAD /register"))

    assert deployment.dynamodb.scan(TableName=deployment.tables.subscriptions)["Items"] == before
    assert deployment.messages() == []


# A slash at the end


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/register/", "/register"),
        ("/register//", "/register"),
        (f"/register/{CODE}/", f"/register/{CODE}"),
        (f"/register/{CODE}///", f"/register/{CODE}"),
        ("/base/path/register/", "/base/path/register"),
        (f"/base/register/{CODE}/", f"/base/register/{CODE}"),
    ],
)
@pytest.mark.parametrize("route", ["$default", "POST /register", "GET /register/{code}"])
def test_a_slash_at_the_end_leads_to_the_page_with_method_and_body_kept(
    deployment: Deployed, method: str, path: str, page: str, route: str
) -> None:
    answer = deployment.buyer(unrouted(method, path, FORM, b"x-amzn-marketplace-token=t", route))

    assert answer["statusCode"] == 308
    assert urljoin(f"https://api.example{path}", answer["headers"]["location"]) == f"https://api.example{page}"


def test_a_buyer_who_is_posted_to_the_slash_is_registered_and_the_token_comes_into_no_address(
    deployment: Deployed,
) -> None:
    token = deployment.token()
    body = urlencode({"x-amzn-marketplace-token": token})

    redirected = deployment.buyer(unrouted("POST", "/register/", FORM, body.encode()))
    followed = deployment.buyer(
        http_event(f"POST {urljoin('/register/', redirected['headers']['location'])}", headers=FORM, body=body)
    )

    assert followed["statusCode"] == 303
    assert token not in json.dumps([redirected, followed])
    assert redirected["body"] == ""


@pytest.mark.parametrize(
    ("query", "kept"),
    [("saved=1", "?saved=1"), ("", ""), ("x-amzn-marketplace-token=secret", ""), ("saved=1&x=%0d%0aa:b", "?saved=1")],
)
def test_of_a_query_only_what_the_page_reads_is_kept(deployment: Deployed, query: str, kept: str) -> None:
    answer = deployment.buyer(unrouted("GET", f"/register/{CODE}/?{query}"))

    assert answer["headers"]["location"] == f"../{CODE}{kept}"


# Addresses that lead nowhere


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/favicon.ico",
        "/robots.txt",
        "/Register",
        "/registr",
        "/register/a/b",
        "//register/x/",
        "/%00",
        "/a%0d%0ab",
    ],
)
def test_an_unknown_address_is_a_page_and_json_for_those_who_ask(deployment: Deployed, method: str, path: str) -> None:
    for headers in ({}, BROWSER, {"accept": "*/*"}):
        answer = deployment.buyer(unrouted(method, path, headers, b"x=1"))
        assert answer["statusCode"] == 404
        assert is_page(answer)
        assert "help@seller.example" in answer["body"]

    answer = deployment.buyer(unrouted(method, path, JSON))
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/Register", "/registr", "/register/a/b", "/signup"])
def test_a_buyer_whom_the_listing_sends_to_a_wrong_address_is_told_so_and_counted(
    deployment: Deployed, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = deployment.token()
    answer = deployment.buyer(unrouted("POST", path, FORM, urlencode({"x-amzn-marketplace-token": token}).encode()))

    assert answer["statusCode"] == 404
    assert "AWS Marketplace sent you to a wrong address" in answer["body"]
    assert token not in json.dumps(answer) + deployment.logged
    assert '"FulfilmentUrlWrong":[1.0]' in capsys.readouterr().out


@pytest.mark.parametrize(
    "body", [b"", b"x=1", b"\xff\xfe", b"x-amzn-marketplace-token" * 1000, b"&".join([b"a=1"] * 30)]
)
def test_what_holds_no_token_is_an_unknown_address(deployment: Deployed, body: bytes) -> None:
    answer = deployment.buyer(unrouted("POST", "/registr", {**FORM, **JSON}, body))

    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/register", f"/register/{CODE}"])
def test_a_page_names_the_methods_that_it_takes(deployment: Deployed, method: str, path: str) -> None:
    answer = deployment.buyer(unrouted(method, path))

    assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "GET, HEAD, POST")
    assert is_page(answer)
    error = json.loads(deployment.buyer(unrouted(method, path, JSON))["body"])["error"]
    assert error["code"] == "method_not_allowed"


SELLER_API = [
    ("GET", "/usage"),
    ("HEAD", "/usage"),
    ("PUT", "/subscriptions"),
    ("DELETE", "/subscriptions/sub-a"),
    ("GET", "/registrations/code/claim"),
    ("POST", "/usage/"),
    ("GET", "/subscriptions/sub-a/nothing/here"),
    ("POST", "/base/usage/"),
]


@pytest.mark.parametrize(("method", "path"), SELLER_API)
@pytest.mark.parametrize("headers", [{}, BROWSER, JSON])
def test_the_seller_api_s_paths_answer_as_the_seller_api(
    deployment: Deployed, method: str, path: str, headers: dict[str, str]
) -> None:
    expected = deployment.seller(http_event(f"{method} /nothing"))

    answer = deployment.buyer(unrouted(method, path, headers))

    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/json"
    if method != "HEAD":
        assert answer == expected


def test_the_seller_api_s_paths_tell_nobody_what_there_is(deployment: Deployed) -> None:
    code = deployment.code()
    registered = deployment.messages()[0]["subscription_id"]

    answers = {
        json.dumps(deployment.buyer(unrouted("DELETE", path)))
        for path in (f"/subscriptions/{registered}", "/subscriptions/sub-none", f"/registrations/{code}/claim")
    }

    assert len(answers) == 1


def test_a_signed_request_is_an_application_s(deployment: Deployed) -> None:
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/execute-api/aws4_request"}

    answer = deployment.buyer(unrouted("GET", "/subscription", signed))

    assert json.loads(answer["body"])["error"]["code"] == "route_not_found"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("HEAD", "/register/", {}),
        ("PUT", "/register", JSON),
        ("GET", "/usage", {}),
        ("PUT", "/x", {}),
    ],
)
def test_every_answer_carries_the_security_headers(
    deployment: Deployed, method: str, path: str, headers: dict[str, str]
) -> None:
    assert deployment.buyer(unrouted(method, path, headers))["headers"].items() >= SECURITY_HEADERS.items()


def test_what_was_asked_for_is_neither_logged_nor_shown(deployment: Deployed) -> None:
    body = urlencode({"x-amzn-marketplace-token": "the-token"}).encode()
    answers = [
        deployment.buyer(unrouted("POST", "/secret-path?secret=query", {**FORM, "x-secret": "secret"}, body)),
        deployment.buyer(unrouted("PUT", f"/register/{CODE}", FORM, body)),
        deployment.buyer(unrouted("GET", "/subscriptions/secret-path")),
    ]

    text = deployment.logged + json.dumps(answers)
    assert "secret" not in text
    assert "the-token" not in text
    assert CODE not in text


def test_base64_is_no_obstacle(deployment: Deployed) -> None:
    event = unrouted("POST", "/register/", FORM, b"x-amzn-marketplace-token=t")

    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == b"x-amzn-marketplace-token=t"
    assert deployment.buyer(event)["statusCode"] == 308


# What takes too long


def waiting(*_: Any, **__: Any) -> Any:
    """AWS, which does not answer until the time is over."""
    signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize(
    ("silent", "method"),
    [
        (MarketplaceResolver, "resolve"),
        (Table, "write_together"),
        (Requests, "look_again"),
        (BuyerRoutes, "answer"),
    ],
    ids=["ResolveCustomer", "DynamoDB", "SQS", "anything"],
)
@pytest.mark.parametrize("accept", [BROWSER, JSON], ids=["page", "json"])
def test_a_buyer_who_would_wait_too_long_is_asked_to_come_back(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch, silent: type, method: str, accept: dict[str, str]
) -> None:
    token = deployment.token()
    with monkeypatch.context() as patched:
        patched.setattr(silent, method, waiting)
        answer = deployment.register(token, **accept)

    assert answer["statusCode"] == 503
    assert int(answer["headers"]["retry-after"]) > 0
    if accept is JSON:
        assert json.loads(answer["body"])["error"]["code"] == "unavailable"
    else:
        assert problems.REGISTRATION_UNAVAILABLE.title in answer["body"]
        assert "help@seller.example" in answer["body"]
    assert "DeadlineError at " in deployment.logged
    assert deployment.register(token)["statusCode"] == 303


# Whose pages they are

SELLER = {
    "SELLER_NAME": "Müller & Söhne",
    "SELLER_LOGO_URL": "https://cdn.seller.example/logo.svg",
    "SELLER_COLOR": "#ffd400",
    "PRODUCT_TITLES": "ca1contractandconsumption=Acme Analytics,ca2payasyougoproduct00000=Acme Search,typo=Nothing",
}


@pytest.mark.parametrize(
    ("product", "title"),
    [
        ("ca1contractandconsumption", "Acme Analytics"),
        ("ca2payasyougoproduct00000", "Acme Search"),
        ("legacysubscriptionproduct", None),
    ],
)
def test_a_registration_s_pages_name_its_product(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, product: str, title: str | None
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, **SELLER) as deployment:
        purchase = deployment.marketplace.purchases.subscribe(product, provision=True)
        path = {"code": deployment.code(purchase)}
        key = "/register/{code}"
        landing = deployment.buyer(http_event(f"GET {key}", path=path))
        refused = deployment.buyer(http_event(f"POST {key}", path=path, headers=FORM, body="email=x"))
        deployment.buyer(http_event(f"POST {key}", path=path, headers=FORM, body="email=jo%40buyer.example"))
        confirmed = deployment.buyer(http_event(f"GET {key}", path=path, query="saved=1"))

    assert "jo@buyer.example" in confirmed["body"]
    for answer in (landing, refused, confirmed):
        named = [name for name in ("Acme Analytics", "Acme Search", "Nothing") if name in answer["body"]]
        assert named == ([title] if title else [])


def test_every_page_names_the_seller_also_after_a_fault(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, **SELLER) as deployment:
        answers = [
            deployment.buyer(http_event("GET /register")),
            deployment.register("no token"),
            deployment.buyer(unrouted("GET", "/nowhere")),
        ]
        monkeypatch.setattr(MarketplaceResolver, "resolve", lambda *_: 1 / 0)
        answers.append(deployment.register("fault"))

    assert [answer["statusCode"] for answer in answers] == [200, 400, 404, 500]
    for answer in answers:
        assert "Müller &amp; Söhne" in answer["body"]
        assert "https://cdn.seller.example/logo.svg" in answer["body"]
        assert "img-src data: https://cdn.seller.example;" in answer["headers"]["content-security-policy"]
        assert "help@seller.example" in answer["body"]


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:4599/#purchases"])
def test_open_aws_marketplace_leads_to_where_the_buyer_came_from(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, url: str
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, MARKETPLACE_CONSOLE_URL=url) as deployment:
        answers = [
            deployment.buyer(http_event("GET /register")),
            deployment.register("no token"),
            deployment.buyer(unrouted("GET", "/nowhere")),
        ]

    for answer in answers:
        assert f'href="{url or AWS_SUBSCRIPTIONS}"' in answer["body"]
