"""The sample pipeline under .github/examples/: nothing is deployed that was not tested, prod comes after dev and an
approval, and no key is stored."""

import re
from typing import Any

import yaml

from local.template_yaml import read
from tools.template import ROOT

EXAMPLES = ROOT / ".github" / "examples"
TEXT = "".join((EXAMPLES / name).read_text() for name in ("deploy.yml", "deploy-stage.yml"))
JOBS: dict[str, Any] = yaml.safe_load((EXAMPLES / "deploy.yml").read_text())["jobs"]
STAGE: dict[str, Any] = yaml.safe_load((EXAMPLES / "deploy-stage.yml").read_text())["jobs"]["deploy"]
ROLES: dict[str, Any] = read(EXAMPLES / "pipeline-roles.yaml")["Resources"]


def test_prod_follows_dev_which_follows_what_was_tested_rehearsed_and_built() -> None:
    needs = {name: job.get("needs") for name, job in JOBS.items()}
    assert needs == {"test": None, "rehearse": None, "build": ["test", "rehearse"], "dev": "build", "prod": "dev"}
    stages = {name: job["with"]["stage"] for name, job in JOBS.items() if "with" in job}
    assert stages == {"dev": "dev", "prod": "prod"}
    assert STAGE["environment"] == "${{ inputs.stage }}"  # whose required reviewers approve


def test_the_stages_are_those_of_samconfig() -> None:
    config = (ROOT / "samconfig.toml").read_text()
    for stage in ("dev", "prod"):
        assert f"[{stage}.deploy.parameters]" in config


def test_no_key_is_stored_and_only_one_environment_of_one_repository_gets_the_role() -> None:
    assert "secrets." not in TEXT
    assert STAGE["permissions"] == {"contents": "read", "id-token": "write"}
    (trusted,) = ROLES["PipelineRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    claims = trusted["Condition"]["StringEquals"]
    subject = claims["token.actions.githubusercontent.com:sub"]
    assert subject == {"Fn::Sub": "repo:${Repository}:environment:${Environment}"}
    assert claims["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"


def test_what_is_deployed_is_what_was_built() -> None:
    deploys = [step["run"] for step in STAGE["steps"] if "sam deploy" in step.get("run", "")]
    assert len(deploys) == 2
    assert all("--template-file .aws-sam/build/template.yaml" in one for one in deploys)
    assert ".aws-sam/build" in str(JOBS["build"])


def test_every_target_that_the_pipeline_makes_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {name for names in re.findall(r"\bmake ([a-z -]+?)(?: &&|\n)", TEXT) for name in names.split()}
    assert {"check", "test-fast", "rehearse", "sam"} <= made
    assert made <= targets | {"rehearse"}  # the rehearsal's target is being built
