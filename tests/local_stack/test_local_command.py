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
        process.printed = printed  # type: ignore[attr-defined]
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


def gone(group: int, within: float = 60) -> bool:
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

        assert process.stdout is not None
        assert process.stdout.read().endswith("Stopped. The state is lost.\n")
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begin < 30  # no process is waited for until it is killed
        assert gone(process.pid)


def test_the_export_lines_lead_a_shell_here() -> None:
    """What was printed is what the commands of the documents need, and all of it is this machine's."""
    with started() as (process, addresses):
        printed = process.printed  # type: ignore[attr-defined]
        script = "\n".join(line for line in printed.splitlines() if line.startswith(("export ", "unset ")))
        shown = subprocess.run(
            ["sh", "-c", f"{script}\nenv"],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"], "AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "mine"},
        ).stdout
        given = dict(line.partition("=")[::2] for line in shown.splitlines())

    assert "The state is lost when this ends; --keep DIR keeps it" in printed
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & set(given)
    assert given["AWS_DEFAULT_REGION"] == "us-east-1"
    assert given["MARKETPLACE_API"] == addresses["The API"]
    assert given["AWS_ENDPOINT_URL"] == addresses["DynamoDB and SQS"]
    assert given["AWS_ENDPOINT_URL_MARKETPLACE_METERING"] == addresses["AWS Marketplace"]
    assert given["USAGE_TABLE"] == "marketplace-saas-UsageTable"
    assert given["DLQ_URL"].startswith(addresses["DynamoDB and SQS"])
    wanted = set(re.findall(r"\$\{?([A-Z]+(?:_[A-Z]+)+)\b", (ROOT / "docs" / "operations.md").read_text()))
    of_the_reader, not_here = {"SUBSCRIPTION_ID", "RECORD_ID"}, {"ARCHIVE_BUCKET", "ARCHIVE_USAGE"}  # no archive here
    assert wanted - of_the_reader - not_here <= set(given)


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
        (("--parameter", "ProductCodes"), 2, "ProductCodes is not KEY=VALUE"),
        (("--parameter", "=x"), 2, "=x is not KEY=VALUE"),
        (("--parameter", "SealDelayMinutes=abc"), 1, "SealDelayMinutes=abc is not a number"),
        (("--port", "80000"), 2, "80000 is not a port; ports are from 0 to 65535"),
        (("--emulator-port", "-1"), 2, "-1 is not a port"),
        (("--host", "203.0.113.9"), 1, "can't listen on 203.0.113.9, port 0"),
        (("--host", "no such host"), 1, "can't listen on no such host, port 0"),
        (("--license-delay", "-3"), 2, "-3 is not a number of seconds from 0 on"),
        (("--license-delay", "nan"), 2, "nan is not a number of seconds from 0 on"),
        (("--sign-up", "fax"), 2, "invalid choice: 'fax'"),
        (("--keep", "/dev/null/state"), 1, "the state can't be kept in /dev/null/state"),
        (("--template", "Makefile"), 1, "Makefile is no template"),
        (("--template", "tests"), 1, "tests can't be read"),
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
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("local: ")


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
