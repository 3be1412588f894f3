"""One `sam build` and one set of servers for all tests that run functions under `sam local`.

The servers end with the module: moto keeps its state in modules, and another test of the same process may start it.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import boto3
import pytest
from botocore.config import Config

from local.deployment import Deployment
from tools import dynamodb_local, sam_local
from tools.template import ROOT

SAM = ROOT / ".tools" / "sam" / "bin" / "sam"


class Servers(NamedTuple):
    """What the functions talk to: where it is, and what it holds."""

    ports: sam_local.Ports
    deployment: Deployment


Invoke = Callable[[str, Path | dict[str, Any]], Any]


PATIENCE = 600
"""Seconds; nothing takes so long, however busy the machine is."""


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return environment | {
        "SAM_CLI_TELEMETRY": "0",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment(), timeout=PATIENCE
    )


@pytest.fixture(scope="session")
def built() -> Path:
    """Answer the folder of a finished `sam build`."""
    made = _run("make", str(SAM.parent.parent.relative_to(ROOT) / ".installed"))
    assert made.returncode == 0, made.stderr
    done = _run(str(SAM), "build")
    assert done.returncode == 0, done.stderr
    return ROOT / ".aws-sam" / "build"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Answer DynamoDB Local, SQS, EventBridge and AWS Marketplace, furnished, on ports of their own."""
    dynamodb, aws, marketplace = (dynamodb_local.free_port() for _ in range(3))
    ports = sam_local.Ports(dynamodb, aws, marketplace)
    with sam_local.running(ports, works=False) as workers:
        yield Servers(ports, workers.deployment)


@pytest.fixture(scope="module")
def env_json(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer the file that tells the functions where the servers are."""
    path = tmp_path_factory.mktemp("sam-local") / "env.json"
    sam_local.write_env_json(servers.ports, path)
    return path


@pytest.fixture(scope="module")
def invoke_once(built: Path, env_json: Path) -> Invoke:
    """Answer how to run `sam local invoke` as a person does: a function's name and an event, to its answer."""

    def invoke(function: str, event: Path | dict[str, Any]) -> Any:
        command = (str(SAM), "local", "invoke", function, "-e", str(event), "--env-vars", str(env_json))
        done = _run(*command, "--skip-pull-image")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), done.stderr  # a function that was cut off answers nothing
        return json.loads(done.stdout.strip().splitlines()[-1])

    return invoke


@pytest.fixture(scope="module")
def invoke(built: Path, env_json: Path) -> Iterator[Invoke]:
    """Answer how to run a function: its name and an event, in the Lambda image, to its answer. Its container stays warm
    for the next event."""
    port = dynamodb_local.free_port()
    command = (
        *(str(SAM), "local", "start-lambda", "--port", str(port), "--env-vars", str(env_json), "--skip-pull-image"),
        *("--warm-containers", "LAZY", "--add-host", "host.docker.internal:host-gateway"),
        *("--parameter-overrides", "Stage=local MeteringEnabled=true Architecture=x86_64"),
    )
    log = env_json.with_name("sam.log")
    with log.open("w") as written, _started(command, written) as process:
        wait_until(lambda: process.poll() is not None or _listens(port), seconds=PATIENCE)
        assert process.poll() is None, log.read_text()
        client = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(read_timeout=PATIENCE, retries={"total_max_attempts": 1}),
        )

        def invoke(function: str, event: Path | dict[str, Any]) -> Any:
            given = event.read_text() if isinstance(event, Path) else json.dumps(event)
            answer = client.invoke(FunctionName=function, Payload=given.encode())
            return json.load(answer["Payload"])

        yield invoke
        client.close()


@contextmanager
def _started(command: Sequence[str], log: TextIO) -> Iterator[subprocess.Popen[bytes]]:
    """SAM CLI, which removes its containers when it is interrupted."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def marketplace(servers: Servers) -> Callable[..., Any]:
    """Answer how to ask the emulator: a path under /admin and, to POST, a body."""

    def ask(path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310  the address is this test's own server
            f"{servers.ports.urls()[2]}/admin/{path}", None if body is None else json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
            return json.load(answer)

    return ask


def wait_until(ready: Callable[[], Any], seconds: float = 120) -> Any:
    """Answer what `ready` answers once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found
