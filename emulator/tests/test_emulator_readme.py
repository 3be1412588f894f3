"""The README's tables are complete, and name tests that exist."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from marketplace_emulator import Settings, serve
from marketplace_emulator.admin import _ROUTES, PURCHASE_ACTIONS
from marketplace_emulator.differences import KINDS
from marketplace_emulator.faults import FAULTS
from marketplace_emulator.outbox import ACTIONS

HERE = Path(__file__).parent
README = (HERE.parent / "README.md").read_text(encoding="utf-8")


def section(title):
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_test_named_in_the_table_exists():
    named = set(re.findall(r"`(test_\w+)`", section("Rule, source, test")))
    defined = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.M)
    }
    assert len(named) > 50
    assert named - defined == set()


def test_every_setting_fault_route_and_rule_is_described():
    admin = section("Admin API")
    assert [item.name for item in fields(Settings) if f"`{item.name}`" not in section("Settings")] == []
    assert [name for name in FAULTS if f"`{name}`" not in section("Faults")] == []
    assert [name for name in KINDS if f"`{name}`" not in section("Evidence, and planted differences")] == []
    assert [name for name in _ROUTES if f"/{name}" not in admin] == []
    assert [name for name in (*PURCHASE_ACTIONS, *ACTIONS) if f"`{name}`" not in admin] == []


def test_the_quick_start_runs_as_printed():
    example = README.split("```python\n")[1].split("```")[0]
    variables = dict.fromkeys(re.findall(r"(AWS_ENDPOINT_URL_\w+)=", README))
    assert len(variables) == 4
    with serve() as server:
        credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        found = subprocess.run(  # noqa: S603  our own README
            [sys.executable, "-c", example.replace("http://127.0.0.1:4599", server.url)],
            env=os.environ | dict.fromkeys(variables, server.url) | credentials | {"AWS_DEFAULT_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert found.stdout.split() == ["Success", "DuplicateRecord"], found.stderr
