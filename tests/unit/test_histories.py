"""Random histories of several buyers with several licences, delivered in any order and repeatedly, registrations among
them: they always end in the same state, and no agreement touches a licence that isn't its own.

`HISTORIES=10000 pytest tests/unit/test_histories.py` runs more of them.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import LookAgain, Notification, QueueMessage, parsed
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform.clock import DAY, iso
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck import RECONCILED, REGISTERED
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus, stable_id
from marketplace.subscriptions.waiting import WaitingItems
from tests.support.lifecycle_world import EventsClient, QueueClient, Timeline, Usage, at, sample
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import create_tables

EXAMPLES = int(os.environ.get("HISTORIES", "200"))
pytestmark = pytest.mark.timeout(max(300, EXAMPLES // 2))
START = at("2026-08-20T00:00:00Z")
LICENSES = [f"arn:aws:license-manager::294406891311:license:l-{number:032x}" for number in range(3)]
AGREEMENTS = {
    license_arn: [f"agmt-{number}-{turn}" for turn in range(3)] for number, license_arn in enumerate(LICENSES)
}
CUSTOMERS = ["X01", "X02"]
IDS = [LicenseIdentity(license_arn).subscription_id for license_arn in LICENSES] + [
    LegacyIdentity("legacy", customer).subscription_id for customer in CUSTOMERS
]
LICENSE_EVENT: dict[str, Any] = json.loads(sample("eventbridge_license_updated")[0]["body"])
ENVELOPE: dict[str, Any] = json.loads(sample("sns_subscribe_success")[0]["body"])


@dataclass(frozen=True)
class Registration:
    license_arn: str
    agreement_id: str


type Step = QueueMessage | Registration


class NoEntitlements:
    """What is read back is another test's matter."""


class World:
    """The real lifecycle on a store in memory."""

    def __init__(self) -> None:
        self.bus, self.usage, self.time = EventsClient(), Usage(), Timeline(START + DAY)
        dynamodb = MemoryDynamoDB().client
        table = Table(dynamodb, create_tables(dynamodb).subscriptions)
        self.store, self.waiting = SubscriptionStore(table), WaitingItems(table)
        bus = SellerBus(self.bus, "seller")  # type: ignore[arg-type]
        self.outbox = Outbox(table, bus)
        self.lifecycle = Lifecycle(
            store=self.store,
            entitlements=NoEntitlements(),  # type: ignore[arg-type]
            usage=self.usage,
            bus=bus,
            outbox=self.outbox,
            queue=LifecycleRequests(
                QueueClient(),  # type: ignore[arg-type]
                "queue",
                read_back_queue_url="read-back",
                metering_queue_url="metering",
            ),
            clock=self.time.now,
            products=Products(table, lambda _: frozenset()),
        )

    def take(self, step: Step) -> None:
        if isinstance(step, Registration):
            self._register(step)
            return
        found = parsed(step)
        assert isinstance(found, Notification)
        self.lifecycle.receive(found)

    def _register(self, step: Registration) -> None:
        subscription_id = LicenseIdentity(step.license_arn).subscription_id
        who = {"id": subscription_id, "integration": "license", "product_code": "p", "license_arn": step.license_arn}
        read = self.store.read(subscription_id)
        listed = {"agreement_ids": [step.agreement_id], "status": "pending"} if read is None else {}
        self.store.write(subscription_id, read=read, changes=listed, defaults=who)
        self.store.join(step.agreement_id, subscription_id)
        self.lifecycle.look_again(
            LookAgain(subscription_id=subscription_id, reason=REGISTERED, agreement_id=step.agreement_id)
        )

    def pass_time(self) -> None:
        """To when every agreement has started, with a look at everybody."""
        self.time.seconds = START + 4 * DAY
        for subscription_id in IDS:
            self.lifecycle.look_again(LookAgain(subscription_id=subscription_id, reason=RECONCILED))

    def states(self) -> dict[str, dict[str, Any]]:
        found = {subscription_id: self.store.read(subscription_id) for subscription_id in IDS}
        return {subscription_id: _comparable(stored) for subscription_id, stored in found.items() if stored is not None}


def _comparable(stored: Stored) -> dict[str, Any]:
    ignored = {"version", "activation_seen_at", "start_look_at"}  # how and when it was heard of
    return {name: value for name, value in stored.values.items() if name not in ignored}


def message(body: dict[str, Any]) -> QueueMessage:
    return QueueMessage(message_id="m", body=json.dumps(body), sent_at_ms=START * 1000)


def event(title: str, minute: int, detail: dict[str, Any]) -> QueueMessage:
    about = {"detail-type": f"{title} - Proposer", "time": iso(START + minute * 60)}
    shared = {"acceptor": {"accountId": "111122223333"}}
    event_id = stable_id(title, minute, json.dumps(detail))
    return message({**LICENSE_EVENT, **about, "id": event_id, "detail": {**shared, **detail}})


def license_event(title: str, minute: int, license_arn: str, agreement_id: str) -> QueueMessage:
    named = {"agreement": {"id": agreement_id}, "license": {"arn": license_arn}, "product": {"code": "p"}}
    return event(title, minute, named)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    minute = draw(st.integers(0, 600))
    kind = draw(st.sampled_from(["created", "ended", "updated", "deprovisioned", "legacy", "registration", "other"]))
    if kind == "legacy":
        action = draw(
            st.sampled_from(["subscribe-success", "subscribe-fail", "unsubscribe-pending", "unsubscribe-success"])
        )
        body = {"action": action, "customer-identifier": draw(st.sampled_from(CUSTOMERS)), "product-code": "legacy"}
        timed = {"MessageId": stable_id(minute, json.dumps(body)), "Timestamp": iso(START + minute * 60)}
        return message({**ENVELOPE, **timed, "Message": json.dumps(body)})
    license_arn = draw(st.sampled_from(LICENSES))
    agreement_id = draw(st.sampled_from(AGREEMENTS[license_arn]))
    if kind == "registration":
        return Registration(license_arn, agreement_id)
    if kind in {"updated", "deprovisioned"}:
        return license_event(f"License {kind.title()}", minute, license_arn, agreement_id)
    status = draw(st.sampled_from(["ACTIVE", "CANCELLED", "EXPIRED", "RENEWED", "REPLACED", "TERMINATED"]))
    starts = iso(START + draw(st.integers(0, 600) | st.integers(600, 4000)) * 60)
    intent = draw(st.sampled_from(["NEW", "RENEW", "REPLACE"]))
    agreement = {"id": agreement_id, "status": status, "intent": intent, "startTime": starts}
    title = {"created": "Purchase Agreement Created", "ended": "Purchase Agreement Ended"}.get(kind, "Something New")
    return event(title, minute, {"agreement": agreement})


@st.composite
def signed_ahead(draw: st.DrawFn) -> list[Step]:
    """Agreements of one licence that are signed before they start, and what is said of the current one after that."""
    license_arn = draw(st.sampled_from(LICENSES))
    current, *others = AGREEMENTS[license_arn]
    told: list[Step] = [license_event("License Updated", 0, license_arn, current)]
    for agreement_id in others:
        minute, ahead = draw(st.integers(1, 300)), draw(st.integers(1, 3000))
        agreement = {"id": agreement_id, "status": "ACTIVE", "intent": draw(st.sampled_from(["NEW", "RENEW"]))}
        dated = {**agreement, "startTime": iso(START + (minute + ahead) * 60)}
        told += [
            event("Purchase Agreement Created", minute, {"agreement": dated}),
            license_event("License Updated", minute + draw(st.integers(0, 300)), license_arn, agreement_id),
        ]
    told.append(license_event("License Updated", draw(st.integers(300, 600)), license_arn, current))
    over = {"id": draw(st.sampled_from([current, *others])), "status": draw(st.sampled_from(["EXPIRED", "RENEWED"]))}
    return [*told, event("Purchase Agreement Ended", draw(st.integers(300, 1400)), {"agreement": over})]


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    return [*draw(st.just([]) | signed_ahead()), *draw(st.lists(steps(), min_size=1, max_size=12))]


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.data(), histories())
def test_any_order_and_any_repetition_ends_in_the_same_state(data: st.DataObject, history: list[Step]) -> None:
    repeated = data.draw(st.lists(st.sampled_from(history), max_size=6))
    first, second = World(), World()
    for step in history:
        first.take(step)
    for step in data.draw(st.permutations([*history, *repeated])):
        second.take(step)
    assert _unordered(first.states()) == _unordered(second.states())
    first.pass_time()
    second.pass_time()
    assert _unordered(first.states()) == _unordered(second.states())
    for subscription_id in IDS:
        assert second.outbox.unpublished(subscription_id) == []


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.data(), histories())
def test_whoever_waits_is_in_the_index_and_nobody_else(data: st.DataObject, history: list[Step]) -> None:
    repeated = data.draw(st.lists(st.sampled_from(history), max_size=6))
    world = World()
    for step in data.draw(st.permutations([*history, *repeated])):
        world.take(step)
        _check_waiting(world)
    world.pass_time()
    _check_waiting(world)


def _check_waiting(world: World) -> None:
    pending = {one for one, values in world.states().items() if values["status"] == "pending"}
    shown = {keys.subscription_id_of(one.key.pk) for one in world.waiting.all("registration")}
    assert shown == pending
    every = [agreement_id for agreements in AGREEMENTS.values() for agreement_id in agreements]
    unjoined = {agreement_id: world.store.waiting(agreement_id) for agreement_id in every}
    unjoined = {one: events for one, events in unjoined.items() if events and not world.store.joined(one)}
    running = {one for one, events in unjoined.items() if {event.kind for event in events} == {"agreement_created"}}
    marked = {keys.agreement_id_of(one.key.pk) for one in world.waiting.all("agreement")}
    assert running <= marked <= set(unjoined)
    assert list(world.waiting.all("unassigned")) == []


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(histories(), st.sampled_from(LICENSES))
def test_what_happens_to_one_licence_is_nothing_to_another(history: list[Step], license_arn: str) -> None:
    own = set(AGREEMENTS[license_arn])
    together, alone = World(), World()
    for step in history:
        together.take(step)
        if _concerns(step, license_arn, own):
            alone.take(step)
    subscription_id = LicenseIdentity(license_arn).subscription_id
    assert together.states().get(subscription_id) == alone.states().get(subscription_id)


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(histories())
def test_a_seller_who_hears_everything_knows_the_status(history: list[Step]) -> None:
    """Once nothing waits for its start any more: a seller isn't told of "pending"."""
    world = World()
    for step in history:
        world.take(step)
    world.pass_time()
    for subscription_id, values in world.states().items():
        told = [
            json.loads(entry["Detail"])["status"]
            for entry in world.bus.put
            if json.loads(entry["Detail"]).get("subscription_id") == subscription_id
        ]
        assert (told[-1] if told else "pending") == values["status"]


def _concerns(step: Step, license_arn: str, agreements: set[str]) -> bool:
    if isinstance(step, Registration):
        return step.license_arn == license_arn
    found = parsed(step)
    return isinstance(found, Notification) and (found.license_arn == license_arn or found.agreement_id in agreements)


def _unordered(states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without what only says which of two equal descriptions of a buyer came first."""
    who = {"account_id", "product_code"}
    return {
        subscription_id: {name: value for name, value in values.items() if name not in who}
        | {"agreement_ids": sorted(values.get("agreement_ids", ()))}
        for subscription_id, values in states.items()
    }
