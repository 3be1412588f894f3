"""Recomputing subscriptions from what was received about them."""

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, NoRegionError

from marketplace.commands.rebuild import Rebuild
from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.platform.clock import DAY, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions import recheck
from marketplace_saas_cli.exits import NO_ANSWER, NOT_CONFIRMED, USAGE
from tests.support.duty import Duty, on_duty
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, told
from tests.support.tables import Tables

pytestmark = pytest.mark.slow


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


@pytest.fixture
def duty(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    clients = {"dynamodb": world.dynamodb, "sqs": world.sqs}
    return on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)


def test_the_command_shows_and_writes(world: LifecycleWorld, duty: Duty) -> None:
    damage(world)
    assert duty.run("rebuild", "--all") == NOT_CONFIRMED
    assert "status: 'active' -> 'closing'" in duty.out
    assert world.subscription().status == "active"
    (written,) = duty.json("rebuild", "--subscription", LICENSED, "--yes")["differing"]
    assert written["subscription_id"] == LICENSED
    assert world.subscription().status == "closing"
    assert duty.run("rebuild", "--subscription", LICENSED) == 0
    assert duty.out == "1 subscription: as the inbox says\n"


@pytest.mark.parametrize("which", [[], ["--all", "--subscription", LICENSED]])
def test_the_command_wants_one_subscription_or_all(duty: Duty, which: list[str]) -> None:
    assert duty.run("rebuild", *which) == USAGE


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


@pytest.mark.parametrize("write", [[], ["--yes"]])
def test_an_id_that_nobody_has_is_said_in_a_sentence(duty: Duty, write: list[str]) -> None:
    assert duty.run("rebuild", "--subscription", "sub-nobody", *write) == USAGE
    assert duty.err == "marketplace-saas: there is no subscription sub-nobody in this table\n"


@pytest.mark.parametrize(
    "command",
    [
        ["rebuild", "--all"],
        ["rebuild", "--subscription", LICENSED],
        ["subscriptions", "activate", LICENSED, "--reason", "r"],
        ["subscriptions", "waiting"],
        ["migrate", LEGACY, LICENSED],
        ["status"],
        ["trace", "r1"],
    ],
    ids=" ".join,
)
def test_a_table_that_is_not_there_is_said_in_a_sentence(duty: Duty, command: list[str]) -> None:
    duty.tables = Tables("nowhere", "nowhere")
    assert duty.run(*command) == NO_ANSWER
    assert duty.err.startswith("marketplace-saas: there is no such table or function in this account and region")
    assert duty.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NoRegionError(), "this shell has no region; set AWS_DEFAULT_REGION"),
        (NoCredentialsError(), "this shell has no AWS credentials"),
        (EndpointConnectionError(endpoint_url="https://x.invalid"), "nothing answers at that address"),
    ],
)
def test_what_a_shell_lacks_is_said_in_a_sentence(duty: Duty, error: Exception, sentence: str) -> None:
    duty.clients["dynamodb"] = error
    assert duty.run("rebuild", "--all") == NO_ANSWER
    assert duty.err.startswith(f"marketplace-saas: {sentence}")
    assert duty.err.count("\n") == 1
