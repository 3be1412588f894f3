"""DynamoDB, SQS and EventBridge on this machine: moto behind one address, on the emulator's clock.

This module changes three things of moto:

- moto uses real time. Here it uses the emulator's, so message timers and visibility timeouts pass when a person moves
  the clock.
- moto's transactions are not atomic under threads and copy the whole table once for every item, and its queries sort
  the whole table. Here requests are handled one at a time, a failed transaction puts back the items it touched, and
  only what a query finds is sorted.
- moto drops the events that are put on a bus. Here they are kept and reported to `on_event`.
"""

import copy
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock

import boto3
import moto.core.utils
from botocore.config import Config
from moto.backends import get_backend
from moto.dynamodb.exceptions import MockValidationException, TransactionCanceledException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug import Request, Response

from local.deployment import ACCOUNT, REGION, Deployment
from local.options import StackError
from local.server import Server

_JUST_AFTER = 0.001
"""moto shows a message again after the moment, not at it; it counts milliseconds."""

_READING = ("Get", "BatchGet", "TransactGet", "Query", "Receive", "List", "Describe")
"""How the names of operations begin that change nothing which a page shows."""

type Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event that was put on a bus. `at`: when, in seconds since the epoch by the emulator's clock."""

    seq: int
    at: float
    bus: str
    source: str
    detail_type: str
    detail: Any


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message that is in a queue. `next_at`: when it can be received, None if it can be received now."""

    id: str
    body: str
    received: int
    next_at: float | None


class LocalAws:
    """The server, from construction to `stop`. Only one may run in a process: moto keeps its state in modules."""

    _one = threading.Lock()

    def __init__(self, host: str, port: int, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.sent = threading.Condition()
        self.events: list[BusEvent] = []
        self.writes = 0
        self.on_event: Callable[[BusEvent], None] = lambda _: None
        self._dispatcher = DomainDispatcherApplication(create_backend_app)
        self._applications: dict[str, Application] = {}
        if not self._one.acquire(blocking=False):
            raise StackError("a process runs one stack at a time: moto keeps its state in modules")
        with ExitStack() as undo:
            undo.callback(self._one.release)
            self._server = Server(host, port, self._respond)
            self._cleanup = undo.pop_all()
        self.port, self.url = self._server.port, self._server.url
        _reset()
        self._cleanup.callback(_reset)
        self._cleanup.enter_context(mock.patch.object(moto.core.utils, "utcnow", self._naive_now))
        self._cleanup.enter_context(_plain_transactions())
        self._cleanup.enter_context(mock.patch.object(Table, "all_items", _all_items))

    def stop(self) -> None:
        """Stop the server and forget what it held."""
        self._server.stop()
        self._cleanup.close()

    def client(self, service: str) -> Any:
        """A stock boto3 client of this server."""
        made: Any = boto3.client  # the stubs want a literal service name
        return made(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - opens nothing
            config=Config(retries={"mode": "standard", "total_max_attempts": 2}, proxies={}),
        )

    def _naive_now(self) -> datetime:
        return self._now().replace(tzinfo=None)

    def furnish(self, deployment: Deployment, dynamodb: Any = None) -> None:
        """Make the tables, the queues and the buses that the template declares; the tables through the DynamoDB client
        that is given, otherwise here."""
        dynamodb, sqs, events = dynamodb or self.client("dynamodb"), self.client("sqs"), self.client("events")
        for table in deployment.tables:
            dynamodb.create_table(**table)
        # Dead-letter queues first: CreateQueue wants them to exist.
        for queue in sorted(deployment.queues, key=lambda queue: "RedrivePolicy" in queue.attributes):
            sqs.create_queue(QueueName=queue.name, Attributes=queue.attributes)
        for bus in deployment.buses:
            events.create_event_bus(Name=bus)

    def visible_messages(self, queue: str) -> int:
        """How many messages of a queue can be received now."""
        with self._lock:
            return len(_queue(queue).messages)

    def messages(self, queue: str) -> list[QueueMessage]:
        """All messages of a queue, received ones too, the oldest first. Looking at them changes nothing."""
        now = self._now().timestamp()
        with self._lock:
            found = []
            for message in _queue(queue)._messages:
                next_at = max(message.visible_at, message.delayed_until) / 1000
                received = message.approximate_receive_count
                body = str(message.body)
                found.append(QueueMessage(message.id, body, received, next_at if next_at + _JUST_AFTER > now else None))
            return found

    def next_visible_at(self, queue: str, now: float) -> float | None:
        """When the next message that can't be received yet will be; seconds since the epoch."""
        with self._lock:
            moments = (max(message.visible_at, message.delayed_until) / 1000 for message in _queue(queue)._messages)
            return min((moment + _JUST_AFTER for moment in moments if moment + _JUST_AFTER > now), default=None)

    def _respond(self, request: Request) -> Response:
        target, body = request.headers.get("X-Amz-Target", ""), request.get_data()
        if target == "AmazonSQS.ReceiveMessage" and b'"WaitTimeSeconds"' in body:
            # A long poll would hold up all other requests, and would never end by a clock that stands still.
            body = json.dumps({**json.loads(body), "WaitTimeSeconds": 0}).encode()
        environ = request.environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        with self._lock:
            response = Response.from_app(self._application(target, environ), environ, buffered=True)
        if not target.partition(".")[2].startswith(_READING):
            self.writes += 1
        if target == "AWSEvents.PutEvents":
            self._keep(body, response.get_data())
        elif target.startswith("AmazonSQS."):
            with self.sent:
                self.sent.notify_all()
        return response

    def _application(self, target: str, environ: dict[str, Any]) -> Application:
        """The part of moto that answers a service. moto looks for it on disk at every request, so it is remembered."""
        service = target.partition(".")[0]
        if service not in self._applications:
            found: Application = self._dispatcher.get_application(environ)
            if not service:
                return found
            self._applications[service] = found
        return self._applications[service]

    def _keep(self, body: bytes, answer: bytes) -> None:
        with suppress(ValueError, KeyError):
            for entry, result in zip(json.loads(body)["Entries"], json.loads(answer)["Entries"], strict=True):
                if "EventId" in result:
                    event = BusEvent(
                        len(self.events) + 1,
                        self._now().timestamp(),
                        entry.get("EventBusName", "default"),
                        entry["Source"],
                        entry["DetailType"],
                        json.loads(entry["Detail"]),
                    )
                    self.events.append(event)
                    self.on_event(event)


def _queue(name: str) -> Any:
    return get_backend("sqs")[ACCOUNT][REGION].queues[name]


def _reset() -> None:
    for service in ("dynamodb", "sqs", "events"):
        get_backend(service).reset()


@contextmanager
def _plain_transactions() -> Iterator[None]:
    """Transactions that put back the touched items when they fail, instead of copying tables beforehand."""
    original = DynamoDBBackend.transact_write_items

    def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        touched = list(_touched(self, transact_items))
        try:
            original(self, transact_items)
        except (TransactionCanceledException, MockValidationException):
            for table, key, item in touched:
                with suppress(KeyError):
                    table.delete_item(*key)
                if item is not None and key[1] is not None:
                    table.items[key[0]][key[1]] = item
                elif item is not None:
                    table.items[key[0]] = item
            raise

    with (
        mock.patch.object(DynamoDBBackend, "transact_write_items", transact_write_items),
        mock.patch.object(Table, "__deepcopy__", lambda table, _memo: table, create=True),
    ):
        yield


def _all_items(table: Table) -> list[Any]:
    """moto's own, without sorting: Query sorts what it has found, and nothing here scans."""
    if table.range_key_attr is None:
        return list(table.items.values())
    return [item for items in table.items.values() for item in items.values()]


def _touched(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> Iterator[tuple[Any, Any, Any]]:
    for operation in transact_items:
        ((kind, body),) = operation.items()
        table = backend.tables.get(body.get("TableName"))
        if table is not None and kind != "ConditionCheck":
            given = body["Item"] if kind == "Put" else body["Key"]
            key = backend.get_keys_value(table, given)
            yield table, key, copy.deepcopy(table.get_item(*key))
