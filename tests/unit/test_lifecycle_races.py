"""Messages about one subscription that are handled at the same time: its usage is left as its last state wants it, and
none of it is lost."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

import pytest

from marketplace.entitlements.rules import Entitlement
from marketplace.ledger.rescheduling import UsageDeadlines
from marketplace.lifecycle.notifications import Notification
from marketplace.lifecycle.store import Stored
from marketplace.platform.clock import HOUR, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from tests.support.lifecycle_world import LEGACY, LifecycleWorld, notification, told
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World
from tests.support.world import Timeline as SharedTimeline

MINUTE = 60
QUARTER = 15 * MINUTE


@pytest.fixture
def world() -> LifecycleWorld:
    return LifecycleWorld.in_memory()


def message(world: LifecycleWorld, name: str, minutes: int) -> Notification:
    """So many minutes before the present."""
    at_ms = (world.time.seconds - minutes * MINUTE) * 1000
    return replace(notification(name), id=f"{name} {minutes}", at_ms=at_ms)


def bought(world: LifecycleWorld) -> None:
    world.lifecycle.receive(message(world, "sns_subscribe_success", 50))
    world.usage.released.clear()


def closing(world: LifecycleWorld, minutes: int = 20) -> Notification:
    return message(world, "sns_unsubscribe_pending", minutes)


def returning(world: LifecycleWorld, minutes: int = 10) -> Notification:
    return message(world, "sns_subscribe_success", minutes)


def test_a_closing_that_is_overtaken_by_a_return_leaves_no_deadline(world: LifecycleWorld) -> None:
    bought(world)
    world.usage.meanwhile = [lambda: world.lifecycle.receive(returning(world))]
    world.lifecycle.receive(closing(world))
    assert world.subscription(LEGACY).status == "active"
    assert world.usage.closed != []
    assert world.usage.deadlines == {LEGACY: None}


def test_a_return_that_is_overtaken_by_a_newer_closing_leaves_its_deadline(world: LifecycleWorld) -> None:
    bought(world)
    world.lifecycle.receive(closing(world, 20))
    world.usage.meanwhile = [lambda: world.lifecycle.receive(closing(world, 5))]
    world.lifecycle.receive(returning(world, 10))
    found = world.subscription(LEGACY)
    assert found.status == "closing"
    assert world.usage.deadlines == {LEGACY: found.closing_deadline}


def test_a_closing_that_is_overtaken_by_a_later_one_leaves_the_later_deadline(world: LifecycleWorld) -> None:
    bought(world)
    world.usage.meanwhile = [lambda: world.lifecycle.receive(closing(world, 5))]
    world.lifecycle.receive(closing(world, 20))
    assert world.usage.deadlines == {LEGACY: world.time.seconds - 5 * MINUTE + HOUR}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("minutes", [(20, 15, 10), (20, 15, 10, 5), (75, 70, 65), (75, 15, 10)])
@pytest.mark.slow
def test_however_messages_stop_one_another_the_last_state_counts(minutes: tuple[int, ...], nested: bool) -> None:
    """Each is stopped after its state is written and before its usage is adjusted, while others run whole. Nested: the
    others are stopped in the same way; else the first is stopped again and again."""
    kinds: tuple[Literal["sns_unsubscribe_pending", "sns_subscribe_success"], ...]
    for kinds in (
        ("sns_unsubscribe_pending", "sns_subscribe_success"),
        ("sns_subscribe_success", "sns_unsubscribe_pending"),
    ):
        for order in itertools.permutations(range(len(minutes))):
            world = LifecycleWorld.in_memory()
            world.lifecycle.receive(message(world, "sns_subscribe_success", 80))
            history = [message(world, kinds[n % 2], before) for n, before in enumerate(minutes)]
            first, *others = (history[place] for place in order)
            interposed = [partial(_receive, world, other, nested=nested) for other in others]
            world.usage.meanwhile = list(interposed)
            world.lifecycle.receive(first)
            while world.usage.meanwhile:
                world.usage.meanwhile.pop(0)()
            assert world.usage.deadlines == {LEGACY: world.subscription(LEGACY).closing_deadline}, (kinds, order)


def _receive(world: LifecycleWorld, received: Notification, *, nested: bool) -> None:
    if nested:
        world.lifecycle.receive(received)
        return
    stopped, world.usage.meanwhile = world.usage.meanwhile, []
    world.lifecycle.receive(received)
    world.usage.meanwhile = stopped


def test_a_closing_that_crashes_after_being_overtaken_is_put_right_by_its_repetition(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought(world)
    world.usage.meanwhile = [lambda: world.lifecycle.receive(returning(world))]
    late = closing(world)
    with monkeypatch.context() as patched:
        patched.setattr(world.usage, "close", _then_crashing(world.usage.close))
        with pytest.raises(ThrottledError):
            world.lifecycle.receive(late)
    assert world.usage.deadlines[LEGACY] is not None
    world.lifecycle.receive(late)
    assert world.usage.deadlines == {LEGACY: None}
    assert world.usage.released == [LEGACY]


def _then_crashing(call: Callable[..., None]) -> Callable[..., None]:
    def crashing(*given: Any, **named: Any) -> None:
        call(*given, **named)
        raise ThrottledError("InternalServerError")

    return crashing


# With real usage: what is billed in the end


@dataclass
class Clock:
    """The world's clock under the names of the lifecycle's."""

    shared: SharedTimeline

    @property
    def seconds(self) -> int:
        return self.shared.seconds()

    @seconds.setter
    def seconds(self, moment: int) -> None:
        self.shared.to(moment)

    def now(self) -> datetime:
        return self.shared.now()


class Stopped:
    """Real usage; `meanwhile` is what others do before its next calls take effect, `crashes` how many of the calls that
    follow end in an error once they have."""

    def __init__(self, usage: UsageDeadlines) -> None:
        self._usage = usage
        self.meanwhile: list[Callable[[], object]] = []
        self.crashes = 0

    def close(self, subscription_id: str, *, deadline: int, now: int) -> None:
        self._call(partial(self._usage.close, subscription_id, deadline=deadline, now=now))

    def release(self, subscription_id: str, *, now: int) -> None:
        self._call(partial(self._usage.release, subscription_id, now=now))

    def reopen(self, subscription_id: str, *, now: int) -> None:
        self._call(partial(self._usage.reopen, subscription_id, now=now))

    def _call(self, call: Callable[[], object]) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        call()
        if self.crashes:
            self.crashes -= 1
            raise ThrottledError("InternalServerError")


class Seller:
    """A deployment with a buyer whose licence AWS takes usage of all the time."""

    def __init__(self) -> None:
        self.world = World.on(MemoryDynamoDB())
        self.usage = Stopped(self.world.deadlines())
        time: Any = Clock(self.world.time)
        self.side = LifecycleWorld(self.world.dynamodb, self.world.tables, usage=self.usage, time=time)
        self.world.requests = self.side.queue  # type: ignore[assignment]
        self.purchase = self.world.marketplace.purchases.subscribe(provision=True)
        self.buyer = Subscription(
            id="", integration="license", product_code=self.purchase.product.code, license_arn=self.purchase.license_arn
        ).identity.subscription_id

    def event(self, title: str, seconds: int, agreement_id: str, **agreement: Any) -> Notification:
        licence = {"license": {"arn": self.purchase.license_arn}, "product": {"code": self.purchase.product.code}}
        about = licence if title.startswith("License") else {}
        buyer = {"acceptor": {"accountId": self.purchase.account_id}}
        return told(title, seconds, agreement={"id": agreement_id, **agreement}, **about, **buyer)

    def hear(self, title: str, agreement_id: str, **agreement: Any) -> None:
        self.receive(self.event(title, self.world.time.seconds(), agreement_id, **agreement))

    def receive(self, received: Notification) -> None:
        self.side.lifecycle.receive(received)

    def report(self, quantity: int) -> dict[str, Any]:
        found = self.side.store.read(self.buyer)
        assert found is not None
        return self.world.report(found.subscription, quantity)

    def run(self, until: int) -> None:
        """Messages are delivered when they are due, and usage is metered every quarter of an hour."""
        while (now := self.world.time.seconds()) < until:
            self.side.wait(min(now + QUARTER, until))
            self.world.meter()

    def states(self) -> set[str]:
        return {record["state"] for record in self.world.stored()}

    def status(self) -> str:
        return self.side.subscription(self.buyer).status


@pytest.fixture
def seller() -> Seller:
    seller = Seller()
    seller.hear("License Updated", "agmt-1")
    seller.report(100)
    seller.run(NOON + HOUR + 5 * MINUTE)
    seller.report(10)
    return seller


def _closing_and_return(seller: Seller) -> Iterable[Notification]:
    now = seller.world.time.seconds()
    return (
        seller.event("Purchase Agreement Ended", now, "agmt-1", status="EXPIRED"),
        seller.event("License Updated", now + 1, "agmt-2"),
    )


@pytest.mark.parametrize("crashing", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_return_during_a_closing_costs_no_usage(seller: Seller, turned: bool, crashing: bool) -> None:
    first, second = sorted(_closing_and_return(seller), key=lambda one: one.at_ms, reverse=turned)
    seller.world.time.advance(1)

    def overtaking() -> None:
        seller.receive(second)
        seller.usage.crashes = int(crashing)  # what was overtaken takes effect and is the last thing that is done

    seller.usage.meanwhile = [overtaking]
    if crashing:
        with pytest.raises(ThrottledError):
            seller.receive(first)
        seller.world.time.advance(30)
    seller.receive(first)
    assert seller.status() == "active"
    seller.run(NOON + 5 * HOUR)
    assert seller.states() == {"metered"}
    assert seller.world.billed() == {(seller.buyer, "api_calls"): 110}


@pytest.mark.parametrize("crashing", [False, True])
def test_usage_held_in_a_closing_is_billed_when_time_brings_the_renewal(seller: Seller, crashing: bool) -> None:
    now = seller.world.time.seconds()
    starts_at = now + 55 * MINUTE
    seller.hear("Purchase Agreement Created", "agmt-2", intent="NEW", startTime=iso(starts_at))
    seller.hear("License Updated", "agmt-2")
    seller.hear("Purchase Agreement Ended", "agmt-1", status="EXPIRED")
    refused = {"operation": "BatchMeterUsage", "fault": "not_subscribed", "times": 1000}
    seller.world.marketplace.faults.plan([refused])
    seller.run(starts_at - 1)
    assert (seller.status(), "held" in seller.states()) == ("closing", True)
    seller.world.marketplace.faults.clear()
    if crashing:
        seller.usage.meanwhile = [_crash]
        with pytest.raises(ThrottledError):
            seller.side.wait(starts_at)
        assert seller.status() == "active"
        seller.world.time.advance(30)
        seller.side.look_again(seller.buyer, recheck.START_TIMER)
    seller.run(NOON + 5 * HOUR)
    assert seller.status() == "active"
    assert seller.states() == {"metered"}
    assert seller.world.billed() == {(seller.buyer, "api_calls"): 110}


def _crash() -> None:
    raise ThrottledError("InternalServerError")


def test_usage_is_taken_again_from_the_start_of_a_renewal_that_comes_after_the_end(seller: Seller) -> None:
    now = seller.world.time.seconds()
    starts_at = now + 3 * HOUR
    seller.hear("Purchase Agreement Created", "agmt-2", intent="NEW", startTime=iso(starts_at))
    seller.hear("License Updated", "agmt-2")
    seller.hear("Purchase Agreement Ended", "agmt-1", status="EXPIRED")
    seller.run(starts_at - 1)
    assert seller.report(1)["reason"] == "ended"
    seller.run(starts_at)
    assert seller.report(1)["status"] == "recorded"
    seller.run(starts_at + 3 * HOUR)
    assert seller.states() == {"metered"}
    assert seller.world.billed() == {(seller.buyer, "api_calls"): 111}


class BeforeBooking:
    """DynamoDB for a request that reports usage; `others` happens once the request has read everything it goes by, and
    before it writes."""

    def __init__(self, dynamodb: Any, others: Callable[[], object]) -> None:
        self._dynamodb = dynamodb
        self._others = [others]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def transact_write_items(self, **request: Any) -> Any:
        while self._others:
            self._others.pop()()
        return self._dynamodb.transact_write_items(**request)


@pytest.mark.parametrize("crash", [None, "release", "request", "done"])
def test_usage_booked_for_a_closing_that_was_over_just_then_is_billed_as_ever(
    seller: Seller, monkeypatch: pytest.MonkeyPatch, crash: str | None
) -> None:
    """The next closing timer comes when the deadline is over, and AWS names the entitlements at once, so only the look
    that the return asks for comes before metering writes off what has the closing's deadline."""
    seller.side.source.granted[seller.buyer] = [Entitlement(dimension="seats", value_type="integer", value=25)]
    seller.hear("Purchase Agreement Ended", "agmt-1", status="EXPIRED")
    deadline = seller.side.subscription(seller.buyer).closing_deadline
    assert deadline is not None
    seller.run(deadline - 5 * MINUTE)
    back = seller.event("License Updated", seller.world.time.seconds(), "agmt-2")

    def returning() -> None:
        if crash is None:
            seller.receive(back)
            return
        with monkeypatch.context() as patched:
            seller.usage.crashes = int(crash == "release")
            if crash == "request":
                patched.setattr(seller.side.queue, "look_again", _crashing)
            if crash == "done":
                patched.setattr(seller.side.store, "write", _crashing_when_released(seller.side.store.write))
            with pytest.raises(ThrottledError):
                seller.receive(back)
        assert "release_due" in seller.side.attributes(seller.buyer)

    seller.world.wrap = lambda client: BeforeBooking(client, returning)
    assert seller.report(1)["status"] == "recorded"
    seller.world.wrap = lambda client: client
    assert seller.status() == "active"
    assert deadline in {record["refuse_at"] for record in seller.world.stored("open")}
    if crash is not None:
        seller.side.wait(seller.world.time.seconds() + 30)
        seller.receive(back)
    seller.side.wait(deadline)
    assert seller.side.waiting(recheck.CLOSING_TIMER) == [deadline + 1]
    assert "release_due" not in seller.side.attributes(seller.buyer)
    seller.world.meter()
    seller.run(NOON + 6 * HOUR)
    assert seller.side.waiting(recheck.CLOSING_TIMER) == []
    assert seller.states() == {"metered"}
    assert seller.world.billed() == {(seller.buyer, "api_calls"): 111}


def _crashing(*_: Any, **__: Any) -> None:
    raise ThrottledError("Throttling")


def _crashing_when_released(write: Callable[..., Stored | None]) -> Callable[..., Stored | None]:
    """The store's `write`, which fails when it is to take down that the release is done."""

    def crashing(subscription_id: str, **given: Any) -> Stored | None:
        if given["changes"] == {"release_due": None}:
            raise ThrottledError("InternalServerError")
        return write(subscription_id, **given)

    return crashing
