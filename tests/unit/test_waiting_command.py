"""The operator's list of what waits, and until when somebody expects it to."""

import pytest

from marketplace.commands.waiting import Listed, WaitingList
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.subscriptions import recheck
from marketplace.subscriptions.waiting import Kind
from marketplace_saas_cli.exits import FINE, NOT_CONFIRMED, TROUBLE, USAGE
from tests.support.duty import Duty, on_duty
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LifecycleWorld, at, told

NOW = at("2026-08-20T14:30:00Z")
KINDS_HERE = ("registration", "agreement", "unassigned")
NOTIFICATION = keys.unassigned_event("2026-08-20T14:00:00.000Z", "evt")


@pytest.fixture
def world() -> LifecycleWorld:
    world = LifecycleWorld.in_memory()
    world.receive("sns_entitlement_updated", "eventbridge_purchase_agreement_created")
    world.lifecycle.receive(told("Something New", NOW - 1800))
    return world


@pytest.fixture
def duty(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    return on_duty(
        monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients={"dynamodb": world.dynamodb}
    )


def names(world: LifecycleWorld) -> dict[str, str]:
    listed = WaitingList(Table(world.dynamodb, world.tables.subscriptions), world.time.now).all()
    return {one.waiting.kind: one.name for one in listed}


def test_everything_that_waits_is_listed_with_its_age(world: LifecycleWorld, duty: Duty) -> None:
    assert duty.run("subscriptions", "waiting") == FINE
    registration, agreement, notification = duty.out.splitlines()
    assert registration.startswith(f"registration {LEGACY}: has waited for ")
    assert agreement == f"agreement {AGREEMENT}: has waited for 0.1 hours, since 2026-08-20T14:23:22Z"
    assert notification.startswith("unassigned UNASSIGNED#2026-08-20/EVENT#2026-08-20T14:00:00.000Z#")
    assert notification.endswith("(Something New): has waited for 0.5 hours, since 2026-08-20T14:00:00Z")


@pytest.mark.parametrize(("hours", "late"), [(1, set()), (3, {"registration", "agreement"}), (25, {*KINDS_HERE})])
def test_what_has_waited_as_long_as_its_alarm_waits_needs_a_person(
    world: LifecycleWorld, duty: Duty, hours: int, late: set[str]
) -> None:
    world.time.seconds += hours * HOUR
    found = duty.json("subscriptions", "waiting", status=TROUBLE if late else FINE)["waiting"]
    assert {one["kind"] for one in found} == {*KINDS_HERE}
    assert {one["kind"] for one in found if one["overdue"]} == late


@pytest.mark.parametrize("kind", ["registration", "agreement", "unassigned"])
@pytest.mark.parametrize("until", [None, "2026-09-20T14:30:00Z"])
def test_what_is_expected_to_wait_counts_no_more_until_then(
    world: LifecycleWorld, duty: Duty, kind: Kind, until: str | None
) -> None:
    name = names(world)[kind]
    more = [
        "subscriptions",
        "waiting",
        "--expect",
        name,
        "--reason",
        "the buyer's offer starts later",
        *([] if until is None else ["--until", until]),
    ]
    before = world.gauges.measure().seconds
    assert duty.run(*more) == NOT_CONFIRMED
    assert "nothing was changed" in duty.err
    assert world.gauges.measure().seconds == before
    assert duty.run(*more, "--yes") == 0
    assert duty.out.endswith("expects nothing more\n" if until is None else f"is expected to wait until {until}\n")
    assert world.gauges.measure().seconds == {**before, GAUGE_OF_WAITING[kind]: 0}
    world.time.seconds += 40 * DAY
    assert (world.gauges.measure().seconds[GAUGE_OF_WAITING[kind]] == 0) == (until is None)


def test_the_reason_is_kept_and_the_lifecycle_keeps_to_it(world: LifecycleWorld, duty: Duty) -> None:
    until = iso(NOW + 30 * DAY)
    duty.run("subscriptions", "waiting", "--expect", LEGACY, "--until", until, "--reason", "starts later", "--yes")
    world.look_again(LEGACY, recheck.COMPARED)
    stored = world.attributes(LEGACY)
    assert (stored["awaited_because"], stored["waiting_since"]) == ("starts later", NOW + 30 * DAY)
    world.receive("sns_subscribe_success")
    assert "awaited_until" not in world.attributes(LEGACY)


@pytest.mark.parametrize(
    "name", ["sub-aaaaaaaaaaaaaaaaaaaaaaaaaa", "agmt-nobody", "UNASSIGNED#2026-08-20/EVENT#x", "/"]
)
def test_a_name_that_nothing_waits_under_is_said_in_a_sentence(duty: Duty, name: str) -> None:
    assert duty.run("subscriptions", "waiting", "--expect", name, "--reason", "r") == USAGE
    assert duty.err == f"marketplace-saas: nothing waits under the name {name}; the list has the names\n"


def test_what_has_stopped_waiting_meanwhile_is_left_alone(
    world: LifecycleWorld, duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_before_the_write = WaitingList.shown

    def shown_while_it_is_activated(self: WaitingList, listed: Listed) -> str:
        world.receive("sns_subscribe_success")
        return shown_before_the_write(self, listed)

    monkeypatch.setattr(WaitingList, "shown", shown_while_it_is_activated)
    assert duty.run("subscriptions", "waiting", "--expect", LEGACY, "--reason", "r", "--yes") == USAGE
    assert duty.err == f"marketplace-saas: {LEGACY} waits no more\n"
    assert "awaited_until" not in world.attributes(LEGACY)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--expect", LEGACY],
        ["--expect", LEGACY, "--reason", " "],
        ["--until", "2026-09-01T00:00:00Z"],
        ["--reason", "r"],
        ["--expect", LEGACY, "--reason", "r", "--until", "tomorrow"],
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(duty: Duty, wrong: list[str]) -> None:
    assert duty.run("subscriptions", "waiting", *wrong) == USAGE
    assert duty.err.count("\n") == 1
