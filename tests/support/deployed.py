"""The HTTP functions as Lambda runs them: their environment, moto for DynamoDB, SQS and EventBridge, the emulator for
AWS Marketplace. Time is the real one, because the functions take it from the system."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from functions.resolve_customer import app as resolve_customer
from functions.seller_api import app as seller_api
from local import gateway
from local.deployment import Route
from marketplace.platform import clients
from marketplace.platform.clock import utc_now
from marketplace_emulator import Marketplace, Purchase
from tests.support import lasting
from tests.support.in_process import client as in_process_client
from tests.support.storefront import CODES
from tests.support.tables import Tables

EVENTS = Path(__file__).resolve().parents[2] / "events"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def sample(name: str) -> dict[str, Any]:
    """A sample event of the repository."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def route(key: str) -> Route:
    """A route of the HTTP API by its key, such as `GET /register/{code}`."""
    method, _, path = key.rpartition(" ")
    return Route(method, path, "function", needs_iam=False)


def http_event(
    key: str,
    *,
    path: Mapping[str, str] | None = None,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
) -> dict[str, Any]:
    """A request as API Gateway hands it to a function. `path` holds the path parameters, decoded; the body stands in
    the event as it is given, so that it may be one that no client could send."""
    called = route(key)
    target = called.path
    for name, value in (path or {}).items():
        target = target.replace(f"{{{name}}}", quote(value, safe="")).replace(f"{{{name}+}}", quote(value))
    event = gateway.http_event(
        called,
        method=called.method,
        target=f"{target}?{query}" if query else target,
        parameters=path or {},
        headers=list({"host": "localhost", **(headers or {})}.items()),
        body=b"",
        source_ip="127.0.0.1",
        now=utc_now(),
        host="localhost",
    )
    return event if body is None else {**event, "body": body}


class Context:
    """What the functions use of Lambda's context."""

    function_name = "function"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:222233334444:function:function"
    aws_request_id = "request-1"


@dataclass
class Deployed:
    """Both HTTP functions of one deployment and what they talk to."""

    marketplace: Marketplace
    dynamodb: Any
    sqs: Any
    tables: Tables
    queue_url: str
    log: StringIO

    @property
    def logged(self) -> str:
        """Every log line of both functions so far."""
        return self.log.getvalue()

    def buyer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = resolve_customer.lambda_handler(dict(event), Context())
        return answer

    def seller(self, event: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = seller_api.lambda_handler(dict(event), Context())
        return answer

    def token(self, purchase: Purchase | None = None, **given: Any) -> str:
        bought = purchase or self.marketplace.purchases.subscribe(provision=True)
        return self.marketplace.registration_token(bought.id, **given)

    def register(self, token: str, **given: Any) -> dict[str, Any]:
        body = urlencode({"x-amzn-marketplace-token": token})
        return self.buyer(http_event("POST /register", headers={**FORM, **given}, body=body))

    def code(self, purchase: Purchase | None = None) -> str:
        """A fresh registration code."""
        return str(self.register(self.token(purchase))["headers"]["location"]).rpartition("/")[2]

    def messages(self) -> list[dict[str, Any]]:
        received = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in received]


@contextmanager
def deployed(monkeypatch: pytest.MonkeyPatch, dynamodb: Any, tables: Tables, **settings: str) -> Iterator[Deployed]:
    """A deployment with these settings; call it under moto."""
    sqs = lasting.client("sqs")
    queue_url = sqs.create_queue(QueueName="notifications")["QueueUrl"]
    lasting.client("events").create_event_bus(Name="seller")
    marketplace = Marketplace()
    environment = {
        "SUBSCRIPTIONS_TABLE": tables.subscriptions,
        "USAGE_TABLE": tables.usage,
        "EVENT_BUS_NAME": "seller",
        "NOTIFICATION_QUEUE_URL": queue_url,
        "READ_BACK_QUEUE_URL": "https://sqs.invalid/read-back",
        "METERING_QUEUE_URL": "https://sqs.invalid/metering",
        "METERING_ENABLED": "true",
        "PRODUCT_CODES": ",".join(sorted(CODES)),
        "SUPPORT_CONTACT": "help@seller.example",
        "POWERTOOLS_SERVICE_NAME": "test",
        **settings,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        clients, "metering_for_registration", lambda *_: in_process_client("meteringmarketplace", marketplace)
    )
    monkeypatch.setattr(
        clients, "agreement_while_waiting", lambda *_: in_process_client("marketplace-agreement", marketplace)
    )
    for name in ("entitlement", "entitlement_while_waiting"):
        monkeypatch.setattr(clients, name, lambda *_: in_process_client("marketplace-entitlement", marketplace))
    log = StringIO()
    for app in (resolve_customer, seller_api):
        app.routes.cache_clear()
        monkeypatch.setattr(app.logger.registered_handler, "stream", log)
    yield Deployed(marketplace, dynamodb, sqs, tables, queue_url, log)
    for app in (resolve_customer, seller_api):
        app.routes.cache_clear()
