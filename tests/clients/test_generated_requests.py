"""Schemathesis sends requests that it makes from the API's document, right and wrong ones, to the whole system: each
answer is one that the document names, what the document allows is taken, and what it forbids is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local import stack as local_stack
from local.options import Options
from local.stack import Stack
from tests.local_stack.browser import Neighbourhood
from tools import openapi

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
RULES_IN_TEXT = (
    *("listSubscriptions", "getEntitlements", "listUsage", "listClaims"),  # between parameters, and whose cursor it is
    "getStatement",  # whose cursor it is
    *("claimRegistration", "claimSubscription", "releaseClaim", "transferClaim"),  # printable text
)
"""Operations with a rule that JSON Schema cannot say, or not in a form that generators understand: what fits the schema
may be refused. Their descriptions say the rules (tests/contract/test_api_documents.py)."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A whole system at noon."""
    options = Options(clock="frozen:2026-11-22T12:10:00Z", log=io.StringIO(), metering_rate=None)
    with local_stack.running(options) as running:
        yield running


@pytest.fixture(scope="module")
def known(stack: Stack) -> Mapping[str, str]:
    """Values for the parameters of paths, so that requests meet something."""
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    bought = outside.buy("ca1contractandconsumption", "111122223333", entitlements={"seats": 10})
    outside.advance(120)
    code = outside.register(bought["id"]).rsplit("/", 1)[1]
    subscription_id = outside.claim(code, "acme")["subscription_id"]
    stack.settle()
    record = {"id": "known", "subscription_id": subscription_id, "dimension": "api_calls", "quantity": 1}
    assert outside.report([record])[0]["status"] == "recorded"
    return {"path.subscription_id": subscription_id, "path.code": code, "path.record_id": "known"}


def schemathesis(
    stack: Stack, known: Mapping[str, str], folder: Path, document: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis with a document against the stack."""
    del document["security"], document["components"]["securitySchemes"]  # the clients' tests check signatures
    (folder / "openapi.json").write_text(json.dumps(document))
    given = ", ".join(f'"{name}" = "{value}"' for name, value in known.items())
    (folder / "schemathesis.toml").write_text(f"""
        seed = 20261122
        workers = 1
        continue-on-failure = true
        parameters = {{ {given} }}
        phases.stateful.enabled = false
        generation.max-examples = 20
        checks.unsupported_method.enabled = false  # API Gateway answers 404, not 405

        [[operations]]
        include-operation-id = {json.dumps(RULES_IN_TEXT)}
        checks.positive_data_acceptance.enabled = false

        [[operations]]
        include-operation-id = ["recordUsage", "voidUsage"]
        checks.negative_data_rejection.enabled = false  # a wrong record is rejected by itself, in an answer of 200
        """)
    command = [str(SCHEMATHESIS), "run", "openapi.json", "--url", stack.api_url, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_every_answer_to_a_generated_request_is_as_documented(
    stack: Stack, known: Mapping[str, str], tmp_path: Path
) -> None:
    done = schemathesis(stack, known, tmp_path, openapi.document())
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"Tested: {len(openapi.WORDS)}" in done.stdout


@pytest.mark.slow
def test_an_answer_that_is_not_as_documented_is_found(stack: Stack, known: Mapping[str, str], tmp_path: Path) -> None:
    document = openapi.document()
    document["components"]["schemas"]["Subscription"]["properties"]["access"] = {"type": "string"}
    document["components"]["schemas"]["SubscriptionDetails"]["properties"]["access"] = {"type": "string"}
    done = schemathesis(stack, known, tmp_path, document, "--include-operation-id", "getSubscription")
    assert done.returncode == 1
    assert "Response violates schema" in done.stdout
