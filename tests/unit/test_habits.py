"""What a project that others join needs: one version, locks that agree, files that a contributor finds."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import command
from tools import locks, versions
from tools.template import ROOT

PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text()))


def test_everything_has_one_version() -> None:
    assert versions.version() == "0.2.0"


def repository(folder: Path, *, application: str, changelog: str) -> Path:
    """The files that name a version."""
    (folder / "emulator" / "marketplace_emulator").mkdir(parents=True)
    (folder / "clients" / "typescript").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{application}"\n')
    (folder / "emulator" / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "emulator" / "marketplace_emulator" / "server.py").write_text('VERSION = "1.2.3"\n')
    (folder / "clients" / "typescript" / "package.json").write_text(json.dumps({"version": "1.2.3"}))
    (folder / "template.yaml").write_text(
        "Metadata:\n  AWS::ServerlessRepo::Application:\n    SemanticVersion: 1.2.3\n"
    )
    (folder / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {changelog}\n\n- This.\n\n## [1.2.2] - 2026-11-01\n\n- That.\n"
    )
    return folder


def test_a_release_s_notes_are_its_section_of_the_changelog(tmp_path: Path) -> None:
    root = repository(tmp_path, application="1.2.3", changelog="[1.2.3] - 2026-12-01")

    assert versions.notes("v1.2.3", root) == "- This.\n"


@pytest.mark.parametrize(
    ("application", "changelog", "tag", "complaint"),
    [
        ("1.2.4", "[1.2.3] - 2026-12-01", "v1.2.3", "the versions differ"),
        ("1.2.3", "[1.2.4] - 2026-12-01", "v1.2.3", "the versions differ"),
        ("1.2.3", "[1.2.3] - 2026-12-01", "v1.2.4", "is not v1.2.3"),
        ("1.2.3", "[Unreleased]: 1.2.3", "v1.2.3", "has no date"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(
    tmp_path: Path, application: str, changelog: str, tag: str, complaint: str
) -> None:
    root = repository(tmp_path, application=application, changelog=changelog)

    with pytest.raises(versions.VersionError, match=complaint):
        versions.notes(tag, root)


def test_what_runs_has_the_versions_that_are_tested_and_every_one_is_hashed() -> None:
    run, dev = pins("requirements-run.txt"), pins("requirements-dev.txt")

    assert run
    assert run.items() <= dev.items()
    assert len(run) < len(dev) / 2
    assert pins("layers/common/requirements.txt").items() <= run.items()
    for entry in (ROOT / "requirements-run.txt").read_text().split("\n\n")[0].split("==")[1:]:
        assert HASH.search(entry)


def test_locks_that_disagree_are_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-run.txt").write_text("a==1\nb==2\nc==3\n")
    (tmp_path / "requirements-cli.txt").write_text("a==1\nd==4\n")
    (tmp_path / "requirements-dev.txt").write_text("a==1\nb==3\n")

    assert locks.disagreeing(tmp_path) == ["b", "c", "d"]
    assert locks.disagreeing(ROOT) == []


@pytest.mark.parametrize(
    "name",
    [
        *("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", "LICENSE", ".editorconfig"),
        *(".pre-commit-config.yaml", ".devcontainer/devcontainer.json", ".github/dependabot.yml"),
        *(".github/pull_request_template.md", ".github/ISSUE_TEMPLATE/bug.yml"),
    ],
)
def test_what_a_contributor_looks_for_is_there(name: str) -> None:
    assert (ROOT / name).read_text().strip()


def test_every_file_of_github_is_yaml_that_parses() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_only_the_rights_it_needs(path: Path) -> None:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values() if "uses" not in job)


def test_ci_runs_what_the_repository_says() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())

    assert any(".ci/run" in step.get("run", "") for step in ci["jobs"]["run"]["steps"])
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_what_every_run_of_pytest_leaves_out_runs_each_week() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    left_out = re.findall(r"not (\w+)", options)
    makefile = (ROOT / "Makefile").read_text()
    weekly = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text())
    commands = [step.get("run", "") for job in weekly["jobs"].values() for step in job["steps"]]

    assert weekly[True]["schedule"]  # YAML 1.1 reads "on" as true
    assert left_out
    for marker in left_out:
        assert re.search(rf"^{marker}:.*\n(\t.*\n)*\t.*pytest .*-m {marker}\b", makefile, re.MULTILINE), marker
        assert any(one.endswith(f"make {marker}") for one in commands), marker


def test_the_development_container_has_the_python_and_the_ports_of_the_project() -> None:
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    container = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    ports = [command.API_PORT, command.CONSOLE_PORT, command.EMULATOR_PORT, command.MOTO_PORT]

    assert container["image"].startswith(f"python:{(ROOT / '.python-version').read_text().strip()}-")
    assert container["forwardPorts"] == ports
    assert [int(port) for port in container["portsAttributes"]] == ports


def test_ci_has_a_tool_environment_for_every_lock() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    made = {target for line in re.findall(r"^make (.+)$", ci, re.MULTILINE) for target in line.split()}
    assert {"check", "build", "docs", "awscli", "test"} <= made


def test_the_commands_of_the_hooks_exist() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        for module in re.findall(r"-m (tools\.\w+)", hook["entry"]):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


INDEX = (ROOT / "events" / "README.md").read_text()


def test_every_sample_event_is_in_the_index_with_its_function() -> None:
    listed = dict(re.findall(r"^\| `([\w.]+\.json)` \| `(\w+)` \|", INDEX, re.MULTILINE))
    files = {path.name for path in (ROOT / "events").glob("*.json")} - {"env.json"}

    assert set(listed) == files
    for name, function in listed.items():
        event = json.loads((ROOT / "events" / name).read_text())
        queue = "Records" in event
        route = event.get("routeKey", "")
        expected = {
            "MeterUsageFunction": "detail-type" in event or name == "metering_run.json",
            "EntitlementCheckFunction": queue and name != "metering_run.json",
            "ResolveCustomerFunction": "/register" in route,
            "SellerApiFunction": bool(route) and "/register" not in route,
        }
        assert expected[function], name
