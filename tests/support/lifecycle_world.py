"""The lifecycle's use cases on a DynamoDB of choice, with everything around them remembered."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.rules import Entitlement
from marketplace.entitlements.store import EntitlementStore
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import FindLicenses, LookAgain, Notification, QueueMessage, ReadBack, parsed
from marketplace.lifecycle.outcomes import Outcome, ReadBackOutcome
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.lifecycle.waiting_gauges import WaitingGauges
from marketplace.platform.clock import DAY, MINUTE, iso
from marketplace.platform.errors import AwsError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus, stable_id
from marketplace.subscriptions.waiting import WaitingItems
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.seller_schemas import check
from tests.support.tables import Tables, create_tables

EVENTS = Path(__file__).resolve().parents[2] / "events"

LICENSE_ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"
AGREEMENT = "agmt-0a1b2c3d4e5f6g7h8i9j0k1l2"
PRODUCT = "examplecode00000000000000"
LICENSED = LicenseIdentity(LICENSE_ARN).subscription_id
LEGACY = LegacyIdentity("n0123EXAMPLEXXXXXXXXXXXX", "X01EXAMPLEX").subscription_id


def at(text: str) -> int:
    """Seconds since the epoch of a time in ISO 8601."""
    return int(datetime.fromisoformat(text).timestamp())


def sample(name: str) -> list[dict[str, Any]]:
    """The records of a sample event."""
    records: list[dict[str, Any]] = json.loads((EVENTS / f"{name}.json").read_text())["Records"]
    return records


def notification(name: str) -> Notification:
    """The one notification of a sample event."""
    (record,) = sample(name)
    found = parsed(QueueMessage.from_record(record))
    assert isinstance(found, Notification)
    return found


def told(title: str, seconds: int, role: str | None = "Proposer", /, **detail: Any) -> Notification:
    """An event of AWS Marketplace with a time and details of choice; its id is made of both."""
    (record,) = sample("eventbridge_license_updated")
    about = {"id": stable_id(title, seconds, json.dumps(detail)), "time": iso(seconds)}
    whole_title = title if role is None else f"{title} - {role}"
    body = {**json.loads(record["body"]), "detail-type": whole_title, **about, "detail": detail}
    found = parsed(QueueMessage.from_record({**record, "body": json.dumps(body)}))
    assert isinstance(found, Notification)
    return found


@dataclass
class Timeline:
    seconds: int = at("2026-08-20T14:30:00Z")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


@dataclass
class EventsClient:
    """EventBridge's PutEvents with a memory; `failing` entries of the next calls are failed singly."""

    put: list[dict[str, Any]] = field(default_factory=list)
    failing: int = 0
    down: bool = False

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - AWS's name
        if self.down:
            raise AwsError("InternalFailure")
        results: list[dict[str, str]] = []
        for entry in Entries:
            if self.failing:
                self.failing -= 1
                results.append({"ErrorCode": "InternalFailure"})
                continue
            check(entry["DetailType"], json.loads(entry["Detail"]))
            self.put.append(entry)
            results.append({"EventId": str(len(self.put))})
        return {"FailedEntryCount": sum("ErrorCode" in result for result in results), "Entries": results}

    def kinds(self) -> list[str]:
        return [entry["DetailType"] for entry in self.put]

    def details(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(entry["Detail"]) for entry in self.put if entry["DetailType"] == kind]


@dataclass
class QueueClient:
    """SQS's SendMessage and ChangeMessageVisibility with a memory. `asked`: what was sent to the read-back queue;
    `runs`: the delays of metering runs."""

    sent: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    asked: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    hidden: list[tuple[str, int]] = field(default_factory=list)

    def send_message(self, **call: Any) -> None:
        message, delay = json.loads(call["MessageBody"]), call["DelaySeconds"]
        match call["QueueUrl"]:
            case "metering":
                assert message["marketplace_request"] == recheck.METERING_RUN
                self.runs.append(delay)
            case "read-back":
                self.asked.append((message, delay))
            case _:
                self.sent.append((message, delay))

    def change_message_visibility(self, **call: Any) -> None:
        self.hidden.append((call["ReceiptHandle"], call["VisibilityTimeout"]))

    def reasons(self) -> list[str]:
        return [message["reason"] for message, _ in self.sent]


@dataclass
class Usage:
    """The open usage of subscriptions, as the lifecycle sees it: which calls were made, and the deadline that they
    left it with, None for its regular one. `meanwhile`: what others do before a call takes effect, one for each of the
    next calls."""

    closed: list[tuple[str, int]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    reopened: list[str] = field(default_factory=list)
    deadlines: dict[str, int | None] = field(default_factory=dict)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def close(self, subscription_id: str, *, deadline: int, now: int) -> None:
        self._others()
        self.closed.append((subscription_id, deadline))
        self.deadlines[subscription_id] = deadline

    def release(self, subscription_id: str, *, now: int) -> None:
        self._others()
        self.released.append(subscription_id)
        self.deadlines[subscription_id] = None

    def reopen(self, subscription_id: str, *, now: int) -> None:
        self._others()
        self.reopened.append(subscription_id)
        self.deadlines[subscription_id] = None

    def _others(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()


@dataclass
class Source:
    """What AWS grants, by subscription id; `errors` are raised first, one a call."""

    granted: dict[str, list[Entitlement]] = field(default_factory=dict)
    errors: list[AwsError] = field(default_factory=list)
    calls: int = 0

    def entitlements(self, subscription: Subscription) -> list[Entitlement]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return list(self.granted.get(subscription.id, ()))


class LifecycleWorld:
    """`receive`, `look_again` and `wait` drive it; everything around it is remembered. `terms`: the kinds of every
    agreement's terms."""

    def __init__(self, dynamodb: Any, tables: Tables, **given: Any) -> None:
        self.dynamodb, self.tables = dynamodb, tables
        self.terms: frozenset[str] = frozenset()
        self._awaited: list[tuple[int, dict[str, Any]]] = []
        self.time, self.bus, self.sqs, self.usage, self.source = (
            given.pop("time", None) or Timeline(),
            EventsClient(),
            QueueClient(),
            given.pop("usage", None) or Usage(),
            given.pop("source", None) or Source(),
        )
        table = Table(dynamodb, tables.subscriptions, sleep=given.pop("sleep", lambda _: None))
        self.store = SubscriptionStore(table)
        seller_bus = SellerBus(self.bus, "seller")  # type: ignore[arg-type]
        self.outbox = Outbox(table, seller_bus)
        self.waiting_items = WaitingItems(table)
        self.gauges = WaitingGauges(self.waiting_items, self.time.now)
        self.entitlement_store = EntitlementStore(table)
        self.entitlements = Entitlements(
            store=self.entitlement_store,
            source=self.source,
            clock=self.time.now,
            max_age=15 * MINUTE,
            stale_limit=DAY,
            announce=self.outbox.publish,
        )
        self.queue = LifecycleRequests(
            self.sqs,  # type: ignore[arg-type]
            "queue",
            read_back_queue_url="read-back",
            metering_queue_url="metering",
        )
        self.lifecycle = Lifecycle(
            store=self.store,
            entitlements=self.entitlements,
            usage=self.usage,
            bus=seller_bus,
            outbox=self.outbox,
            queue=self.queue,
            clock=self.time.now,
            products=Products(table, lambda _: self.terms),
            **given,
        )

    @classmethod
    def in_memory(cls) -> Self:
        dynamodb: Any = MemoryDynamoDB()
        return cls(dynamodb, create_tables(dynamodb))

    def receive(self, *names: str) -> list[Outcome]:
        """Receive samples, in this order."""
        return [self.lifecycle.receive(notification(name)) for name in names]

    def look_again(self, subscription_id: str, reason: str, **given: Any) -> Outcome:
        return self.lifecycle.look_again(LookAgain(subscription_id=subscription_id, reason=reason, **given))

    def read_back(self, subscription_id: str, **given: Any) -> ReadBackOutcome:
        return self.lifecycle.read_back(ReadBack(subscription_id=subscription_id, **given))

    def answer(self) -> list[Outcome | ReadBackOutcome]:
        """Does what the read-back queue holds by now, but for reconciliations, which stay there."""
        held, self.sqs.asked = self.sqs.asked, []
        outcomes: list[Outcome | ReadBackOutcome] = []
        for message, delay in held:
            done = self._do(message) if delay == 0 else None
            if done is None:
                self.sqs.asked.append((message, delay))
            else:
                outcomes.append(done)
        return outcomes

    def wait(self, until: int) -> None:
        """Lets the time pass; looks and readings that were asked for are done when they are due. What the queues were
        sent is taken from them."""
        while True:
            now = self.time.seconds
            self._awaited += [(now + delay, message) for message, delay in [*self.sqs.sent, *self.sqs.asked]]
            self._awaited.sort(key=lambda one: one[0])
            self.sqs.sent.clear()
            self.sqs.asked.clear()
            if not self._awaited or self._awaited[0][0] > until:
                break
            due, message = self._awaited.pop(0)
            self.time.seconds = max(now, due)
            self._do(message)
        self.time.seconds = until

    def _do(self, message: dict[str, Any]) -> Outcome | ReadBackOutcome | None:
        content = parsed(QueueMessage(message_id="own", body=json.dumps(message), sent_at_ms=self.time.seconds * 1000))
        match content:
            case LookAgain():
                return self.lifecycle.look_again(content)
            case ReadBack():
                return self.lifecycle.read_back(content)
            case FindLicenses():
                return self.lifecycle.find_licenses(content)
        return None

    def waiting(self, why: str) -> list[int]:
        """When the messages that are on their way for this reason, or with this request, are due."""
        sent = [(self.time.seconds + delay, message) for message, delay in [*self.sqs.sent, *self.sqs.asked]]
        named = {"reason", recheck.REQUEST}
        return sorted(due for due, message in [*self._awaited, *sent] if why in {message.get(name) for name in named})

    def subscription(self, subscription_id: str = LICENSED) -> Subscription:
        stored = self.store.read(subscription_id)
        assert stored is not None
        return stored.subscription

    def attributes(self, subscription_id: str = LICENSED) -> dict[str, Any]:
        """The stored item but for how often it was written."""
        stored = self.store.read(subscription_id)
        assert stored is not None
        return {name: value for name, value in stored.values.items() if name != "version"}

    def items(self, pk: str) -> list[dict[str, Any]]:
        answer = self.dynamodb.query(
            TableName=self.tables.subscriptions,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
        )
        return [from_item(item) for item in answer["Items"]]

    def register(self, subscription_id: str = LICENSED, agreement_id: str | None = AGREEMENT, **values: str) -> None:
        """What a registration writes, before it asks for a look."""
        given = {"id": subscription_id, "integration": "license", "product_code": PRODUCT, **values}
        if "license_arn" not in given and given["integration"] == "license":
            given["license_arn"] = LICENSE_ARN
        sets = ", ".join(f"#{name} = :{name}" for name in given)
        attributes = {f":{name}": {"S": value} for name, value in given.items()}
        expression = f"SET {sets}, #status = if_not_exists(#status, :pending)"
        if agreement_id is not None:
            expression += ", agreement_ids = if_not_exists(agreement_ids, :agreements)"
            attributes[":agreements"] = {"L": [{"S": agreement_id}]}  # type: ignore[dict-item]
            self.dynamodb.put_item(
                TableName=self.tables.subscriptions,
                Item=keys.agreement_subscription(agreement_id, subscription_id).item(),
            )
        self.dynamodb.update_item(
            TableName=self.tables.subscriptions,
            Key=keys.subscription(subscription_id).item(),
            UpdateExpression=f"{expression} ADD version :one",
            ExpressionAttributeNames={"#status": "status", **{f"#{name}": name for name in given}},
            ExpressionAttributeValues={":pending": {"S": "pending"}, ":one": {"N": "1"}, **attributes},
        )
