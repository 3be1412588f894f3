"""Reading HTTP API events: whatever arrives is a request, and what can't be read is said so."""

import base64
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.platform.http import (
    BodyTooLargeError,
    Request,
    RequestError,
    Response,
    UnreadableBodyError,
    UnreadableQueryError,
)
from marketplace.registration.routes import with_parameter

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary().map(lambda b: base64.b64encode(b).decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def body(text: str, *, base64_body: bool = False) -> Request:
    return Request.from_event({"body": text, "isBase64Encoded": base64_body})


@given(
    st.dictionaries(
        st.sampled_from(["routeKey", "pathParameters", "headers", "rawQueryString", "body", "isBase64Encoded"]),
        ANYTHING,
    )
)
def test_any_event_is_a_request(event: dict[str, Any]) -> None:
    request = Request.from_event(event)

    for read in (lambda: request.body(100), lambda: request.form(100), request.query, lambda: request.wants_json):
        try:
            read()
        except RequestError:
            continue


@given(st.binary(max_size=60))
def test_a_body_arrives_as_it_was_sent(content: bytes) -> None:
    assert body(base64.b64encode(content).decode(), base64_body=True).body(60) == content


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_a_form_arrives_as_it_was_sent(fields: dict[str, str]) -> None:
    assert body(urlencode(fields)).form(10_000) == fields


def test_of_a_field_given_twice_the_first_counts() -> None:
    assert body("a=1&a=2").form(100) == {"a": "1"}


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_over_the_limit_is_refused_before_it_is_decoded(encoded: bool) -> None:
    text = base64.b64encode(b"x" * 101).decode() if encoded else "x" * 101
    with pytest.raises(BodyTooLargeError):
        body(text, base64_body=encoded).body(100)
    with pytest.raises(BodyTooLargeError):
        body("é" * 60).form(100)


@pytest.mark.parametrize(
    ("text", "encoded"), [("***", True), ("YQ", True), ("\ud800", False), ("a=%ff", False), ("&".join("a" * 30), False)]
)
def test_what_is_not_a_form_is_unreadable(text: str, encoded: bool) -> None:
    with pytest.raises(UnreadableBodyError):
        body(text, base64_body=encoded).form(100)


@pytest.mark.parametrize("query", ["a=1&a=2", "&".join(f"p{n}=1" for n in range(30)), "a=%ff"])
def test_a_query_is_unambiguous_or_refused(query: str) -> None:
    with pytest.raises(UnreadableQueryError):
        Request.from_event({"rawQueryString": query}).query()


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("application/json", True),
        ("Application/JSON, */*", True),
        ("text/html,application/json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_json_is_for_those_who_ask_for_it(accept: str, json: bool) -> None:
    assert Request.from_event({"headers": {"Accept": accept}}).wants_json is json


def test_every_answer_is_kept_out_of_caches_and_referrers() -> None:
    headers = Response(200).as_event()["headers"]

    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://seller.example/signup", "https://seller.example/signup?registration=C"),
        ("https://seller.example", "https://seller.example?registration=C"),
        ("https://seller.example/s?plan=a%26b", "https://seller.example/s?plan=a%26b&registration=C"),
        ("https://seller.example/s?plan=a#top", "https://seller.example/s?plan=a&registration=C#top"),
    ],
)
def test_a_parameter_joins_what_an_address_has(url: str, expected: str) -> None:
    assert with_parameter(url, "registration", "C") == expected
