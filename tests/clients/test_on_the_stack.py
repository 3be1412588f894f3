"""Each client against the whole system, as the integration guide has it: what the guide's example reports is billed."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from local import stack as local_stack
from local.options import Options
from local.signature import signed
from local.stack import Stack
from tests.clients.conftest import ENVIRONMENT
from tests.local_stack.browser import Answer, Neighbourhood, call
from tools import typescript

GUIDE = (typescript.ROOT / "docs" / "integration.md").read_text()
OPERATIONS = (typescript.ROOT / "docs" / "operations.md").read_text()
DOCUMENTED_SUBSCRIPTION = "sub-f67myk7wrzxm4ljyrh75axwx3u"
PRODUCT = "ca1contractandconsumption"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A whole system whose clock begins with the real time, because the examples take that. It gets some hours ahead of
    them, and AWS takes usage for a day."""
    with local_stack.running(Options(log=io.StringIO(), metering_rate=None, require_signature=True)) as running:
        yield running


class Outside(Neighbourhood):
    """The neighbourhood of a stack that requires signatures."""

    def post(self, path: str, body: Any) -> Answer:
        content = json.dumps(body)
        headers = {"content-type": "application/json"}
        return call(
            "POST", f"{self.api}{path}", content, signed("POST", f"{self.api}{path}", content.encode(), headers)
        )


@dataclass(frozen=True)
class Seller:
    """A seller with one active subscription, and a folder for the seller's application."""

    stack: Stack
    outside: Outside
    purchase: str
    subscription_id: str
    folder: Path

    def run(self, *command: str) -> str:
        """Run a command as the seller's application; answers what it prints."""
        environment = {**ENVIRONMENT, "MARKETPLACE_API": self.stack.api_url, "SUBSCRIPTION_ID": self.subscription_id}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def billed(self) -> Mapping[str, int]:
        """What AWS Marketplace has accepted two hours later, by dimension."""
        self.stack.advance(2 * 3600)
        bill: dict[str, int] = {}
        for record in self.outside.ledger(self.purchase):
            bill[record["dimension"]] = bill.get(record["dimension"], 0) + record["quantity"]
        return bill


@pytest.fixture
def seller(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Seller:
    outside = Outside(stack.api_url, stack.marketplace_url, stack.console_url)
    account = f"{crc32(request.node.name.encode()):012d}"
    bought = outside.buy(PRODUCT, account)
    outside.advance(120)
    code = outside.register(bought["id"]).rsplit("/", 1)[1]
    claimed = outside.claim(code, f"tenant-{account}")
    stack.settle()
    return Seller(stack, outside, bought["id"], claimed["subscription_id"], tmp_path)


def block(document: str, language: str, containing: str) -> str:
    """The code block of a document in a language that contains a text."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL) if containing in code]
    return str(found)


def test_the_guides_first_python_example_is_billed(seller: Seller) -> None:
    example = block(GUIDE, "python", "client.report(")
    printed = seller.run(sys.executable, "-c", example)
    assert printed == f"{line_comment(example, 'client.deliver()')}\n", "as the guide says"
    assert seller.run(sys.executable, "-c", example) == printed, "the repetition is the same usage"
    assert seller.billed() == {"api_calls": 1200}


def test_the_guides_other_python_calls_are_as_it_says(seller: Seller) -> None:
    setting = block(GUIDE, "python", "client.report(").split("client.report(")[0]
    bought = seller.outside.buy(PRODUCT, "123412341234", entitlements={"seats": 25})
    seller.outside.advance(120)
    code = seller.outside.register(bought["id"]).rsplit("/", 1)[1]
    calls = block(GUIDE, "python", "operations.get_entitlements")
    program = f"{setting}\nimport json\ncode = {code!r}\n{calls}\nprint(json.dumps([subscription, decision]))"
    subscription, decision = json.loads(seller.run(sys.executable, "-c", program))
    assert subscription["tenant_id"] == "acme"
    assert (decision["allowed"], decision["reason"]) == (False, "quantity_exceeded")


def test_the_python_application_is_billed(seller: Seller) -> None:
    application = typescript.ROOT / "clients" / "python" / "examples" / "report_usage.py"
    printed = seller.run(sys.executable, str(application), seller.subscription_id, "api_calls")
    assert printed.startswith("status: active\n")
    assert ": booked to " in printed
    assert seller.billed() == {"api_calls": 300}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript client as npm packs it, unpacked."""
    if lacking := typescript.missing():
        pytest.skip(lacking)  # CI has Node, and fails on a skipped test
    typescript.compile_client()
    home = tmp_path_factory.mktemp("packed")
    command = ("npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(home))
    packing = subprocess.run(command, cwd=typescript.CLIENT, capture_output=True, text=True, check=True)
    with tarfile.open(home / packing.stdout.strip()) as archive:
        archive.extractall(home, filter="data")
    return home / "package"


@pytest.fixture
def node_application(seller: Seller, packed: Path) -> Any:
    """Compiles and runs a program in an application that has the packed client installed."""
    modules = seller.folder / "node_modules"
    shutil.copytree(packed, modules / "marketplace-saas-client")
    for needed in ("aws4fetch", "@types", "undici-types"):
        (modules / needed).symlink_to(typescript.CLIENT / "node_modules" / needed)
    (seller.folder / "package.json").write_text('{"type": "module"}')

    def run(program: str, *arguments: str) -> str:
        (seller.folder / "app.ts").write_text(program)
        options = ("--strict", "--module", "nodenext", "--target", "es2022", "--types", "node")
        seller.run(str(typescript.install() / "tsc"), *options, "--exactOptionalPropertyTypes", "app.ts")
        return seller.run("node", "app.js", *arguments)

    return run


@pytest.mark.node
def test_the_guides_first_typescript_example_is_billed(seller: Seller, node_application: Any) -> None:
    example = block(GUIDE, "ts", "client.report(")
    printed = node_application(example)
    assert printed == f"{line_comment(example, 'client.deliver()')}\n", "as the guide says"
    assert seller.billed() == {"api_calls": 1200}


@pytest.mark.node
def test_the_guides_other_typescript_calls_are_as_it_says(seller: Seller, node_application: Any) -> None:
    setting = block(GUIDE, "ts", "client.report(").split("await client.report(")[0]
    bought = seller.outside.buy(PRODUCT, "432143214321", entitlements={"seats": 25})
    seller.outside.advance(120)
    code = seller.outside.register(bought["id"]).rsplit("/", 1)[1]
    calls = block(GUIDE, "ts", "/registrations/{code}/claim")
    program = f"{setting}\nconst code = {json.dumps(code)};\n{calls}\nconsole.log(JSON.stringify([claim, decision]));"
    claim, decision = json.loads(node_application(program))
    assert claim["tenant_id"] == "acme"
    assert (decision["allowed"], decision["reason"]) == (False, "quantity_exceeded")


@pytest.mark.node
def test_the_typescript_application_is_billed(seller: Seller, node_application: Any) -> None:
    application = (typescript.CLIENT / "examples" / "report-usage.ts").read_text()
    printed = node_application(application, seller.subscription_id, "api_calls")
    assert printed.startswith("status: active\n")
    assert ": booked to " in printed
    assert seller.billed() == {"api_calls": 300}


@pytest.mark.node
def test_the_documented_minimum_request_compiles_and_a_wrong_one_does_not(node_application: Any) -> None:
    minimum = """
        import type { components } from "marketplace-saas-client";
        const report: components["schemas"]["UsageReport"] =
          { id: "a", subscription_id: "sub-a", dimension: "api_calls", quantity: 1 };
        console.log(report.id);
    """
    assert node_application(minimum) == "a\n"
    with pytest.raises(AssertionError, match="TS2741"):
        node_application(minimum.replace(", quantity: 1", ""))


def line_comment(example: str, call: str) -> str:
    """What the guide says, behind a line's comment sign, that the line prints."""
    (line,) = [line for line in example.splitlines() if call in line]
    return re.split(r"(?:#|//) ", line, maxsplit=1)[1]
