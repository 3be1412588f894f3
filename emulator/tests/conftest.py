"""The emulator under a frozen clock, behind a real HTTP server, called by stock boto3 clients."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from marketplace_emulator import Clock, Drop, Marketplace, Purchase, Reply, Server, serve

NOON = "2026-11-22T12:00:00Z"
METER = "AWSMPMeteringService.BatchMeterUsage"
PAYG = "ca2payasyougoproduct00000"
CONTRACT = "ca1contractandconsumption"
LEGACY = "legacysubscriptionproduct"

type Client = Any
type MakeClient = Callable[..., Client]


class Session:
    """Shorthand for tests: the emulator, and calls of it without HTTP."""

    def __init__(self, marketplace: Marketplace) -> None:
        self.m = marketplace
        self.clock = marketplace.clock

    def buy(self, product: str = PAYG, account: str = "111122223333", **terms: Any) -> Purchase:
        """A purchase whose licence has been issued."""
        purchase = self.m.purchases.subscribe(product, account, **terms)
        self.m.purchases.provision(purchase.id)
        return purchase

    def record(self, purchase: Purchase, quantity: int = 1, dimension: str | None = None, **other: Any) -> Any:
        """A usage record for now in the form the purchase's integration takes."""
        ids = (
            {"CustomerIdentifier": purchase.customer_identifier}
            if purchase.is_legacy
            else {"CustomerAWSAccountId": purchase.account_id, "LicenseArn": purchase.license_arn}
        )
        name = dimension or purchase.product.usage_dimensions()[0].key
        return {"Timestamp": self.clock.timestamp(), "Dimension": name, "Quantity": quantity, **ids, **other}

    def send(self, *records: Any, region: str = "us-east-1", **request: Any) -> Any:
        """The parsed answer of one BatchMeterUsage, or the code of its error."""
        answer = self.m.handle(METER, json.dumps({"UsageRecords": list(records), **request}).encode(), region)
        if isinstance(answer, Drop):
            return answer
        return answer.json() if answer.status == 200 else answer.error

    def call(self, target: str, region: str = "us-east-1", **request: Any) -> Reply:
        """An answer that must be a Reply."""
        answer = self.m.handle(target, json.dumps(request).encode(), region)
        assert isinstance(answer, Reply)
        return answer

    def statuses(self, *records: Any, **request: Any) -> list[str]:
        """The status of each record of one call."""
        return [item["Status"] for item in self.send(*records, **request)["Results"]]

    def names(self, after: int = 0) -> list[str]:
        """What was announced."""
        return [item.name for item in self.m.outbox.notifications(after)]


@pytest.fixture
def emulator() -> Session:
    return Session(Marketplace(Clock.frozen(NOON)))


@pytest.fixture
def server(emulator: Session) -> Iterator[Server]:
    with serve(emulator.m) as running:
        yield running


@pytest.fixture(scope="session")
def boto_session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")  # noqa: S106  no secret


@pytest.fixture
def client(boto_session: boto3.Session, server: Server) -> Iterator[MakeClient]:
    made = []

    def make(service: str, region: str = "us-east-1", **config: Any) -> Client:
        options = {"retries": {"total_max_attempts": 1}, "read_timeout": 20} | config
        found = boto_session.client(service, region_name=region, endpoint_url=server.url, config=Config(**options))
        made.append(found)
        return found

    yield make
    for item in made:
        item.close()


@pytest.fixture
def metering(client: MakeClient) -> Client:
    return client("meteringmarketplace")


@pytest.fixture
def entitlement(client: MakeClient) -> Client:
    return client("marketplace-entitlement")


@pytest.fixture
def agreement(client: MakeClient) -> Client:
    return client("marketplace-agreement")
