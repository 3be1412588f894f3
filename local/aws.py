"""DynamoDB, SQS and EventBridge on this machine: moto behind one address, on the emulator's clock.

Three things moto does not do by itself. Its time is the real one: here it is the emulator's, so message timers and
visibility timeouts pass when a person moves the clock. Its transactions are neither atomic under threads nor cheap
(they copy the whole table once for every item): here requests are handled one at a time, and a failed transaction
puts back the items it touched. And what is put on a bus goes nowhere: here it is kept, to be watched.
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
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from local.template import ACCOUNT, REGION, Deployment

_JUST_AFTER = 0.001
"""moto shows a message again after the moment, not at it; it counts milliseconds."""

type Environ = dict[str, Any]
type StartResponse = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event that was put on a bus. `at`: when, in seconds since the epoch by the emulator's clock."""

    seq: int
    at: float
    bus: str
    source: str
    detail_type: str
    detail: Any


class LocalAws:
    """The server, from construction to `stop`. Only one may run in a process: moto keeps its state in modules."""

    def __init__(self, host: str, port: int, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._cleanup = ExitStack()
        self.sent = threading.Condition()
        self.events: list[BusEvent] = []
        self.on_event: Callable[[BusEvent], None] = lambda _: None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(host, port, self._answer, threaded=True, request_handler=_QuietHandler)
        self.port = self._server.server_port
        self.url = f"http://{_reachable(host)}:{self.port}"
        _reset()
        self._cleanup.callback(_reset)
        self._cleanup.enter_context(mock.patch.object(moto.core.utils, "utcnow", self._naive_now))
        self._cleanup.enter_context(_plain_transactions())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="moto", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the server and forget what it held."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
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

    def furnish(self, deployment: Deployment) -> None:
        """Make the tables, the queues and the buses that the template declares."""
        dynamodb, sqs, events = (self.client(name) for name in ("dynamodb", "sqs", "events"))
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

    def next_visible_at(self, queue: str, now: float) -> float | None:
        """When the next message that can't be received yet will be; seconds since the epoch."""
        with self._lock:
            moments = (max(message.visible_at, message.delayed_until) / 1000 for message in _queue(queue)._messages)
            return min((moment + _JUST_AFTER for moment in moments if moment + _JUST_AFTER > now), default=None)

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if target == "AmazonSQS.ReceiveMessage" and b'"WaitTimeSeconds"' in body:
            # A long poll may not hold everyone else up; and by a clock that stands still it would never end.
            body = json.dumps({**json.loads(body), "WaitTimeSeconds": 0}).encode()
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        with self._lock:
            answer = b"".join(self._app(environ, start_response))
        if target == "AWSEvents.PutEvents":
            self._keep(body, answer)
        elif target.startswith("AmazonSQS."):
            with self.sent:
                self.sent.notify_all()
        return [answer]

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


class _QuietHandler(MotoRequestHandler):
    def log_request(self, *_: Any) -> None:
        """The functions' own logs are enough."""


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - the address to show, not to bind


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


def _touched(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> Iterator[tuple[Any, Any, Any]]:
    for operation in transact_items:
        ((kind, body),) = operation.items()
        table = backend.tables.get(body.get("TableName"))
        if table is not None and kind != "ConditionCheck":
            given = body["Item"] if kind == "Put" else body["Key"]
            key = backend.get_keys_value(table, given)
            yield table, key, copy.deepcopy(table.get_item(*key))
