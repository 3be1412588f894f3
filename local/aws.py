"""DynamoDB, SQS, EventBridge and S3 on this machine: moto behind one address, on the emulator's clock.

This module changes five things of moto:

- moto uses real time. Here it uses the emulator's, so message timers and visibility timeouts pass when a person moves
  the clock.
- moto's DynamoDB is not atomic under threads and copies whole tables. Here requests are handled one at a time, and
  local/moto_dynamodb.py leaves out the copying.
- moto's DynamoDB keeps what has expired. Here it goes once a day of the clock, as AWS removes it within days
  (local/time_to_live.py).
- moto drops the events that are put on a bus. Here they are kept and reported to `on_event`.
- moto lacks what docs/operations.md uses beside: redrive (local/move_tasks.py), a stack's outputs and a run by hand
  (local/stack_api.py). What nobody has is answered with a sentence instead of an internal error.
"""

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock

import boto3
import moto.core.utils
import moto.s3.models
import moto.sts.models
from botocore.config import Config
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug import Request, Response

from local import aws_state
from local.deployment import ACCOUNT, REGION, Deployment
from local.moto_dynamodb import quick_dynamodb
from local.move_tasks import MoveTasks, noted_origins, shown_at_once
from local.options import StackError
from local.server import Server
from local.stack_api import StackApi
from local.time_to_live import remove_expired

_JUST_AFTER = 0.001
"""moto shows a message again after the moment, not at it; it counts milliseconds."""

_DAY = 24 * 3600

_READING = ("Get", "BatchGet", "TransactGet", "Query", "Receive", "List", "Describe")
"""How the names of operations begin that change nothing which a page shows."""

_WRITES = frozenset(
    {
        *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
        *("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"),
    }
)

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
        self.on_write: Callable[[], None] = lambda: None
        self.on_dead_letter: Callable[[str, str], None] = lambda _queue, _dead_letters: None
        self.stack_api: StackApi | None = None
        self._time_to_live: Mapping[str, str] = {}
        self._removed_at = 0.0
        self._move_tasks = MoveTasks()
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
        # STS and S3 have taken the function into their own names.
        for module in (moto.core.utils, moto.sts.models, moto.s3.models):
            self._cleanup.enter_context(mock.patch.object(module, "utcnow", self._naive_now))
        self._cleanup.enter_context(quick_dynamodb())
        self._cleanup.enter_context(noted_origins(self._dead_lettered))
        self._cleanup.enter_context(shown_at_once())

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
        """Make the tables, the queues, the buckets, the buses and the schedules' rules that the template declares; the
        tables through the DynamoDB client that is given, otherwise here."""
        dynamodb, sqs, events = dynamodb or self.client("dynamodb"), self.client("sqs"), self.client("events")
        for table in deployment.tables:
            dynamodb.create_table(**table)
        # Dead-letter queues first: CreateQueue wants them to exist.
        for queue in sorted(deployment.queues, key=lambda queue: "RedrivePolicy" in queue.attributes):
            sqs.create_queue(QueueName=queue.name, Attributes=queue.attributes)
        with self._lock:
            for bucket in deployment.buckets:
                aws_state.make_bucket(bucket)
        self._time_to_live = deployment.time_to_live
        for bus in deployment.buses:
            events.create_event_bus(Name=bus)
        for one in deployment.schedules:
            events.put_rule(Name=deployment.resources.get(one.name, one.name), ScheduleExpression=one.expression)

    @property
    def lock(self) -> threading.Lock:
        """Held while a request is answered."""
        return self._lock

    def taken(self) -> dict[str, Any]:
        """What the server holds, as objects that must not be changed. The caller holds the lock."""
        return aws_state.taken() | {"events": self.events, "moves": self._move_tasks.done}

    def put_back(self, state: dict[str, Any]) -> None:
        """Take over what another server held, into the tables and queues that were made."""
        with self._lock:
            aws_state.put_back(state)
            self.events, self._move_tasks.done = state["events"], state["moves"]

    def is_enabled(self, rule: str) -> bool:
        """Whether a schedule's rule may start what it starts; DisableRule and EnableRule change that."""
        with self._lock:
            return bool(get_backend("events")[ACCOUNT][REGION].describe_rule(rule, None).state == "ENABLED")

    def remove_expired(self) -> None:
        """Remove the items whose time to live has ended, once a day of the clock."""
        now = self._now().timestamp()
        if abs(now - self._removed_at) >= _DAY:
            self._removed_at = now
            with self._lock:
                self.writes += remove_expired(self._time_to_live, now)

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
        response = self.stack_api.answer(request) if self.stack_api is not None and not target else None
        if response is not None:
            return response
        with self._lock:
            response = self._moved(target, body)
            try:
                response = response or Response.from_app(self._application(target, environ), environ, buffered=True)
            except (NotImplementedError, ImportError) as error:  # what moto does not implement
                return unsupported(target or request.path, error)
        if not target.partition(".")[2].startswith(_READING) and request.method not in ("GET", "HEAD"):
            self.writes += 1
        if target.startswith("DynamoDB") and target.partition(".")[2] in _WRITES:
            self.on_write()
        elif target == "AWSEvents.PutEvents":
            self._keep(body, response.get_data())
        elif target.startswith("AmazonSQS."):
            with self.sent:
                self.sent.notify_all()
        return response

    def _dead_lettered(self, queue: str, dead_letters: str) -> None:
        self.on_dead_letter(queue, dead_letters)

    def _moved(self, target: str, body: bytes) -> Response | None:
        service, _, operation = target.partition(".")
        return self._move_tasks.answer(operation, body) if service == "AmazonSQS" else None

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


def unsupported(what: str, error: Exception) -> Response:
    """An operation that is not played here. Status 400, because SDKs repeat what is answered with 5xx."""
    message = f"{what} is not played on one machine: {error}"
    content = {"__type": "UnsupportedOperation", "message": message}
    return Response(json.dumps(content), 400, content_type="application/x-amz-json-1.0")


def _queue(name: str) -> Any:
    return get_backend("sqs")[ACCOUNT][REGION].queues[name]


def _reset() -> None:
    for service in ("dynamodb", "sqs", "events", "s3"):
        get_backend(service).reset()
