"""The API's addresses over HTTP, as a monitor, AWS's check of a listing and a buyer's browser ask for them."""

from __future__ import annotations

from urllib.parse import urlencode, urljoin

import pytest

from local.stack import Stack
from tests.local_stack.browser import Answer, Neighbourhood, call

PRODUCTS = {
    "ca1contractandconsumption": "Acme Analytics",
    "ca2payasyougoproduct00000": "Acme Search",
    "legacysubscriptionproduct": "Acme Mail",
}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def headers_of(answer: Answer) -> dict[str, str]:
    """Without what differs from one request to the next."""
    return {name: value for name, value in answer.headers.items() if name not in ("apigw-requestid", "date")}


@pytest.fixture
def landing(neighbourhood: Neighbourhood) -> str:
    """The address of a buyer's landing page."""
    return neighbourhood.register(neighbourhood.buy("ca2payasyougoproduct00000", "111122223333")["id"])


@pytest.mark.parametrize("path", ["/register", "/register/unknown-code-abcdefghijkl", "/", "/favicon.ico", "/usage"])
def test_head_says_what_get_says(stack: Stack, path: str) -> None:
    get, head = (call(method, f"{stack.api_url}{path}") for method in ("GET", "HEAD"))

    assert head.status == get.status
    assert headers_of(head) == headers_of(get)
    assert (bool(get.body), head.body) == (True, b"")


def test_head_of_a_landing_page_says_what_get_says(landing: str) -> None:
    get, head = call("GET", landing), call("HEAD", landing)

    assert (head.status, headers_of(head), head.body) == (200, headers_of(get), b"")


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_a_token_posted_to_a_slash_arrives(stack: Stack, neighbourhood: Neighbourhood, slashes: str) -> None:
    purchase = neighbourhood.buy("ca2payasyougoproduct00000", "444455556666")["id"]
    sent = neighbourhood.admin("POST", f"/purchases/{purchase}/token", {})
    url, body = sent["fulfilment_url"] + slashes, urlencode(sent["form"])

    redirected = call("POST", url, body, FORM)
    arrived = call("POST", urljoin(url, redirected.headers["location"]), body, FORM)

    assert (redirected.status, arrived.status) == (308, 303)
    assert redirected.headers["location"].endswith("register")
    assert "/register/" in urljoin(f"{stack.api_url}/register", arrived.headers["location"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/robots.txt", 404), ("POST", "/registr", 404), ("PUT", "/register", 405)],
)
def test_everything_else_is_a_page(stack: Stack, method: str, path: str, status: int) -> None:
    answer = call(method, f"{stack.api_url}{path}")

    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "Acme" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert call(method, f"{stack.api_url}{path}", headers={"accept": "application/json"}).json()["error"]["code"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/usage"), ("DELETE", "/subscriptions/sub-x"), ("GET", "/subscriptions/a/b/c")]
)
def test_the_seller_api_answers_an_application(stack: Stack, method: str, path: str) -> None:
    answer = call(method, f"{stack.api_url}{path}", headers={"accept": "text/html"})

    assert (answer.status, answer.json()["error"]["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_landing_page_names_seller_and_product(neighbourhood: Neighbourhood, product: str) -> None:
    page = call("GET", neighbourhood.register(neighbourhood.buy(product, "777788889999")["id"])).text

    assert f'subscription to <strong class="value">{PRODUCTS[product]}</strong> is confirmed' in page
    assert "<header><span>Acme</span></header>" in page


def test_open_aws_marketplace_leads_to_the_emulator_s_purchases(stack: Stack) -> None:
    back = f"{stack.marketplace_url}/#purchases"

    for path in ("/register", "/nowhere", "/register/unknown-code-abcdefghijkl"):
        assert f'href="{back}"' in call("GET", f"{stack.api_url}{path}").text
    assert '<section id="purchases"' in call("GET", back).text
