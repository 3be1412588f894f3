"""A metering run in a container of its own that is killed while AWS Marketplace holds its answers back."""

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.local_invoke.conftest import PATIENCE, invocation, started, wait_until
from tests.local_invoke.story import EVENTS

ANSWERED = 3
"""So many calls of BatchMeterUsage are answered, and every later one is held back."""

AT_ONCE = 4
"""So many calls a run makes at once (`workers` of MeteringRun)."""


def kill_in_mid_run(env_json: Path, marketplace: Callable[..., Any], fault: str) -> None:
    """Start a metering run. Once all its workers wait for answers that do not come, because of this fault of the
    emulator, end its container with SIGKILL. AWS Marketplace answers again afterwards."""
    mark = f"killed-{uuid.uuid4().hex}"
    variables = json.loads(env_json.read_text())
    variables["Parameters"]["POWERTOOLS_SERVICE_NAME"] = mark
    marked = env_json.with_name(f"{mark}.json")
    marked.write_text(json.dumps(variables))
    held = {"operation": "BatchMeterUsage", "fault": fault, "seconds": PATIENCE, "skip": ANSWERED, "times": None}
    marketplace("faults", held)
    log = marked.with_suffix(".log")
    command = invocation("MeterUsageFunction", EVENTS / "schedule.json", marked)
    try:
        with log.open("w") as written, started(command, written) as process:

            def waits() -> bool:
                assert process.poll() is None, f"the run was over before it was killed: {log.read_text()}"
                [planned] = marketplace("faults")["planned"]
                return bool(planned["hits"] >= AT_ONCE)

            wait_until(waits, seconds=PATIENCE)
            # SAM CLI first: it would remove the container, or wait for it.
            process.kill()
            process.wait(PATIENCE)
            [container] = _containers_with(f"POWERTOOLS_SERVICE_NAME={mark}")
            _docker("kill", container)
            _docker("rm", container)
    finally:
        marketplace("faults", method="DELETE")


def _containers_with(variable: str) -> list[str]:
    """The running containers that have this environment variable."""
    return [
        container
        for container in _docker("ps", "--quiet").split()
        if variable in json.loads(_docker("inspect", "--format", "{{json .Config.Env}}", container) or "[]")
    ]


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    ended_meanwhile = arguments[0] == "inspect"  # a container of somebody else
    assert done.returncode == 0 or ended_meanwhile, done.stderr
    return done.stdout
