"""What a test may ask of the machine, and what happens where the machine does not have it.

A test marked `dynamodb_local`, `docker`, `python314`, `sam_cli`, `browser`, `axe`, `awscli` or `site` runs where the
machine can run it. Where it cannot, it is skipped, and the end of the run says which group did not run and why. With CI
or REQUIRE_ALL set, nothing may be skipped: every skip, whatever its cause, becomes a failure.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Generator
from functools import cache

import pytest

from tools import axe, dynamodb_local, site
from tools.template import ROOT

LAMBDA_IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
LAMBDA_IMAGE_314 = "public.ecr.aws/lambda/python:3.14-x86_64"
SAM_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

_not_run: Counter[tuple[str, str]] = Counter()


def require_all() -> bool:
    """Answer whether a skip must fail the run."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes"} for name in ("CI", "REQUIRE_ALL"))


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@cache
def docker_missing(image: str = LAMBDA_IMAGE, option: str = "") -> str | None:
    """Answer what this machine lacks to run `sam local invoke`, or None."""
    if shutil.which("docker") is None:
        return "needs Docker and its Lambda image (tools/lambda-image, as root)"
    if not _succeeds("docker", "info"):
        return "needs a running Docker daemon (tools/lambda-image, as root, starts one)"
    if not _succeeds("docker", "image", "inspect", image):
        return f"needs the image {image} (tools/lambda-image{option} pulls or builds it)"
    return None


@cache
def chromium() -> str | None:
    """Answer the path of a Chromium or Chrome, or None."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


_MISSING: dict[str, Callable[[], str | None]] = {
    "docker": docker_missing,
    "python314": lambda: docker_missing(LAMBDA_IMAGE_314, " 3.14"),
    "sam_cli": lambda: None if SAM_PYTHON.exists() else "needs SAM CLI (make sam)",
    "dynamodb_local": dynamodb_local.missing,
    "browser": lambda: None if chromium() else "needs Chromium",
    "axe": axe.missing,
    "awscli": lambda: None if (ROOT / ".tools/awscli/bin/aws").exists() else "needs AWS CLI (make awscli)",
    "site": lambda: None if site.SPHINX.exists() else "needs Sphinx (make docs)",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose group this machine cannot run."""
    for group, missing in _MISSING.items():
        if item.get_closest_marker(group) is not None and (reason := missing()):
            pytest.skip(f"{group}: {reason}")


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and require_all():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped (CI or REQUIRE_ALL is set): {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where nothing may be skipped."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one where nothing may be skipped."""
    report = yield
    _fail_if_skipped(report)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what was skipped, for the summary."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        group, _, reason = report.longrepr[2].removeprefix("Skipped: ").partition(": ")
        _not_run[(group, reason) if group in _MISSING else ("other", f"{group} {reason}".strip())] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which groups of tests did not run here, and why."""
    if _not_run:
        terminalreporter.section("not run on this machine")
        for (group, reason), count in sorted(_not_run.items()):
            terminalreporter.line(f"{group}: {count} not run: {reason}")
        terminalreporter.line("CI has all of this and fails on a skip; REQUIRE_ALL=1 does the same here.")
