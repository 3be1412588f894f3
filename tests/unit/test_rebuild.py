"""Recomputing subscriptions from what was received about them."""

import importlib
from typing import Any

import pytest
from botocore.exceptions import NoRegionError

from marketplace.commands import rebuild
from marketplace.commands.rebuild import Rebuild
from marketplace.commands.shell import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.platform import clients
from marketplace.platform.clock import DAY, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions import recheck
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, told
from tests.support.tables import Tables


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> LifecycleWorld:
    world = LifecycleWorld(moto_dynamodb, moto_tables)
    world.receive(
        "eventbridge_purchase_agreement_created", "eventbridge_license_updated", "eventbridge_purchase_agreement_ended"
    )
    return world


def damage(world: LifecycleWorld) -> None:
    """What a wrong rule might have left behind."""
    world.dynamodb.update_item(
        TableName=world.tables.subscriptions,
        Key=keys.subscription(LICENSED).item(),
        UpdateExpression="SET #status = :active REMOVE closing_deadline, history ADD version :one",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":active": {"S": "active"}, ":one": {"N": "1"}},
    )


def test_a_sound_subscription_is_as_its_inbox_says(world: LifecycleWorld) -> None:
    diff = Rebuild(world.store, world.time.now).diff(LICENSED)
    assert diff.changes == ()
    assert str(diff) == f"{LICENSED}: as its inbox says"


def test_a_diff_shows_and_writes_nothing(world: LifecycleWorld) -> None:
    damage(world)
    diff = Rebuild(world.store, world.time.now).diff(LICENSED)
    assert {change.name for change in diff.changes} == {"status", "closing_deadline", "history"}
    assert "status: 'active' -> 'closing'" in str(diff)
    assert world.subscription().status == "active"


def test_writing_restores_the_state_tells_the_seller_and_asks_for_a_look(world: LifecycleWorld) -> None:
    before = world.attributes()
    damage(world)
    world.sqs.sent.clear()
    Rebuild(world.store, world.time.now, world.queue).write(LICENSED)
    assert world.attributes() == before
    assert [event.kind for event in world.outbox.unpublished(LICENSED)] == ["Subscription Closing"]
    assert world.sqs.reasons() == [recheck.RECONCILED]
    assert Rebuild(world.store, world.time.now).write(LICENSED).changes == ()


def test_facts_older_than_the_inbox_are_kept(world: LifecycleWorld) -> None:
    for pk in (keys.subscription_pk(LICENSED), keys.agreement_pk(AGREEMENT)):
        for item in world.items(pk):
            if item["sk"].startswith(keys.EVENT_PREFIX):
                key = keys.Key(item["pk"], item["sk"]).item()
                world.dynamodb.delete_item(TableName=world.tables.subscriptions, Key=key)
    world.time.seconds += 500 * DAY
    world.look_again(LICENSED, recheck.CLOSING_TIMER)
    assert Rebuild(world.store, world.time.now).diff(LICENSED).changes == ()


def test_every_subscription_is_found(world: LifecycleWorld) -> None:
    world.receive("sns_subscribe_success")
    assert set(Rebuild(world.store, world.time.now).all_ids()) == {LICENSED, LEGACY}


def test_nobody_is_an_error(world: LifecycleWorld) -> None:
    with pytest.raises(CommandRefusedError):
        Rebuild(world.store, world.time.now).diff("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa")


def test_a_crowd_of_writers_is_waited_for_and_then_told(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(world)
    monkeypatch.setattr(world.store, "write", lambda *_, **__: None)
    with pytest.raises(ThrottledError):
        Rebuild(world.store, world.time.now).write(LICENSED)


def test_the_command_shows_and_writes(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(world)
    shown: list[str] = []
    monkeypatch.setattr(rebuild, "utc_now", world.time.now)
    monkeypatch.setattr(clients, "sqs", lambda: world.sqs)
    table = ["--table", world.tables.subscriptions]
    assert rebuild.main([*table, "--all"], shown.append) == 1
    assert rebuild.main([*table, "--subscription", LICENSED, "--write", "--queue-url", "q"], shown.append) == 1
    assert rebuild.main([*table, "--subscription", LICENSED], shown.append) == 0
    assert shown[-1] == f"{LICENSED}: as its inbox says\n"
    with pytest.raises(SystemExit):
        rebuild.main([*table, "--all", "--write"], shown.append)


@pytest.mark.parametrize(
    "history",
    [
        ["eventbridge_license_deprovisioned"],
        [],
        ["sns_subscribe_success", "sns_unsubscribe_pending"],
    ],
    ids=["an end told twice", "an end told once", "a legacy customer's"],
)
def test_what_ended_by_the_functions_clock_stays_ended_by_a_shells_that_is_behind(
    world: LifecycleWorld, history: list[str]
) -> None:
    world.receive(*history)
    subscription_id = LEGACY if "sns_subscribe_success" in history else LICENSED
    world.time.seconds += 3 * DAY
    world.look_again(subscription_id, recheck.CLOSING_TIMER)
    assert world.subscription(subscription_id).status == "ended"
    for behind in (3 * DAY, 10 * DAY, 0):
        world.time.seconds -= behind
        assert Rebuild(world.store, world.time.now).diff(subscription_id).changes == ()


def test_a_scheduled_start_that_has_come_stays_so_too(world: LifecycleWorld) -> None:
    now = world.time.seconds
    start = now + 5 * DAY
    agreement = {"id": "agmt-next", "status": "ACTIVE", "intent": "NEW", "startTime": iso(start)}
    world.lifecycle.receive(told("Purchase Agreement Created", now, agreement=agreement))
    licence = {"license": {"arn": LICENSE_ARN}, "product": {"code": PRODUCT}}
    world.lifecycle.receive(told("License Updated", now + 60, agreement={"id": "agmt-next"}, **licence))
    world.time.seconds = start + 60
    world.look_again(LICENSED, recheck.START_TIMER)
    assert world.subscription().status == "active"
    world.time.seconds = now + 120
    assert Rebuild(world.store, world.time.now).diff(LICENSED).changes == ()


def test_a_deadline_that_has_not_come_is_not_taken_for_past(world: LifecycleWorld) -> None:
    assert world.subscription().status == "closing"
    damage(world)
    assert "status: 'active' -> 'closing'" in str(Rebuild(world.store, world.time.now).diff(LICENSED))


@pytest.mark.parametrize("write", [[], ["--write", "--queue-url", "q"]])
def test_an_id_that_nobody_has_is_said_in_a_sentence(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, write: list[str]
) -> None:
    monkeypatch.setattr(clients, "sqs", lambda: world.sqs)
    shown: list[str] = []
    given = ["--table", world.tables.subscriptions, "--subscription", "sub-nobody"]
    assert rebuild.main([*given, *write], shown.append) == 2
    assert shown == ["refused: there is no subscription sub-nobody in this table\n"]


@pytest.mark.parametrize("which", [["--all"], ["--subscription", LICENSED]])
def test_a_table_that_is_not_there_is_said_in_a_sentence(world: LifecycleWorld, which: list[str]) -> None:
    shown: list[str] = []
    assert rebuild.main(["--table", "nowhere", *which], shown.append) == 2
    (sentence,) = shown
    assert sentence.startswith("there is no such table in this account and region (ResourceNotFoundException")


@pytest.mark.parametrize("module", ["activation", "waiting", "migration"])
def test_every_command_says_so(world: LifecycleWorld, module: str) -> None:
    given = {
        "activation": ["--subscription", LICENSED, "--reason", "r"],
        "waiting": [],
        "migration": ["--usage-table", "nowhere", "--legacy", LEGACY, "--license", LICENSED],
    }[module]
    shown: list[str] = []
    command = importlib.import_module(f"marketplace.commands.{module}")
    assert command.main(["--table", "nowhere", *given], shown.append) == 2
    assert shown[-1].startswith("there is no such table")


def test_a_shell_without_a_region_is_told(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_region() -> None:
        raise NoRegionError

    monkeypatch.setattr(clients, "dynamodb", no_region)
    shown: list[str] = []
    assert rebuild.main(["--table", "t", "--all"], shown.append) == 2
    assert shown[0].startswith("this shell has no region; set AWS_DEFAULT_REGION")
