"""`marketplace-saas shadow`: day by day, what another meter sends and what this deployment would have sent."""

from typing import Any

import pytest

from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.subscriptions.model import Subscription
from marketplace_saas_cli.exits import FINE, TROUBLE, USAGE
from tests.support.duty import on_duty
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.parameters import Parameters
from tests.support.world import NOON, World
from tests.unit.test_shadow_mode import CUTOVER, MIDNIGHT, OURS, PAYG, both, hourly, other_meter, starting


@pytest.fixture
def world() -> World:
    return World.on(MemoryDynamoDB(), parameters=starting(CUTOVER))


@pytest.fixture
def buyer(world: World) -> Subscription:
    return world.subscribe("111122223333", PAYG)


def on_shift(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    clients = {
        "dynamodb": world.dynamodb,
        "cloudtrail": client("cloudtrail", world.marketplace),
    }
    parameters = {"MeteringStartsAt": world.parameters.MeteringStartsAt, "ProductCodes": PAYG, "SellerRoleArn": OURS}
    return on_duty(
        monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients, parameters=parameters
    )


def test_shadow_shows_day_by_day_what_would_differ(
    world: World, buyer: Subscription, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.parameters = starting(CUTOVER + 2 * DAY)
    duty = on_shift(world, monkeypatch, capsys)
    both(world, buyer, 3)
    world.time.to(NOON + DAY)
    world.report(buyer, 20)
    other_meter(world, buyer, NOON + DAY, 25)
    hourly(world, NOON + DAY + 5 * HOUR)
    days = ("--from", iso(MIDNIGHT), "--to", iso(NOON + DAY + HOUR))
    shown = duty.json("shadow", *days, "--price", "api_calls=0.01", status=TROUBLE)
    assert shown["days"] == [
        {"day": iso(MIDNIGHT)[:10], "ours": 33, "theirs": 33, "units": 0, "differences": 0},
        {"day": iso(MIDNIGHT + DAY)[:10], "ours": 20, "theirs": 25, "units": 5, "differences": 1},
    ]
    ((one),) = shown["differences"]
    assert (one["kind"], one["units"], one["money"], one["our_state"]) == ("other_quantity", 5, "0.05", "shadow")
    assert duty.run("shadow", "--from", iso(MIDNIGHT), "--to", iso(MIDNIGHT + DAY)) == FINE
    assert "no difference" in duty.out


def test_shadow_compares_only_hours_that_the_other_meter_has_sent_by_now(
    world: World, buyer: Subscription, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.parameters = starting(CUTOVER + 2 * DAY)
    duty = on_shift(world, monkeypatch, capsys)
    world.report(buyer, 20)
    hourly(world, NOON + 2 * HOUR)
    assert duty.json("shadow")["differences"] == []
    hourly(world, NOON + 5 * HOUR)
    assert [one["kind"] for one in duty.json("shadow", status=TROUBLE)["differences"]] == ["only_ours"]


def test_shadow_is_only_of_hours_before_the_cut_over(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    duty = on_shift(world, monkeypatch, capsys)
    world.time.to(CUTOVER + 5 * HOUR)
    assert duty.run("shadow", "--to", iso(CUTOVER + HOUR)) == USAGE
    assert f"from {iso(CUTOVER)} on this deployment meters itself" in duty.err
    world.parameters = Parameters()
    assert on_shift(world, monkeypatch, capsys).run("shadow") == USAGE
