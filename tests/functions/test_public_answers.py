"""What a browser gets from the public routes, whatever it sends: a page or JSON with every security header, which
contains nothing that was sent as markup."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.deployed import FORM, Deployed, http_event, sample
from tools.template import resources

EVENTS = resources("AWS::Serverless::Function")["ResolveCustomerFunction"]["Properties"]["Events"].values()
ROUTES = sorted(
    f"{event['Properties']['Method']} {event['Properties']['Path']}"
    for event in EVENTS
    if "Path" in event["Properties"]
)
MARKUP = "<img src=x onerror=alert(1)>"
TEXT = st.text(max_size=40) | st.just(MARKUP) | st.just(f"\"'>{MARKUP}")
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def check(answer: dict[str, Any]) -> None:
    headers = answer["headers"]
    assert answer["statusCode"] < 500
    assert HEADERS.items() <= headers.items()
    assert "max-age" in headers["strict-transport-security"]
    assert MARKUP not in answer["body"]
    assert "set-cookie" not in headers
    kind = headers.get("content-type", "")
    if kind.startswith("text/html"):
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "<script" not in answer["body"]
    elif kind:
        assert kind == "application/json"
        json.loads(answer["body"] or "{}")
    if "location" in headers:
        assert "//" not in headers["location"]


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(ROUTES),
    code=TEXT.filter(bool),
    query=st.dictionaries(TEXT, TEXT, max_size=2).map(urlencode),
    accept=st.sampled_from(["text/html", "application/json", "*/*", "", MARKUP]),
    content=st.sampled_from([FORM["content-type"], "application/json"]),
    fields=st.dictionaries(st.sampled_from(["x-amzn-marketplace-token", "email", "company", "name"]) | TEXT, TEXT),
)
def test_every_public_answer_is_a_page_or_json_with_all_headers(deployment: Deployed, key: str, **sent: Any) -> None:
    headers = {"content-type": sent["content"], "accept": sent["accept"]}
    body = urlencode(sent["fields"]) if sent["content"] == FORM["content-type"] else json.dumps(sent["fields"])
    path = {"code": sent["code"]} if "{code}" in key else {}
    check(deployment.buyer(http_event(key, path=path, query=sent["query"], headers=headers, body=body)))


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(max_size=60) | st.just(f"/register/{MARKUP}"), method=st.sampled_from(["GET", "POST", "PUT", "TRACE"])
)
def test_so_is_the_answer_at_any_other_address(deployment: Deployed, path: str, method: str) -> None:
    event = sample("register_get")
    event = {**event, "routeKey": "$default", "rawPath": f"/{path}"}
    event["requestContext"] = {
        **event["requestContext"],
        "http": {**event["requestContext"]["http"], "method": method, "path": f"/{path}"},
    }
    check(deployment.buyer(event))
