"""The commands of the documents, as pasted: each runs in a shell that has the lines which `make run` prints, with AWS's
own CLI, against the local stack. What cannot run there is named with the reason, and with what holds it instead."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import command, stack
from local.options import Options
from local.stack import Stack
from tests.local_stack.browser import Neighbourhood
from tools.documents import Block, blocks, documents
from tools.install_cli import PACKAGES
from tools.template import ROOT

NOT_HERE = {
    "make ": "each target is looked up in the Makefile, below",
    "sam build": "make build, and tests/template/test_stages.py for what follows",
    "sam deploy": "tests/template/test_stages.py resolves each one with SAM CLI",
    "sam local invoke": "tests/local_invoke",
    "pip install": "needs a registry; the clients are run from their sources in tests/clients",
    "npm install": "needs a registry; the packed client is run in tests/clients",
    "npm ci": "needs a registry; tests/clients packs the client",
    "npx tsc": "tests/clients compiles and runs the program with the same options",
    "aws cloudformation deploy": "moto's CloudFormation lacks what these templates make; tests/template reads them",
    "aws apigatewayv2": "the local API is no API of moto's; tests/rehearsal plays the stage without the route",
    "aws events start-replay": "the local stack has no archive; tests/rehearsal has one",
    "s3://$ARCHIVE_BUCKET": "a month must have passed; tests/local_stack/test_local_archive.py checks the same hashes",
    "$ARCHIVE_USAGE": "likewise; tests/local_stack/test_local_archive.py invokes it",
    "aws backup": "the local stack has no vault; tests/rehearsal has one",
    "uvx": "needs a registry and a service of advisories; .github/workflows/audit.yml",
    "sam publish": "publishes; tests/template packages the template",
    "aws cloudtrail": "the local stack has no CloudTrail, and says so",
    "marketplace-saas correct": "an invoice comes in the next month; tests/unit/test_corrections.py runs it",
    "marketplace-saas resolve": "nobody else meters here; tests/unit/test_conflicts.py has another sender",
    "marketplace-saas differences accept": "nothing differs here; tests/unit/test_difference_commands.py has some",
    "marketplace-saas put-back": "there is no restored table here; tests/unit/test_put_back.py has one",
    "aws dynamodb restore-table-to-point-in-time": "moto restores into a table without a name of the stack",
    "python report.py": "tests/documents/test_tutorial.py saves the program and runs it",
    "export SUBSCRIPTION_ID=sub-...": "a value of the reader's own",
}
"""Blocks that contain this do not run here, and why."""
SHELL = [block for document in documents() for block in blocks(document, "sh")]
HERE = [block for block in SHELL if not any(text in block.text for text in NOT_HERE)]
SAYS = {
    "--query 'Stacks[0].Outputs'": "FulfilmentUrl",
    '"$FULFILMENT_URL"': r"HTTP/1\.\d 200(?s:.*)\n308\n(?s:.*)token_missing",
    "--aws-sigv4": '"tenant_id": ?"acme"',
    "/admin/clock": "2026-11-22",
    "look_again": "MessageId",
    "marketplace-saas run": "(?i)units_at_risk|nothing was due",
    "queue redrive": "moved to notification: 1 message",
    "saas subscriptions reconcile": "(?s:requested.*requested)",
    "saas subscriptions recheck": "requested",
    "waiting --expect": "is expected to wait until 2027-01-01",
    "subscriptions activate": "activated",
    "subscriptions import": "2 customers: 2 imported",
    "subscriptions release": "sub-[a-z0-9]+: nobody",
    "subscriptions transfer": "sub-[a-z0-9]+: other-tenant",
    "forget-contact": "deletes 0 contacts",
    "saas rebuild": "as the inbox says",
    "saas reconcile": "(?s:compared with CloudTrail.*compared with CloudTrail.*compared with usage.csv)",
    "saas differences list": "no difference",
    "saas statement": "(?s:kind,day,dimension.*written to statement.html)",
    "get-item": "None",
}
"""What a block that contains this prints: an expression for a part of it."""
REFUSED = {
    "saas migrate": "marketplace-saas: the two are subscriptions to different products",
    "saas shadow": "marketplace-saas: this deployment has no MeteringStartsAt",
}
"""The emulator's products are others than the guide's, and it is the only meter, so these commands run as far as their
own answer to that."""
_CLAIM = 'marketplace-saas subscriptions claim "$SUBSCRIPTION_ID" acme'
FIRST = {"subscriptions release": _CLAIM, "subscriptions transfer": _CLAIM}
"""What has happened before a block that contains this makes sense."""
COMMAND = f"""#!/bin/sh
export PYTHONPATH={":".join(str(ROOT / package) for package in PACKAGES)}
{sys.executable} -m marketplace_saas_cli "$@" --yes
status=$?
[ "$status" -eq 1 ] || exit "$status"
"""
"""`marketplace-saas` as a person runs it who confirms everything. Status 1 is a finding and no failure."""
REPORT = "Usage date,Dimension key,Estimated usage,Agreement ID,Product code,Subscriber AWS account ID\n"
"""A seller report without a row."""
CONTRACT, LEGACY = "ca1contractandconsumption", "legacysubscriptionproduct"


@dataclass(frozen=True)
class Reader:
    """Somebody with a shell into which the lines of `make run` were pasted."""

    lines: str
    folder: Path
    stack: Stack
    given: dict[str, str]

    @property
    def outside(self) -> Neighbourhood:
        return Neighbourhood(self.stack.api_url, self.stack.marketplace_url, self.stack.console_url)

    def paste(self, text: str) -> tuple[int, str]:
        """The shell's exit code and what it prints. A command that fails ends it."""
        pasted = re.sub(r"^ *\w+=\w*#?\S*\.\.\..*$", "", text, flags=re.MULTILINE)  # values of the reader's own
        pasted = pasted.replace("http://127.0.0.1:4599", self.stack.marketplace_url)
        assert "..." not in re.sub(r"#.*", "", pasted)
        values = "\n".join(f"export {name}='{value}'" for name, value in self.given.items())
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.lines}\n{values}\n{pasted}"],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder}/bin:{ROOT / '.tools/awscli/bin'}:{os.environ['PATH']}",
                "HOME": str(self.folder),
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    options = Options(clock="frozen:2026-11-22T12:10:00Z", log=io.StringIO(), metering_rate=None, license_delay=10**8)
    with stack.running(options) as started:
        yield started


@pytest.fixture(scope="module")
def names(running: Stack) -> dict[str, str]:
    """An active subscription and its registration code, a legacy customer who waits for the activation, and one who
    has a licence too."""
    outside = Neighbourhood(running.api_url, running.marketplace_url, running.console_url)
    bought = outside.buy(CONTRACT, "111122223333", provision=True)
    outside.advance(120)
    code = outside.register(bought["id"]).rpartition("/")[2]
    outside.register(outside.buy(LEGACY, "222233334444")["id"])
    for product in (LEGACY, CONTRACT):
        outside.register(outside.buy(product, "333344445555", provision=True)["id"])
    outside.advance(1800)
    subscription = outside.get(f"/registrations/{code}")["subscription_id"]
    (pending,) = outside.get("/subscriptions?account_id=222233334444")["subscriptions"]
    both = outside.get("/subscriptions?account_id=333344445555")["subscriptions"]
    ids = {f"{one['integration'].upper()}_ID": one["subscription_id"] for one in both}
    return {
        "SUBSCRIPTION_ID": subscription,
        "PENDING": pending["subscription_id"],
        "CODE": code,
        "NAME": "UNASSIGNED#2026-11-27/EVENT#none",
        "AWS_SESSION_TOKEN": "",
        **ids,
    }


@pytest.fixture
def reader(running: Stack, names: dict[str, str], tmp_path: Path) -> Reader:
    for name in ("layers", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    (customers,) = blocks(Path("docs/integration.md"), "csv")
    sold = customers.text.replace("n0123EXAMPLEXXXXXXXXXXXX", LEGACY).replace("examplecode00000000000000", CONTRACT)
    (tmp_path / "customers.csv").write_text(sold)
    (tmp_path / "trail").mkdir()
    (tmp_path / "usage.csv").write_text(REPORT)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "marketplace-saas").write_text(COMMAND)
    (tmp_path / "bin" / "marketplace-saas").chmod(0o755)
    printed = command.welcome(running)
    lines = "\n".join(line for line in printed.splitlines() if re.match(r"export |unset |aws\(\)", line))
    return Reader(lines, tmp_path, running, dict(names))


@pytest.mark.awscli
@pytest.mark.slow
@pytest.mark.parametrize("block", HERE, ids=str)
def test_a_block_of_commands_works_as_pasted(reader: Reader, block: Block) -> None:
    for text, before in FIRST.items():
        if text in block.text:
            assert reader.paste(before)[0] == 0
    if "waiting --expect" in block.text or "subscriptions activate" in block.text:
        reader.given["SUBSCRIPTION_ID"] = reader.given["PENDING"]
    if "queue redrive" in block.text:
        queue = next(queue.name for queue in reader.stack.deployment.queues if "DeadLetter" in queue.name)
        reader.stack.aws.client("sqs").send_message(QueueUrl=reader.stack.queue_url(queue), MessageBody="never handled")
    code, printed = reader.paste(block.text)

    refused = [answer for text, answer in REFUSED.items() if text in block.text]
    assert code == (2 if refused else 0), printed
    for answer in refused or [answer for text, answer in SAYS.items() if text in block.text]:
        assert re.search(answer, printed), printed


def test_every_reason_and_every_answer_is_that_of_a_block() -> None:
    texts = "\n".join(block.text for block in SHELL)
    assert [text for text in (*NOT_HERE, *SAYS, *REFUSED) if text not in texts] == []


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for block in SHELL for target in re.findall(r"(?:^|&& |\()make ([a-z-]+)", block.text, re.MULTILINE)
    }
    assert {"run", "test", "sam-local"} <= named <= targets


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_reads_every_block(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("document", documents(), ids=str)
def test_programs_and_samples_can_be_read_as_pasted(document: Path) -> None:
    """A program that stands in a list is pasted with the list's indentation, so none does."""
    source = (ROOT / document).read_text()
    assert re.findall(r"^ +```(?:python|ts|json|yaml)$", source, re.MULTILINE) == []
    for block in blocks(document, "python"):
        ast.parse(block.text, str(block))
    for block in blocks(document, "json"):
        json.loads(block.text)
