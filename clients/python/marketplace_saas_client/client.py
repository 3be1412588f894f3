"""The client, for threads and for asyncio. Both do the same procedures (delivery.py) and share one outbox format."""

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from botocore.credentials import Credentials

from marketplace_saas_client import backoff
from marketplace_saas_client.calls import Call
from marketplace_saas_client.delivery import Deliverer, Delivery, Listener
from marketplace_saas_client.errors import NoAnswerError
from marketplace_saas_client.http import Http, Transport, Urllib3Transport
from marketplace_saas_client.outbox import Outbox, Rejected, Status
from marketplace_saas_client.records import UsageRecord
from marketplace_saas_client.steps import Steps, run, run_async

T = TypeVar("T")
ATTEMPTS = 5


def utc_now() -> datetime:
    """The time, unless a client is given another clock."""
    return datetime.now(UTC)  # noqa: TID251 - the client's one clock


class _Parts:
    """What both clients are made of.

    `api` is the stack's output ApiUrl, `outbox` the path of a file on a local disk. `listener` is told what happens to
    reported usage later. `interval` is the time between two passes of `run`, in seconds.
    """

    def __init__(
        self,
        api: str,
        outbox: str | os.PathLike[str],
        listener: Listener | None = None,
        *,
        credentials: Credentials | None = None,
        transport: Transport | None = None,
        now: Callable[[], datetime] = utc_now,
        jitter: backoff.Jitter = backoff.uniform,
        interval: float = 5.0,
    ) -> None:
        self._jitter = jitter
        self._http = Http(api, credentials, transport or Urllib3Transport(), now)
        self._outbox = Outbox(outbox)
        self._deliverer = Deliverer(
            self._http, self._outbox, listener or Listener(), now, jitter=jitter, interval=interval
        )

    def _exchange(self, call: Call[T]) -> Steps[T]:
        """Send a call until there is an answer, ATTEMPTS times at most. Every route may be repeated."""
        failures = 0
        while True:
            try:
                answer: T = yield lambda: self._http.exchange(call)
            except NoAnswerError as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                yield backoff.delay(failures, retry_after=error.retry_after, jitter=self._jitter)
            else:
                return answer


class Client(_Parts):
    """The client for threads. One client may be used by several of them."""

    def call(self, call: Call[T]) -> T:
        """Send a call of `operations` and answer its body. Raises ApiError, NoAnswerError or NoCredentialsError."""
        return run(self._exchange(call))

    def report(self, *records: UsageRecord) -> None:
        """Keep usage to be sent. When this returns it is on the disk, and no crash loses it."""
        self._outbox.put(records)

    def deliver(self) -> Delivery:
        """Send everything that is due, once. Raises nothing that the API or the network causes."""
        return run(self._deliverer.deliver())

    def flush(self, seconds: float = 60.0) -> bool:
        """Deliver until nothing waits, for so many seconds of waiting at most; answers whether nothing waits."""
        return run(self._deliverer.flush(seconds))

    def run(self, stop: threading.Event) -> None:
        """Deliver again and again until `stop` is set: the body of a thread or of a process of its own."""
        while not stop.is_set():
            stop.wait(run(self._deliverer.attempt()))

    def wake(self, subscription: str) -> None:
        """Send the subscription's waiting usage with the next pass, for example on the event Subscription Activated."""
        self._outbox.wake(subscription)

    def status(self) -> Status:
        """What is in the outbox."""
        return self._deliverer.status()

    def rejected(self) -> list[Rejected]:
        """The records that the API will not count."""
        return self._outbox.rejected()

    def resend(self, rejected: Rejected) -> None:
        """Send a rejected record again, as it is, because what it was rejected for has changed."""
        self._outbox.put([rejected.record])

    def discard(self, rejected: Rejected) -> None:
        """Remove a rejected record: it has been dealt with."""
        self._outbox.discard(rejected.key)

    def close(self) -> None:
        """Close the outbox's file. What waits in it is sent by the next client that opens it."""
        self._outbox.close()


class AsyncClient(_Parts):
    """The client for asyncio: the same methods, with what blocks in threads."""

    async def call(self, call: Call[T]) -> T:
        """Send a call of `operations` and answer its body. Raises ApiError, NoAnswerError or NoCredentialsError."""
        return await run_async(self._exchange(call))

    async def report(self, *records: UsageRecord) -> None:
        """Keep usage to be sent. When this returns it is on the disk, and no crash loses it."""
        await asyncio.to_thread(self._outbox.put, records)

    async def deliver(self) -> Delivery:
        """Send everything that is due, once. Raises nothing that the API or the network causes."""
        return await run_async(self._deliverer.deliver())

    async def flush(self, seconds: float = 60.0) -> bool:
        """Deliver until nothing waits, for so many seconds of waiting at most; answers whether nothing waits."""
        return await run_async(self._deliverer.flush(seconds))

    async def run(self) -> None:
        """Deliver again and again until the task is cancelled."""
        await run_async(self._forever())

    async def wake(self, subscription: str) -> None:
        """Send the subscription's waiting usage with the next pass, for example on the event Subscription Activated."""
        await asyncio.to_thread(self._outbox.wake, subscription)

    async def status(self) -> Status:
        """What is in the outbox."""
        return await asyncio.to_thread(self._deliverer.status)

    async def rejected(self) -> list[Rejected]:
        """The records that the API will not count."""
        return await asyncio.to_thread(self._outbox.rejected)

    async def resend(self, rejected: Rejected) -> None:
        """Send a rejected record again, as it is, because what it was rejected for has changed."""
        await asyncio.to_thread(self._outbox.put, [rejected.record])

    async def discard(self, rejected: Rejected) -> None:
        """Remove a rejected record: it has been dealt with."""
        await asyncio.to_thread(self._outbox.discard, rejected.key)

    async def close(self) -> None:
        """Close the outbox's file. What waits in it is sent by the next client that opens it."""
        await asyncio.to_thread(self._outbox.close)

    def _forever(self) -> Steps[None]:
        while True:
            wait = yield from self._deliverer.attempt()
            yield wait
