"""The operator's list of what waits, and until when somebody expects it to."""

import pytest

from marketplace.commands import waiting
from marketplace.commands.waiting import WaitingList
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.platform import clients
from marketplace.platform.clock import DAY, iso
from marketplace.subscriptions import recheck
from marketplace.subscriptions.waiting import Kind
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LifecycleWorld, at, told

NOW = at("2026-08-20T14:30:00Z")
NOTIFICATION = keys.unassigned_event("2026-08-20T14:00:00.000Z", "evt")


@pytest.fixture
def world() -> LifecycleWorld:
    world = LifecycleWorld.in_memory()
    world.receive("sns_entitlement_updated", "eventbridge_purchase_agreement_created")
    world.lifecycle.receive(told("Something New", NOW - 1800))
    return world


@pytest.fixture
def table(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(waiting, "utc_now", world.time.now)
    monkeypatch.setattr(clients, "dynamodb", lambda: world.dynamodb)
    return ["--table", world.tables.subscriptions]


def names(world: LifecycleWorld) -> dict[str, str]:
    listed = WaitingList(Table(world.dynamodb, world.tables.subscriptions), world.time.now).all()
    return {one.waiting.kind: one.name for one in listed}


def test_everything_that_waits_is_listed_with_its_age(world: LifecycleWorld, table: list[str]) -> None:
    shown: list[str] = []
    assert waiting.main(table, shown.append) == 0
    registration, agreement, notification = shown
    assert registration.startswith(f"registration {LEGACY}: has waited for ")
    assert agreement == f"agreement {AGREEMENT}: has waited for 0.1 hours, since 2026-08-20T14:23:22Z\n"
    assert notification.startswith("unassigned UNASSIGNED#2026-08-20/EVENT#2026-08-20T14:00:00.000Z#")
    assert notification.endswith("(Something New): has waited for 0.5 hours, since 2026-08-20T14:00:00Z\n")


@pytest.mark.parametrize("kind", ["registration", "agreement", "unassigned"])
@pytest.mark.parametrize("until", [None, "2026-09-20T14:30:00Z"])
def test_what_is_expected_to_wait_counts_no_more_until_then(
    world: LifecycleWorld, table: list[str], kind: Kind, until: str | None
) -> None:
    name = names(world)[kind]
    shown: list[str] = []
    more = [
        "--expect",
        name,
        "--reason",
        "the buyer's offer starts later",
        *([] if until is None else ["--until", until]),
    ]
    before = world.gauges.measure().seconds
    assert waiting.main([*table, *more], shown.append) == 0
    assert shown[-1] == "nothing is written without --write\n"
    assert world.gauges.measure().seconds == before
    assert waiting.main([*table, *more, "--write"], shown.append) == 0
    assert shown[-1].endswith("expects nothing more\n" if until is None else f"is expected to wait until {until}\n")
    assert world.gauges.measure().seconds == {**before, GAUGE_OF_WAITING[kind]: 0}
    world.time.seconds += 40 * DAY
    assert (world.gauges.measure().seconds[GAUGE_OF_WAITING[kind]] == 0) == (until is None)


def test_the_reason_is_kept_and_the_lifecycle_keeps_to_it(world: LifecycleWorld, table: list[str]) -> None:
    until = iso(NOW + 30 * DAY)
    waiting.main([*table, "--expect", LEGACY, "--until", until, "--reason", "starts later", "--write"], lambda _: None)
    world.look_again(LEGACY, recheck.COMPARED)
    stored = world.attributes(LEGACY)
    assert (stored["awaited_because"], stored["waiting_since"]) == ("starts later", NOW + 30 * DAY)
    world.receive("sns_subscribe_success")
    assert "awaited_until" not in world.attributes(LEGACY)


@pytest.mark.parametrize(
    "name", ["sub-aaaaaaaaaaaaaaaaaaaaaaaaaa", "agmt-nobody", "UNASSIGNED#2026-08-20/EVENT#x", "/"]
)
def test_a_name_that_nothing_waits_under_is_said_in_a_sentence(table: list[str], name: str) -> None:
    shown: list[str] = []
    assert waiting.main([*table, "--expect", name, "--reason", "r"], shown.append) == 2
    assert shown == [f"refused: nothing waits under the name {name}; the list has the names\n"]


def test_what_has_stopped_waiting_meanwhile_is_left_alone(
    world: LifecycleWorld, table: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_before_the_write = WaitingList.shown

    def shown_while_it_is_activated(self: WaitingList, listed: waiting.Listed) -> str:
        world.receive("sns_subscribe_success")
        return shown_before_the_write(self, listed)

    monkeypatch.setattr(WaitingList, "shown", shown_while_it_is_activated)
    shown: list[str] = []
    assert waiting.main([*table, "--expect", LEGACY, "--reason", "r", "--write"], shown.append) == 2
    assert shown[-1] == f"refused: {LEGACY} waits no more\n"
    assert "awaited_until" not in world.attributes(LEGACY)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--expect", LEGACY],
        ["--expect", LEGACY, "--reason", " "],
        ["--until", "2026-09-01T00:00:00Z"],
        ["--write"],
        ["--expect", LEGACY, "--reason", "r", "--until", "tomorrow"],
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(table: list[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        waiting.main([*table, *wrong])
