"""A seller's front desk in one process: registration, claims, routes, on a DynamoDB of choice and the emulator."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.platform.errors import NoAnswerError
from marketplace.registration.claim import Claim, Claims, Release, SubscriptionClaim, Transfer
from marketplace.registration.claim_history import ClaimChange
from marketplace.registration.codes import RegistrationCodes
from marketplace.registration.contacts import Contacts
from marketplace.registration.free_trials import FreeTrials
from marketplace.registration.register import MarketplaceResolver, Registered, Registration, Resolver
from marketplace.seller_api.subscription_queries import SubscriptionQueries
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerEvent, from_outbox
from marketplace_emulator import Clock as EmulatorClock
from marketplace_emulator import Marketplace, Purchase
from tests.support.in_process import client as in_process_client
from tests.support.tables import Tables

START = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)
CALLER = "arn:aws:sts::222233334444:assumed-role/seller-app/seller-app"
CODES = frozenset({"ca1contractandconsumption", "ca2payasyougoproduct00000", "legacysubscriptionproduct"})


class RememberedRequests(Requests):
    """The sender's side of the queue, remembered; with `down` the queue takes nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str | None]] = []
        self.down = False

    def look_again(self, subscription_id: str, reason: str, *, agreement_id: str | None = None, **_: Any) -> None:
        if self.down:
            raise NoAnswerError("ConnectTimeoutError")
        self.sent.append((subscription_id, reason, agreement_id))


@dataclass
class Storefront:
    """`subscribe` and `token` are the buyer's side; `now` moves with `later`."""

    dynamodb: Any
    tables: Tables
    queue: RememberedRequests = field(default_factory=RememberedRequests)
    product_codes: frozenset[str] = CODES
    resolver: Resolver | None = None

    def __post_init__(self) -> None:
        self.emulator_clock = EmulatorClock.frozen(START)
        self.marketplace = Marketplace(clock=self.emulator_clock)
        self._codes = itertools.count(1)
        self.subscriptions = Table(self.dynamodb, self.table, sleep=lambda _: None)
        self.codes = RegistrationCodes(self.subscriptions, self.now)
        self.contacts = Contacts(self.subscriptions, self.now, self.queue)
        self.queries = SubscriptionQueries(self.subscriptions, self.now)

    @property
    def table(self) -> str:
        return self.tables.subscriptions

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.emulator_clock.timestamp(), UTC)

    def seconds(self) -> int:
        return int(self.emulator_clock.timestamp())

    def later(self, **span: float) -> None:
        self.emulator_clock.advance(timedelta(**span).total_seconds())

    def new_code(self) -> str:
        return f"code-{next(self._codes):04d}-abcdefghijklmnop"

    def subscribe(self, account_id: str = "111122223333", product: str | None = None) -> Purchase:
        return self.marketplace.purchases.subscribe(product, account_id)

    def token(self, purchase: Purchase) -> str:
        return self.marketplace.registration_token(purchase.id)

    def registration(self) -> Registration:
        return Registration(
            resolver=self.resolver or MarketplaceResolver(in_process_client("meteringmarketplace", self.marketplace)),
            table=self.subscriptions,
            queue=self.queue,
            product_codes=self.product_codes,
            clock=self.now,
            new_code=self.new_code,
        )

    def register(self, purchase: Purchase | None = None) -> Registered:
        return self.registration().register(self.token(purchase or self.subscribe()))

    def look_up_free_trial(self, subscription_id: str) -> None:
        """What the seller API does when a registration is opened or claimed."""
        client = in_process_client("marketplace-agreement", self.marketplace)
        FreeTrials(client, self.subscriptions, self.now).look_up(subscription_id)

    def claims(self) -> Claims:
        return Claims(table=self.subscriptions, codes=self.codes, queue=self.queue, clock=self.now)

    def claim(self, code: str, tenant_id: str, *, share_account: bool = False) -> str:
        claim = Claim(tenant_id=tenant_id, share_account=share_account)
        return self.claims().claim(code, claim, CALLER).subscription_id

    def claim_subscription(self, subscription_id: str, tenant_id: str, **given: Any) -> None:
        claim = SubscriptionClaim(tenant_id=tenant_id, **given)
        self.claims().claim_subscription(subscription_id, claim, CALLER)

    def release(self, subscription_id: str, tenant_id: str, claim_revision: int, reason: str = "a mistake") -> None:
        request = Release(tenant_id=tenant_id, claim_revision=claim_revision, reason=reason)
        self.claims().release(subscription_id, request, CALLER)

    def transfer(
        self, subscription_id: str, tenant_id: str, to_tenant_id: str, claim_revision: int, **given: Any
    ) -> None:
        asked = {"tenant_id": tenant_id, "to_tenant_id": to_tenant_id, "claim_revision": claim_revision}
        self.claims().transfer(subscription_id, Transfer(**{"reason": "a merger", **asked, **given}), CALLER)

    def changes(self, subscription_id: str) -> list[ClaimChange]:
        """The audit trail of a claim, the oldest change first."""
        return self.claims().changes(subscription_id, cursor=None, limit=100).changes[::-1]

    def tenants_of(self, account: str) -> list[str]:
        """The tenants that a buyer's account is linked to."""
        return sorted((self.stored(keys.account_tenants(account)) or {}).get("tenants", ()))

    # What is stored

    def put(self, key: keys.Key, values: Mapping[str, Any]) -> None:
        self.dynamodb.put_item(TableName=self.table, Item=to_item({**key._asdict(), **values}))

    def stored(self, key: keys.Key) -> dict[str, Any] | None:
        item = self.dynamodb.get_item(TableName=self.table, Key=key.item(), ConsistentRead=True).get("Item")
        return None if item is None else from_item(item)

    def subscription(self, subscription_id: str) -> Subscription:
        values = self.stored(keys.subscription(subscription_id))
        assert values is not None
        return Subscription.from_values(values)

    def update(self, subscription_id: str, **values: Any) -> None:
        """What the lifecycle would write."""
        stored = self.stored(keys.subscription(subscription_id)) or {}
        self.put(keys.subscription(subscription_id), {**stored, **values})

    def announced(self) -> list[SellerEvent]:
        """The events in the outbox."""
        return [from_outbox(item) for item in self.everything() if item["sk"]["S"].startswith("OUTBOX#")]

    def everything(self) -> list[dict[str, Any]]:
        """The whole table, raw."""
        items: list[dict[str, Any]] = self.dynamodb.scan(TableName=self.table)["Items"]
        return items


def counted(client: Any, count: Callable[[str], None]) -> None:
    """Calls `count` with the operation's name for every request that a boto3 client sends."""
    client.meta.events.register("before-call", lambda model, **_: count(model.name))
