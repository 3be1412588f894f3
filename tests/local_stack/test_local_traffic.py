"""What the gateway's log of requests keeps: the requests, the usage records in them, and no registration token."""

import json
from typing import Any

import pytest
from werkzeug import Request, Response
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from local.traffic import BODY_KEPT, CONSOLE, KEPT, NOT_KEPT, Traffic


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(lambda: 1000.0)


def request(method: str, target: str, body: bytes = b"", agent: str = "another") -> Request:
    builder = EnvironBuilder(path=target, method=method, data=body, headers=Headers([("user-agent", agent)]))
    environ = builder.get_environ()
    environ["REQUEST_URI"] = target
    return Request(environ)


def reported(traffic: Traffic, records: list[Any], results: list[dict[str, Any]], status: int = 200) -> None:
    body, answer = json.dumps({"records": records}).encode(), json.dumps({"results": results}).encode()
    traffic.add(request("POST", "/usage", body), Response(answer, status))


def test_usage_records_are_found_by_the_subscription_and_by_its_licence_newest_first(traffic: Traffic) -> None:
    by_id = {"id": "1", "subscription_id": "sub-1"}
    by_licence = {"id": "2", "license_arn": "arn:1"}
    other = {"id": "3", "subscription_id": "sub-2"}
    reported(traffic, [by_id, by_licence, other], [{"status": "recorded"}] * 3)

    assert [one.record["id"] for one in traffic.reports("sub-1", "arn:1")] == ["2", "1"]
    assert traffic.reports("", "sub-9") == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [(b"no json", b"{}"), (b"[]", b"[]"), (b'{"records": null}', b'{"results": []}'), (b'{"records": 7}', b"{}")],
)
def test_a_body_that_is_no_report_is_kept_as_a_request_alone(traffic: Traffic, body: bytes, answer: bytes) -> None:
    traffic.add(request("POST", "/usage", body), Response(answer, 200))

    assert [one.body for one in traffic.exchanges()] == [body]


def test_records_of_a_refused_request_were_not_reported(traffic: Traffic) -> None:
    reported(traffic, [{"id": "1", "subscription_id": "sub-1"}, 7], [], status=400)

    assert traffic.reports("sub-1") == []


def test_only_so_many_requests_and_bytes_are_kept(traffic: Traffic) -> None:
    for number in range(KEPT + 5):
        traffic.add(request("POST", f"/{number}", b"x" * (BODY_KEPT + 1)), Response())

    assert traffic.passed == KEPT + 5
    assert len(traffic.exchanges()) == KEPT
    assert traffic.exchange("5") is None
    newest = traffic.exchange(str(KEPT + 5))
    assert newest is not None
    assert (newest.target, len(newest.body)) == (f"/{KEPT + 4}", BODY_KEPT)


def test_a_registration_token_is_not_kept(traffic: Traffic) -> None:
    traffic.add(request("POST", "/register", b"x-amzn-marketplace-token=secret"), Response(status=303))

    assert [one.body for one in traffic.exchanges()] == [NOT_KEPT]


def test_what_the_console_reads_is_not_kept_and_what_it_changes_is(traffic: Traffic) -> None:
    traffic.add(request("GET", "/subscriptions", agent=CONSOLE), Response("{}"))
    traffic.add(request("POST", "/usage", agent=CONSOLE), Response("{}"))
    traffic.add(request("GET", "/subscriptions"), Response("{}"))

    assert [one.method for one in traffic.exchanges()] == ["GET", "POST"]
