"""Keeps a stack's state in a folder: one file, written anew at the end and every few seconds while something changes.

The file is a cut through everything at one moment: tables, queues, buckets, the bus, the clock, the schedules, and AWS
Marketplace with its purchases and its bill. It is taken while no request is answered. A function that is running then
is, to the state, one that crashed at that moment: its message comes again, and what it had not written it writes again,
which is what the application is made for. The file is replaced as a whole, so there is always one that is complete.
"""

import fcntl
import os
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from local.aws import LocalAws
from local.clock import StackClock
from local.delivery import Delivery
from local.options import StackError
from local.ticks import Schedules
from marketplace_emulator import Marketplace, snapshot

FORM = 2
"""Changes with every change of what the file holds."""
EVERY_SECONDS = 2.0
SHARE = 10
"""The state is written at most during one part in so many of the time."""
_MODULES = ("marketplace_emulator", "moto", "local")


class Kept(Protocol):
    """What is kept of a stack."""

    aws: LocalAws
    aws_url: str
    clock: StackClock
    delivery: Delivery
    delivered: tuple[int, int]
    marketplace: Marketplace
    schedules: Schedules

    def set_fulfilment_url(self) -> None:
        """Have AWS Marketplace send buyers to the API of this run."""


class Keeper:
    """The state in one folder, which nobody else may use meanwhile. Raises StackError.

    `news`: what a person has to know about the state that was found; empty where there was none.
    """

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self._file = folder / "state"
        self._running = folder / "running"
        self.news = ""
        self._ended = threading.Event()
        self._writer: threading.Thread | None = None
        self._ahead: float | None = None
        self._written = b""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = cleanup.enter_context((folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another stack keeps its state in {folder}; choose another folder") from error
        except OSError as error:
            raise StackError(f"the state can't be kept in {folder}: {error.strerror}") from error

    def restore(self, stack: Kept) -> None:
        """Take over what was kept, before anything works. Raises StackError when it can't be read."""
        if not self._file.exists():
            return
        try:
            content = snapshot.load(self._file.read_bytes(), {}, _MODULES)
            if content["form"] != FORM:
                raise snapshot.SnapshotError("it was written by another version")
            content |= snapshot.load(content["cut"], {}, _MODULES)
            settings = stack.marketplace.settings
            chosen = (settings.license_delay_seconds, settings.metering_rate, settings.entitlement_rate)
            callers = settings.callers
            stack.marketplace.load(content["marketplace"])
            settings.license_delay_seconds, settings.metering_rate, settings.entitlement_rate = chosen
            settings.callers = callers
        except (snapshot.SnapshotError, OSError, KeyError, TypeError) as error:
            raise StackError(f"{self._file} can't be read: {error}; move it away to begin anew") from error
        stack.set_fulfilment_url()
        stack.aws.put_back(content["aws"])
        stack.clock.begin(content["now"], frozen=content["frozen"])
        stack.schedules.fired |= {name: at for name, at in content["fired"].items() if name in stack.schedules.fired}
        stack.schedules.last_activity = content["last_activity"]
        stack.delivered = content["delivered"]
        self._ahead = None if content["frozen"] else content["offset"]
        saved = f"{datetime.fromtimestamp(content['written'], UTC):%Y-%m-%d %H:%M:%S} UTC"
        at = f"{datetime.fromtimestamp(content['now'], UTC):%Y-%m-%d %H:%M:%S}"
        self.news = f"Goes on with the state of {self._file.parent}, saved {saved} when its clock showed {at}."
        if self._running.exists():
            self.news += "\n  It was not stopped in order: what happened after that moment is lost."

    def start(self, stack: Kept) -> None:
        """Keep the state from now on, until `finish`, and let pass the time that has passed since it was written."""
        self._running.write_text(stack.aws_url)  # where the command line finds the stack by its folder
        self.save(stack)
        self._writer = threading.Thread(target=self._run, args=(stack,), name="keeper", daemon=True)
        self._writer.start()
        if self._ahead is not None:
            stack.clock.set(max(stack.clock.timestamp(), time.time() + self._ahead))  # noqa: TID251 - real time

    def finish(self, stack: Kept) -> None:
        """Write the state a last time, when nothing works any more."""
        if self._writer is not None:
            self._ended.set()
            self._writer.join()
            self.save(stack)
            self._running.unlink(missing_ok=True)

    def save(self, stack: Kept) -> float:
        """Write the state, and answer how many seconds nothing else could happen."""
        begin = time.monotonic()
        with stack.marketplace.agenda.lock, stack.aws.lock:
            moment, cut = self._moment(stack), self._cut(stack)
        paused = time.monotonic() - begin
        if cut != self._written or self._ended.is_set():
            self._replace(snapshot.dump({**moment, "cut": cut}, {}))
            self._written = cut
        return paused

    def _replace(self, data: bytes) -> None:
        beside = self._file.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)

    @staticmethod
    def _moment(stack: Kept) -> dict[str, Any]:
        """What changes as time passes."""
        return {
            "form": FORM,
            "written": time.time(),  # noqa: TID251 - for the person
            "now": stack.clock.timestamp(),
            "frozen": stack.clock.is_frozen,
            "offset": stack.clock.offset,
            "fired": stack.schedules.fired,
            "last_activity": stack.schedules.last_activity,
        }

    @staticmethod
    def _cut(stack: Kept) -> bytes:
        """Everything else. The caller holds all locks."""
        content = {
            "delivered": stack.delivery.position,
            "aws": stack.aws.taken(),
            "marketplace": stack.marketplace.dump(),
        }
        return snapshot.dump(content, {})

    def _run(self, stack: Kept) -> None:
        pause = 0.0
        while not self._ended.wait(max(EVERY_SECONDS, pause * SHARE)):
            pause = self.save(stack)
