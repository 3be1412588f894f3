"""Several deployments in one account: each names its stage, one alone meters a product, and the documented commands
give SAM CLI what the template asks for."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.template import read
from tests.support.machine import SAM_PYTHON
from tools import template

DOCUMENTS = ("README.md", "docs/integration.md", "docs/operations.md")
ANSWERS = {"ProductCodes": "examplecode00000000000000", "SupportContact": "help@seller.example"}
"""What a seller enters in any stage."""

CHOICES = {"default": {"Stage": "live", "MeteringEnabled": "true"}, "dev": {}, "prod": {}}
"""What a seller enters besides, by the environment of samconfig.toml: the stages bring it with them."""


def documented_commands() -> list[str]:
    """Every `sam deploy` in a code block of the documents, on one line."""
    blocks = (re.findall(r"```sh\n(.*?)```", (template.ROOT / name).read_text(), re.DOTALL) for name in DOCUMENTS)
    text = "\n".join(block.replace("\\\n", " ") for found in blocks for block in found)
    return sorted({line.strip() for line in text.splitlines() if line.strip().startswith("sam deploy")})


def environment_of(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("--config-env") + 1] if "--config-env" in words else "default"


type Resolve = Callable[..., dict[str, Any]]


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """How SAM CLI resolves a `sam deploy` in a copy of the repository, with these answers to a guided deployment."""
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copy(template.ROOT / name, tmp_path)
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "SAM_CLI_TELEMETRY": "0"}

    def resolved(command: str, **answers: str) -> dict[str, Any]:
        done = subprocess.run(
            [
                *(str(SAM_PYTHON), str(template.ROOT / "tests" / "support" / "sam_deploy.py"), json.dumps(answers)),
                *shlex.split(command)[2:],
            ],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **nowhere, **credentials},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return resolved


def admitted(parameters: dict[str, str]) -> dict[str, str]:
    """The parameters as CloudFormation takes them for a new stack: those that are given and those with a default."""
    declared = template.load()["Parameters"]
    assert set(parameters) <= set(declared)
    chosen = {name: parameters.get(name, body.get("Default")) for name, body in declared.items()}
    for name, value in chosen.items():
        assert value is not None, f"{name} must have a value"
        assert re.search(declared[name].get("AllowedPattern", ""), str(value)), f"{name}={value}"
        assert str(value) in map(str, declared[name].get("AllowedValues", [value])), f"{name}={value}"
    return chosen


def test_the_documents_show_how_each_environment_is_deployed() -> None:
    shown = {(environment_of(command), "--guided" in command) for command in documented_commands()}
    assert shown >= {("default", True), ("dev", True), ("prod", True), ("dev", False), ("prod", False)}


@pytest.mark.slow
@pytest.mark.sam_cli
@pytest.mark.parametrize("command", documented_commands())
def test_a_documented_command_deploys_what_its_stage_is_to_be(resolve: Resolve, command: str) -> None:
    """The first deployment is guided and keeps its answers; the same command without questions finds them."""
    environment = environment_of(command)
    if "--guided" not in command and "--parameter-overrides" not in command:
        resolve(f"sam deploy --guided --config-env {environment}", **ANSWERS, **CHOICES[environment])
    parameters = admitted(resolve(command, **ANSWERS, **CHOICES[environment])["parameters"])
    expected = {"default": ("live", "true"), "dev": ("dev", "false"), "prod": ("prod", "true")}[environment]
    assert (parameters["Stage"], parameters["MeteringEnabled"]) == expected


@pytest.mark.slow
@pytest.mark.sam_cli
@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_a_stage_that_the_command_line_drops_is_missed_and_not_guessed(resolve: Resolve, environment: str) -> None:
    """`--parameter-overrides` replaces samconfig's list: Stage and MeteringEnabled are gone, and have no defaults."""
    given = shlex.join(f"{name}={value}" for name, value in ANSWERS.items())
    resolved = resolve(f"sam deploy --config-env {environment} --parameter-overrides {given}")
    assert resolved["parameters"] == ANSWERS
    with pytest.raises(AssertionError, match="must have a value"):
        admitted(resolved["parameters"])


@pytest.mark.slow
@pytest.mark.sam_cli
@pytest.mark.parametrize("missing", ["Stage", "MeteringEnabled", "ProductCodes"])
def test_a_guided_deployment_without_an_answer_is_refused(resolve: Resolve, missing: str) -> None:
    answers = {**ANSWERS, **CHOICES["default"]}
    del answers[missing]
    with pytest.raises(AssertionError, match=missing):
        admitted(resolve("sam deploy --guided", **answers)["parameters"])


# -- one stack meters a product ---------------------------------------------------------------------------


def exports(**parameters: str) -> list[str]:
    """The names that a stack with these parameters exports: CloudFormation refuses one that another stack has."""
    given = {"SupportContact": "help@seller.example", **parameters}
    return read(template.TEMPLATE, given, sqs_endpoint="http://127.0.0.1:9").exports


CODES = [f"code{number}" for number in range(10)]


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10])
@pytest.mark.slow
def test_a_stack_that_meters_holds_the_name_of_each_product(count: int) -> None:
    names = exports(Stage="prod", MeteringEnabled="true", ProductCodes=",".join(CODES[:count]))
    assert names == ["marketplace-saas-stage-prod", *(f"marketplace-saas-meters-{code}" for code in CODES[:count])]


@pytest.mark.parametrize("codes", [CODES[:1], CODES[:3], CODES])
@pytest.mark.slow
def test_a_stack_that_does_not_meter_holds_its_stage_alone(codes: list[str]) -> None:
    assert exports(Stage="dev", MeteringEnabled="false", ProductCodes=",".join(codes)) == ["marketplace-saas-stage-dev"]


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        (("prod", "true", "a,b"), ("dev", "false", "a,b"), False),
        (("prod", "true", "a,b"), ("dev", "true", "c"), False),
        (("prod", "true", "a,b"), ("dev", "true", "b,a"), True),
        (("prod", "true", "a,b"), ("dev", "true", "c,d,e,f,g,h,i,j,k,b"), True),
        (("prod", "true", "a"), ("prod", "false", "b"), True),
        (("dev", "false", "a"), ("test", "false", "a"), False),
    ],
)
@pytest.mark.slow
def test_a_second_stack_of_a_stage_or_a_metered_product_is_refused(
    one: tuple[str, str, str], other: tuple[str, str, str], refused: bool
) -> None:
    names = ("Stage", "MeteringEnabled", "ProductCodes")
    both = [exports(**dict(zip(names, given, strict=True))) for given in (one, other)]
    assert bool(set(both[0]) & set(both[1])) is refused


def test_every_name_is_one_that_cloudformation_exports() -> None:
    """Letters, digits, colons and hyphens; every product code that the parameter admits gives such a name."""
    pattern = template.load()["Parameters"]["ProductCodes"]["AllowedPattern"]
    longest = next(length for length in range(1, 300) if not re.search(pattern, "x" * (length + 1)))
    admitted = "".join(chr(code) for code in range(33, 127) if chr(code) != "," and re.search(pattern, chr(code)))
    for name in exports(Stage="prod", MeteringEnabled="true", ProductCodes=f"{admitted},{'x' * longest}"):
        assert re.fullmatch(r"[A-Za-z0-9:-]{1,255}", name)
