"""What every client does with usage that is reported to it: the same for threads, for asyncio and in TypeScript."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest

from tests.clients.conftest import Driver, Flavour
from tests.clients.fake_api import CLOSED, LOST, MAX_BODY, Answer, FakeApi

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACME = "sub-" + "a" * 26
GLOBEX = "sub-" + "b" * 26
ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef"


def record(record_id: str, **members: Any) -> dict[str, Any]:
    named = {} if "license_arn" in members else {"subscription_id": ACME}
    usual = {"id": record_id, "dimension": "api_calls", "quantity": 5, "timestamp": NOON.isoformat()}
    return {**usual, **named, **members}


def report(client: Driver, *ids: str, **members: Any) -> None:
    client.do("report", records=[record(record_id, **members) for record_id in ids])


def at(client: Driver, seconds: float) -> None:
    """Put the client's clock so many seconds after noon."""
    client.do("clock", now=(NOON + timedelta(seconds=seconds)).isoformat())


# Sending


def test_what_is_reported_is_counted_as_it_was_reported(client: Driver, api: FakeApi) -> None:
    client.do("report", records=[record("a", tags={"team": "search"}), record("b", license_arn=ARN, quantity=0)])
    delivery = client.do("deliver")

    assert (delivery["recorded"], delivery["problem"]) == (2, "")
    a, b = api.counted[ACME, "a"], api.counted[ARN, "b"]
    assert (a["dimension"], a["quantity"], a["tags"]) == ("api_calls", 5, {"team": "search"})
    assert datetime.fromisoformat(a["timestamp"]) == NOON
    assert (b["quantity"], "subscription_id" in b, "tags" in b) == (0, False, False)
    assert client.do("status") == {"waiting": 0, "lost": 0, "rejected": 0}
    assert api.unsigned == []


def test_nothing_is_sent_twice_that_was_answered(client: Driver, api: FakeApi) -> None:
    report(client, "a")
    client.do("deliver")
    client.do("deliver")
    assert api.requests == [["a"]]


def test_without_usage_there_is_no_request(client: Driver, api: FakeApi) -> None:
    delivery = client.do("deliver")
    assert (api.targets, delivery["wait"]) == ([], 5)


def test_a_request_holds_500_records_at_most(client: Driver, api: FakeApi) -> None:
    report(client, *(f"r{number}" for number in range(1203)))
    assert client.do("deliver")["recorded"] == 1203
    assert sorted(map(len, api.requests)) == [203, 500, 500]


def test_a_request_holds_2_megabytes_at_most(client: Driver, api: FakeApi) -> None:
    tags = {f"{number}" * 100: "v" * 256 for number in range(5)}
    dimension = "\u00e4" * 255  # a character that takes more bytes than one
    for number in range(2):
        ids = [f"{number}-{part}".ljust(128, "x") for part in range(600)]
        report(client, *ids, tags=tags, license_arn="arn:" + "x" * 2000, dimension=dimension)
    assert client.do("deliver")["recorded"] == 1200
    assert len(api.sent) == 1200, "none was refused for its size"
    assert MAX_BODY - 8192 < max(api.sizes) <= MAX_BODY


def test_a_record_that_no_request_can_hold_is_rejected(client: Driver, api: FakeApi) -> None:
    report(client, "huge", tags={"team": "x" * MAX_BODY})
    report(client, "fine")
    client.do("flush", seconds=0)
    assert client.do("rejected") == [["huge", "request_too_large"]]
    assert set(api.counted) == {(ACME, "fine")}


# Repeating


def test_a_lost_answer_is_asked_for_again_with_the_same_content(client: Driver, api: FakeApi) -> None:
    api.next.append(LOST)
    report(client, "a", "b")
    first = client.do("deliver")
    assert (first["recorded"], first["problem"] != "") == (0, True)
    assert client.do("status")["waiting"] == 2

    at(client, first["wait"])
    assert client.do("deliver")["recorded"] == 2
    assert [sorted(request) for request in api.requests] == [["a", "b"], ["a", "b"]]
    assert len(api.counted) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        CLOSED,
        Answer(429, {"message": "Too Many Requests"}),
        Answer(500, {"error": {"code": "internal_error", "message": "oh"}}),
        Answer(503, {"error": {"code": "busy", "message": "later"}}),
        Answer(503, {"message": "Service Unavailable"}),
        Answer(504, text="<html>timeout</html>"),
        Answer(200, text="<html>a proxy's page</html>"),
        Answer(200, {"results": []}),
        Answer(200, {"results": [{"what": "is this"}]}),
        Answer(403, {"message": "Forbidden"}),
        Answer(404, {"message": "Not Found"}),
        Answer(400, {"message": "Bad Request"}),
        Answer(413, text="<html>a proxy's limit</html>"),
    ],
    ids=str,
)
def test_what_is_no_answer_about_the_records_costs_none(client: Driver, api: FakeApi, trouble: Answer | str) -> None:
    api.next.append(trouble)
    report(client, "a")
    delivery = client.do("deliver")

    assert (delivery["recorded"], delivery["rejected"], len(api.targets)) == (0, 0, 1)
    assert delivery["problem"]
    assert client.do("status") == {"waiting": 1, "lost": 0, "rejected": 0}
    at(client, delivery["wait"])
    assert client.do("deliver")["recorded"] == 1


def test_the_wait_doubles_up_to_a_minute_and_begins_again_after_an_answer(client: Driver, api: FakeApi) -> None:
    waits, time = [], 0.0
    for _ in range(8):
        report(client, f"r{time}")
        api.next.append(Answer(503, {}))
        waits.append(client.do("deliver")["wait"])
        time += waits[-1]
        at(client, time)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    client.do("deliver")
    api.next.append(CLOSED)
    report(client, "last")
    assert client.do("deliver")["wait"] == 1


def test_an_answer_may_say_how_long_to_wait(client: Driver, api: FakeApi) -> None:
    report(client, "a")
    api.next.append(Answer(503, {}, {"retry-after": "7"}))
    assert client.do("deliver")["wait"] == 7 + 1
    at(client, 8)
    api.next.append(Answer(429, {}, {"retry-after": format_datetime(NOON + timedelta(seconds=30), usegmt=True)}))
    assert client.do("deliver")["wait"] == 22 + 2
    at(client, 40)
    api.next.append(Answer(503, {}, {"retry-after": "86400"}))
    assert client.do("deliver")["wait"] == 300 + 4, "no longer than five minutes"
    at(client, 400)
    api.next.append(Answer(503, {}, {"retry-after": "soon"}))
    assert client.do("deliver")["wait"] == 8


def test_an_api_that_does_not_answer_gets_one_request_a_pass(client: Driver, api: FakeApi) -> None:
    api.next.extend([CLOSED] * 9)
    report(client, *(f"r{number}" for number in range(1100)))
    client.do("deliver")
    assert len(api.targets) == 1


# What the API says of a record


def test_a_record_that_may_be_sent_again_is_sent_again(client: Driver, api: FakeApi) -> None:
    api.reject("busy", "busy", retryable=True, times=3)
    report(client, "fine", "busy")
    delivery = client.do("deliver")
    assert (delivery["recorded"], delivery["again"], delivery["rejected"]) == (1, 1, 0)
    for seconds in (0.9, 1, 2.9, 3, 6.9, 7):
        at(client, seconds)
        client.do("deliver")
    assert [sorted(request) for request in api.requests] == [["busy", "fine"], ["busy"], ["busy"], ["busy"]]
    assert (ACME, "busy") in api.counted
    assert client.do("told") == []


def test_a_record_waits_for_five_minutes_at_most(client: Driver, api: FakeApi) -> None:
    api.reject("early", "not_active", retryable=True, times=12)
    report(client, "early")
    time, sent_at = 0, []
    while (ACME, "early") not in api.counted:
        before = len(api.requests)
        client.do("deliver")
        if len(api.requests) > before:
            sent_at.append(time)
        time += 10
        at(client, time)
    waits = [later - earlier for earlier, later in pairwise(sent_at)]
    assert waits == [10, 10, 10, 10, 20, 40, 70, 130, 260, 300, 300, 300]


def test_usage_that_waits_for_an_activation_is_sent_when_it_is_told(client: Driver, api: FakeApi) -> None:
    api.reject("early", "not_active", retryable=True, times=1)
    api.reject("other", "not_active", retryable=True, times=1)
    report(client, "early")
    report(client, "other", subscription_id=GLOBEX)
    client.do("deliver")
    client.do("wake", subscription=ACME)
    assert client.do("deliver")["recorded"] == 1
    assert set(api.counted) == {(ACME, "early")}


@pytest.mark.parametrize("reason", ["too_old", "invalid_quantity", "a_reason_of_next_year"])
def test_a_record_that_is_rejected_for_good_is_kept_and_told(client: Driver, api: FakeApi, reason: str) -> None:
    api.reject("bad", reason, retryable=False)
    report(client, "good", "bad")
    delivery = client.do("deliver")

    assert (delivery["recorded"], delivery["rejected"]) == (1, 1)
    assert client.do("told") == [["rejected", "bad", reason]]
    assert client.do("rejected") == [["bad", reason]]
    client.do("deliver")
    assert client.do("told") == [["rejected", "bad", reason]], "told once"
    assert [sorted(request) for request in api.requests] == [["bad", "good"]], "and not sent again by itself"


def test_a_rejected_record_is_sent_again_on_request(client: Driver, api: FakeApi) -> None:
    api.reject("bad", "unknown_subscription", retryable=False)
    report(client, "bad")
    client.do("deliver")
    client.do("resend")
    assert client.do("status") == {"waiting": 1, "lost": 0, "rejected": 0}
    assert client.do("deliver")["recorded"] == 1
    assert client.do("rejected") == []


def test_a_rejected_record_is_discarded_on_request(client: Driver, api: FakeApi) -> None:
    api.reject("bad", "too_old", retryable=False)
    report(client, "bad")
    client.do("deliver")
    client.do("discard")
    assert client.do("status") == {"waiting": 0, "lost": 0, "rejected": 0}


def test_one_id_with_two_contents_is_counted_once_and_the_other_is_told(client: Driver, api: FakeApi) -> None:
    report(client, "same", quantity=5)
    report(client, "same", quantity=7)
    client.do("flush", seconds=0)
    assert len(api.counted) == 1
    assert client.do("told") == [["rejected", "same", "other_content"]]


def test_a_status_of_the_future_is_no_reason_to_drop_a_record(client: Driver, api: FakeApi) -> None:
    api.results["a"] = deque([{"id": "a", "status": "postponed"}])
    report(client, "a")
    assert client.do("deliver")["again"] == 1
    at(client, 1)
    assert client.do("deliver")["recorded"] == 1


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_record_that_has_the_whole_request_refused_is_found(client: Driver, api: FakeApi, place: int) -> None:
    ids = [f"r{number}" for number in range(7)]
    api.poison = {ids[place]}
    report(client, *ids)
    client.do("flush", seconds=0)

    assert {record_id for _, record_id in api.counted} == set(ids) - api.poison
    assert client.do("rejected") == [[ids[place], "invalid_body"]]
    assert client.do("status") == {"waiting": 0, "lost": 0, "rejected": 1}


def test_trouble_while_such_a_record_is_searched_costs_none(client: Driver, api: FakeApi) -> None:
    api.poison = {"r0"}
    report(client, *(f"r{number}" for number in range(4)))
    refused = Answer(400, {"error": {"code": "invalid_body", "message": ""}})
    api.next.extend([refused, CLOSED])
    client.do("deliver")
    assert client.do("status")["waiting"] == 4
    at(client, 120)
    client.do("deliver")
    assert len(api.counted) == 3
    assert client.do("rejected") == [["r0", "invalid_body"]]


@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_record_that_the_api_fails_of_does_not_hold_up_the_others(client: Driver, api: FakeApi, place: int) -> None:
    ids = [f"r{number}" for number in range(9)]
    api.broken = {ids[place]}
    report(client, *ids)
    time = 0.0
    for _ in range(40):
        time += client.do("deliver")["wait"]
        at(client, time)
    assert {record_id for _, record_id in api.counted} == set(ids) - api.broken
    assert client.do("status") == {"waiting": 1, "lost": 0, "rejected": 0}

    api.broken = set()
    at(client, time + 300)
    assert client.do("deliver")["recorded"] == 1


def test_a_busy_api_gets_no_more_requests_than_before(client: Driver, api: FakeApi) -> None:
    report(client, *(f"r{number}" for number in range(400)))
    time = 0.0
    for number in range(12):
        api.next.append(Answer(429 if number % 2 else 503, {}))
        time += client.do("deliver")["wait"]
        at(client, time)
    client.do("deliver")
    assert list(map(len, api.requests)) == [400]


# The application's listener, and age


def test_a_listener_that_fails_is_told_again(client: Driver, api: FakeApi) -> None:
    api.reject("bad", "too_old", retryable=False)
    report(client, "bad")
    client.do("listener", fails=True)
    client.do("deliver")
    assert client.do("told") == []
    client.do("listener", fails=False)
    client.do("deliver")
    assert client.do("told") == [["rejected", "bad", "too_old"]]


def test_usage_that_grows_too_old_for_aws_is_told_in_time_and_again_when_it_is_lost(
    client: Driver, api: FakeApi
) -> None:
    api.next.extend([CLOSED] * 99)
    report(client, "old")
    hour = 3600
    for hours in (19, 20.1, 20.5, 23.9, 24.1, 30):
        at(client, hours * hour)
        client.do("deliver")
    assert client.do("told") == [["aging", "old", False], ["aging", "old", True]]
    assert client.do("status") == {"waiting": 1, "lost": 1, "rejected": 0}, "it may have been counted; the API knows"

    api.next.clear()
    at(client, 31 * hour)
    assert client.do("deliver")["recorded"] == 1


def test_a_service_delivers_again_and_again_whatever_the_disk_does(flavour: Flavour, api: FakeApi) -> None:
    service = flavour.start(interval=0.01)
    report(service, "a")
    service.do("run", faults=3)
    assert set(api.counted) == {(ACME, "a")}


# Several processes, and the next one


def test_the_outbox_outlives_the_process(client: Driver, api: FakeApi, flavour: Flavour) -> None:
    api.reject("bad", "too_old", retryable=False)
    report(client, "bad")
    client.do("deliver")
    report(client, "a")
    client.end()
    heir = flavour.start()
    assert heir.do("status") == {"waiting": 1, "lost": 0, "rejected": 1}
    assert heir.do("deliver")["recorded"] == 1
    assert heir.do("rejected") == [["bad", "too_old"]]
    assert heir.do("told") == [], "the process before was told"


def test_several_processes_share_an_outbox(flavour: Flavour, api: FakeApi) -> None:
    clients = [flavour.start() for _ in range(3)]
    for number, one in enumerate(clients):
        report(one, *(f"{number}-{part}" for part in range(50)))
    assert sum(one.do("deliver")["recorded"] for one in clients) == 150
    assert len(api.sent) == len(api.counted) == 150


def test_what_two_processes_send_at_the_same_time_is_counted_once(flavour: Flavour, api: FakeApi) -> None:
    """The second sends what the first has taken but not settled; each answer is written down."""
    slow, quick = flavour.start(), flavour.start()
    report(slow, "a", "b")
    api.next.append(LOST)
    wait = slow.do("deliver")["wait"]
    for one in (slow, quick):
        at(one, wait)
    assert slow.do("deliver")["recorded"] + quick.do("deliver")["recorded"] == 2
    assert len(api.counted) == 2
    assert slow.do("status") == quick.do("status") == {"waiting": 0, "lost": 0, "rejected": 0}


# Calls


@pytest.mark.parametrize(
    "record_id", ["a", "2026-11-23T10/acme/api_calls", "a?b#c", "50%25", "~!'()*+,;=@:$&[]{}|^`\"<>"]
)
def test_a_call_is_signed_whatever_its_path_holds(client: Driver, api: FakeApi, record_id: str) -> None:
    answer = client.do("prove", subscription=ACME, record=record_id)
    assert api.unsigned == []
    path = answer["target"].removeprefix(f"/subscriptions/{ACME}/usage/")
    assert record_id in {unquote(path), unquote(unquote(path))}
    assert "/" not in path


def test_a_call_is_signed_whatever_its_query_holds(client: Driver, api: FakeApi) -> None:
    client.do("list", subscription=ACME, **{"from": "2026-11-23T11:15:00+01:00"})
    assert api.unsigned == []
    assert api.targets[0][1].endswith("?from=2026-11-23T11%3A15%3A00%2B01%3A00")


def test_a_call_is_repeated_when_there_is_no_answer(client: Driver, api: FakeApi) -> None:
    api.next.extend([CLOSED, Answer(503, {}, {"retry-after": "0"})])
    assert client.do("prove", subscription=ACME, record="a")["target"]
    assert len(api.targets) == 3


def test_a_call_that_is_refused_says_why_and_is_not_repeated(client: Driver, api: FakeApi) -> None:
    api.next.append(Answer(404, {"error": {"code": "usage_record_not_found", "message": "no"}}))
    assert client.do("prove", subscription=ACME, record="a") == [404, "usage_record_not_found"]
    api.next.append(Answer(403, {"message": "Forbidden"}))
    assert client.do("prove", subscription=ACME, record="a") == [403, ""]
    assert len(api.targets) == 2
