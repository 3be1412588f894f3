"""Random histories of several buyers with several licences, delivered in any order, repeatedly, late and in any shape,
registrations among them. Events of the seller's own purchases and of agreements of other products come in between, and
any event may be lost. They always end in the same state, nobody waits unseen, and no agreement touches a licence that
isn't its own.

`HISTORIES=10000 pytest tests/unit/test_histories.py` runs more of them.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.lifecycle.facts import _RANK as RANKED
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import FindLicenses, Kind, LookAgain, Notification, QueueMessage, parsed
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform.clock import DAY, iso
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck import FIND_LICENSES, RECONCILED, REGISTERED, REQUEST
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus, stable_id
from marketplace.subscriptions.waiting import WaitingItems
from tests.support.json_shapes import shapes_of
from tests.support.lifecycle_world import EventsClient, QueueClient, Timeline, Usage, at, sample
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import create_tables

EXAMPLES = int(os.environ.get("HISTORIES", "200"))
pytestmark = pytest.mark.timeout(max(300, EXAMPLES // 2))
START = at("2026-08-20T00:00:00Z")
ARN = "arn:aws:license-manager::294406891311:license:l-"
LICENSES = [f"{ARN}{number:032x}" for number in range(3)]
AGREEMENTS = {
    license_arn: [f"agmt-{number}-{turn}" for turn in range(3)] for number, license_arn in enumerate(LICENSES)
}
OTHERS = {f"agmt-other-{number}": f"{ARN}{number:031x}f" for number in range(2)}
"""Agreements of a product that is not sold here, and their licences. Their buyer holds licences of ours."""
BOUGHT = "agmt-bought"
"""An agreement in which the seller's account is the buyer."""
CUSTOMERS = ["X01", "X02"]
IDS = [LicenseIdentity(license_arn).subscription_id for license_arn in LICENSES] + [
    LegacyIdentity("legacy", customer).subscription_id for customer in CUSTOMERS
]
LICENSE_EVENT: dict[str, Any] = json.loads(sample("eventbridge_license_updated")[0]["body"])
ENVELOPE: dict[str, Any] = json.loads(sample("sns_subscribe_success")[0]["body"])
SELLER: str = LICENSE_EVENT["account"]
BUYER = "011122223333"
STATUSES = ["ACTIVE", "CANCELLED", "EXPIRED", "RENEWED", "REPLACED", "TERMINATED"]
TITLES = {
    "created": "Purchase Agreement Created",
    "amended": "Purchase Agreement Amended",
    "ended": "Purchase Agreement Ended",
    "ending": "Purchase Agreement Ending",
    "upcoming": "Purchase Agreement Renewal Upcoming",
    "advisory": "Purchase Agreement Advisory Issued",
    "unknown": "Something New",
}


@dataclass(frozen=True)
class Registration:
    license_arn: str
    agreement_id: str


type Step = dict[str, Any] | Registration
"""The body of a message as documented, or a registration."""


class NoEntitlements:
    """What is read back is another test's matter."""


class World:
    """The real lifecycle on a store in memory. `answers`: whether the agreement API may be called."""

    def __init__(self, *, answers: bool = True) -> None:
        self.bus, self.usage, self.time, self.queue = EventsClient(), Usage(), Timeline(START + DAY), QueueClient()
        self.outcomes: list[tuple[str, str]] = []
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
                self.queue,  # type: ignore[arg-type]
                "queue",
                read_back_queue_url="read-back",
                metering_queue_url="metering",
            ),
            clock=self.time.now,
            products=Products(table, lambda _: frozenset()),
            product_codes=frozenset({"p", "legacy"}),
            find_licenses=licenses_of if answers else lambda _: [],
        )

    def take(self, step: Step, shape: str = "as documented") -> None:
        if isinstance(step, Registration):
            self._register(step)
            return
        found = read(shapes_of(step)[shape](step))
        self.outcomes.append((found.agreement_id or "", self.lifecycle.receive(found)))

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

    def pass_time(self, days: int = 4) -> None:
        """To when every agreement has started, with a look at everybody, and an answer to all that AWS is asked about
        agreements."""
        self.time.seconds = START + days * DAY
        for subscription_id in IDS:
            self.lifecycle.look_again(LookAgain(subscription_id=subscription_id, reason=RECONCILED))
        while asked := [content for content, _ in self.queue.asked if content[REQUEST] == FIND_LICENSES]:
            self.queue.asked.clear()
            for content in asked:
                request = FindLicenses(agreement_id=content["agreement_id"], last=content.get("last", False))
                self.outcomes.append((request.agreement_id, self.lifecycle.find_licenses(request)))

    def states(self) -> dict[str, dict[str, Any]]:
        found = {subscription_id: self.store.read(subscription_id) for subscription_id in IDS}
        return {subscription_id: _comparable(stored) for subscription_id, stored in found.items() if stored is not None}


def licenses_of(agreement_id: str) -> list[str]:
    """What the agreement API says."""
    ours = [license_arn for license_arn, agreements in AGREEMENTS.items() if agreement_id in agreements]
    return [*ours, *([OTHERS[agreement_id]] if agreement_id in OTHERS else [])]


def _waiting_agreements(world: World) -> set[str]:
    """Agreements with events that nobody knows the subscription of."""
    known = [*(agreement_id for agreements in AGREEMENTS.values() for agreement_id in agreements), *OTHERS, BOUGHT]
    return {
        agreement_id
        for agreement_id in known
        if world.store.waiting(agreement_id)
        and not world.store.joined(agreement_id)
        and not world.store.is_of_other_product(agreement_id)
    }


def _pending(world: World) -> set[str]:
    return {subscription_id for subscription_id, values in world.states().items() if values["status"] == "pending"}


def _without_account(world: World) -> set[str]:
    """Licences that take usage by their state and can't be metered: reconciliation reports them (account_unknown)."""
    open_licences = {
        subscription_id
        for subscription_id, values in world.states().items()
        if values["status"] in {"active", "closing"} and "license_arn" in values
    }
    return {one for one in open_licences if "account_id" not in world.states()[one]}


WAITS: Mapping[str, Callable[[World], set[str]]] = {
    "agreements": _waiting_agreements,
    "pending": _pending,
    "without account": _without_account,
}
"""Everything that waits for another word of AWS or of the buyer, by what it is. What a gauge shows is compared with
these."""


def _comparable(stored: Stored) -> dict[str, Any]:
    ignored = {"version", "activation_seen_at", "start_look_at"}  # how and when it was heard of
    return {name: value for name, value in stored.values.items() if name not in ignored}


def read(body: Any) -> Notification:
    found = parsed(QueueMessage(message_id="m", body=json.dumps(body), sent_at_ms=START * 1000))
    assert isinstance(found, Notification)
    return found


def event(title: str, minute: int, detail: dict[str, Any], *, role: str = "Proposer", named: bool = True) -> Step:
    """`named`: whether it names the buyer's account."""
    about = {"detail-type": f"{title} - {role}", "time": iso(START + minute * 60)}
    shared = {"acceptor": {"accountId": BUYER}, "proposer": {"accountId": SELLER}} if named else {}
    event_id = stable_id(title, role, minute, str(named), json.dumps(detail))
    return {**LICENSE_EVENT, **about, "id": event_id, "detail": {**shared, **detail}}


def license_event(
    title: str, minute: int, license_arn: str, agreement_id: str | None, *, code: str | None = "p", named: bool = True
) -> Step:
    detail: dict[str, Any] = {"license": {"arn": license_arn}, "product": {"id": "prod-1", "code": code}}
    if agreement_id is not None:
        detail["agreement"] = {"id": agreement_id}
    return event(title, minute, detail, role="Manufacturer", named=named)


@st.composite
def legacy_messages(draw: st.DrawFn) -> Step:
    actions = ["subscribe-success", "subscribe-fail", "unsubscribe-pending", "unsubscribe-success"]
    body: dict[str, Any] = {
        "action": draw(st.sampled_from([*actions, "entitlement-updated"])),
        "customer-identifier": draw(st.sampled_from(CUSTOMERS)),
        "product-code": draw(st.sampled_from(["legacy"] * 5 + ["legacy-of-others"])),
    }
    trial = draw(st.sampled_from([None, "true", "false"]))
    body |= {} if trial is None else {"isFreeTrialTermPresent": trial}
    minute = draw(st.integers(0, 600))
    timed = {"MessageId": stable_id(minute, json.dumps(body)), "Timestamp": iso(START + minute * 60)}
    return {**ENVELOPE, **timed, "Message": json.dumps(body)}


@st.composite
def agreement_events(draw: st.DrawFn, agreements: list[str], *, role: str = "Proposer") -> Step:
    starts = iso(START + draw(st.integers(0, 600) | st.integers(600, 4000)) * 60)
    agreement = {
        "id": draw(st.sampled_from(agreements)),
        "status": draw(st.sampled_from(STATUSES)),
        "intent": draw(st.sampled_from(["NEW", "RENEW", "REPLACE"])),
        "startTime": starts,
    }
    title = TITLES[draw(st.sampled_from(sorted(TITLES)))]
    return event(title, draw(st.integers(0, 600)), {"agreement": agreement}, role=role, named=draw(st.booleans()))


@st.composite
def own_purchases(draw: st.DrawFn) -> Step:
    """What the seller's account is told as a buyer, also of an agreement of ours: it has bought its own product."""
    agreements = [BOUGHT, *(agreement_id for known in AGREEMENTS.values() for agreement_id in known)]
    return draw(agreement_events(agreements, role="Acceptor"))


@st.composite
def events_of_others(draw: st.DrawFn) -> Step:
    agreement_id = draw(st.sampled_from(sorted(OTHERS)))
    if draw(st.booleans()):
        return draw(agreement_events([agreement_id]))
    title = draw(st.sampled_from(["License Updated", "License Deprovisioned"]))
    return license_event(title, draw(st.integers(0, 600)), OTHERS[agreement_id], agreement_id, code="other")


@st.composite
def license_events(draw: st.DrawFn) -> Step:
    """Some without the product's code, some without the buyer's account, some without the agreement."""
    license_arn = draw(st.sampled_from(LICENSES))
    return license_event(
        draw(st.sampled_from(["License Updated", "License Deprovisioned"])),
        draw(st.integers(0, 600)),
        license_arn,
        draw(st.sampled_from([*AGREEMENTS[license_arn], None])),
        code=draw(st.sampled_from(["p", "p", None])),
        named=draw(st.booleans()),
    )


@st.composite
def registrations(draw: st.DrawFn) -> Step:
    license_arn = draw(st.sampled_from(LICENSES))
    return Registration(license_arn, draw(st.sampled_from(AGREEMENTS[license_arn])))


def steps() -> st.SearchStrategy[Step]:
    ours = [agreement_id for agreements in AGREEMENTS.values() for agreement_id in agreements]
    often = [license_events(), agreement_events(ours), agreement_events(ours)]
    return st.one_of(*often, registrations(), legacy_messages(), own_purchases(), events_of_others())


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
def lives(draw: st.DrawFn) -> list[Step]:
    """The whole life of a licence of ours and of an agreement of another product, with one buyer. Any of it may be
    lost."""
    license_arn, elsewhere = draw(st.sampled_from(LICENSES)), draw(st.sampled_from(sorted(OTHERS)))
    agreement_id = AGREEMENTS[license_arn][0]
    whole: list[Step] = [
        event(
            "Purchase Agreement Created", 0, {"agreement": {"id": agreement_id, "status": "ACTIVE", "intent": "NEW"}}
        ),
        license_event("License Updated", 1, license_arn, agreement_id, named=draw(st.booleans())),
        Registration(license_arn, agreement_id),
        event("Purchase Agreement Amended", 50, {"agreement": {"id": agreement_id, "status": "ACTIVE"}}),
        event("Purchase Agreement Ended", 300, {"agreement": {"id": agreement_id, "status": "CANCELLED"}}),
        license_event("License Deprovisioned", 301, license_arn, agreement_id, code=draw(st.sampled_from(["p", None]))),
        event("Purchase Agreement Created", 5, {"agreement": {"id": elsewhere, "status": "ACTIVE", "intent": "NEW"}}),
        license_event("License Updated", 6, OTHERS[elsewhere], elsewhere, code="other"),
        event("Purchase Agreement Ended", 100, {"agreement": {"id": elsewhere, "status": "CANCELLED"}}),
    ]
    return [step for step in whole if draw(st.integers(0, 3))]


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    return [*draw(st.just([]) | signed_ahead() | lives()), *draw(st.lists(steps(), min_size=1, max_size=12))]


@st.composite
def shaped(draw: st.DrawFn, step: Step) -> tuple[Step, str]:
    names = ["as documented"] if isinstance(step, Registration) else sorted(shapes_of(step))
    return step, draw(st.sampled_from(names))


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.data(), histories())
def test_any_order_any_repetition_and_any_shape_end_in_the_same_state(data: st.DataObject, history: list[Step]) -> None:
    """The agreement API is refused: what it says is another source, which is asked or not as the orders differ."""
    repeated = data.draw(st.lists(st.sampled_from(history), max_size=6))
    first, second = World(answers=False), World(answers=False)
    for step in history:
        first.take(step)
    delivered = data.draw(st.permutations([*history, *repeated]))
    late = data.draw(st.integers(0, len(delivered)))
    for index, step in enumerate(delivered):
        if index == late:
            second.pass_time()
        second.take(*data.draw(shaped(step)))
    first.pass_time(5)
    second.pass_time(5)
    assert _differences(_unordered(first.states()), _unordered(second.states())) == []
    assert {name: wait(first) for name, wait in WAITS.items()} == {name: wait(second) for name, wait in WAITS.items()}
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
    shown = {keys.subscription_id_of(one.key.pk) for one in world.waiting.all("registration")}
    assert shown == _pending(world)
    unbillable = {keys.subscription_id_of(one.key.pk) for one in world.waiting.all("account")}
    assert unbillable == _without_account(world)
    # An agreement that has ended waits only if its buyer may have a licence of it.
    waiting = _waiting_agreements(world)
    over = {one for one in waiting if "agreement_ended" in _kinds(world, one)}
    without_effect = {one for one in waiting if _kinds(world, one).isdisjoint(RANKED)}
    marked = {keys.agreement_id_of(one.key.pk) for one in world.waiting.all("agreement")}
    assert waiting - over - without_effect <= marked <= waiting - without_effect


def _kinds(world: World, agreement_id: str) -> set[Kind]:
    return {notification.kind for notification in world.store.waiting(agreement_id)}


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.data(), histories(), st.booleans())
def test_what_is_no_sale_of_ours_is_known_not_to_be(data: st.DataObject, history: list[Step], answers: bool) -> None:
    """Nobody is told to look at what an event has named as another product's, whenever that event came; and what the
    seller buys leaves no trace."""
    world = World(answers=answers)
    for step in data.draw(st.permutations(history)):
        world.take(step)
    world.pass_time()
    named = {
        found.agreement_id
        for found in (read(step) for step in history if not isinstance(step, Registration))
        if found.product_code == "other" and found.kind in {"license_updated", "license_deprovisioned"}
    }
    assert not named & _waiting_agreements(world)
    assert [(one, outcome) for one, outcome in world.outcomes if outcome == "ambiguous" and one in named] == []
    assert world.store.waiting(BOUGHT) == []
    if answers:
        assert "ambiguous" not in {outcome for _, outcome in world.outcomes}


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.data(), histories())
def test_every_licence_whose_buyer_was_named_by_any_of_its_events_can_be_metered(
    data: st.DataObject, history: list[Step]
) -> None:
    world = World()
    for step in data.draw(st.permutations(history)):
        world.take(step)
    world.pass_time()
    named: set[str] = set()
    for step in history:
        if isinstance(step, Registration):
            continue
        found = read(step)
        if found.account_id is None or found.license_arn not in {None, *LICENSES} or found.kind == "own_purchase":
            continue
        named |= {found.license_arn} if found.license_arn is not None else set()
    unnamed = {license_arn for license_arn in LICENSES if license_arn not in named}
    assert _without_account(world) <= {LicenseIdentity(license_arn).subscription_id for license_arn in unnamed}


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


def _differences(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> list[tuple[str, str, Any, Any]]:
    """What differs, attribute by attribute."""
    return [
        (subscription_id, name, one.get(subscription_id, {}).get(name), other.get(subscription_id, {}).get(name))
        for subscription_id in sorted({*one, *other})
        for name in sorted({*one.get(subscription_id, {}), *other.get(subscription_id, {})})
        if one.get(subscription_id, {}).get(name) != other.get(subscription_id, {}).get(name)
    ]


def _concerns(step: Step, license_arn: str, agreements: set[str]) -> bool:
    if isinstance(step, Registration):
        return step.license_arn == license_arn
    found = read(step)
    return found.license_arn == license_arn or found.agreement_id in agreements


def _unordered(states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the order in which agreements were heard of."""
    return {
        subscription_id: {**values, "agreement_ids": sorted(values.get("agreement_ids", ()))}
        for subscription_id, values in states.items()
    }
