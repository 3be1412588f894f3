"""Functions run as Lambda runs them: apart from each other, one event at a time each, cut off when their time is up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.deployment import Function
from local.options import IMPORT_PATH
from local.runtime import BusyError, FunctionError, FunctionTimeoutError, Runtime, StoppedError

CODE = '''
"""A function for tests."""
import os, time
from functools import cache
from marketplace.platform.clock import utc_now

count = 0

def handler(event, context):
    global count
    count += 1
    match event["do"]:
        case "count": return [os.getpid(), count]
        case "env":
            return [os.environ.get(event["name"]), __name__, sorted(n for n in os.environ if n.startswith("X_"))]
        case "context":
            return [context.function_name, context.aws_request_id, context.get_remaining_time_in_millis(),
                    context.memory_limit_in_mb, context.invoked_function_arn]
        case "time": return utc_now().isoformat()
        case "print": print(event["text"]); return None
        case "raise": raise ValueError("no")
        case "exit": os._exit(3)
        case "unserialisable": return {1, 2}
        case "wait":
            open(event["here"], "w").close()
            while not os.path.exists(event["until"]): time.sleep(0.01)
            return "waited"
'''

type Deploy = Callable[..., Runtime]


@contextmanager
def waiting(runtime: Runtime, folder: Path) -> Iterator[list[Any]]:
    """An event that is being handled until the block ends; what came of it is in the list then."""
    outcome: list[Any] = []
    order = {"do": "wait", "here": str(folder / "here"), "until": str(folder / "go")}

    def invoke() -> None:
        try:
            outcome.append(runtime.invoke("F", order))
        except StoppedError as error:
            outcome.append(error)

    thread = threading.Thread(target=invoke)
    thread.start()
    while not (folder / "here").exists():
        pass
    yield outcome
    (folder / "go").touch()
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def started() -> Iterator[Runtime]:
    runtime = Runtime(IMPORT_PATH)
    runtime.clock.write(1_795_348_800.0, 0)
    yield runtime
    runtime.stop()


@pytest.fixture
def printed() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def deploy(started: Runtime, printed: list[tuple[str, str]], tmp_path: Path) -> Deploy:
    """Deploys one function named F with this code."""

    def deployed(code: str = CODE, **changes: Any) -> Runtime:
        (tmp_path / "app.py").write_text(code)
        given = {"timeout": 5, "concurrency": None, "environment": {"X_OWN": "1"}, "handler": "app.handler"} | changes
        function = Function("F", tmp_path, memory=512, **given)
        started.deploy({"F": function}, {"X_ALL": "2"}, lambda name, line: printed.append((name, line)))
        started.wait_until_ready()
        return started

    return deployed


def test_an_environment_keeps_its_memory(deploy: Deploy) -> None:
    runtime = deploy()
    first, second = runtime.invoke("F", {"do": "count"}), runtime.invoke("F", {"do": "count"})

    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == (1, 2)


def test_a_function_is_imported_as_app_with_its_own_variables_and_nobody_else_s(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X_PERSONAL", "secret")

    assert deploy().invoke("F", {"do": "env", "name": "AWS_REGION"}) == ["us-east-1", "app", ["X_ALL", "X_OWN"]]


def test_the_context_is_lambda_s(deploy: Deploy) -> None:
    name, request_id, left, memory, arn = deploy().invoke("F", {"do": "context"})

    assert (name, memory) == ("F", 512)
    assert 4000 < left <= 5000
    assert arn.endswith(":function:F")
    assert request_id


def test_the_product_s_clock_is_the_emulator_s(deploy: Deploy) -> None:
    runtime = deploy()
    assert runtime.invoke("F", {"do": "time"}) == "2026-11-22T12:00:00+00:00"
    runtime.clock.write(1_795_352_400.0, 0)
    assert runtime.invoke("F", {"do": "time"}) == "2026-11-22T13:00:00+00:00"
    runtime.clock.write(None, 10 * 365 * 86400)
    assert runtime.invoke("F", {"do": "time"}) > "2035"
    runtime.clock.write(1_795_348_800.0, 0)


def test_what_is_printed_is_there_before_the_answer(deploy: Deploy, printed: list[tuple[str, str]]) -> None:
    deploy().invoke("F", {"do": "print", "text": "one"})

    assert printed == [("F", "one")]


@pytest.mark.parametrize(
    ("order", "kind"),
    [("raise", "ValueError"), ("unserialisable", "TypeError"), ("exit", "Runtime.ExitError")],
)
def test_failures_are_told(deploy: Deploy, printed: list[tuple[str, str]], order: str, kind: str) -> None:
    runtime = deploy()
    with pytest.raises(FunctionError) as raised:
        runtime.invoke("F", {"do": order})

    assert raised.value.kind == kind
    assert order == "exit" or any("Traceback" in line for _, line in printed)
    assert runtime.invoke("F", {"do": "count"})[1] >= 1


def test_a_function_that_can_t_be_imported_says_why(deploy: Deploy, printed: list[tuple[str, str]]) -> None:
    with pytest.raises(FunctionError, match="no_such_module"):
        deploy("import no_such_module").invoke("F", {})

    assert any("no_such_module" in line for _, line in printed)


def test_an_answer_that_takes_too_long_ends_the_environment(deploy: Deploy, tmp_path: Path) -> None:
    runtime = deploy(timeout=1)
    before = runtime.invoke("F", {"do": "count"})
    with pytest.raises(FunctionTimeoutError, match="timed out after 1 seconds"):
        runtime.invoke("F", {"do": "wait", "here": str(tmp_path / "here"), "until": str(tmp_path / "never")})

    assert runtime.invoke("F", {"do": "count"})[0] != before[0]


def test_one_event_at_a_time_in_an_environment_and_more_environments_for_more_events(
    deploy: Deploy, tmp_path: Path
) -> None:
    runtime = deploy()
    with waiting(runtime, tmp_path) as outcome:
        assert runtime.invoke("F", {"do": "count"})[1] == 1

    assert outcome == ["waited"]


def test_reserved_concurrency_is_kept(deploy: Deploy, tmp_path: Path) -> None:
    runtime = deploy(concurrency=1)
    with waiting(runtime, tmp_path), pytest.raises(BusyError):
        runtime.invoke("F", {"do": "count"}, wait=0.01)


def test_stopping_ends_what_is_running(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CODE)
    runtime = Runtime(IMPORT_PATH)
    runtime.deploy({"F": Function("F", tmp_path, "app.handler", 60, 128, None, {})}, {}, lambda _name, _line: None)
    runtime.wait_until_ready()
    with waiting(runtime, tmp_path) as outcome:
        runtime.stop()

    assert [type(one) for one in outcome] == [StoppedError]
    with pytest.raises(StoppedError):
        runtime.invoke("F", {"do": "count"})
