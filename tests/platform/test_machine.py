"""What a skipped test does to a run: named at the end where the machine is a person's, a failure where it is CI's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.template import ROOT

TESTS = """
import pytest

@pytest.mark.docker
def test_in_a_container(): ...

def test_anywhere(): ...
"""
SKIPPED_MODULE = "import pytest\npytest.skip('not today', allow_module_level=True)\n"  # what CI must fail on
MARKERS = "[pytest]\nmarkers =\n    docker: x\n    dynamodb_local: x\n    browser: x\n"


def run(folder: Path, tests: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_here.py").write_text(tests)
    (folder / "pytest.ini").write_text(MARKERS)
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "REQUIRE_ALL"}}
    environment |= {"PATH": str(folder), "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.machine", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_person_is_told_what_did_not_run_and_why(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS)
    assert done.returncode == 0, done.stdout
    assert "docker: 1 not run: needs Docker" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("variable", ["CI", "REQUIRE_ALL"])
def test_ci_fails_on_a_skip(tmp_path: Path, variable: str) -> None:
    done = run(tmp_path, TESTS, **{variable: "true"})
    assert done.returncode == 1, done.stdout
    assert "needs Docker" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_ci_fails_on_a_module_that_skips_itself(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPPED_MODULE).returncode == 5
    done = run(tmp_path, SKIPPED_MODULE, CI="1")
    assert done.returncode == 2, done.stdout
    assert "not today" in done.stdout
