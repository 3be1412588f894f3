"""Each function imports only what it needs: the modules of the layer that its app.py loads.

A module that is missing here makes a cold start slower without anybody having decided it; a module too many is gone.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted(sys.modules))
"""

LOADED: dict[str, dict[str, str]] = {
    "archive_usage": {
        "archive": "archiver bucket content marks reader",
        "dynamodb": "attributes keys paging table transactions update",
        "ledger": "conflict correction deadlines due_time record seal",
        "platform": "aws_errors backoff clients clock errors seller_role settings",
        "statements": "reader statement",
        "subscriptions": "identity model reader",
    },
    "entitlement_check": {
        "corrections": "decisions store",
        "dynamodb": "attributes keys table transactions update",
        "entitlements": "entitlements rules source store terms",
        "ledger": "activity correction deadlines due_time recent record rescheduling seal selections",
        "lifecycle": "agreement_api changes facts joins lifecycle members messages notifications "
        "outcomes products reconciliation sqs_batch stopped_usage store timers waiting_gauges",
        "platform": "aws_errors backoff clients clock errors logs pages seller_role settings",
        "subscriptions": "free_trial identity model outbox predecessors reader recheck recheck_queue "
        "seller_events waiting",
        "usage": "contract_terms included_days overage record rerating results taking_back term_counter",
    },
    "meter_usage": {
        "dynamodb": "attributes keys table transactions update",
        "ledger": "activity deadlines due_index due_time record seal selections",
        "metering": "anomaly api approval backlog breaker heartbeat likely_refusals metrics outcomes "
        "rate report run settlement store usual_usage wire",
        "platform": "aws_errors backoff clients clock errors seller_role settings",
        "subscriptions": "identity model reader recheck recheck_queue seller_events waiting",
    },
    "reconcile_usage": {
        "archive": "bucket content marks reader",
        "dynamodb": "attributes keys table transactions update",
        "ledger": "conflict deadlines due_time record seal selections",
        "platform": "aws_errors backoff clients clock errors seller_role settings",
        "reconcile": "cloudtrail compare difference evidence ledger schedule sorting store",
        "subscriptions": "identity model reader seller_events waiting",
    },
    "resolve_customer": {
        "dynamodb": "attributes keys table transactions update",
        "platform": "aws_errors backoff clients clock deadline errors http logs problem seller_role settings snapshot",
        "registration": "codes contacts pages problems register routes seller style",
        "subscriptions": "identity model recheck recheck_queue seller_events waiting",
    },
    "seller_api": {
        "archive": "bucket content marks reader",
        "dynamodb": "attributes keys paging table transactions update",
        "entitlements": "entitlements rules source store terms",
        "ledger": "change conflict correction deadlines due_time recent record seal selections",
        "platform": "aws_errors backoff clients clock errors http logs moments pages problem seller_role settings "
        "snapshot",
        "registration": "account_links claim claim_history codes contacts free_trials",
        "seller_api": "problems requests routes subscription_queries views",
        "statements": "reader statement",
        "subscriptions": "free_trial identity model outbox predecessors reader recheck recheck_queue seller_events "
        "waiting",
        "usage": "approval booking contract_terms included_days overage placement queries record recorder report "
        "rerating results retry tag_sets taking_back term_counter void",
    },
}


HEAVY = {"boto3", "s3transfer", "multiprocessing", "pydantic", "jinja2"}
"""Each takes a tenth of a function's initialisation or more (docs/performance.md)."""
NEEDED_BY: dict[str, set[str]] = {"seller_api": {"pydantic"}}


@cache
def modules_of(function: str) -> tuple[str, ...]:
    """Everything that the function's app.py loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"functions.{function}.app"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'common'}"},
    )
    return tuple(done.stdout.split())


def loaded_by(function: str) -> dict[str, str]:
    """The layer's modules that the function's app.py loads, by package, in alphabetical order."""
    found: dict[str, list[str]] = {}
    for name in modules_of(function):
        if name.startswith("marketplace.") and name.count(".") > 1:
            _, package, module = name.split(".")
            found.setdefault(package, []).append(module)
    return {package: " ".join(modules) for package, modules in found.items()}


FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/app.py"))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_loads_these_modules_of_the_layer_and_no_others(function: str) -> None:
    assert loaded_by(function) == LOADED[function]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_loads_a_heavy_library_only_if_it_needs_it(function: str) -> None:
    assert HEAVY & set(modules_of(function)) == NEEDED_BY.get(function, set())
