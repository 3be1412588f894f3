"""The tutorial, done as it stands there: each link and button in bold is clicked, each value entered, each program run,
and each text in quotes seen. With PICTURES set to a folder, the tutorial's pictures are taken on the way
(`make pictures`)."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import command, stack
from local.options import Options
from local.stack import Stack
from tests.support.chromium import Page, page
from tests.support.machine import chromium
from tools.documents import blocks
from tools.template import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TUTORIAL = Path("docs/tutorial.md")
STEP = re.compile(
    r"```(?P<language>\w+)\n(?P<code>.*?)```|!\[[^\]]*\]\((?P<picture>[^)]+)\)|\]\((?P<address>http://127[^)]+)\)"
    r'|\*\*(?P<click>[^*]+)\*\*|Enter `(?P<value>[^`]+)`\s+as\s+\*(?P<field>[^*]+)\*|"(?P<seen>[^"]+)"',
    re.DOTALL,
)
THE_RECORD = "the record of the console"
WIDTH, HEIGHT = 1000, 720
IN_VIEW = {"proof": "#proof", "metered": "#usage", "reported": "#proof"}
"""What a picture begins with, if not with what is in view anyway."""


class Learner:
    """Somebody who follows the tutorial with a browser and a shell."""

    def __init__(self, running: Stack, tab: Page, folder: Path) -> None:
        self.running = running
        self.tab = tab
        self.folder = folder
        self.printed: str | None = None
        self.subscription_id = ""

    def do(self, step: re.Match[str]) -> None:
        """One step of the tutorial."""
        text = {name: " ".join(value.split()) for name, value in step.groupdict().items() if value}
        match step.lastgroup:
            case "code":
                self.run(step["language"], step["code"])
            case "picture":
                self.photograph(text["picture"])
            case "address":
                self.open(text["address"])
            case "click":
                self.click(text["click"])
            case "field":
                self.enter(text["field"], text["value"])
            case _:
                self.see(text["seen"])

    def open(self, address: str) -> None:
        self.printed = None
        ours = {"4599": self.running.marketplace_url, "8081": self.running.console_url}
        self.tab.go(ours[address.rpartition(":")[2]])

    def click(self, text: str) -> None:
        self.printed = None
        wanted = "^console-" if text == THE_RECORD else f"^{re.escape(text).replace('…', '.+')}$"
        self.tab.run(
            f"""window.wanted = () => [...document.querySelectorAll("a, button")].find(
              one => new RegExp({json.dumps(wanted)}).test(one.innerText.trim().replace(/\\s+/g, " "))
                && one.offsetParent !== null);0"""
        )
        waiting = """new Promise(done => {
          const look = left => wanted() || !left ? done(!!wanted()) : setTimeout(look, 100, left - 1);
          look(100);
        })"""
        assert self.tab.await_value(waiting), f"there is no link or button {text}"
        self.tab.run_and_load("wanted().click()")
        if found := re.search(r"\bsub-[a-z2-7]{26}\b", self.tab.url):
            self.subscription_id = found[0]

    def enter(self, field: str, value: str) -> None:
        self.tab.run(
            f"""(() => {{
              const label = [...document.querySelectorAll("label")].find(
                one => one.innerText.trim().startsWith({json.dumps(field)}) && one.offsetParent !== null);
              label.control.value = {json.dumps(value)};
            }})()"""
        )

    def run(self, language: str, code: str) -> None:
        if language == "python":
            (self.folder / "report.py").write_text(code)
            return
        if "report.py" not in code:
            return  # make run is what runs here, and installing the client needs a registry
        exports = [line for line in command.welcome(self.running).splitlines() if line.startswith("export ")]
        lines = [*exports, f"export SUBSCRIPTION_ID={self.subscription_id}", code.replace("python ", "$PYTHON ")]
        done = subprocess.run(
            ["bash", "-eu", "-c", "\n".join(lines)],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "clients/python")},
            capture_output=True,
            text=True,
            check=True,
        )
        first, second = done.stdout.splitlines()
        assert first == second
        self.printed = first

    def see(self, text: str) -> None:
        if self.printed is not None:
            assert text == self.printed
        else:
            self.tab.wait_for(text)

    def photograph(self, picture: str) -> None:
        assert (ROOT / TUTORIAL.parent / picture).is_file() or "PICTURES" in os.environ
        if folder := os.environ.get("PICTURES"):
            name = Path(picture)
            if place := IN_VIEW.get(name.stem):
                self.tab.run(f"document.querySelector({json.dumps(place)})?.scrollIntoView()")
            self.tab.screenshot(Path(folder) / name.name, whole=False)


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """The system as `make run` starts it: the program of the tutorial takes this machine's time."""
    with stack.running(Options(log=io.StringIO(), license_delay=5)) as started:
        yield started


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page(chromium() or "") as opened:
        opened.resize(WIDTH, HEIGHT)
        yield opened


def test_the_tutorial_works_as_it_stands_there(running: Stack, tab: Page, tmp_path: Path) -> None:
    learner = Learner(running, tab, tmp_path)
    steps = list(STEP.finditer((ROOT / TUTORIAL).read_text().partition("## 1.")[2].partition("## Next")[0]))
    for step in steps:
        try:
            learner.do(step)
        except Exception as error:
            raise AssertionError(f"the tutorial's step {step[0]!r} fails: {error}\n\n{tab.text}") from error
    assert len(steps) > 40
    bill = [line for line in running.marketplace.ledger.bill() if line.dimension == "api_calls"]
    assert sum(line.quantity for line in bill) == 100 + 1200 + 100
    assert [line for line in tab.console if "favicon" not in line] == []


def test_the_tutorials_program_is_the_integration_guides() -> None:
    (program,) = blocks(TUTORIAL, "python")
    guide = next(block for block in blocks(Path("docs/integration.md"), "python") if "client.report(" in block.text)

    def bare(text: str) -> str:
        return re.sub(r" *#.*", "", text)

    assert bare(guide.text).startswith(bare(program.text))


def test_every_picture_of_a_document_is_shown_and_small() -> None:
    for picture in (ROOT / "docs/images").iterdir():
        assert picture.suffix == ".png"
        assert picture.stat().st_size < 150_000
