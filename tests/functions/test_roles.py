"""What the roles grant is what the functions use: the four functions play a seller's days together, each under its own
role, and in the end no grant is left over.

A grant that only a rare event uses needs that event in one of the stories. Every other test of this folder runs under
the roles too (conftest.py), so a call that a role does not allow fails wherever it is made.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest

from marketplace.platform import clients, clock
from marketplace.platform.clock import HOUR, MINUTE
from marketplace_emulator import Purchase
from tests.functions.conftest import Queues
from tests.support import roles as roles_module
from tests.support.deployed import FORM, Context, http_event, sample
from tests.support.in_process import client as in_process_client
from tests.support.roles import FUNCTIONS, Grant, Roles, granted, needed, used_by_lambda
from tests.support.tables import Tables
from tests.support.world import World

CONTRACT, PAY_AS_YOU_GO = "ca1contractandconsumption", "ca2payasyougoproduct00000"
LEGACY = "legacysubscriptionproduct"
HEARTBEAT = "users"
ENTITLEMENTS = "GET /subscriptions/{subscription_id}/entitlements"


class Invocation(Context):
    def get_remaining_time_in_millis(self) -> int:
        return 800_000


class Seller:
    """A deployment whose functions work through what they and AWS Marketplace send. `wait` lets time pass, with the
    schedules and the messages that come due."""

    def __init__(self, world: World, queues: Queues, roles: Roles) -> None:
        self.world = world
        self.time, self.purchases = world.time, world.marketplace.purchases
        self.queues = queues
        self._mail: list[tuple[float, str, str]] = []
        self._news = 0
        self._ids = itertools.count(1)
        roles.called = self._sent

    def _sent(self, operation: str, given: dict[str, Any]) -> None:
        if operation == "SendMessage":
            due = self.time.seconds() + given.get("DelaySeconds", 0)
            self._mail.append((due, given["QueueUrl"], given["MessageBody"]))

    # -- what starts functions ---------------------------------------------------------------------------

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        return FUNCTIONS[function].lambda_handler(event, Invocation())

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


@pytest.fixture
def seller(
    moto_dynamodb: Any, moto_tables: Tables, queues: Queues, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Seller]:
    world = World(moto_dynamodb, moto_tables)
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
        monkeypatch.setattr(clients, made, lambda *_, service=service: in_process_client(service, world.marketplace))
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


@pytest.mark.slow
def test_every_grant_is_used_and_no_other_is_needed(seller: Seller, roles: Roles) -> None:
    for story in STORIES:
        story(seller)
    used = {function: roles.used[function] | used_by_lambda(function) for function in FUNCTIONS}
    assert {(name, *grant) for name in FUNCTIONS for grant in granted(name) - used[name]} == set()
    assert {(name, *grant) for name in FUNCTIONS for grant in used[name] - granted(name)} == set()


# -- the judge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "given", "grants"),
    [
        ("dynamodb", "GetItem", {"TableName": "t"}, {("dynamodb:GetItem", "t")}),
        ("dynamodb", "Query", {"TableName": "t", "IndexName": "i"}, {("dynamodb:Query", "t/index/i")}),
        (
            "dynamodb",
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"Put": {"TableName": "t"}},
                    {"Update": {"TableName": "t"}},
                    {"Delete": {"TableName": "u"}},
                    {"ConditionCheck": {"TableName": "u"}},
                ]
            },
            {
                *(("dynamodb:PutItem", "t"), ("dynamodb:UpdateItem", "t")),
                *(("dynamodb:DeleteItem", "u"), ("dynamodb:ConditionCheckItem", "u")),
            },
        ),
        (
            "dynamodb",
            "BatchExecuteStatement",
            {"Statements": [{"Statement": 'UPDATE "t" SET a=? WHERE pk=?'}, {"Statement": 'DELETE FROM "t"'}]},
            {("dynamodb:PartiQLUpdate", "t"), ("dynamodb:PartiQLDelete", "t")},
        ),
        (
            "dynamodb",
            "BatchGetItem",
            {"RequestItems": {"t": {}, "u": {}}},
            {("dynamodb:BatchGetItem", n) for n in "tu"},
        ),
        ("sqs", "SendMessage", {"QueueUrl": "q"}, {("sqs:SendMessage", "q")}),
        ("events", "PutEvents", {"Entries": [{"EventBusName": "b"}]}, {("events:PutEvents", "b")}),
        ("marketplace-agreement", "DescribeAgreement", {}, {("aws-marketplace:DescribeAgreement", "*")}),
    ],
)
def test_iam_asks_for_the_actions_behind_a_call(
    service: str, operation: str, given: dict[str, Any], grants: set[Grant]
) -> None:
    assert needed(service, operation, given) == grants


@pytest.mark.parametrize("call", [("dynamodb", "TransactGetItems"), ("sqs", "SendMessageBatch"), ("s3", "GetObject")])
def test_a_call_that_nobody_has_looked_up_is_not_let_through(call: tuple[str, str]) -> None:
    with pytest.raises(AssertionError, match="nobody has looked up"):
        needed(*call, {})


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        ("ResolveCustomerFunction", ("aws-marketplace:ResolveCustomer", "*")),
        ("ResolveCustomerFunction", ("dynamodb:PutItem", "SubscriptionsTable")),
        ("EntitlementCheckFunction", ("dynamodb:Query", "SubscriptionsTable/index/waiting")),
        ("SellerApiFunction", ("sqs:SendMessage", "NotificationQueue")),
        ("MeterUsageFunction", ("dynamodb:Query", "UsageTable/index/due")),
    ],
)
@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_a_call_that_a_role_does_not_allow_is_refused_as_aws_does(
    seller: Seller, roles: Roles, monkeypatch: pytest.MonkeyPatch, function: str, missing: Grant
) -> None:
    """Also where the function makes do without an answer: the fixture fails a test with a refusal that it forgets."""
    monkeypatch.setattr(
        roles_module, "granted", lambda name: granted(name) - ({missing} if name == function else set())
    )
    with suppress(Exception):
        seller.signs_up(seller.purchases.subscribe(PAY_AS_YOU_GO, provision=True))
    assert set(roles.refused) == {(function, missing)}
    roles.refused.clear()
