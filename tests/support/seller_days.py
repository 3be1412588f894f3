"""A seller's whole deployment as its four functions see it: their handlers, what AWS Marketplace and they themselves
send, and the schedules. The stories play what happens in a seller's days."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import EndpointConnectionError

from marketplace.platform import clients, clock
from marketplace.platform.clock import HOUR, MINUTE
from marketplace_emulator import Purchase
from tests.support.deployed import FORM, Context, http_event, sample
from tests.support.in_process import client as in_process_client
from tests.support.roles import FUNCTIONS, Roles
from tests.support.world import World

CONTRACT, PAY_AS_YOU_GO = "ca1contractandconsumption", "ca2payasyougoproduct00000"
LEGACY = "legacysubscriptionproduct"
HEARTBEAT = "users"
ENTITLEMENTS = "GET /subscriptions/{subscription_id}/entitlements"


class Invocation(Context):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


class Seller:
    """A deployment whose functions work through what they and AWS Marketplace send. `wait` lets time pass, with the
    schedules and the messages that come due; `after_quarter` is called after each quarter of an hour of it.
    `time_left` is what Lambda's context says; `silent` operations get no answer."""

    def __init__(self, world: World, queues: Any, roles: Roles) -> None:
        self.world = world
        self.time, self.purchases = world.time, world.marketplace.purchases
        self.queues = queues
        self._mail: list[tuple[float, str, str]] = []
        self._news = 0
        self._ids = itertools.count(1)
        self.time_left = 800.0
        self.silent: set[str] = set()
        self.after_quarter: Callable[[], None] = lambda: None
        roles.called = self._called

    def _called(self, operation: str, given: dict[str, Any]) -> None:
        if operation in self.silent:
            raise EndpointConnectionError(endpoint_url="https://aws.invalid")
        if operation == "SendMessage":
            due = self.time.seconds() + given.get("DelaySeconds", 0)
            self._mail.append((due, given["QueueUrl"], given["MessageBody"]))

    # -- what starts functions ---------------------------------------------------------------------------

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        return FUNCTIONS[function].lambda_handler(event, Invocation(self.time_left))

    def arrives(self, url: str, body: str) -> Any:
        """One message, as Lambda hands it over."""
        (record,) = sample("request_read_back")["Records"]
        arn = f"arn:aws:sqs:us-east-1:222233334444:{url.rpartition('/')[2]}"
        function = "MeterUsageFunction" if url == self.queues.metering else "EntitlementCheckFunction"
        return self.invoke(function, {"Records": [{**record, "body": body, "eventSourceARN": arn}]})

    def asks(self, request: str, **more: Any) -> None:
        """A request of a schedule or of a person."""
        url = self.queues.read_backs if request == "reconcile" else self.queues.notifications
        self.arrives(url, json.dumps({"marketplace_request": request, **more}))

    def work(self) -> None:
        """Handles everything that has come."""
        for notification in self.world.marketplace.outbox.notifications(self._news):
            self._news += 1
            self.arrives(self.queues.notifications, json.dumps(notification.body))
        now, mail, self._mail = self.time.seconds(), self._mail, []
        for due, url, body in mail:
            if due <= now:
                self.arrives(url, body)
            else:
                self._mail.append((due, url, body))

    def wait(self, seconds: int) -> None:
        end = self.time.seconds() + seconds
        while self.time.seconds() < end:
            self.time.to(min(end, self.time.seconds() + 15 * MINUTE))
            for _ in range(3):  # an answer may lead to another question
                self.work()
            self.invoke("MeterUsageFunction", sample("schedule"))
            self.asks("measure_waiting")
            self.after_quarter()

    # -- buyer and seller ---------------------------------------------------------------------------------

    def buyer(self, key: str, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.invoke("ResolveCustomerFunction", http_event(key, **given))
        return answer

    def call(self, key: str, body: Any = None, subscription: str = "", **given: Any) -> Any:
        if subscription:
            given["path"] = {"subscription_id": subscription, **given.get("path", {})}
        content = None if body is None else json.dumps(body)
        answer = self.invoke("SellerApiFunction", http_event(key, body=content, **given))
        assert answer["statusCode"] == 200, answer
        return json.loads(answer["body"])

    def signs_up(self, purchase: Purchase) -> str:
        """A buyer registers and leaves a contact; the application claims the subscription. Returns its id."""
        token = self.world.marketplace.registration_token(purchase.id)
        form = urlencode({"x-amzn-marketplace-token": token})
        code = self.buyer("POST /register", headers=FORM, body=form)["headers"]["location"].rpartition("/")[2]
        self.buyer("GET /register/{code}", path={"code": code})
        self.buyer("POST /register/{code}", path={"code": code}, headers=FORM, body="email=jo%40buyer.example")
        self.call("GET /registrations/{code}", path={"code": code})
        claim = {"tenant_id": f"tenant-{purchase.id}", "share_account": True}
        claimed = self.call("POST /registrations/{code}/claim", claim, path={"code": code})
        self.wait(MINUTE)
        return str(claimed["subscription_id"])

    def reports(self, subscription: str, *quantities: int, dimension: str = "api_calls", **more: Any) -> list[str]:
        """Returns the ids of the usage records."""
        records = [
            {
                "id": f"record-{next(self._ids)}",
                "subscription_id": subscription,
                "dimension": dimension,
                "quantity": quantity,
                "timestamp": clock.iso(self.time.seconds()),
                **more,
            }
            for quantity in quantities
        ]
        results = self.call("POST /usage", {"records": records})["results"]
        assert {result["status"] for result in results} == {"recorded"}
        return [str(record["id"]) for record in records]


@contextmanager
def selling(world: World, queues: Any, roles: Roles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seller]:
    """A deployment for three products, with overage and zeros for idle hours."""
    for name, value in {
        "PRODUCT_CODES": f"{CONTRACT},{PAY_AS_YOU_GO},{LEGACY}",
        "SUPPORT_CONTACT": "help@seller.example",
        "OVERAGE_DIMENSIONS": f"{CONTRACT}/api_calls=seats",
        "HEARTBEAT_DIMENSION": HEARTBEAT,
        "METERING_CALLS_PER_SECOND": "100",
    }.items():
        monkeypatch.setenv(name, value)
    for made, service in {
        "metering_for_registration": "meteringmarketplace",
        "metering_without_retries": "meteringmarketplace",
        "entitlement": "marketplace-entitlement",
        "entitlement_while_waiting": "marketplace-entitlement",
        "agreement": "marketplace-agreement",
        "agreement_while_waiting": "marketplace-agreement",
    }.items():
        monkeypatch.setattr(
            clients, made, lambda *_, service=service, **__: in_process_client(service, world.marketplace)
        )
    monkeypatch.setattr(clock, "utc_now", world.time.now)
    for name in ("ResolveCustomerFunction", "EntitlementCheckFunction", "SellerApiFunction"):
        monkeypatch.setattr(FUNCTIONS[name], "utc_now", world.time.now)
    patient = SimpleNamespace(monotonic=world.time.monotonic, sleep=world.time.sleep)
    for name in ("MeterUsageFunction", "SellerApiFunction"):
        monkeypatch.setattr(FUNCTIONS[name], "time", patient)
    forget()
    yield Seller(world, queues, roles)
    forget()


def forget() -> None:
    """Every function starts anew."""
    for app in FUNCTIONS.values():
        for cached in ("settings", "messages", "metering", "heartbeat", "routes"):
            if hasattr(app, cached):
                getattr(app, cached).cache_clear()


# -- the stories ------------------------------------------------------------------------------------------


def a_buyer_who_pays_for_what_is_used(seller: Seller) -> None:
    """Usage with tags and without, shown and proven; then nothing for an hour, and the buyer cancels."""
    bought = seller.purchases.subscribe(PAY_AS_YOU_GO, "111122223333", provision=True)
    subscription = seller.signs_up(bought)
    first, _ = seller.reports(subscription, 3, 4, tags={"team": "search"})
    seller.reports(subscription, 5)
    seller.wait(2 * HOUR)
    seller.call("GET /subscriptions/{subscription_id}/usage", subscription=subscription)
    proof = {"record_id": first}
    proven = seller.call(
        "GET /subscriptions/{subscription_id}/usage/{record_id+}", subscription=subscription, path=proof
    )
    assert proven["metering_record"]["state"] == "metered"
    seller.call("GET /subscriptions", query="account_id=111122223333")
    seller.call("GET /subscriptions", query="status=active")
    seller.purchases.cancel(bought.id)
    seller.wait(2 * HOUR)
    assert seller.call("GET /subscriptions/{subscription_id}", subscription=subscription)["status"] == "ended"


def a_buyer_whose_account_is_suspended(seller: Seller) -> None:
    """AWS refuses the usage for a while, and one dimension for good; the seller has it sent again."""
    bought = seller.purchases.subscribe(PAY_AS_YOU_GO, "222211113333", provision=True)
    subscription = seller.signs_up(bought)
    seller.purchases.suspend("222211113333")
    seller.reports(subscription, 6)
    (mistake,) = seller.reports(subscription, 60)
    names = [{"id": mistake, "subscription_id": subscription}]
    assert seller.call("POST /usage/void", {"records": names})["results"][0]["status"] == "voided"
    seller.reports(subscription, 7, dimension="misspelt")
    seller.wait(2 * HOUR)
    seller.purchases.unsuspend("222211113333")
    retried = seller.call(
        "POST /subscriptions/{subscription_id}/usage/retry", {"dimension": "api_calls"}, subscription=subscription
    )
    assert retried["due_again"]
    seller.wait(HOUR)


def a_contract_that_is_extended(seller: Seller) -> None:
    """Usage is charged that the contract includes by then: the application hears of it too late, once from a
    notification and once by asking for access. What was charged is given back."""
    bought = seller.purchases.subscribe(CONTRACT, "333322221111", entitlements={"seats": 2}, provision=True)
    subscription = seller.signs_up(bought)
    seller.call(ENTITLEMENTS, subscription=subscription)
    seller.reports(subscription, 2)
    seller.purchases.amend(bought.id, entitlements={"seats": 100})
    seller.time.advance(MINUTE)
    seller.reports(subscription, 5)
    seller.wait(15 * MINUTE)
    seller.reports(subscription, 93)
    seller.wait(HOUR)
    seller.call(ENTITLEMENTS, subscription=subscription)
    seller.purchases.amend(bought.id, entitlements={"seats": 1000})
    seller.time.advance(MINUTE)
    seller.reports(subscription, 20)
    seller.time.advance(16 * MINUTE)
    decision = seller.call(ENTITLEMENTS, subscription=subscription, query="dimension=seats&quantity=500")
    assert decision["allowed"]
    seller.wait(2 * HOUR)


def a_claim_that_is_corrected(seller: Seller) -> None:
    bought = seller.purchases.subscribe(PAY_AS_YOU_GO, "444433332222", provision=True)
    subscription = seller.signs_up(bought)
    tenant = f"tenant-{bought.id}"
    change = {"tenant_id": tenant, "to_tenant_id": "right", "claim_revision": 1, "reason": "a mistake"}
    seller.call("POST /subscriptions/{subscription_id}/claim/transfer", change, subscription=subscription)
    release = {"tenant_id": "right", "claim_revision": 2, "reason": "a mistake"}
    seller.call("POST /subscriptions/{subscription_id}/claim/release", release, subscription=subscription)
    seller.call("GET /subscriptions/{subscription_id}/claims", subscription=subscription)


def what_aws_says_late_or_not_at_all(seller: Seller) -> None:
    """The daily reconciliation, a customer who was announced by SNS, an agreement that ends before its licence is
    named, and messages that can't be handled."""
    seller.signs_up(seller.purchases.subscribe(LEGACY, "555544443333", provision=True))
    seller.signs_up(seller.purchases.subscribe(PAY_AS_YOU_GO, "666655554444", provision=True))
    unnamed = seller.purchases.subscribe(PAY_AS_YOU_GO, "666655554444", provision=False)
    seller.purchases.cancel(unnamed.id)
    seller.asks("reconcile")
    seller.wait(HOUR)
    for url in (seller.queues.notifications, seller.queues.read_backs):
        assert seller.arrives(url, "no JSON")["batchItemFailures"]


STORIES: list[Callable[[Seller], None]] = [
    a_buyer_who_pays_for_what_is_used,
    a_buyer_whose_account_is_suspended,
    a_contract_that_is_extended,
    a_claim_that_is_corrected,
    what_aws_says_late_or_not_at_all,
]
