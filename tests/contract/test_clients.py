"""The clients' packages: current with the API's document, and fetchable by hash without the address of a registry."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from tools import python_operations, typescript
from tools.template import ROOT

PYTHON = ROOT / "clients" / "python"
MODULES = sorted((PYTHON / "marketplace_saas_client").glob("*.py"))
PACKAGE = json.loads((typescript.CLIENT / "package.json").read_text())
LOCK = json.loads(typescript.LOCK.read_text())


def test_the_python_calls_are_current() -> None:
    assert (ROOT / python_operations.MODULE).read_text() == python_operations.as_text(), (
        f"run: PYTHONPATH=.:layers/common python -m tools.python_operations > {python_operations.MODULE}"
    )


@pytest.mark.node
def test_the_typescript_types_are_current() -> None:
    if lacking := typescript.missing():
        pytest.skip(lacking)  # CI has Node, and fails on a skipped test
    assert typescript.TYPES.read_text() == typescript.types(), "run: python -m tools.typescript types"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_the_python_client_is_written_in_the_oldest_python_that_it_names(module: Path) -> None:
    wanted = tomllib.loads((PYTHON / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11"
    ast.parse(module.read_text(), feature_version=(3, 11))


def test_the_clients_have_the_same_version() -> None:
    python = tomllib.loads((PYTHON / "pyproject.toml").read_text())["project"]["version"]
    assert {python, PACKAGE["version"], LOCK["version"], LOCK["packages"][""]["version"]} == {"0.2.0"}


def test_every_package_of_the_typescript_lock_has_a_hash_and_none_an_address() -> None:
    locked = {path: package for path, package in LOCK["packages"].items() if path}
    assert len(locked) > 30
    assert [path for path, package in locked.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [path for path, package in locked.items() if "resolved" in package] == []


def test_the_typescript_lock_is_of_what_the_package_names_by_exact_version() -> None:
    for kind in ("dependencies", "devDependencies"):
        assert LOCK["packages"][""][kind] == PACKAGE[kind]
        for name, version in PACKAGE[kind].items():
            assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
            assert LOCK["packages"][f"node_modules/{name}"]["version"] == version
    assert set(PACKAGE["dependencies"]) == {"aws4fetch"}
