"""One deployment rehearsed: SAM's translation with these parameters, worked out and checked as CloudFormation would."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from tests.rehearsal import schemas, update
from tests.rehearsal.resolver import Stack, resolved
from tests.support.translated import translated
from tools import template as current

RELEASES = Path(__file__).with_name("releases")


@cache
def previous() -> dict[str, Any]:
    """The template of the release before this one."""
    releases = {tuple(map(int, path.stem.split("."))): path for path in RELEASES.glob("*.yaml")}
    parsed: dict[str, Any] = yaml_parse(releases[max(releases)].read_text())
    return parsed


def rehearsed(
    template: dict[str, Any], parameters: Mapping[str, str], builds: Mapping[str, str] | None = None
) -> Stack:
    """The stack that a SAM template makes of these parameters; its faults are all that CloudFormation would refuse."""
    stack = resolved(translated(template, dict(parameters), builds), parameters)
    for name, resource in stack.resources.items():
        stack.faults += [f"{name}: {fault}" for fault in schemas.faults(resource.kind, resource.properties)]
    stack.faults += update.stage_faults(stack)
    return stack


def deployment_faults(parameters: Mapping[str, str]) -> list[str]:
    """What is wrong with a first deployment of template.yaml with these parameters."""
    return rehearsed(current.load(), parameters).faults


def upgrade_faults(old: Stack, new: Stack) -> list[str]:
    """What is wrong with an update to another template, with the same parameters."""
    return [*map(str, update.lost(old, new)), *update.index_faults(old, new), *update.route_faults(old, new)]


def change_faults(old: Stack, new: Stack) -> list[str]:
    """What is wrong with an update to other parameters. They may switch off what they switched on."""
    lost = [str(one) for one in update.lost(old, new) if one.properties]
    return [*lost, *update.index_faults(old, new), *update.route_faults(old, new), *version_faults(old, new)]


def version_faults(old: Stack, new: Stack) -> list[str]:
    """The functions whose version does not go with them. One that changes without a new version leaves its callers with
    the old settings; a new version of one that stays the same is refused by Lambda ("already exists")."""
    faults = []
    for alias in new.of("AWS::Lambda::Alias").values():
        function, version = alias["FunctionName"].strip("<>"), alias["FunctionVersion"].strip("<>").partition(".")[0]
        if function not in old.resources or not old.of("AWS::Lambda::Version"):
            continue
        is_changed = update.changed(function, old, new)
        is_new = version not in old.resources or update.replaced(version, old, new)
        if is_changed != is_new:
            faults.append(
                f"{function} is {'changed' if is_changed else 'the same'}, its version is {'new' if is_new else 'old'}"
            )
    return faults
