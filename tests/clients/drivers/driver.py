"""The Python clients as a process that a test speaks to: one JSON command a line, one JSON answer a line.

    python driver.py threads        or: asyncio
    {"do": "open", "api": ..., "outbox": ..., "crash": 7}

`open` begins with a new client. The clock stands where the command `clock` puts it, and the jitter is its greatest.
With `crash` the process kills itself before that change of its store.
"""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
from datetime import datetime
from typing import Any

from marketplace_saas_client import (
    ApiError,
    AsyncClient,
    Client,
    Listener,
    NoAnswerError,
    Rejected,
    UsageRecord,
    operations,
)
from marketplace_saas_client.calls import Call

logging.disable()


class Driver:
    """Carries out commands. Each of the client's methods is called through `self.wait`, which awaits if need be."""

    def __init__(self, flavour: str) -> None:
        self.is_async = flavour == "asyncio"

    async def do_open(self, api: str, outbox: str, crash: int | None = None, interval: float = 5.0) -> None:
        self.now = datetime.fromisoformat("2026-11-22T12:00:00+00:00")
        self.told: list[list[Any]] = []
        self.listener_fails = False
        kind = AsyncClient if self.is_async else Client
        self.client: Any = kind(
            api,
            outbox,
            Listener(on_rejected=self.on_rejected, on_aging=self.on_aging),
            now=lambda: self.now,
            jitter=lambda low, high: high,
            interval=interval,
        )
        if crash is not None:
            die_before(crash)

    def on_rejected(self, rejected: Rejected) -> None:
        self.hear("rejected", rejected.record.id, rejected.reason)

    def on_aging(self, record: UsageRecord, lost: bool) -> None:
        self.hear("aging", record.id, lost)

    def hear(self, *what: object) -> None:
        if self.listener_fails:
            raise RuntimeError("the application is ill")
        self.told.append(list(what))

    async def do(self, command: dict[str, Any]) -> Any:
        """Carry out a command: `do` is a method's name, the rest is what it is given."""
        return await getattr(self, f"do_{command.pop('do')}")(**command)

    async def do_clock(self, now: str) -> None:
        self.now = datetime.fromisoformat(now)

    async def do_listener(self, fails: bool) -> None:
        self.listener_fails = fails

    async def do_report(self, records: list[dict[str, Any]]) -> None:
        await self.wait(self.client.report(*map(UsageRecord.from_json, records)))

    async def do_deliver(self) -> Any:
        return vars(await self.wait(self.client.deliver()))

    async def do_flush(self, seconds: float) -> Any:
        return await self.wait(self.client.flush(seconds))

    async def do_run(self, faults: int) -> None:
        """Run until nothing waits, on a disk that fails at first."""
        outbox = self.client._outbox
        take = outbox.take
        left = iter(range(faults))

        def failing(*given: Any, **named: Any) -> Any:
            if next(left, None) is not None:
                raise sqlite3.OperationalError("disk I/O error")
            return take(*given, **named)

        outbox.take = failing
        stop = threading.Event()
        running = asyncio.create_task(self.client.run() if self.is_async else asyncio.to_thread(self.client.run, stop))
        while (await self.wait(self.client.status())).waiting:
            await asyncio.sleep(0.01)
        stop.set()
        if self.is_async:
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def do_status(self) -> Any:
        status = await self.wait(self.client.status())
        return {"waiting": status.waiting, "lost": status.lost, "rejected": status.rejected}

    async def do_rejected(self) -> Any:
        return [[one.record.id, one.reason] for one in await self.wait(self.client.rejected())]

    async def do_resend(self) -> None:
        for one in await self.wait(self.client.rejected()):
            await self.wait(self.client.resend(one))

    async def do_discard(self) -> None:
        for one in await self.wait(self.client.rejected()):
            await self.wait(self.client.discard(one))

    async def do_wake(self, subscription: str) -> None:
        await self.wait(self.client.wake(subscription))

    async def do_told(self) -> Any:
        return self.told

    async def do_prove(self, subscription: str, record: str) -> Any:
        return await self.call(operations.prove_usage(subscription, record))

    async def do_list(self, subscription: str, **given: str) -> Any:
        return await self.call(operations.list_usage(subscription, from_=given["from"]))

    async def call(self, call: Call[Any]) -> Any:
        try:
            return await self.wait(self.client.call(call))
        except ApiError as error:
            return [error.status, error.code]
        except NoAnswerError as error:
            return str(error)

    async def wait(self, result: Any) -> Any:
        return await result if self.is_async else result


def die_before(number: int) -> None:
    """Kill this process before its `number`th SQL statement from now that changes something."""
    left = iter(range(number, 0, -1))
    connect = sqlite3.connect

    def count(statement: str) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE")) and next(left, None) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*given: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given, **named)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


async def main() -> None:
    driver = Driver(sys.argv[1])
    for line in sys.stdin:
        answer = await driver.do(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
