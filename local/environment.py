"""Lambda's execution environments: one process each, forked from a process that has already imported what all need.

    python -m local.environment CONTROL_FD CLOCK_FD

The parent asks for an environment over the control socket; the fork gets a connection for its invocations and a pipe
for what it prints. As on Lambda an environment has its own memory and variables, imports its function's `app` under
that name, and handles one event at a time. Every process here ends when the parent does, however that ended: its end
of the socket closes.

The product knows nothing of this. `marketplace.platform.clock.utc_now` is replaced by the emulator's clock before any
other module of the layer is imported, because those take the function into their own names.
"""

import importlib
import json
import math
import mmap
import os
import pkgutil
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import marketplace.platform.clock

CLOCK = struct.Struct("<Qdd")
"""How the clock lies in shared memory: a count that is odd while it is written, the moment it is frozen at (NaN when it
runs), and how far it is ahead of real time; seconds."""

READY = b"R"
END_OF_OUTPUT = "\0"
"""Begins the line after an invocation's output, so that the log is complete when the answer is given."""
REQUEST_BYTES = 65536
WARMED_UP = ("dynamodb", "sqs", "events", "meteringmarketplace", "marketplace-entitlement", "marketplace-agreement")


class SharedClock:
    """The emulator's clock as another process reads it."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, CLOCK.size)

    def timestamp(self) -> float:
        """Now, in seconds since the epoch."""
        while True:
            before, frozen, offset = CLOCK.unpack(self._memory[: CLOCK.size])
            (after,) = struct.unpack_from("<Q", self._memory[: CLOCK.size])
            if before == after and before % 2 == 0:
                moment: float = time.time() + offset if math.isnan(frozen) else frozen  # noqa: TID251 - real time
                return moment

    def write(self, frozen: float | None, offset: float) -> None:
        """Set by the one process that owns the clock."""
        (count,) = struct.unpack_from("<Q", self._memory[: CLOCK.size])
        moment = float("nan") if frozen is None else frozen
        self._memory[:8] = struct.pack("<Q", count + 1)
        self._memory[8 : CLOCK.size] = struct.pack("<dd", moment, offset)
        self._memory[:8] = struct.pack("<Q", count + 2)

    def close(self) -> None:
        self._memory.close()


class LambdaContext:
    """What Lambda hands a handler beside the event (Lambda Developer Guide: Python context object)."""

    def __init__(self, function: dict[str, Any], request_id: str, seconds: float) -> None:
        self.function_name: str = function["name"]
        self.function_version = "$LATEST"
        self.invoked_function_arn: str = function["arn"]
        self.memory_limit_in_mb: int = function["memory"]
        self.aws_request_id = request_id
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self.log_stream_name = f"local/{os.getpid()}"
        self.identity = None
        self.client_context = None
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Real milliseconds until the function is cut off."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def main(control_fd: int, clock_fd: int) -> None:
    """Fork environments on request until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends when
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    control = socket.socket(fileno=control_fd)
    _install_clock(SharedClock(clock_fd))
    _warm_up()
    control.sendall(READY)
    while True:
        request, fds, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            _serve(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)
        control.sendall(struct.pack("!I", pid))


def _install_clock(clock: SharedClock) -> None:
    marketplace.platform.clock.utc_now = lambda: datetime.fromtimestamp(clock.timestamp(), UTC)


def _warm_up() -> None:
    """Import what the layer holds, and let botocore read its service descriptions, once for all environments."""
    for module in pkgutil.walk_packages(marketplace.__path__, "marketplace."):
        with suppress(Exception):  # a module that can't be imported is reported by the function that uses it
            importlib.import_module(module.name)
    from marketplace.platform import clients  # noqa: PLC0415 - the clock comes first

    client: Any = clients.new_client  # the stubs want a literal service name
    for service in WARMED_UP:
        client(service, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local").close()  # noqa: S106


def _serve(function: dict[str, Any], connection_fd: int, output_fd: int) -> None:
    """One environment's life. Never returns."""
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.close(output_fd)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 - for its whole life
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    connection = Connection(connection_fd)
    os.environ.clear()
    os.environ.update(function["environment"])
    events: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, events), daemon=True).start()
    module, _, name = function["handler"].rpartition(".")
    try:
        sys.path.insert(0, function["folder"])
        handler = getattr(importlib.import_module(module.replace("/", ".")), name)
    except BaseException as error:
        answer = _failure(error, initialising=True)
        print(END_OF_OUTPUT, flush=True)
        with suppress(OSError):
            connection.send_bytes(answer)
        os._exit(1)
    while True:
        invocation = events.get()
        context = LambdaContext(function, invocation["request_id"], invocation["seconds"])
        try:
            content = {"answer": handler(invocation["event"], context)}
            answer = json.dumps(content).encode()
        except Exception as error:
            answer = _failure(error)
        print(f"{END_OF_OUTPUT}{context.aws_request_id}", flush=True)
        connection.send_bytes(answer)


def _receive(connection: Connection, events: "SimpleQueue[dict[str, Any]]") -> None:
    """Take invocations in; end the process when the other end is gone, in the middle of one too."""
    try:
        while True:
            events.put(json.loads(connection.recv_bytes()))
    except (EOFError, OSError):
        os._exit(0)


def _failure(error: BaseException, *, initialising: bool = False) -> bytes:
    print("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr, flush=True)
    content = {"error": type(error).__name__, "message": str(error), "initialising": initialising}
    return json.dumps(content).encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
