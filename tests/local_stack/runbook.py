"""The screens of docs/operations.md: a story is played on a whole system, and each command of the document is run in
it. A test compares; this writes the document's blocks anew:

    make screens
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from local import stack as local_stack
from local.options import Options
from local.stack import Stack
from marketplace_saas_cli.__main__ import main
from tests.local_stack.browser import Neighbourhood
from tools.template import ROOT

DOCUMENT = ROOT / "docs" / "operations.md"
PRODUCT = "ca2payasyougoproduct00000"
HOUR = 3600
_BLOCK = re.compile(
    r"^(?P<indent> *)```console (?P<label>[^\n]+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IDS = (
    "5d2e8c1a-7f4b-4c39-9a61-0b3f8e6d2c47",
    "2b28fef0-2b9c-414e-a5ac-06d864c2f2e3",
    "c1f4a7d2-3e59-4b80-8d16-7a9e0c5b4f21",
)
USAGE = """id,subscription_id,dimension,quantity,timestamp,tag:team
{rows}"""


class Duty:
    """Somebody who runs commands beside the system of the story."""

    def __init__(self, stack: Stack) -> None:
        self._local = f"--local={stack.aws_url.rpartition(':')[2]}"
        self.screens: dict[str, str] = {}

    def run(self, label: str, *arguments: str) -> None:
        """Runs a command and keeps its screen under a label, as a person sees it."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main([*arguments, self._local])
        lines = [line.rstrip() for line in said.getvalue().splitlines()]
        shown = " ".join(f'"{one}"' if " " in one else one for one in arguments)
        text = "\n".join([f"$ marketplace-saas {shown}", *(line for line in lines if line), ""])
        # AWS draws these ids, and how many it draws before depends on who is faster.
        drawn = dict.fromkeys(found[0] for found in _UUID.finditer(text))
        for one, fixed in zip(drawn, _IDS, strict=False):
            text = text.replace(one, fixed)
        self.screens[label] = text


def story(stack: Stack) -> dict[str, str]:
    """Plays the story, and answers the screen of each label."""
    duty, outside = Duty(stack), Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    code = outside.register(outside.buy(PRODUCT, "111122223333")["id"]).rsplit("/", 1)[1]
    subscription_id: str = outside.claim(code, "acme")["subscription_id"]
    stack.advance(120)
    rows = "".join(
        f"req-{number},{subscription_id},api_calls,{number % 7 * 100},2026-11-22T12:{number % 40 + 14}:00Z,search\n"
        for number in range(1001, 1041)
    )
    Path("usage.csv").write_text(USAGE.format(rows=rows))
    stack.advance(40 * 60)
    duty.run("usage import", "usage", "import", "usage.csv", "--yes")
    record = {"id": "req-2001", "subscription_id": subscription_id, "dimension": "API_calls", "quantity": 300}
    outside.report([record])
    stack.advance(2 * HOUR)
    outside.report([{**record, "id": "req-2002", "dimension": "api_calls", "quantity": 120}])
    queue = next(one.name for one in stack.deployment.queues if "DeadLetter" in one.name)
    stack.aws.client("sqs").send_message(QueueUrl=stack.queue_url(queue), MessageBody="<not json>")

    duty.run("status", "status")
    duty.run("usage list", "usage", "list")
    duty.run("trace", "trace", "req-1002")
    duty.run("subscriptions show", "subscriptions", "show", subscription_id)
    duty.run("queue show", "queue", "show")
    duty.run("doctor", "doctor")
    duty.run("forecast", "forecast", "--price", "api_calls=0.001")
    duty.run("statement", "statement", subscription_id)
    duty.run("retry", "retry", subscription_id, "--dimension", "API_calls", "--yes")
    stack.schedules.spacing = {"MeterUsageSchedule": 6 * HOUR}  # few runs of a plain day show as much as all
    stack.advance(24 * HOUR)
    stack.schedules.spacing = {}
    outside.report([{**record, "id": "req-3001", "dimension": "api_calls", "quantity": 60_000}])
    stack.advance(2 * HOUR)
    duty.run("approvals list", "approvals", "list")
    duty.run("approvals approve", "approvals", "approve", subscription_id, "--yes")
    return duty.screens


@contextlib.contextmanager
def played() -> Iterator[dict[str, str]]:
    """The screens, of a system that is always the same."""
    options = Options(
        clock="frozen:2026-11-22T12:10:00Z",
        log=io.StringIO(),
        metering_rate=None,
        seed=1,
        parameters={"AnomalyHoldFactor": "3"},
    )
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, local_stack.running(options) as stack:
        os.chdir(folder)
        try:
            yield story(stack)
        finally:
            os.chdir(before)


def blocks(text: str) -> dict[str, str]:
    """The screens that a document shows, by their labels."""
    return {
        found["label"]: re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        for found in _BLOCK.finditer(text)
    }


def written(text: str, screens: dict[str, str]) -> str:
    """The document with these screens."""

    def block(found: re.Match[str]) -> str:
        screen = re.sub("^(?=.)", found["indent"], screens[found["label"]], flags=re.MULTILINE)
        return f"{found['indent']}```console {found['label']}\n{screen}{found['indent']}```"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    with played() as shown:
        DOCUMENT.write_text(written(DOCUMENT.read_text(), shown))
    sys.stdout.flush()
    os._exit(0)
