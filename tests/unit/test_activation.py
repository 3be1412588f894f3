"""An activation that AWS Marketplace's notification failed to bring: by what AWS grants, or by an operator's word."""

import json
from typing import Any

import pytest

from marketplace.commands.activation import Activation, AwsAnswer, asked
from marketplace.commands.rebuild import Rebuild
from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.entitlements.rules import Entitlement
from marketplace.lifecycle.notifications import Reconcile
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.platform.errors import InvalidParameterError, NoAnswerError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace_saas_cli.exits import NOT_CONFIRMED, USAGE
from tests.support.duty import Duty, on_duty
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSED, LifecycleWorld, told

SEATS = Entitlement(dimension="seats", value_type="integer", value=25)
LEGACY_BUYER = {
    "integration": "legacy",
    "product_code": "n0123EXAMPLEXXXXXXXXXXXX",
    "customer_identifier": "X01EXAMPLEX",
}
REASON = "AWS Marketplace's console shows the subscription since 2026-08-01"


@pytest.fixture
def world() -> LifecycleWorld:
    world = LifecycleWorld.in_memory()
    world.register(LEGACY, None, **LEGACY_BUYER)
    return world


class NoAgreements:
    """The agreement API, which has nothing to say of legacy customers."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked")


def reconcile(world: LifecycleWorld, subscription_id: str = LEGACY) -> str:
    reconciliation = Reconciliation(
        store=world.store,
        agreements=NoAgreements(),
        lifecycle=world.lifecycle,
        queue=world.queue,
        clock=world.time.now,
    )
    return reconciliation.reconcile(Reconcile(subscription_id=subscription_id))


# What AWS grants


def test_entitlements_that_aws_lists_at_the_registration_activate_a_legacy_contract(world: LifecycleWorld) -> None:
    world.source.granted[LEGACY] = [SEATS]
    world.look_again(LEGACY, recheck.REGISTERED)
    assert world.answer()[0] == "activated"
    found = world.subscription(LEGACY)
    assert (found.status, found.activated_at) == ("active", world.time.seconds)
    assert world.bus.kinds() == ["Entitlements Changed", "Subscription Activated"]
    assert world.entitlements.check(LEGACY, "seats", 25).allowed
    assert world.usage.released == [LEGACY]


def test_the_daily_reconciliation_activates_one_whose_entitlements_came_later(world: LifecycleWorld) -> None:
    assert reconcile(world) == "unconfirmed"
    world.time.seconds += DAY
    world.source.granted[LEGACY] = [SEATS]
    assert reconcile(world) == "corrected"
    assert world.subscription(LEGACY).status == "active"
    assert reconcile(world) == "agrees"


def test_an_entitlement_updated_alone_activates(world: LifecycleWorld) -> None:
    world.source.granted[LEGACY] = [SEATS]
    world.receive("sns_entitlement_updated")
    assert world.answer()[0] == "activated"
    assert world.subscription(LEGACY).status == "active"


def test_a_late_subscribe_success_moves_the_activation_to_its_own_time(world: LifecycleWorld) -> None:
    world.source.granted[LEGACY] = [SEATS]
    world.look_again(LEGACY, recheck.REGISTERED)
    world.answer()
    world.receive("sns_subscribe_success")
    assert world.subscription(LEGACY).activated_at == 1787235864
    assert world.bus.kinds().count("Subscription Activated") == 1


@pytest.mark.parametrize(
    "granted",
    [
        [],
        [Entitlement(dimension="seats", value_type="integer", value=0)],
        [Entitlement(dimension="seats", value_type="integer", value=25, expires_at=1)],
        [Entitlement(dimension="sso", value_type="boolean", value=False)],
    ],
    ids=["nothing", "no seats", "expired", "false"],
)
def test_what_grants_nothing_activates_nobody(world: LifecycleWorld, granted: list[Entitlement]) -> None:
    world.source.granted[LEGACY] = granted
    assert reconcile(world) == "unconfirmed"
    assert world.subscription(LEGACY).status == "pending"


@pytest.mark.parametrize(
    "history",
    [
        ["sns_subscribe_fail"],
        ["sns_unsubscribe_success"],
        ["sns_subscribe_success", "sns_unsubscribe_pending", "sns_unsubscribe_success"],
    ],
)
def test_what_aws_lists_after_an_end_brings_nobody_back(world: LifecycleWorld, history: list[str]) -> None:
    world.receive(*history)
    status = world.subscription(LEGACY).status
    world.source.granted[LEGACY] = [SEATS]
    world.read_back(LEGACY)
    assert world.subscription(LEGACY).status == status


def test_a_pending_licence_is_left_to_the_agreement_api(world: LifecycleWorld) -> None:
    world.register(LICENSED)
    world.source.granted[LICENSED] = [SEATS]
    assert world.read_back(LICENSED) == "read_back"
    assert world.subscription().status == "pending"


@pytest.mark.parametrize("crash", ["keep", "write"])
def test_a_crash_on_the_way_is_made_good_by_the_next_reading(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    world.source.granted[LEGACY] = [SEATS]
    with monkeypatch.context() as patched:
        patched.setattr(world.store, crash, raising)
        with pytest.raises(NoAnswerError):
            world.read_back(LEGACY)
    world.time.seconds += 60
    world.read_back(LEGACY)
    assert world.subscription(LEGACY).status == "active"
    assert len({event["detail"] for event in map(_detail_id, world.bus.put)}) == len(world.bus.put)


# An operator's word


def activate(world: LifecycleWorld, subscription_id: str = LEGACY, reason: str = REASON) -> bool:
    return Activation(world.store, world.time.now, world.queue).write(subscription_id, reason)


def test_an_operator_activates_a_customer_of_whom_aws_says_nothing(world: LifecycleWorld) -> None:
    assert activate(world)
    assert world.sqs.reasons() == [recheck.RECONCILED]
    world.look_again(LEGACY, recheck.RECONCILED)
    found = world.subscription(LEGACY)
    assert (found.status, found.activated_at) == ("active", world.time.seconds)
    assert world.usage.released == [LEGACY]
    assert world.bus.kinds() == ["Subscription Activated"]


def test_the_reason_is_kept_in_the_inbox(world: LifecycleWorld) -> None:
    activate(world)
    (word,) = world.store.inbox(LEGACY)
    assert json.loads(word.message.body)["reason"] == REASON


def test_a_rebuild_agrees_with_it(world: LifecycleWorld) -> None:
    activate(world)
    world.look_again(LEGACY, recheck.RECONCILED)
    assert Rebuild(world.store, world.time.now).diff(LEGACY).changes == ()


def test_a_second_word_changes_nothing_and_requests_the_recheck_again(world: LifecycleWorld) -> None:
    activate(world)
    before = world.attributes(LEGACY)
    assert not activate(world, reason="once more")
    assert world.attributes(LEGACY) == before
    assert world.sqs.reasons() == [recheck.RECONCILED] * 2


def test_an_interrupted_word_is_completed_and_counts_once(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write", raising)
        with pytest.raises(NoAnswerError):
            activate(world)
    world.time.seconds += 60
    assert activate(world)
    stored = world.store.read(LEGACY)
    assert stored is not None
    assert len(stored.facts) == 1


def test_an_end_that_aws_reports_later_overrides_it(world: LifecycleWorld) -> None:
    world.time.seconds -= HOUR
    activate(world)
    world.receive("sns_unsubscribe_pending")
    assert world.subscription(LEGACY).status == "closing"


@pytest.mark.parametrize("before", ["sns_subscribe_fail", "sns_unsubscribe_success"])
def test_a_customer_who_failed_or_ended_may_be_activated(world: LifecycleWorld, before: str) -> None:
    world.receive(before)
    world.time.seconds += DAY
    assert activate(world)
    assert world.subscription(LEGACY).status == "active"


def test_a_licence_is_activated_under_its_agreement(world: LifecycleWorld) -> None:
    world.register(LICENSED)
    assert activate(world, LICENSED)
    assert world.attributes()["current_agreement_id"] == AGREEMENT


def test_what_can_not_be_activated_is_said_in_a_sentence(world: LifecycleWorld) -> None:
    with pytest.raises(CommandRefusedError, match="there is no subscription sub-nobody"):
        activate(world, "sub-nobody")
    world.receive("sns_subscribe_success", "sns_unsubscribe_pending")
    with pytest.raises(CommandRefusedError, match="is closing"):
        activate(world)
    world.register(LICENSED)
    start = world.time.seconds + 5 * DAY
    agreement = {"id": AGREEMENT, "status": "ACTIVE", "intent": "NEW", "startTime": iso(start)}
    world.lifecycle.receive(told("Purchase Agreement Created", world.time.seconds, agreement=agreement))
    with pytest.raises(CommandRefusedError, match="its agreement starts at"):
        activate(world, LICENSED)


def test_a_crowd_of_writers_is_told(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.store, "write", lambda *_, **__: None)
    with pytest.raises(ThrottledError):
        activate(world)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (AwsAnswer(refusal="InvalidParameterException"), "AWS refuses to answer: InvalidParameterException"),
        (AwsAnswer(), "AWS lists nothing, which is all it says of a customer without a contract"),
        (
            AwsAnswer((SEATS, Entitlement(dimension="sso", value_type="boolean", value=True, expires_at=DAY))),
            "AWS lists seats=25, sso=True until 1970-01-02T00:00:00Z",
        ),
    ],
)
def test_what_aws_says_is_a_sentence(answer: AwsAnswer, text: str) -> None:
    assert str(answer) == text


def test_a_refusal_of_aws_is_an_answer_and_its_silence_is_none(world: LifecycleWorld) -> None:
    world.source.errors = [InvalidParameterError("InvalidParameterException"), NoAnswerError("ReadTimeoutError")]
    assert asked(world.source, world.subscription(LEGACY), 0).refusal == "InvalidParameterException"
    with pytest.raises(NoAnswerError):
        asked(world.source, world.subscription(LEGACY), 0)


@pytest.fixture
def duty(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    return on_duty(
        monkeypatch,
        tables=world.tables,
        now=world.time.now,
        capsys=capsys,
        clients={"dynamodb": world.dynamodb, "sqs": world.sqs},
        entitlements=world.source,
    )


COMMAND = ("subscriptions", "activate", LEGACY, "--reason", REASON)


def test_the_command_shows_first_and_writes_when_it_is_confirmed(world: LifecycleWorld, duty: Duty) -> None:
    assert duty.run(*COMMAND) == NOT_CONFIRMED
    assert duty.out.startswith(f"{LEGACY}: pending, product n0123EXAMPLEXXXXXXXXXXXX; AWS lists nothing")
    assert world.subscription(LEGACY).status == "pending"
    assert duty.run(*COMMAND, "--yes") == 0
    assert duty.out.endswith("activated\n")
    assert world.subscription(LEGACY).status == "active"
    assert duty.json(*COMMAND, "--yes")["changed"] is False


def test_a_person_is_asked_and_only_a_yes_confirms(world: LifecycleWorld, duty: Duty) -> None:
    for answer in ("", "n\n", "yep\n"):
        duty.answer = answer
        assert duty.run(*COMMAND) == NOT_CONFIRMED
    assert world.subscription(LEGACY).status == "pending"
    duty.answer = "y\n"
    assert duty.run(*COMMAND) == 0
    assert world.subscription(LEGACY).status == "active"


def test_the_command_activates_nobody_whom_aws_does_not_know(world: LifecycleWorld, duty: Duty) -> None:
    world.source.errors = [InvalidParameterError("InvalidParameterException")]
    assert duty.run(*COMMAND, "--yes") == USAGE
    assert "AWS does not know this customer of this product" in duty.err
    assert world.subscription(LEGACY).status == "pending"


def test_the_command_needs_a_reason(duty: Duty) -> None:
    assert duty.run("subscriptions", "activate", LEGACY, "--reason", "  ") == USAGE
    assert duty.run("subscriptions", "activate", LEGACY) == USAGE


def raising(*_: Any, **__: Any) -> None:
    raise NoAnswerError("InternalServerError")


def _detail_id(entry: dict[str, Any]) -> dict[str, Any]:
    return {"detail": json.loads(entry["Detail"])["id"]}


def test_the_inbox_says_whose_word_it_is(world: LifecycleWorld) -> None:
    activate(world)
    (item,) = [item for item in world.items(keys.subscription_pk(LEGACY)) if item["sk"].startswith("EVENT#")]
    assert item["title"] == "Operator"
