"""`python -m local`, as `make run` starts it: what it prints, and that nothing of it is left when it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.local_stack.browser import call
from tools.template import ROOT

STARTUP_SECONDS = 60
ANY_PORTS = ("--port", "0", "--console-port", "0", "--emulator-port", "0", "--moto-port", "0")
COMMAND = (sys.executable, "-m", "local", *ANY_PORTS)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([".", "layers/common", "emulator"])}
ADDRESS = re.compile(r"^  (\w[\w ,.]*?)\s{2,}(http://\S+)", re.MULTILINE)


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command, once it has said that it is there, and the addresses that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            if "Ctrl-C ends everything" in line:
                break
        assert "Ctrl-C ends everything" in printed, printed
        yield process, dict(ADDRESS.findall(printed))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def members(group: int) -> list[str]:
    """The processes of a group or session that are alive, zombies not counted."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[0] != "Z" and str(group) in (fields[2], fields[3]):
            found.append(name)
    return found


def gone(group: int, within: float = 5) -> bool:
    """Whether everything of a session is gone in time."""
    deadline = time.monotonic() + within
    while members(group):
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_everything_at_once(number: signal.Signals) -> None:
    with started() as (process, addresses):
        assert list(addresses) == ["AWS Marketplace", "Your application", "The API", "DynamoDB and SQS"]
        assert call("GET", addresses["Your application"]).status == 200
        assert call("GET", f"{addresses['The API']}/register").status == 200
        begin = time.monotonic()
        os.killpg(process.pid, number)  # as a terminal does: the whole group gets it

        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begin < 2
        assert gone(process.pid)


def test_a_killed_stack_leaves_no_orphan() -> None:
    with started() as (process, addresses):
        assert call("GET", f"{addresses['The API']}/register").status == 200
        assert len(members(process.pid)) >= 3  # itself, the process that environments come from, an environment
        process.kill()
        process.wait()

        assert gone(process.pid)


def test_a_taken_port_ends_it_with_a_word() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--moto-port", str(port))

    assert done.returncode == 1
    assert f"local: port {port} for moto (--moto-port) is taken" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--parameter", "ProductCodes"), 2, "KEY=VALUE"),
        (("--parameter", "Colour=red"), 1, "no parameter Colour"),
        (("--template", "nowhere.yaml"), 1, "nowhere.yaml"),
        (("--log", "/nowhere/log"), 2, "/nowhere/log"),
        (("--clock", "sundial"), 1, "sundial"),
    ],
)
def test_what_can_t_be_done_is_said(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = run(*arguments)

    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=STARTUP_SECONDS,
        check=False,
    )
