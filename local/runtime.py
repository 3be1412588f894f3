"""Lambda on this machine: invokes functions in execution environments, as many at a time as Lambda would.

A function's environments are processes (local/environment.py), so a slow metering run holds up no registration, and
what one event leaves in memory is seen by the next one of the same environment only, as on Lambda.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from local.deployment import ACCOUNT, REGION, Function
from local.environment import CLOCK, END_OF_OUTPUT, READY, SharedClock

CONCURRENCY = 8
"""Environments of one function at a time, when none are reserved; more requests wait."""
STARTUP_SECONDS = 60
OUTPUT_SECONDS = 1
INITIALISATION_SECONDS = 10
"""Beside its timeout: Lambda gives a new environment ten seconds to initialise (Lambda Developer Guide)."""

type Printer = Callable[[str, str], None]


class FunctionError(Exception):
    """The handler raised; the traceback is in the log. `kind` is the exception's class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class FunctionTimeoutError(FunctionError):
    """The handler did not answer within the function's timeout; its environment was ended."""


class BusyError(Exception):
    """No environment became free in time."""


class StoppedError(Exception):
    """The stack is being stopped."""


@dataclass(slots=True)
class _Environment:
    pid: int
    connection: Connection
    ended_outputs: "SimpleQueue[None]"
    fresh: bool = True

    def end(self) -> None:
        self.connection.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Runtime:
    """Where the functions run. The constructor starts the process that environments are forked from, which imports what
    they need while the rest of the stack is made. `deploy` says which functions there are, `wait_until_ready` waits for
    that process."""

    def __init__(self, import_path: Sequence[Path]) -> None:
        self._functions: dict[str, Function] = {}
        self._variables: dict[str, str] = {}
        self._printed: Printer = lambda _function, _line: None
        self._idle: dict[str, list[_Environment]] = {}
        self._count: dict[str, int] = {}
        self._all: set[int] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._clock_file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the runtime
        self._clock_file.truncate(CLOCK.size)
        self.clock = SharedClock(self._clock_file.fileno())
        self._control, theirs = socket.socketpair()
        with theirs:
            fds = (theirs.fileno(), self._clock_file.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.environment", *map(str, fds)],
                cwd=Path(__file__).resolve().parent.parent,
                env=_process_environment(import_path),
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
            )
        self._control_lock = threading.Lock()
        self._ready = False

    def deploy(self, functions: Mapping[str, Function], variables: Mapping[str, str], printed: Printer) -> None:
        """Take these functions. `variables` are added to every function's environment; `printed` gets each line that a
        function prints, with the function's name."""
        self._functions = dict(functions)
        self._variables = dict(variables)
        self._printed = printed
        self._idle = {name: [] for name in functions}
        self._count = dict.fromkeys(functions, 0)

    def wait_until_ready(self) -> None:
        """Wait until environments can be made. Raises RuntimeError when they can't."""
        with self._control_lock:
            self._control.settimeout(STARTUP_SECONDS)
            try:
                self._ready = self._ready or self._control.recv(1) == READY
            except TimeoutError:
                self._ready = False
        if not self._ready:
            raise RuntimeError("the functions' environment did not start; what it printed says why")

    def invoke(self, name: str, event: Any, wait: float | None = None) -> Any:
        """The function's answer to an event (both plain JSON values). wait: seconds to wait for a free environment.

        Raises FunctionError, FunctionTimeoutError, BusyError or StoppedError.
        """
        function = self._functions[name]
        environment = self._take(function, wait)
        seconds = function.timeout + (INITIALISATION_SECONDS if environment.fresh else 0)
        invocation = {"event": event, "request_id": str(uuid.uuid4()), "seconds": function.timeout}
        answer: dict[str, Any] = {"initialising": True}
        try:
            environment.connection.send_bytes(json.dumps(invocation).encode())
            if not environment.connection.poll(seconds):
                raise FunctionTimeoutError("Sandbox.Timedout", f"{name} timed out after {function.timeout} seconds")
            answer = json.loads(environment.connection.recv_bytes())
            with suppress(Empty):
                environment.ended_outputs.get(timeout=OUTPUT_SECONDS)
        except (EOFError, OSError) as error:
            if self._stopped:
                raise StoppedError from error
            raise FunctionError("Runtime.ExitError", f"{name} ended without an answer") from error
        finally:
            self._give_back(function, environment, keep=not answer.get("initialising", False))
        if "error" in answer:
            raise FunctionError(answer["error"], answer["message"])
        return answer["answer"]

    def prepare(self, name: str) -> None:
        """Have an environment of the function ready before the first event."""
        self._give_back(self._functions[name], self._take(self._functions[name], None), keep=True, fresh=True)

    def stop(self) -> None:
        """End every environment at once."""
        with self._changed:
            self._stopped = True
            for pid in self._all:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            idle = [environment for waiting in self._idle.values() for environment in waiting]
            self._idle = {name: [] for name in self._functions}
            self._changed.notify_all()
        for environment in idle:
            environment.connection.close()
        self._process.kill()
        self._process.wait()
        self._control.close()
        self.clock.close()
        self._clock_file.close()

    def _take(self, function: Function, wait: float | None) -> _Environment:
        limit = function.concurrency if function.concurrency is not None else CONCURRENCY
        with self._changed:

            def free() -> bool:
                return self._stopped or bool(self._idle[function.name]) or self._count[function.name] < limit

            if not self._changed.wait_for(free, wait):
                raise BusyError(function.name)
            if self._stopped:
                raise StoppedError
            if self._idle[function.name]:
                return self._idle[function.name].pop()
            self._count[function.name] += 1
        try:
            return self._start(function)
        except BaseException:
            with self._changed:
                self._count[function.name] -= 1
            raise

    def _give_back(self, function: Function, environment: _Environment, *, keep: bool, fresh: bool = False) -> None:
        environment.fresh = fresh
        with self._changed:
            if keep and not self._stopped:
                self._idle[function.name].append(environment)
            else:
                environment.end()
                self._all.discard(environment.pid)
                self._count[function.name] -= 1
            self._changed.notify_all()

    def _start(self, function: Function) -> _Environment:
        request = json.dumps(
            {
                "name": function.name,
                "arn": function.arn,
                "handler": function.handler,
                "folder": str(function.folder),
                "memory": function.memory,
                "environment": {**_lambda_variables(function), **function.environment, **self._variables},
            }
        ).encode()
        ours, theirs = socket.socketpair()
        output, their_output = os.pipe()
        try:
            with self._control_lock:
                socket.send_fds(self._control, [request], [theirs.fileno(), their_output])
                (pid,) = struct.unpack("!I", self._control.recv(4, socket.MSG_WAITALL))
        except (OSError, struct.error) as error:
            ours.close()
            os.close(output)
            raise StoppedError from error
        finally:
            theirs.close()
            os.close(their_output)
        with self._changed:
            self._all.add(pid)
        ended: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._print, args=(function.name, output, ended), daemon=True).start()
        return _Environment(pid, Connection(ours.detach()), ended)

    def _print(self, name: str, output: int, ended: "SimpleQueue[None]") -> None:
        with open(output, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(END_OF_OUTPUT):
                    ended.put(None)
                else:
                    self._printed(name, line.rstrip("\n"))


def _process_environment(import_path: Sequence[Path]) -> dict[str, str]:
    """Only what Python needs: nothing of the person's AWS configuration reaches a function."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT") if name in os.environ}
    path = [str(Path(__file__).resolve().parent.parent), *map(str, import_path)]
    return {**kept, **_SANDBOX, "PYTHONPATH": os.pathsep.join(path)}


_SANDBOX = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "*",
    "TZ": ":UTC",
}


def _lambda_variables(function: Function) -> dict[str, str]:
    """What Lambda sets by itself (Lambda Developer Guide: defined runtime environment variables)."""
    return {
        **_SANDBOX,
        "AWS_ACCESS_KEY_ID": function.access_key,
        "PATH": os.environ.get("PATH", ""),
        "AWS_ACCOUNT_ID": ACCOUNT,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": str(function.folder),
        "_HANDLER": function.handler,
    }
