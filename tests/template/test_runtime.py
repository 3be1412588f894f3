"""The guard before a deployment: a layer built for one Python is not deployed under the other."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.template.test_pipeline import STAGE
from tools import check_runtime, template
from tools.check_layer import runtime_of
from tools.template import ROOT

RUNTIMES: list[str] = template.load()["Parameters"]["Runtime"]["AllowedValues"]


def layer_for(folder: Path, *runtimes: str) -> Path:
    """Make what a build leaves, as far as its names tell the Python."""
    for runtime in runtimes:
        tag = f"cpython-{runtime.removeprefix('python').replace('.', '')}"
        for name in (
            f"marketplace/__pycache__/clock.{tag}.pyc",
            f"pydantic_core/_pydantic_core.{tag}-x86_64-linux-gnu.so",
        ):
            path = folder / "CommonLayer" / "python" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder / "CommonLayer"


@pytest.mark.parametrize("built", RUNTIMES)
@pytest.mark.parametrize("deployed", RUNTIMES)
def test_a_layer_of_one_python_is_refused_under_the_other(tmp_path: Path, built: str, deployed: str) -> None:
    arguments = ["--build-dir", str(tmp_path), f"Runtime={deployed}"]
    layer_for(tmp_path, built)
    if built == deployed:
        check_runtime.main(arguments)
        return
    with pytest.raises(SystemExit, match=f"built for {built}, and the functions would run on {deployed}"):
        check_runtime.main(arguments)


def test_a_layer_whose_modules_are_of_two_pythons_or_of_none_is_for_no_runtime(tmp_path: Path) -> None:
    assert runtime_of(layer_for(tmp_path / "both", *RUNTIMES)) is None
    (tmp_path / "none" / "python").mkdir(parents=True)
    assert runtime_of(tmp_path / "none") is None
    assert check_runtime.problem(tmp_path / "none", RUNTIMES[0])


def test_what_was_not_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run sam build first"):
        check_runtime.main(["--build-dir", str(tmp_path)])


def test_an_environment_that_samconfig_does_not_have_is_refused() -> None:
    with pytest.raises(SystemExit, match="no environment staging"):
        check_runtime.main(["--config-env", "staging"])


@pytest.mark.parametrize(
    ("overrides", "runtime"),
    [
        ([], "python3.13"),
        (["Stage=prod"], "python3.13"),
        (["Stage=prod", "Runtime=python3.14"], "python3.14"),
        ('Stage="prod" Runtime="python3.14"', "python3.14"),
    ],
)
def test_the_runtime_of_a_deployment_is_samconfigs_else_the_templates(overrides: Any, runtime: str) -> None:
    config = {"prod": {"deploy": {"parameters": {"parameter_overrides": overrides}}}}
    assert check_runtime.deployed_runtime(config, "prod") == runtime
    assert check_runtime.deployed_runtime(config, "prod", "Runtime=python3.13") == "python3.13"


@pytest.mark.parametrize(
    ("of_all", "of_deploy", "runtime"),
    [
        (["Runtime=python3.14"], None, "python3.14"),
        (["Runtime=python3.14"], ["Stage=prod"], "python3.13"),  # one list replaces the other, and is not added to it
        (["Stage=prod"], ["Runtime=python3.14"], "python3.14"),
        (None, None, "python3.13"),
    ],
)
def test_a_list_for_all_commands_holds_where_deploy_has_none(of_all: Any, of_deploy: Any, runtime: str) -> None:
    given = {"global": of_all, "deploy": of_deploy}
    tables = {name: {"parameters": {"parameter_overrides": one}} for name, one in given.items() if one is not None}
    assert check_runtime.deployed_runtime({"prod": tables}, "prod") == runtime


def test_the_sample_pipeline_compares_before_it_deploys() -> None:
    commands = [step.get("run", "") for step in STAGE["steps"]]
    compared = next(place for place, one in enumerate(commands) if "tools.check_runtime --config-env" in one)
    deployed = next(place for place, one in enumerate(commands) if "sam deploy" in one)
    assert compared < deployed


def test_each_runtime_has_the_makefile_that_builds_its_layer() -> None:
    assert {path.name for path in (ROOT / "layers").iterdir()} - {"common"} == set(RUNTIMES)
    for runtime in RUNTIMES:
        (version,) = re.findall(
            r"^VERSION := (.+)$", (ROOT / "layers" / runtime / "Makefile").read_text(), re.MULTILINE
        )
        assert f"python{version}" == runtime
