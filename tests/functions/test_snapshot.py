"""SnapStart: what the initialised functions hold when Lambda takes its snapshot, and what two environments restored
from it do. A forked process stands for a restored environment: it begins with everything that its parent holds. Python
seeds its random numbers again after a fork, and not after a restore; so that is undone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ["resolve_customer", "seller_api"]

PROGRAM = """
import gc, importlib, json, os, random, socket, sys, types, uuid
hooks = []
if sys.argv[2] == "hooks":
    library = types.ModuleType("snapshot_restore_py")
    library.register_after_restore = lambda hook, *given, **named: hooks.append((hook, given, named))
    sys.modules["snapshot_restore_py"] = library
app = importlib.import_module(f"functions.{sys.argv[1]}.app")
from botocore.client import BaseClient
from marketplace.metering.rate import CallRate
from marketplace.registration.codes import new_code
held = [type(one).__name__ for one in gc.get_objects() if isinstance(one, (BaseClient, CallRate, socket.socket))]

state = random.getstate()

def restored():
    reader, writer = os.pipe()
    if os.fork() == 0:
        random.setstate(state)
        for hook, given, named in hooks:
            hook(*given, **named)
        drawn = {"code": new_code(), "id": uuid.uuid4().hex, "jitter": random.random()}
        os.write(writer, json.dumps(drawn).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reader, 4096))

print(json.dumps({"held": held, "composed": app.routes.cache_info().currsize, "restored": [restored(), restored()]}))
"""


def initialised(function: str, hooks: str = "hooks") -> dict[str, Any]:
    """What the function holds once it is initialised, and what two environments restored from that draw."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, function, hooks],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'common'}", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_snapshot_holds_no_connection_and_no_token_bucket(function: str) -> None:
    """A bucket's clock and a client's connections are of one environment, so each makes them at its first request."""
    found = initialised(function)
    assert (found["held"], found["composed"]) == ([], 0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("drawn", ["code", "id", "jitter"])
def test_two_restored_environments_draw_different_numbers(function: str, drawn: str) -> None:
    one, other = initialised(function)["restored"]
    assert one[drawn] != other[drawn]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_the_hook_they_would_wait_alike_and_their_ids_differ_still(function: str) -> None:
    one, other = initialised(function, "no hooks")["restored"]
    assert one["jitter"] == other["jitter"]
    assert one["code"] != other["code"]
    assert one["id"] != other["id"]
