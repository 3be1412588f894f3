"""A client that is killed, at any point of its work: nothing that was reported is lost, and nothing is counted twice.

The process that reports and delivers is killed with SIGKILL before each SQL statement that changes its store in turn
(Python) or each change of its disk (TypeScript), and by the API between its counting and its answer. Then another
process goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from tests.clients.conftest import TYPESCRIPT, DiedError, Driver, Flavour
from tests.clients.fake_api import KILLED, FakeApi
from tests.clients.test_delivery import NOON, record

IDS = ("a", "b", "busy", "bad")


def story(client: Driver) -> list[str]:
    """Report four records and deliver them until the process dies; answers the ids whose report was confirmed."""
    confirmed: list[str] = []
    try:
        for record_id in IDS:
            client.do("report", records=[record(record_id)])
            confirmed.append(record_id)
        client.do("deliver")
        client.do("clock", now=(NOON + timedelta(seconds=2)).isoformat())
        client.do("deliver")
    except DiedError:
        client.wait()
    return confirmed


def told(client: Driver) -> list[Any]:
    answer: list[Any] = client.do("told")
    return answer


def check(api: FakeApi, flavour: Flavour, confirmed: list[str]) -> None:
    """Go on with another process, and look at everything."""
    heir = flavour.start()
    for seconds in (61, 70):  # after the lease of the dead, and after a wait of its own
        heir.do("clock", now=(NOON + timedelta(seconds=seconds)).isoformat())
        heir.do("deliver")
    counted = {record_id for _, record_id in api.counted}
    rejected = [record_id for record_id, _ in heir.do("rejected")]

    assert set(confirmed) <= counted | set(rejected), "nothing is lost"
    assert rejected in ([], ["bad"])
    assert counted <= {"a", "b", "busy"}
    assert heir.do("status")["waiting"] == 0
    for key, content in api.counted.items():
        assert content["quantity"] == 5, key
    heir.end()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["threads", TYPESCRIPT])
def test_a_client_may_die_at_any_point(
    name: str, flavours: Callable[[str], Flavour], api: FakeApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    died_with: list[int] = []
    for point in count(1):
        api.__init__()  # type: ignore[misc]  # the server goes on with the same object
        api.reject("busy", "busy", retryable=True)
        api.reject("bad", "too_old", retryable=False, times=None)
        flavour = flavours(name)
        flavour = Flavour(name, flavour.api, tmp_path_factory.mktemp("crash") / "outbox", flavour.dist, flavour.started)
        client = flavour.start(crash=point)
        confirmed = story(client)
        lives = len(confirmed) == len(IDS) and not client.has_ended
        if lives:
            assert told(client) == [["rejected", "bad", "too_old"]]
        client.end()
        check(api, flavour, confirmed)
        if lives:
            break
        died_with.append(len(confirmed))
    assert len(died_with) > 20
    assert set(died_with) == {0, 1, 2, 3, 4}, "it died in every part of the story"


def test_a_client_that_is_killed_between_counting_and_answer_has_lost_nothing(
    client: Driver, api: FakeApi, flavour: Flavour
) -> None:
    api.reject("busy", "busy", retryable=True)
    api.reject("bad", "too_old", retryable=False, times=None)
    api.next.append(KILLED)
    assert story(client) == list(IDS)
    assert client.wait() == -9
    check(api, flavour, list(IDS))
    assert len(api.requests) > 1


def test_a_rejection_is_told_even_if_the_process_dies_before_it_tells(flavour: Flavour, api: FakeApi) -> None:
    api.reject("bad", "too_old", retryable=False, times=None)
    ill = flavour.start()
    ill.do("listener", fails=True)
    ill.do("report", records=[record("bad")])
    ill.do("deliver")
    ill.end()
    heir = flavour.start()
    heir.do("deliver")
    assert told(heir) == [["rejected", "bad", "too_old"]]
