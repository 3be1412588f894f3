"""What the lifecycle relies on in its store, held against moto and AWS's own DynamoDB Local alike; and what only a real
engine shows: several messages about one subscription at once."""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.entitlements.rules import Entitlement
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent
from tests.support.lifecycle_world import AGREEMENT, LICENSED, EventsClient, LifecycleWorld, Source, notification
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.tables import Tables, create_tables

HISTORY = [
    "eventbridge_purchase_agreement_created",
    "eventbridge_license_updated",
    "eventbridge_purchase_agreement_ended",
    "eventbridge_license_deprovisioned",
]
WHO = {"id": LICENSED, "integration": "license", "product_code": "p"}
ROOT = Path(__file__).resolve().parents[2]
SAMPLE = json.loads((ROOT / "docs/events/subscription_activated.json").read_text())["detail"]
EVENT = SellerEvent(
    "Subscription Activated", SAMPLE["id"], 5, {name: SAMPLE[name] for name in SAMPLE if name not in {"id", "time"}}
)


@pytest.fixture(params=["memory", "moto", pytest.param("local", marks=pytest.mark.dynamodb_local)])
def store(request: pytest.FixtureRequest) -> Any:
    engine = request.param
    if engine == "memory":
        client = MemoryDynamoDB().client
        return SubscriptionStore(Table(client, create_tables(client).subscriptions, sleep=lambda _: None))
    client = request.getfixturevalue(f"{engine}_dynamodb")
    tables: Tables = request.getfixturevalue(f"{engine}_tables")
    return SubscriptionStore(Table(client, tables.subscriptions, sleep=lambda _: None))


def read(store: SubscriptionStore) -> Stored:
    found = store.read(LICENSED)
    assert found is not None
    return found


def write(store: SubscriptionStore, stored: Stored | None, **changes: Any) -> Stored | None:
    return store.write(LICENSED, read=stored, changes={"status": "active", **changes}, defaults=WHO)


def test_a_new_subscription_is_written_once(store: SubscriptionStore) -> None:
    assert store.read(LICENSED) is None
    assert write(store, None)
    assert not write(store, None)
    assert read(store).subscription.version == 1


def test_a_write_stands_only_on_what_was_read(store: SubscriptionStore) -> None:
    write(store, None)
    first = read(store)
    assert write(store, first, offer_id="offer-1")
    assert not write(store, first, offer_id="offer-2")
    assert read(store).subscription.offer_id == "offer-1"


def test_none_removes_and_defaults_fill_in_only(store: SubscriptionStore) -> None:
    write(store, None, offer_id="offer-1")
    assert store.write(LICENSED, read=read(store), changes={"offer_id": None}, defaults={**WHO, "product_code": "q"})
    found = read(store).subscription
    assert (found.offer_id, found.product_code) == (None, "p")


def test_a_subscription_that_never_had_a_version_can_be_written(store: SubscriptionStore) -> None:
    item = {name: {"S": value} for name, value in WHO.items()}
    store._table.put({**keys.subscription(LICENSED).item(), **item})
    assert write(store, read(store))
    assert read(store).subscription.version == 1


def test_a_write_returns_the_subscription_as_it_is_stored_then(store: SubscriptionStore) -> None:
    assert write(store, None, agreement_ids=["a"], history=[], activated_at=None) == read(store)
    assert write(store, read(store), offer_id="offer-1", free_trial=False, activated_at=5) == read(store)
    assert write(store, read(store), offer_id=None, agreement_ids=["a", "b"]) == read(store)
    whole = {**WHO, "product_code": "q", "account_id": "111122223333", "tenant_id": None}
    assert store.write(LICENSED, read=read(store), changes={"release_due": True}, defaults=whole) == read(store)


def test_an_event_is_in_the_outbox_only_with_its_change(store: SubscriptionStore) -> None:
    write(store, None)
    old = read(store)
    write(store, old)
    assert not store.write(LICENSED, read=old, changes={}, defaults={}, events=[EVENT])
    published = EventsClient()
    outbox = Outbox(store._table, SellerBus(published, "seller"))  # type: ignore[arg-type]
    assert outbox.unpublished(LICENSED) == []
    assert store.write(LICENSED, read=read(store), changes={}, defaults={}, events=[EVENT])
    assert outbox.unpublished(LICENSED) == [EVENT]
    outbox.publish(LICENSED)
    assert outbox.unpublished(LICENSED) == []
    assert [entry["DetailType"] for entry in published.put] == [EVENT.kind]


def test_what_is_kept_comes_back_as_it_was_in_the_order_of_events(store: SubscriptionStore) -> None:
    for name in [*reversed(HISTORY), HISTORY[0]]:
        found = notification(name)
        store.keep(keys.event(LICENSED, found.time, found.id), found)
        store.keep(keys.agreement_event(AGREEMENT, found.time, found.id), found)
    expected = [notification(name) for name in HISTORY]
    assert store.inbox(LICENSED) == expected
    assert store.waiting(AGREEMENT) == expected


def test_joins_go_both_ways_and_once(store: SubscriptionStore) -> None:
    for subscription_id in ("sub-b", "sub-a", "sub-b"):
        store.join(AGREEMENT, subscription_id)
    assert store.joined(AGREEMENT) == ["sub-a", "sub-b"]
    assert store.waiting(AGREEMENT) == []


def test_subscriptions_are_found_by_status_and_account(store: SubscriptionStore) -> None:
    for number, status in enumerate(["active", "active", "active", "ended"]):
        store.write(
            f"sub-{number}",
            read=None,
            changes={"status": status},
            defaults={**WHO, "id": f"sub-{number}", "account_id": "111122223333"},
        )
    assert store.with_status("active", limit=2) == ["sub-0", "sub-1"]
    assert store.with_status("active", after="sub-1") == ["sub-2"]
    assert sorted(store.of_account("111122223333")) == ["sub-0", "sub-1", "sub-2", "sub-3"]


@pytest.mark.dynamodb_local
def test_messages_about_one_subscription_at_once_lose_nothing(local_dynamodb: Any, local_tables: Tables) -> None:
    world = LifecycleWorld(local_dynamodb, local_tables, sleep=time.sleep)
    at_once([partial(world.receive, name) for name in HISTORY * 2])
    found = world.subscription()
    assert found.status == "closing"
    assert found.agreement_ids == (AGREEMENT,)
    assert len(read(world.store).facts) == len(HISTORY)
    assert world.outbox.unpublished(LICENSED) == []
    told = {detail["id"] for detail in world.bus.details("Subscription Closing")}
    assert len(told) == 1


@pytest.mark.dynamodb_local
def test_a_registration_in_the_midst_of_notifications_loses_nothing(local_dynamodb: Any, local_tables: Tables) -> None:
    for order in itertools.permutations(HISTORY[:3]):
        world = LifecycleWorld(local_dynamodb, local_tables, sleep=time.sleep)
        at_once([*(partial(world.receive, name) for name in order), partial(_registration, world)])
        found = world.subscription()
        assert (found.status, found.agreement_ids) == ("closing", (AGREEMENT,)), order
        for pk in (keys.subscription_pk(LICENSED), keys.agreement_pk(AGREEMENT)):
            for item in world.items(pk):
                key = keys.Key(item["pk"], item["sk"]).item()
                local_dynamodb.delete_item(TableName=local_tables.subscriptions, Key=key)


@pytest.mark.dynamodb_local
def test_entitlements_read_back_at_once_end_with_the_last_answer(local_dynamodb: Any, local_tables: Tables) -> None:
    class Growing(Source):
        """AWS grants one seat more with every question."""

        def entitlements(self, subscription: Subscription) -> list[Entitlement]:
            self.calls += 1
            return [Entitlement(dimension="seats", value_type="integer", value=self.calls)]

    world = LifecycleWorld(local_dynamodb, local_tables, source=Growing(), sleep=time.sleep)
    world.register()
    at_once([partial(world.entitlements.sync, LICENSED)] * 3)
    (stored,) = world.entitlements.entitlements_of(LICENSED)
    told = [detail["after"]["seats"]["value"] for detail in world.bus.details("Entitlements Changed")]
    assert stored.value == max(told)


def _registration(world: LifecycleWorld) -> None:
    world.register()
    world.look_again(LICENSED, "registered")


def at_once(work: Sequence[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()
