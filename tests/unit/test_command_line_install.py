"""The command that `make cli` installs, run as a process of its own."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tools.install_cli import install
from tools.template import ROOT


def test_the_command_runs_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    script = install(tmp_path)
    script.write_text(script.read_text().replace(f"#!{tmp_path}/bin/python", f"#!{sys.executable}"))
    done = subprocess.run([script, "--help"], capture_output=True, text=True, cwd=tmp_path, env={}, check=True)
    assert "Usage: marketplace-saas" in done.stdout
    refused = subprocess.run([script, "status"], capture_output=True, text=True, cwd=tmp_path, env={}, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("marketplace-saas: name the deployment")


def test_the_package_declares_the_same_command() -> None:
    project = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"marketplace-saas": "marketplace_saas_cli.__main__:run"}
    folders = {path.parent.relative_to(ROOT / "cli") for path in (ROOT / "cli").rglob("__init__.py")}
    assert {str(folder).replace("/", ".") for folder in folders} == set(project["tool"]["setuptools"]["packages"])
