"""Each function imports only what it needs: the modules of the layer that its app.py loads.

A module that is missing here makes a cold start slower without anybody having decided it; a module too many is gone.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
packages = {name for name in sys.modules if name.startswith("marketplace.")}
print(*(name for name in sorted(packages) if name.count(".") > 1))
"""

LOADED: dict[str, dict[str, str]] = {
    "entitlement_check": {
        "dynamodb": "attributes keys table transactions update",
        "entitlements": "entitlements rules source store terms",
        "ledger": "deadlines due_time recent record rescheduling",
        "lifecycle": "agreement_api changes facts joins lifecycle members messages notifications "
        "outcomes products reconciliation sqs_batch store timers waiting_gauges",
        "platform": "aws_errors backoff clients clock errors logs moments pages settings",
        "subscriptions": "free_trial identity model outbox predecessors reader recheck recheck_queue "
        "seller_events waiting",
        "usage": "contract_terms included_days overage report rerating results",
    },
    "meter_usage": {
        "dynamodb": "attributes keys table transactions update",
        "ledger": "deadlines due_index due_time record",
        "metering": "api backlog breaker heartbeat likely_refusals metrics outcomes "
        "rate report run settlement store wire",
        "platform": "aws_errors backoff clients clock errors settings",
        "subscriptions": "identity model reader recheck recheck_queue seller_events",
    },
    "reconcile_usage": {
        "dynamodb": "attributes keys table transactions update",
        "ledger": "due_time record",
        "platform": "aws_errors backoff clients clock errors settings",
        "reconcile": "cloudtrail compare difference evidence ledger schedule sorting store",
        "subscriptions": "identity model reader seller_events",
    },
    "resolve_customer": {
        "dynamodb": "attributes keys table transactions update",
        "platform": "aws_errors backoff clients clock deadline errors http logs problem settings",
        "registration": "codes contacts pages problems register routes seller style",
        "subscriptions": "identity model recheck recheck_queue seller_events waiting",
    },
    "seller_api": {
        "dynamodb": "attributes keys paging table transactions update",
        "entitlements": "entitlements rules source store terms",
        "ledger": "deadlines due_time recent record",
        "platform": "aws_errors backoff clients clock errors http logs moments pages problem settings",
        "registration": "account_links claim claim_history codes contacts free_trials",
        "seller_api": "problems requests routes subscription_queries views",
        "statements": "reader statement",
        "subscriptions": "free_trial identity model outbox predecessors reader recheck recheck_queue seller_events",
        "usage": "booking contract_terms included_days overage placement queries "
        "recorder report rerating results retry tag_sets",
    },
}


def loaded_by(function: str) -> dict[str, str]:
    """The layer's modules that the function's app.py loads, by package, in alphabetical order."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"functions.{function}.app"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'common'}"},
    )
    found: dict[str, list[str]] = {}
    for name in done.stdout.split():
        _, package, module = name.split(".")
        found.setdefault(package, []).append(module)
    return {package: " ".join(modules) for package, modules in found.items()}


@pytest.mark.parametrize("function", sorted(path.parent.name for path in ROOT.glob("functions/*/app.py")))
def test_a_function_loads_these_modules_of_the_layer_and_no_others(function: str) -> None:
    assert loaded_by(function) == LOADED[function]
