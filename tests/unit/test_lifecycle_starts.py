"""Agreements that are signed ahead: the subscription is active when they start, though nothing is told then."""

from typing import Any

import pytest

from marketplace.commands.rebuild import Rebuild
from marketplace.entitlements.rules import Entitlement
from marketplace.lifecycle.notifications import Notification
from marketplace.lifecycle.store import Stored
from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.platform.errors import AwsError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.recheck import MAX_DELAY_SECONDS
from marketplace.subscriptions.recheck_queue import Requests
from tests.support.lifecycle_world import AGREEMENT, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, at, told

NOW = at("2026-08-20T14:30:00Z")
RENEWAL = "agmt-renewal"
CREATED, UPDATED, ENDED = "Purchase Agreement Created", "License Updated", "Purchase Agreement Ended"
BUYER = {"acceptor": {"accountId": "111122223333"}}


def created(agreement_id: str, starts_at: int, seconds: int = NOW, intent: str = "NEW") -> Notification:
    agreement = {"id": agreement_id, "intent": intent, "status": "ACTIVE", "startTime": iso(starts_at)}
    return told(CREATED, seconds, agreement=agreement, **BUYER)


def updated(agreement_id: str, seconds: int = NOW) -> Notification:
    licence = {"license": {"arn": LICENSE_ARN}, "product": {"code": PRODUCT}}
    return told(UPDATED, seconds, agreement={"id": agreement_id}, **licence, **BUYER)


def ended(agreement_id: str, seconds: int = NOW) -> Notification:
    return told(ENDED, seconds, agreement={"id": agreement_id, "status": "EXPIRED"}, **BUYER)


def amended(agreement_id: str, starts_at: int, seconds: int = NOW) -> Notification:
    agreement = {"id": agreement_id, "startTime": iso(starts_at)}
    return told("Purchase Agreement Amended", seconds, agreement=agreement, **BUYER)


@pytest.fixture
def world() -> LifecycleWorld:
    return LifecycleWorld.in_memory()


def sign(world: LifecycleWorld, starts_at: int) -> None:
    """A first agreement, signed now for later."""
    for notification in (created(AGREEMENT, starts_at), updated(AGREEMENT)):
        world.lifecycle.receive(notification)


def sign_renewal(world: LifecycleWorld, starts_at: int) -> None:
    """A renewal of a running agreement, signed now for later."""
    for notification in (updated(AGREEMENT, NOW - DAY), created(RENEWAL, starts_at), updated(RENEWAL)):
        world.lifecycle.receive(notification)


def looks(world: LifecycleWorld, until: int) -> int:
    """How many looks for the start are done until then."""
    done = 0
    while (due := min(world.waiting(recheck.START_TIMER), default=until + 1)) <= until:
        done += world.waiting(recheck.START_TIMER).count(due)
        world.wait(due)
    world.wait(until)
    return done


@pytest.mark.parametrize("ahead", [1, 59, 600, 900, 901, 4 * HOUR, 26 * HOUR])
def test_a_first_agreement_is_active_from_its_start(world: LifecycleWorld, ahead: int) -> None:
    sign(world, NOW + ahead)
    world.wait(NOW + ahead - 1)
    assert world.subscription().status == "pending"
    world.wait(NOW + ahead)
    found = world.subscription()
    assert (found.status, found.activated_at) == ("active", NOW + ahead)
    assert world.usage.released == [LICENSED]
    assert world.bus.kinds() == ["Subscription Activated"]
    assert world.waiting(recheck.START_TIMER) == []


def test_a_look_comes_at_least_every_15_minutes(world: LifecycleWorld) -> None:
    sign(world, NOW + HOUR + 100)
    assert world.waiting(recheck.START_TIMER) == [NOW + MAX_DELAY_SECONDS]
    assert looks(world, NOW + HOUR + 100) == 5


def test_a_renewal_brings_an_ended_subscription_back_at_its_start(world: LifecycleWorld) -> None:
    starts_at = NOW + 3 * DAY
    sign_renewal(world, starts_at)
    world.wait(NOW + HOUR)
    world.lifecycle.receive(ended(AGREEMENT, NOW + HOUR))
    assert world.subscription().status == "closing"
    world.wait(NOW + 2 * HOUR + 1)
    assert world.subscription().status == "ended"
    world.usage.released.clear()
    world.wait(starts_at)
    found = world.subscription()
    assert (found.status, found.activated_at, found.closing_deadline) == ("active", starts_at, None)
    assert world.usage.released == [LICENSED]
    assert world.usage.deadlines == {LICENSED: None}
    assert world.bus.kinds()[1:] == ["Subscription Closing", "Subscription Ended", "Subscription Activated"]


def test_a_renewal_within_the_final_hour_releases_what_was_held_in_it(world: LifecycleWorld) -> None:
    starts_at = NOW + HOUR + 40 * 60
    sign_renewal(world, starts_at)
    world.wait(NOW + HOUR)
    world.lifecycle.receive(ended(AGREEMENT, NOW + HOUR))
    world.usage.released.clear()
    world.wait(starts_at)
    assert world.subscription().status == "active"
    assert world.usage.released == [LICENSED]
    assert world.usage.deadlines == {LICENSED: None}


@pytest.mark.parametrize("intent", ["NEW", "RENEW"])
@pytest.mark.parametrize("last", [AGREEMENT, RENEWAL])
def test_a_renewal_comes_whatever_was_said_of_the_current_agreement_before(
    world: LifecycleWorld, intent: str, last: str
) -> None:
    starts_at = NOW + DAY
    world.lifecycle.receive(created(AGREEMENT, NOW - DAY, NOW - DAY))
    world.lifecycle.receive(updated(AGREEMENT, NOW - DAY + 60))
    world.lifecycle.receive(created(RENEWAL, starts_at, NOW - 60, intent))
    of_both = [updated(RENEWAL, NOW - 40), updated(AGREEMENT, NOW - 20)]
    for notification in of_both if last == AGREEMENT else reversed(of_both):
        world.lifecycle.receive(notification)
    world.wait(NOW + HOUR)
    world.lifecycle.receive(ended(AGREEMENT, NOW + HOUR))
    world.wait(starts_at - 1)
    assert world.subscription().status == "ended"
    world.wait(starts_at)
    found = world.subscription()
    assert (found.status, found.activated_at) == ("active", starts_at)
    assert world.waiting(recheck.START_TIMER) == []


def test_looks_go_on_to_the_next_of_several_starts(world: LifecycleWorld) -> None:
    sign_renewal(world, NOW + 3 * HOUR)
    world.lifecycle.receive(created("agmt-third", NOW + 6 * HOUR, NOW + 1))
    world.lifecycle.receive(updated("agmt-third", NOW + 2))
    world.wait(NOW + 600)
    world.lifecycle.receive(ended(AGREEMENT, NOW + 600))
    world.wait(NOW + 3 * HOUR)
    assert world.subscription().activated_at == NOW + 3 * HOUR
    world.wait(NOW + 4 * HOUR)
    world.lifecycle.receive(ended(RENEWAL, NOW + 4 * HOUR))
    world.wait(NOW + 6 * HOUR)
    found = world.subscription()
    assert (found.status, found.activated_at) == ("active", NOW + 6 * HOUR)


def test_an_active_subscription_needs_no_look_for_its_renewal(world: LifecycleWorld) -> None:
    sign_renewal(world, NOW + HOUR)
    assert world.waiting(recheck.START_TIMER) == []


def test_one_look_is_on_its_way_however_many_messages_come(world: LifecycleWorld) -> None:
    starts_at = NOW + DAY
    sign(world, starts_at)
    everything = [created(AGREEMENT, starts_at), updated(AGREEMENT)]
    for minute in range(0, 600, 7):
        world.wait(NOW + minute * 60)
        for notification in everything:
            world.lifecycle.receive(notification)
        world.look_again(LICENSED, recheck.RECONCILED)
        world.look_again(LICENSED, recheck.CLAIMED)
        later = [due for due in world.waiting(recheck.START_TIMER) if due > world.time.seconds + 60]
        assert len(later) == 1
        assert len(world.waiting(recheck.START_TIMER)) <= 2
    world.wait(NOW + 11 * HOUR)
    assert looks(world, NOW + 12 * HOUR) == 4


def test_a_look_delivered_twice_is_followed_by_one(world: LifecycleWorld) -> None:
    sign(world, NOW + DAY)
    for hour in range(1, 5):
        world.wait(NOW + hour * HOUR)
        world.look_again(LICENSED, recheck.START_TIMER)
        world.look_again(LICENSED, recheck.START_TIMER)
    assert len(world.waiting(recheck.START_TIMER)) == 1
    world.wait(NOW + DAY)
    assert world.subscription().status == "active"


def test_messages_shortly_before_the_start_ask_for_no_look_after_it(world: LifecycleWorld) -> None:
    starts_at = NOW + 300
    sign(world, starts_at)
    for second in range(250, 300, 10):
        world.wait(NOW + second)
        world.look_again(LICENSED, recheck.CLAIMED)
    assert set(world.waiting(recheck.START_TIMER)) == {starts_at}
    world.wait(starts_at)
    assert world.waiting(recheck.START_TIMER) == []
    assert world.subscription().status == "active"


def test_a_queue_that_takes_nothing_gives_the_message_back(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Requests, "look_again", _raising)
        with pytest.raises(AwsError):
            sign(world, NOW + HOUR)
    world.lifecycle.receive(updated(AGREEMENT))
    assert world.waiting(recheck.START_TIMER) == [NOW + MAX_DELAY_SECONDS]
    world.wait(NOW + HOUR)
    assert world.subscription().status == "active"


def test_a_crash_before_a_look_is_written_down_makes_no_lasting_second_one(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write", _crashing_on("start_look_at", world))
        with pytest.raises(AwsError):
            sign(world, NOW + 4 * HOUR)
    world.wait(NOW + 30)
    world.lifecycle.receive(updated(AGREEMENT))
    assert len(world.waiting(recheck.START_TIMER)) == 2
    world.wait(NOW + HOUR)
    assert len(world.waiting(recheck.START_TIMER)) == 1
    world.wait(NOW + 4 * HOUR)
    assert world.subscription().status == "active"


def test_a_chain_that_was_lost_is_begun_again_by_any_look(world: LifecycleWorld) -> None:
    sign(world, NOW + DAY)
    world.sqs.sent.clear()
    world.wait(NOW + 2 * HOUR)
    world.look_again(LICENSED, recheck.RECONCILED)
    assert world.waiting(recheck.START_TIMER) == [NOW + 2 * HOUR + MAX_DELAY_SECONDS]


def test_a_look_that_comes_early_by_this_clock_asks_again(world: LifecycleWorld) -> None:
    sign(world, NOW + 300)
    world.sqs.sent.clear()
    world.time.seconds = NOW + 298
    world.look_again(LICENSED, recheck.START_TIMER)
    assert world.waiting(recheck.START_TIMER) == [NOW + 300]


def test_a_start_that_is_brought_forward_is_met(world: LifecycleWorld) -> None:
    sign(world, NOW + HOUR)
    world.lifecycle.receive(amended(AGREEMENT, NOW + 300))
    world.wait(NOW + 300)
    found = world.subscription()
    assert (found.status, found.activated_at) == ("active", NOW + 300)


def test_an_agreement_that_ends_before_its_start_is_waited_for_no_longer(world: LifecycleWorld) -> None:
    sign(world, NOW + DAY)
    world.wait(NOW + HOUR)
    world.lifecycle.receive(ended(AGREEMENT, NOW + HOUR))
    world.wait(NOW + 2 * HOUR)
    assert world.waiting(recheck.START_TIMER) == []
    assert "start_look_at" not in world.attributes()
    world.wait(NOW + 2 * DAY)
    assert world.subscription().status == "ended"


def test_entitlements_are_read_back_at_the_start_and_asked_for_again(world: LifecycleWorld) -> None:
    sign(world, NOW + HOUR)
    world.wait(NOW + HOUR - 1)
    calls = world.source.calls
    world.wait(NOW + HOUR)
    assert world.source.calls == calls + 1
    assert world.waiting(recheck.READ_BACK) == [NOW + HOUR + 120]
    world.source.granted[LICENSED] = [Entitlement(dimension="seats", value_type="integer", value=25)]
    world.wait(NOW + HOUR + 120)
    assert world.bus.kinds() == ["Subscription Activated", "Entitlements Changed"]
    assert world.waiting(recheck.READ_BACK) == []


def test_a_rebuild_that_activates_has_held_usage_released(world: LifecycleWorld) -> None:
    sign(world, NOW + HOUR)
    world.time.seconds = NOW + HOUR
    Rebuild(world.store, world.time.now, world.queue).write(LICENSED)
    world.wait(NOW + HOUR)
    assert world.usage.released == [LICENSED]


def _raising(*_: Any, **__: Any) -> None:
    raise ThrottledError("Throttling")


def _crashing_on(attribute: str, world: LifecycleWorld) -> Any:
    """The store's `write`, which fails when it is to set this attribute."""
    write = world.store.write

    def crashing(subscription_id: str, **given: Any) -> Stored | None:
        if given["changes"].get(attribute) is not None:
            raise ThrottledError("InternalServerError")
        return write(subscription_id, **given)

    return crashing
