"""A seller's deployment in one process: the real use cases on a DynamoDB of choice, the emulator, and one clock."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from marketplace.commands.conflicts import Conflicts
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.rules import Entitlement, ValueType
from marketplace.entitlements.store import EntitlementStore
from marketplace.ledger.record import MeteringRecord
from marketplace.ledger.rescheduling import UsageDeadlines
from marketplace.ledger.seal import UNSEALED
from marketplace.metering.api import MeteringApi
from marketplace.metering.approval import Approvals
from marketplace.metering.rate import CallRate
from marketplace.metering.report import MeteringReport
from marketplace.metering.run import MeteringRun
from marketplace.metering.store import MeteringStore
from marketplace.metering.usual_usage import UsualUsage
from marketplace.platform.clock import DAY, HOUR, hour_of
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.recheck import NOT_SUBSCRIBED
from marketplace.subscriptions.seller_events import SellerEvent
from marketplace.usage.approval import UsageApproval
from marketplace.usage.booking import UsageStore
from marketplace.usage.contract_terms import ContractTerms
from marketplace.usage.queries import UsageQueries
from marketplace.usage.recorder import UsageRecorder
from marketplace.usage.rerating import Rerating
from marketplace.usage.retry import UsageRetry
from marketplace.usage.void import UsageVoid
from marketplace_emulator import Clock as EmulatorClock
from marketplace_emulator import Marketplace, Purchase
from marketplace_emulator import Settings as EmulatorSettings
from tests.support.in_process import client as in_process_client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.parameters import Parameters
from tests.support.tables import Tables, create_tables

SEAL_DELAY = 600
MAX_AGE = 900
"""EntitlementMaxAgeMinutes, in seconds."""
NOON = int(datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp())


def metering_record(**given: Any) -> MeteringRecord:
    """An open metering record of noon."""
    values: dict[str, Any] = {
        "key": keys.metering_record("sub-a", hour_of(NOON), "api_calls"),
        "dimension": "api_calls",
        "hour": hour_of(NOON),
        "quantity": 1,
        "state": "open",
        "seal": UNSEALED,
        "timestamp": NOON,
        "refuse_at": NOON + DAY,
        "product_code": "code",
    }
    return MeteringRecord(**{**values, **given})


class Bus:
    """The seller's bus, remembered."""

    def __init__(self) -> None:
        self.events: list[SellerEvent] = []

    def publish(self, events: Iterable[SellerEvent]) -> None:
        self.events += events

    def distinct(self) -> dict[str, SellerEvent]:
        return {event.id: event for event in self.events}


class LookAgain:
    """Requests for another look, remembered."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int | None]] = []

    def look_again(
        self, subscription_id: str, reason: str, *, since: int | None = None, delay_seconds: int = 0
    ) -> None:
        self.asked.append((subscription_id, reason, since))


class Grants:
    """GetEntitlements of a world: what is granted now, or the error that AWS answers with."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def entitlements(self, subscription: Subscription) -> list[Entitlement]:
        self._world.asked.append(subscription.id)
        if self._world.aws_error is not None:
            raise self._world.aws_error
        return list(self._world.granted.get(subscription.id, {}).values())


class Timeline:
    """One clock for product and emulator; sleeping moves it."""

    def __init__(self, start: int = NOON) -> None:
        self.emulator = EmulatorClock.frozen(datetime.fromtimestamp(start, UTC))
        self.skew = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.emulator.timestamp() + self.skew, UTC)

    def seconds(self) -> int:
        return int(self.emulator.timestamp()) + self.skew

    def monotonic(self) -> float:
        return self.emulator.timestamp()

    def sleep(self, seconds: float) -> None:
        self.emulator.advance(seconds)

    def to(self, moment: int) -> None:
        self.emulator.advance(max(0, moment - self.seconds()))

    def advance(self, seconds: float) -> None:
        self.emulator.advance(seconds)


def _itself(client: Any) -> Any:
    return client


@dataclass
class World:
    """`report`, `meter` and the clock drive it; `billed` is AWS's side, `stored` ours. `wrap` may put something
    between the use cases and a client of theirs. `granted`: what AWS grants, by subscription and dimension; `asked`:
    the subscriptions whose entitlements were read back; `aws_error`: GetEntitlements' answer instead."""

    dynamodb: Any
    tables: Tables
    time: Timeline = field(default_factory=Timeline)
    settings: EmulatorSettings = field(default_factory=lambda: EmulatorSettings(seed=1))
    wrap: Callable[[Any], Any] = _itself
    bus: Bus = field(default_factory=Bus)
    requests: LookAgain = field(default_factory=LookAgain)
    calls_per_second: float = 1000.0
    time_left: float = 900.0
    region: str = "us-east-1"
    metering_enabled: bool = True
    parameters: Parameters = field(default_factory=Parameters)
    overage_dimensions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    granted: dict[str, dict[str, Entitlement]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    aws_error: AwsError | None = None

    def __post_init__(self) -> None:
        self.marketplace = Marketplace(clock=self.time.emulator, settings=self.settings)
        self._ids = itertools.count(1)
        self._tokens = itertools.count(1)

    @classmethod
    def on(cls, dynamodb: Any, **given: Any) -> "World":
        return cls(dynamodb, create_tables(dynamodb), **given)

    # -- buyers -------------------------------------------------------------------------------------------

    def subscribe(
        self, account_id: str = "111122223333", product: str | None = None, *, active: bool = True
    ) -> Subscription:
        """A subscription that AWS and the tables know alike, activated now unless told otherwise."""
        purchase = self.marketplace.purchases.subscribe(product, account_id, provision=active)
        return self.store_subscription(purchase, activated_at=self.time.seconds() if active else None)

    def store_subscription(self, purchase: Purchase, **given: Any) -> Subscription:
        licensed = purchase.product.integration == "license"
        values = {
            "integration": purchase.product.integration,
            "product_code": purchase.product.code,
            "license_arn": purchase.license_arn if licensed else None,
            "customer_identifier": None if licensed else purchase.customer_identifier,
            "account_id": purchase.account_id,
            "status": "active" if given.get("activated_at") is not None else "pending",
            **given,
        }
        subscription = Subscription(id="", **values)
        subscription = Subscription(id=subscription.identity.subscription_id, **values)
        self.put_subscription(subscription)
        return subscription

    def put_subscription(self, subscription: Subscription) -> None:
        values = {name: getattr(subscription, name) for name in Subscription.__dataclass_fields__}
        key = keys.subscription(subscription.id)
        self.dynamodb.put_item(TableName=self.tables.subscriptions, Item=to_item({**key._asdict(), **values}))

    def grant(
        self,
        subscription: Subscription,
        quantity: Any,
        *,
        dimension: str = "seats",
        ends_at: int | None = None,
        value_type: ValueType = "integer",
        read_back: bool = True,
    ) -> None:
        """What AWS grants from now on; without a quantity it lists nothing. Read back as after its notification, unless
        that is late."""
        granted = self.granted.setdefault(subscription.id, {})
        granted.pop(dimension, None)
        if quantity is not None:
            granted[dimension] = Entitlement(
                dimension=dimension, value_type=value_type, value=quantity, expires_at=ends_at
            )
        if read_back:
            self.entitlements().sync(subscription.id)

    # -- the product --------------------------------------------------------------------------------------

    def table(self, name: str) -> Table:
        return Table(self.wrap(self.dynamodb), name, sleep=self.time.sleep, jitter=lambda: 0.5)

    def usage_table(self) -> Table:
        return self.table(self.tables.usage)

    def recorder(self) -> UsageRecorder:
        return UsageRecorder(
            store=self.usage_store(),
            subscriptions=SubscriptionReader(self.table(self.tables.subscriptions)),
            clock=self.time.now,
            seal_delay=self.parameters.seal_delay,
            sleep=self.time.sleep,
            monotonic=self.time.monotonic,
            jitter=lambda: 0.5,
            parallel=1,
            terms=ContractTerms(self.entitlement_store(), self.entitlements(), self.overage_dimensions),
            metering_enabled=self.metering_enabled,
            metering_starts_at=self.parameters.starts_at,
        )

    def entitlement_store(self) -> EntitlementStore:
        return EntitlementStore(self.table(self.tables.subscriptions))

    def entitlements(self) -> Entitlements:
        return Entitlements(
            store=self.entitlement_store(),
            source=Grants(self),
            clock=self.time.now,
            max_age=self.parameters.max_age,
            stale_limit=self.parameters.stale_limit,
            monotonic=self.time.monotonic,
            parallel=1,
            rerate=self.rerating(),
        )

    def usage_store(self) -> UsageStore:
        ttl_days = self.parameters.UsageRecordTtlDays
        return UsageStore(self.usage_table(), ttl_days, self.table(self.tables.subscriptions))

    def seller_bus(self) -> Any:
        return self.bus

    def queue(self) -> Any:
        return self.requests

    def looked_at(self) -> set[str]:
        """The subscriptions that another look was asked for because AWS refused their usage."""
        return {subscription_id for subscription_id, reason, _ in self.requests.asked if reason == NOT_SUBSCRIBED}

    def rerating(self) -> Rerating:
        subscriptions = self.table(self.tables.subscriptions)
        return Rerating(self.usage_table(), subscriptions, self.overage_dimensions, self.time.now)

    def metering(self) -> MeteringRun:
        return MeteringRun(
            store=MeteringStore(self.usage_table()),
            api=MeteringApi(self.wrap(in_process_client("meteringmarketplace", self.marketplace, self.region))),
            region=self.region,
            rate=CallRate(self.calls_per_second, self.time.monotonic, self.time.sleep),
            bus=self.seller_bus(),
            requests=self.queue(),
            clock=self.time.now,
            monotonic=self.time.monotonic,
            sleep=self.time.sleep,
            time_left=lambda: self.time_left,
            new_token=lambda: f"t{next(self._tokens)}",
            workers=1,
            jitter=lambda: 0.5,
            metering_enabled=self.metering_enabled,
            metering_starts_at=self.parameters.starts_at,
            approvals=self.approvals(),
        )

    def approvals(self) -> Approvals:
        factor = self.parameters.AnomalyHoldFactor
        usual = UsualUsage(self.usage_table(), factor) if factor else None
        return Approvals(usual, refuses=self.parameters.AnomalyHoldAtDeadline == "Refuse")

    def approval(self) -> UsageApproval:
        reader = SubscriptionReader(self.table(self.tables.subscriptions))
        return UsageApproval(self.usage_table(), reader, self.time.now)

    def deadlines(self) -> UsageDeadlines:
        return UsageDeadlines(self.usage_table(), self.parameters.seal_delay)

    def retry(self) -> UsageRetry:
        reader = SubscriptionReader(self.table(self.tables.subscriptions))
        return UsageRetry(self.usage_table(), reader, self.time.now)

    def void(self, subscription: Subscription, *record_ids: str, caller: str = "arn:aws:iam::1:user/a") -> list[Any]:
        """The results of voiding these usage records in one request."""
        records = [{"id": record_id, "subscription_id": subscription.id} for record_id in record_ids]
        return self.usage_void().void(records, caller)[0]

    def usage_void(self) -> UsageVoid:
        reader = SubscriptionReader(self.table(self.tables.subscriptions))
        return UsageVoid(self.usage_table(), reader, self.time.now, self.rerating())

    def conflicts(self) -> Conflicts:
        """As the command line resolves them: against no contract."""
        recorder = self.recorder()
        recorder.terms = None
        subscriptions = self.table(self.tables.subscriptions)
        return Conflicts(self.usage_table(), subscriptions, recorder, self.queue(), self.time.now)

    def queries(self) -> UsageQueries:
        return UsageQueries(Table(self.dynamodb, self.tables.usage), self.time.now)

    def report(self, subscription: Subscription, quantity: int, **given: Any) -> dict[str, Any]:
        """One usage record; `id`, `dimension`, `at` (seconds) and `tags` can be given."""
        return self.report_all([self.usage(subscription, quantity, **given)])[0]

    def usage(self, subscription: Subscription, quantity: int, **given: Any) -> dict[str, Any]:
        record = {
            "id": given.get("id") or f"r{next(self._ids)}",
            "subscription_id": subscription.id,
            "dimension": given.get("dimension", "api_calls"),
            "quantity": quantity,
        }
        if "at" in given:
            record["timestamp"] = datetime.fromtimestamp(given["at"], UTC).isoformat()
        if given.get("tags"):
            record["tags"] = given["tags"]
        return record

    def report_all(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.recorder().record(records)

    def meter(self) -> MeteringReport:
        report = self.metering().run()
        if report.failure is not None:
            raise report.failure
        return report

    def to_due(self, hour: int | None = None) -> None:
        """Moves the clock to when this hour (the current one by default) is due."""
        self.time.to((hour if hour is not None else hour_of(self.time.seconds())) + HOUR + self.parameters.seal_delay)

    # -- both sides of the bill ---------------------------------------------------------------------------

    def billed(self) -> Counter[tuple[str, str]]:
        """AWS's ledger: units by subscription and dimension."""
        units: Counter[tuple[str, str]] = Counter()
        for record in self.marketplace.ledger.records:
            units[self.subscription_id_of(record), record.dimension] += int(record.quantity)
        return units

    @staticmethod
    def subscription_id_of(record: Any) -> str:
        legacy = record.integration != "license"
        return Subscription(
            id="",
            integration=record.integration,
            product_code=record.product_code,
            license_arn=None if legacy else record.license_arn,
            customer_identifier=record.customer_identifier if legacy else None,
        ).identity.subscription_id

    def stored(self, state: str | None = None) -> list[dict[str, Any]]:
        """Our metering records, in one state or all."""
        items = [from_item(item) for item in self._all_items(self.tables.usage, having="seal")]
        return [item for item in items if state in {None, item["state"]}]

    def subscription_items(self) -> list[dict[str, Any]]:
        return [from_item(item) for item in self._all_items(self.tables.subscriptions)]

    def allocations(self) -> list[dict[str, Any]]:
        return [from_item(item) for item in self._all_items(self.tables.usage) if keys.is_allocation(item["sk"]["S"])]

    def _all_items(self, table: str, having: str = "") -> list[dict[str, Any]]:
        if isinstance(self.dynamodb, MemoryDynamoDB):
            return self.dynamodb.items(table, having)
        found: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = self.dynamodb.scan(TableName=table, **start)
            found += [item for item in page["Items"] if not having or having in item]
            if not page.get("LastEvaluatedKey"):
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
