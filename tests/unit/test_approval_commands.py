"""`marketplace-saas approvals`: unusual usage is listed, and approved or refused after a preview."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import pytest

from marketplace.platform.clock import HOUR, epoch, iso
from marketplace.subscriptions.model import Subscription
from marketplace_saas_cli.exits import FINE, NOT_CONFIRMED, TROUBLE, USAGE
from marketplace_saas_cli.session import Session
from tests.support.duty import Duty, on_duty
from tests.support.world import World
from tests.unit.test_anomaly_hold import FAR, TODAY, USUAL, billed, decide, known, used, world_settings

__all__ = ["world_settings"]


@pytest.fixture
def held(world: World) -> Subscription:
    """A buyer with two unusual hours, of two dimensions."""
    buyer = known(world)
    used(world, buyer, TODAY, quantity=FAR)
    used(world, buyer, TODAY + HOUR, quantity=5, dimension="users")
    return buyer


@pytest.fixture
def duty(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    """The seller API answers in this process."""

    def answered(_: Session, call: Any) -> Any:
        assert (call.method, call.target.rpartition("/")[2]) == ("POST", "approval")
        subscription_id, body = call.target.split("/")[2], dict(call.body)
        if "hour" in body:
            body["hour"] = epoch(datetime.fromisoformat(body["hour"]))
        made = world.approval().decide(subscription_id, body.pop("decision"), "ops", **body)
        assert made is not None
        return {"subscription_id": subscription_id, **asdict(made)}

    monkeypatch.setattr(Session, "call", answered)
    clients = {"dynamodb": world.dynamodb}
    return on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)


@pytest.mark.usefixtures("held")
def test_what_awaits_approval_is_listed_with_its_reason_and_its_end(duty: Duty) -> None:
    found = duty.json("approvals", "list", status=TROUBLE)["metering_records"]
    names = ("dimension", "quantity", "reason", "approval", "approval_ends_at")
    assert [tuple(one[name] for name in names) for one in found] == [
        ("api_calls", FAR, "far_above_usual", "awaited", iso(TODAY + 21 * HOUR)),
        ("users", 5, "new_dimension", "awaited", iso(TODAY + 22 * HOUR)),
    ]
    assert duty.run("approvals", "list") == TROUBLE
    assert f"{FAR} " in duty.out


def test_the_list_is_of_one_subscription_where_that_is_named(world: World, duty: Duty, held: Subscription) -> None:
    other = world.subscribe("222233334444")
    assert len(duty.json("approvals", "list", "--subscription", held.id, status=TROUBLE)["metering_records"]) == 2
    assert duty.json("approvals", "list", "--subscription", other.id)["metering_records"] == []
    assert duty.run("approvals", "list", "--subscription", other.id) == FINE
    assert "nothing awaits approval" in duty.out


def test_a_decision_is_previewed_and_made_once_it_is_confirmed(world: World, duty: Duty, held: Subscription) -> None:
    duty.answer = "n"
    assert duty.run("approvals", "approve", held.id) == NOT_CONFIRMED
    assert (duty.asked, "far_above_usual" in duty.out) == ([f"Approve {FAR + 5} units? [y/N] "], True)
    assert [one["approval"] for one in world.stored("awaiting_approval")] == ["awaited", "awaited"]
    duty.answer = "y"
    assert duty.run("approvals", "approve", held.id) == FINE
    assert "approved: 2 metering records" in duty.out
    world.meter()
    assert billed(world) == 2 * USUAL + FAR + 5


def test_one_hour_is_refused_and_the_other_left_alone(world: World, duty: Duty, held: Subscription) -> None:
    hour = ("--dimension", "users", "--hour", iso(TODAY + HOUR))
    made = duty.json("approvals", "refuse", held.id, *hour, "--yes")
    assert (made["changed"], [one["approval"] for one in made["decided"]]) == (True, ["refused"])
    world.meter()
    assert duty.json("status", status=TROUBLE)["states"]["awaiting_approval"]["units"] == FAR
    again = duty.json("approvals", "approve", held.id, *hour, "--yes")
    assert [one["state"] for one in again["decided"]] == ["open"]
    world.meter()
    assert billed(world) == 2 * USUAL + 5


@pytest.mark.parametrize("named", [("--dimension", "users"), ("--hour", iso(TODAY + HOUR))])
def test_a_decision_is_about_what_is_named(
    world: World, duty: Duty, held: Subscription, named: tuple[str, str]
) -> None:
    assert len(duty.json("approvals", "approve", held.id, *named, "--yes")["decided"]) == 1
    decided = {one["dimension"]: one["approval"] for one in world.stored("awaiting_approval")}
    assert decided == {"api_calls": "awaited", "users": "approved"}


def test_a_decision_that_comes_too_late_says_so(world: World, duty: Duty, held: Subscription) -> None:
    decide(world, held, "approve")
    world.meter()
    hour = ("--dimension", "api_calls", "--hour", iso(TODAY))
    made = duty.json("approvals", "refuse", held.id, *hour, "--yes", status=TROUBLE)
    assert (made["changed"], [one["state"] for one in made["undecided"]]) == (False, ["metered"])
    assert duty.run("approvals", "refuse", held.id, *hour, "--yes") == TROUBLE
    assert "too late" in duty.out


def test_nothing_to_decide_is_no_trouble(world: World, duty: Duty) -> None:
    buyer = known(world)
    for named in ((), ("--dimension", "users"), ("--dimension", "users", "--hour", iso(TODAY))):
        assert duty.json("approvals", "approve", buyer.id, *named)["changed"] is False


def test_what_is_named_wrong_is_refused(duty: Duty, held: Subscription) -> None:
    assert duty.run("approvals", "approve", held.id, "--hour", "noon") == USAGE
    assert duty.run("approvals", "approve", "sub-" + "a" * 26) == USAGE
    assert duty.run("approvals", "approve") == USAGE
