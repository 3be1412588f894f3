"""Sends deliveries to SQS queues in the background, and retries while a queue does not answer."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

from marketplace_emulator.checks import checked
from marketplace_emulator.errors import BadRequestError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.outbox import KINDS, Delivery, Kind

IDLE_SECONDS = 0.25
RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
HTTP_TIMEOUT = 10

_HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.SendMessage",
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": (
        "AWS4-HMAC-SHA256 Credential=EMULATOR/20260101/us-east-1/sqs/aws4_request,"
        " SignedHeaders=host;x-amz-date;x-amz-target, Signature=00"
    ),
}


@dataclass(slots=True)
class Target:
    """A queue that gets the notifications of the given kinds."""

    queue_url: str
    endpoint: str = ""
    kinds: tuple[str, ...] = KINDS
    delivered: int = 0
    last_error: str = ""
    after: int = field(default=0, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/targets`."""
        return {
            "queue_url": self.queue_url,
            "endpoint": self.endpoint,
            "kinds": list(self.kinds),
            "delivered": self.delivered,
            "last_error": self.last_error,
        }


def parse_target(data: Any) -> Target:
    """Return a target from its JSON form. Raises BadRequestError."""
    hint = 'for example {"queue_url": "http://127.0.0.1:5000/123456789012/events", "kinds": ["eventbridge"]}'
    given = checked(data, {"queue_url": str, "endpoint": str, "kinds": list[Kind], "after": int})
    if "queue_url" not in given or given.get("kinds") == []:
        raise BadRequestError("a target needs a queue_url and kinds", hint)
    endpoint = given.get("endpoint", "")
    for url in (given["queue_url"], endpoint or given["queue_url"]):
        if not _is_http(url):
            raise BadRequestError(f"{url!r} is not an http address", hint)
    return Target(given["queue_url"], endpoint, tuple(given.get("kinds", KINDS)), after=given.get("after", 0))


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        return False


class Courier:
    """A background thread that sends the deliveries of one target."""

    def __init__(self, marketplace: Marketplace, target: Target) -> None:
        self.target = target
        self._marketplace = marketplace
        self._generation = marketplace.generation
        self._stopping = Event()
        self._connection: HTTPConnection | None = None
        self._thread = Thread(target=self._run, name=f"courier {target.queue_url}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Undelivered messages stay in the outbox."""
        self._stopping.set()
        with self._marketplace.agenda.changed:
            self._marketplace.agenda.changed.notify_all()
        self._thread.join(timeout=HTTP_TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for delivery in self._waiting():
                if delivery.notification.kind in self.target.kinds and not self._send_until_done(delivery):
                    break
                self.target.after = delivery.seq
        self._disconnect()

    def _waiting(self) -> list[Delivery]:
        with self._marketplace.agenda.changed:
            if self._generation != self._marketplace.generation:
                self._generation = self._marketplace.generation
                self.target.after = 0
            found = self._marketplace.outbox.deliveries(self.target.after)
            if not found and not self._stopping.is_set():
                self._marketplace.agenda.changed.wait(IDLE_SECONDS)
            return found

    def _send_until_done(self, delivery: Delivery) -> bool:
        attempt = 0
        while not self._stopping.is_set() and self._generation == self._marketplace.generation:
            self.target.last_error = self._send(delivery)
            if not self.target.last_error:
                self.target.delivered += 1
                return True
            self._stopping.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
        return False

    def _send(self, delivery: Delivery) -> str:
        """Return an empty string if the queue has taken the message, otherwise the reason."""
        message = {"QueueUrl": self.target.queue_url, "MessageBody": json.dumps(delivery.notification.body)}
        try:
            connection = self._connection = self._connection or self._connect()
            connection.request("POST", "/", json.dumps(message), _HEADERS)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            self._disconnect()
            return f"{type(error).__name__}: {error}"
        return "" if response.status == 200 else f"HTTP {response.status}: {text[:200]}"

    def _connect(self) -> HTTPConnection:
        url = urlsplit(self.target.endpoint or self.target.queue_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        return kind(url.hostname or "", url.port, timeout=HTTP_TIMEOUT)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None
