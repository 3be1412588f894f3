"""One `sam build` and one set of servers for all tests that run functions under `sam local`.

The servers end with the module: moto keeps its state in modules, and another test of the same process may start it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
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
from tests.support.machine import LAMBDA_IMAGE_314
from tools import dynamodb_local, sam_local
from tools.template import ROOT

SAM = ROOT / ".tools" / "sam" / "bin" / "sam"


Invoke = Callable[[str, Path | dict[str, Any]], Any]


class Servers(NamedTuple):
    """What the functions talk to: where it is, and what it holds. `invoke` runs a function of the source in a process
    of this machine, for what only prepares a test: it takes a fraction of a container's time."""

    ports: sam_local.Ports
    deployment: Deployment
    invoke: Invoke


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


def _run(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    variables = environment or _environment()
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=variables, timeout=PATIENCE
    )


@pytest.fixture(scope="session")
def built() -> Path:
    """Answer the folder of a finished `sam build`."""
    made = _run("make", str(SAM.parent.parent.relative_to(ROOT) / ".installed"))
    assert made.returncode == 0, made.stderr
    done = _run(str(SAM), "build")
    assert done.returncode == 0, done.stderr
    return ROOT / ".aws-sam" / "build"


@pytest.fixture(scope="session")
def built_for_314(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer the folder of a finished `sam build` with the parameter Runtime python3.14. Where this machine has no
    Python 3.14, the one of the Lambda image takes its place."""
    folder = tmp_path_factory.mktemp("python3.14")
    variables = _environment()
    if shutil.which("python3.14") is None:
        stand_in = folder / "bin" / "python3.14"
        stand_in.parent.mkdir()
        mounts = " ".join(f"--volume {one}:{one}" for one in sorted({"/tmp", str(ROOT), str(folder)}))
        stand_in.write_text(
            "#!/bin/sh\n"
            f'exec docker run --rm --network none --entrypoint python3.14 {mounts} --workdir "$PWD" '
            f'--env PYTHONHASHSEED {LAMBDA_IMAGE_314} "$@"\n'
        )
        stand_in.chmod(0o755)
        variables["PATH"] = f"{stand_in.parent}:{variables['PATH']}"
    options = ("--no-cached", "--build-dir", str(folder / "build"), "--parameter-overrides", "Runtime=python3.14")
    done = _run(str(SAM), "build", *options, environment=variables)
    assert done.returncode == 0, done.stderr
    checked = _run(
        sys.executable, "-m", "tools.check_layer", str(folder / "build" / "CommonLayer"), environment=variables
    )
    assert "cpython-314" in checked.stdout, checked.stderr
    return folder / "build"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Answer DynamoDB Local, SQS, EventBridge and AWS Marketplace, furnished, on ports of their own."""
    dynamodb, aws, marketplace = (dynamodb_local.free_port() for _ in range(3))
    ports = sam_local.Ports(dynamodb, aws, marketplace)
    with sam_local.running(ports, works=False) as workers:
        yield Servers(ports, workers.deployment, workers.runtime.invoke)


@pytest.fixture(scope="module")
def env_json(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer the file that tells the functions where the servers are."""
    path = tmp_path_factory.mktemp("sam-local") / "env.json"
    sam_local.write_env_json(servers.ports, path)
    return path


OVERRIDES = "Stage=local MeteringEnabled=true Architecture=x86_64"


def invocation(function: str, event: Path, env_json: Path) -> list[str]:
    """Answer the command that runs a function once, as a person does."""
    files = ("-e", str(event), "--env-vars", str(env_json))
    return [str(SAM), "local", "invoke", function, *files, "--skip-pull-image"]


@pytest.fixture(scope="module")
def invoke_once(built: Path, env_json: Path) -> Invoke:
    """Answer how to run `sam local invoke` as a person does: a function's name and an event, to its answer."""

    def invoke(function: str, event: Path | dict[str, Any]) -> Any:
        assert isinstance(event, Path)
        done = _run(*invocation(function, event, env_json))
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), done.stderr  # a function that was cut off answers nothing
        return json.loads(done.stdout.strip().splitlines()[-1])

    return invoke


@pytest.fixture(scope="module")
def invoke(built: Path, env_json: Path) -> Iterator[Invoke]:
    """Answer how to run a function: its name and an event, in the Lambda image, to its answer. Its container stays warm
    for the next event."""
    with _start_lambda(built, env_json, OVERRIDES) as run:
        yield run


@pytest.fixture(scope="module")
def invoke_314(built_for_314: Path, env_json: Path) -> Iterator[Invoke]:
    """As `invoke`, with Python 3.14."""
    with _start_lambda(built_for_314, env_json, f"{OVERRIDES} Runtime=python3.14") as run:
        yield run


@pytest.fixture(scope="module")
def api(built: Path, env_json: Path) -> Iterator[str]:
    """Answer the address of `sam local start-api`."""
    with _serving("start-api", built, env_json, OVERRIDES) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _start_lambda(built: Path, env_json: Path, overrides: str) -> Iterator[Invoke]:
    with _serving("start-lambda", built, env_json, overrides) as port:
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
def _serving(command: str, built: Path, env_json: Path, overrides: str) -> Iterator[int]:
    """`sam local start-lambda` or `start-api`, listening on the port that is answered."""
    port = dynamodb_local.free_port()
    options = (
        *(str(SAM), "local", command, "--template", str(built / "template.yaml"), "--port", str(port)),
        *("--env-vars", str(env_json), "--skip-pull-image", "--warm-containers", "LAZY"),
        *("--add-host", "host.docker.internal:host-gateway", "--parameter-overrides", overrides),
    )
    log = env_json.with_name(f"{command}-{port}.log")
    with log.open("w") as written, started(options, written) as process:
        wait_until(lambda: process.poll() is not None or _listens(port), seconds=PATIENCE)
        assert process.poll() is None, log.read_text()
        yield port


@contextmanager
def started(command: Sequence[str], log: TextIO) -> Iterator[subprocess.Popen[bytes]]:
    """SAM CLI, whose servers remove their containers when they are terminated. The background processes of a shell
    ignore an interrupt."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
    try:
        yield process
    finally:
        process.terminate()
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
    """Answer how to ask the emulator: a path under /admin, to POST a body, and another method."""

    def ask(path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310  the address is this test's own server
            f"{servers.ports.urls()[2]}/admin/{path}",
            None if body is None else json.dumps(body).encode(),
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310  as above
            return json.load(answer)

    return ask


def wait_until(ready: Callable[[], Any], seconds: float = 120) -> Any:
    """Answer what `ready` answers once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found
