"""A seller's whole deployment in one process: the world with the real lifecycle, fed by the emulator's notifications
through the application's queues."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from marketplace.corrections.decisions import AdjustmentDecisions
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.lifecycle.agreement_api import MarketplaceAgreements, license_finder, terms_finder
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.messages import Messages
from marketplace.lifecycle.notifications import QueueMessage
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.lifecycle.sqs_batch import handle_each
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.lifecycle.waiting_gauges import WaitingGauges
from marketplace.metering.heartbeat import ActiveByStatus, Heartbeat
from marketplace.platform.clock import epoch
from marketplace.platform.errors import AwsError
from marketplace.registration.register import MarketplaceResolver, Registration
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.recheck import NOT_SUBSCRIBED
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent
from marketplace.subscriptions.waiting import WaitingItems
from marketplace_emulator import Purchase
from tests.support.in_process import client as in_process_client
from tests.support.memory_sqs import MemorySqs
from tests.support.world import Bus, World

NOTIFICATIONS, READ_BACK, METERING = "NotificationQueue", "ReadBackQueue", "MeteringQueue"
QUEUES = (NOTIFICATIONS, METERING, READ_BACK)
TIME_FOR_MESSAGES = 60.0
HEARTBEAT_TIME = 600.0

type Fate = Callable[[Any], Iterable[float]]
"""After how many seconds a notification of the emulator arrives: once for each, never for none."""


class EventsClient:
    """EventBridge's PutEvents, which puts on the bus what the product sends."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - AWS's name
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            self._bus.events.append(SellerEvent(entry["DetailType"], detail["id"], epoch(entry["Time"]), detail))
        return {"FailedEntryCount": 0, "Entries": [{"EventId": str(n)} for n, _ in enumerate(Entries)]}


class _Muted:
    """A client whose GetEntitlements lists nothing of some licences."""

    def __init__(self, client: Any, silent: set[str]) -> None:
        self._client = client
        self._silent = silent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_entitlements(self, **request: Any) -> Any:
        answer = self._client.get_entitlements(**request)
        return {} if self._silent & {*request["Filter"].get("LICENSE_ARN", ())} else answer


def at_once(_: Any) -> Iterable[float]:
    return (0,)


@dataclass
class Deployment(World):
    """`silent`: the licences of which GetEntitlements lists nothing. `take_news` puts the emulator's notifications on
    the notification queue, each when its `fate` has it; `handle` does what Lambda does with one message."""

    fate: Fate = at_once
    silent: set[str] = field(default_factory=set)
    _news: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sqs = MemorySqs(self.time.emulator.timestamp)
        self._events_client = EventsClient(self.bus)

    # -- AWS ----------------------------------------------------------------------------------------------

    def aws(self, service: str) -> Any:
        return self.wrap(_Muted(in_process_client(service, self.marketplace), self.silent))

    def take_news(self) -> None:
        for notification in self.marketplace.outbox.notifications(self._news):
            self._news += 1
            for delay in self.fate(notification):
                self.sqs.arrive(NOTIFICATIONS, json.dumps(notification.body), notification.emitted_at + delay)

    def next_event(self) -> float | None:
        """When something happens next at AWS or in a queue."""
        return min(filter(None, (self.marketplace.agenda.next_due(), self.sqs.next_visible())), default=None)

    # -- the product --------------------------------------------------------------------------------------

    def queue(self) -> LifecycleRequests:
        return LifecycleRequests(
            self.wrap(self.sqs), NOTIFICATIONS, read_back_queue_url=READ_BACK, metering_queue_url=METERING
        )

    def looked_at(self) -> set[str]:
        asked = [json.loads(body) for _, body in self.sqs.sent]
        return {one["subscription_id"] for one in asked if one.get("reason") == NOT_SUBSCRIBED}

    def seller_bus(self) -> SellerBus:
        return SellerBus(self.wrap(self._events_client), "seller")

    def entitlements(self) -> Entitlements:
        return Entitlements(
            store=self.entitlement_store(),
            source=MarketplaceEntitlements(self.aws("marketplace-entitlement")),
            clock=self.time.now,
            max_age=self.parameters.max_age,
            stale_limit=self.parameters.stale_limit,
            announce=self.outbox().publish,
            monotonic=self.time.monotonic,
            parallel=1,
            rerate=self.rerating(),
        )

    def outbox(self) -> Outbox:
        return Outbox(self.table(self.tables.subscriptions), self.seller_bus())

    def register(self, purchase: Purchase) -> None:
        """The buyer is sent to the seller's page. Raises AwsError."""
        registration = Registration(
            resolver=MarketplaceResolver(self.aws("meteringmarketplace")),
            table=self.table(self.tables.subscriptions),
            queue=self.queue(),
            product_codes=frozenset(self.marketplace.registry.products),
            clock=self.time.now,
            new_code=lambda: f"code-{next(self._ids)}",
        )
        registration.register(self.marketplace.registration_token(purchase.id))

    def messages(self) -> Messages:
        store = SubscriptionStore(self.table(self.tables.subscriptions))
        agreements, queue = MarketplaceAgreements(self.aws("marketplace-agreement")), self.queue()
        lifecycle = Lifecycle(
            store=store,
            entitlements=self.entitlements(),
            usage=self.deadlines(),
            bus=self.seller_bus(),
            outbox=self.outbox(),
            queue=queue,
            clock=self.time.now,
            products=Products(self.table(self.tables.subscriptions), terms_finder(agreements)),
            product_codes=frozenset(self.marketplace.registry.products),
            find_licenses=license_finder(agreements),
            adjustments=AdjustmentDecisions(self.usage_table()),
        )
        reconciliation = Reconciliation(
            store=store, agreements=agreements, lifecycle=lifecycle, queue=queue, clock=self.time.now
        )
        gauges = WaitingGauges(WaitingItems(self.table(self.tables.subscriptions)), self.time.now)
        return Messages(lifecycle, reconciliation, gauges, queue)

    def handle(self, queue: str, record: dict[str, Any]) -> None:
        """One message of the notification or the read-back queue; raises what no message may fail with."""
        messages = self.messages()

        def handled(message: QueueMessage) -> None:
            messages.handle(message)

        failures = handle_each(
            [record],
            handled,
            sqs=self.wrap(self.sqs),
            queue_url=queue,
            time_left=lambda: TIME_FOR_MESSAGES,
        )
        for failure in failures:
            if failure.error is not None and not isinstance(failure.error, AwsError):
                raise failure.error
        if not failures:
            self.sqs.delete(queue, record["receiptHandle"])

    def heartbeat(self) -> Heartbeat:
        subscriptions = self.table(self.tables.subscriptions)
        active = ActiveByStatus(subscriptions, SubscriptionReader(subscriptions))
        dimension, delay = self.parameters.HeartbeatDimension, self.parameters.seal_delay
        start = self.parameters.starts_at
        return Heartbeat(self.usage_table(), active, dimension, delay, workers=1, starts_at=start)

    def fill_heartbeat(self) -> None:
        if self.parameters.HeartbeatDimension:
            self.heartbeat().fill(epoch(self.time.now()), lambda: HEARTBEAT_TIME)
