"""Fixtures that several files of function tests share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from marketplace.platform import clients
from tests.support import lasting
from tests.support.alarms import under_its_own_name
from tests.support.deployed import Deployed, deployed
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.roles import FUNCTIONS, Roles, enforced
from tests.support.seller_days import Seller, selling
from tests.support.tables import Tables, create_tables
from tests.support.watched import Watched
from tests.support.world import World


@dataclass(frozen=True)
class Queues:
    """URLs of the application's queues, and of a queue that receives every event of the bus `seller`."""

    notifications: str
    read_backs: str
    metering: str
    heard: str


_clients: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def lasting_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are made alike are made once: making those of a function takes longer than most of its tests."""
    make: Any = clients.new_client

    def lasting(service: str, **given: Any) -> Any:
        config = given.get("config")
        made_with = f"{service} {given | {'config': config and vars(config)}}"
        if made_with not in _clients:
            _clients[made_with] = make(service, **given)
        return _clients[made_with]

    monkeypatch.setattr(clients, "new_client", lasting)


@pytest.fixture(autouse=True)
def roles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    """Every function runs with the role that template.yaml gives it."""
    with enforced(monkeypatch) as judged:
        yield judged


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables) -> Iterator[Deployed]:
    """The functions behind the HTTP API, on moto."""
    with deployed(monkeypatch, moto_dynamodb, moto_tables) as running:
        yield running


@pytest.fixture
def queues(moto_tables: Tables, monkeypatch: pytest.MonkeyPatch) -> Queues:
    """Queues and bus on moto, and the environment variables with which a function finds them and its tables."""
    sqs, events = lasting.client("sqs"), lasting.client("events")
    made = Queues(
        *(sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("notifications", "read-backs", "metering", "heard"))
    )
    arn = sqs.get_queue_attributes(QueueUrl=made.heard, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name="seller")
    events.put_rule(Name="all", EventBusName="seller", EventPattern='{"source": ["marketplace.saas"]}')
    events.put_targets(Rule="all", EventBusName="seller", Targets=[{"Id": "heard", "Arn": arn}])
    for name, value in {
        "SUBSCRIPTIONS_TABLE": moto_tables.subscriptions,
        "USAGE_TABLE": moto_tables.usage,
        "EVENT_BUS_NAME": "seller",
        "NOTIFICATION_QUEUE_URL": made.notifications,
        "READ_BACK_QUEUE_URL": made.read_backs,
        "METERING_QUEUE_URL": made.metering,
        "METERING_ENABLED": "true",
        "POWERTOOLS_METRICS_NAMESPACE": "MarketplaceSaaS",
        "POWERTOOLS_SERVICE_NAME": "test",
    }.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def seller(
    moto_dynamodb: Any, moto_tables: Tables, queues: Queues, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Seller]:
    """The four functions of one deployment, each with its role, on moto and the emulator."""
    with selling(World(moto_dynamodb, moto_tables), queues, roles, monkeypatch) as running:
        yield running


@pytest.fixture
def watched(
    queues: Queues, roles: Roles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Watched]:
    """The same in memory, with the metrics that the functions emit."""
    memory = MemoryDynamoDB()
    monkeypatch.setattr(clients, "dynamodb", lambda: memory)
    for function, app in FUNCTIONS.items():
        under_its_own_name(monkeypatch, app.metrics, function)
    with selling(World(memory, create_tables(memory.client)), queues, roles, monkeypatch) as seller:
        yield Watched(seller, capsys, monkeypatch)
