"""`differences`: what the daily reconciliation has stored is listed, accepted with a reason, and found by `doctor`."""

import pytest

from marketplace.platform.clock import DAY
from marketplace.reconcile.difference import Difference
from marketplace.reconcile.schedule import SHOWN_FOR
from marketplace.reconcile.store import ReconciliationStore
from marketplace_saas_cli.doctor import work
from marketplace_saas_cli.exits import FINE, NOT_CONFIRMED, TROUBLE, USAGE
from tests.support.duty import Duty, on_duty
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World

TODAY = NOON - NOON % DAY
PAYER = "arn:aws:license-manager::294406891311:license:l-1"


def difference(units: int, **given: object) -> Difference:
    values = {"kind": "other_quantity", "payer": PAYER, "dimension": "api_calls", "period": NOON, "ours": 100}
    return Difference(**{**values, "theirs": 100 + units, "units": units, **given})  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World.on(MemoryDynamoDB())


@pytest.fixture
def duty(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    clients = {"dynamodb": world.dynamodb}
    return on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)


def keep(world: World, *found: Difference, day: int = TODAY) -> None:
    ReconciliationStore(world.usage_table()).replace(day, found, world.time.seconds())


def test_nothing_found_is_fine(duty: Duty) -> None:
    assert duty.run("differences", "list") == FINE
    assert "no difference" in duty.out


@pytest.mark.parametrize("units", [-7, 1, 4000])
def test_a_difference_is_listed_until_it_is_accepted(world: World, duty: Duty, units: int) -> None:
    found = difference(units)
    keep(world, found, difference(3, kind="only_theirs", ours=None))
    listed = duty.json("differences", "list", status=TROUBLE)["differences"]
    (mine,) = (one for one in listed if one["id"] == found.id)
    assert (mine["units"], mine["payer"], mine["accepted"]) == (units, PAYER, None)

    assert duty.run("differences", "accept", found.id, "--reason", "carried to a later hour") == NOT_CONFIRMED
    assert len(duty.json("differences", "list", status=TROUBLE)["differences"]) == 2
    assert duty.json("differences", "accept", found.id, "--reason", "carried to a later hour", "--yes")["changed"]
    assert [one["kind"] for one in duty.json("differences", "list", status=TROUBLE)["differences"]] == ["only_theirs"]
    every = duty.json("differences", "list", "--all", status=TROUBLE)["differences"]
    assert {one["accepted"] for one in every} == {None, "carried to a later hour"}
    keep(world, found)  # its day is compared again
    assert duty.run("differences", "list") == FINE


def test_an_acceptance_that_is_not_possible_says_why(world: World, duty: Duty) -> None:
    found = difference(5)
    keep(world, found)
    assert duty.run("differences", "accept", found.id, "--reason", " ", "--yes") == USAGE
    assert duty.run("differences", "accept", "dif-nothing", "--reason", "why", "--yes") == USAGE
    assert "there is no difference dif-nothing" in duty.err
    assert duty.run("differences", "accept", found.id, "--reason", "why", "--yes") == FINE
    assert duty.run("differences", "accept", found.id, "--reason", "other", "--yes") == USAGE
    assert "accepted before: why" in duty.err


def test_what_the_alarm_is_not_about_is_not_listed(world: World, duty: Duty) -> None:
    keep(world, difference(5), day=TODAY - SHOWN_FOR - DAY)
    keep(world, difference(0, kind="unproven"))
    assert duty.run("differences", "list") == FINE


def test_doctor_finds_what_nobody_has_accepted(world: World, duty: Duty) -> None:
    session = duty.session()
    assert [one.result for one in work.reconciliation(session)] == ["fine"]
    keep(world, difference(5), difference(-7))
    (finding,) = work.reconciliation(session)
    assert (finding.result, finding.text) == ("trouble", "2 differences of 12 units, the first of 2026-11-18")
    assert "differences list" in finding.do
