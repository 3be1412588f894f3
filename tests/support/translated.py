"""template.yaml as CloudFormation receives it: translated by SAM's own translator, offline."""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from samtranslator.translator.transform import transform

from tools import template

PARAMETERS = {
    "Stage": "prod",
    "MeteringEnabled": "true",
    "ProductCodes": "examplecode00000000000000",
    "SupportContact": "help@seller.example",
}


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def translated(
    source: dict[str, Any], parameters: dict[str, str], builds: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Answer a SAM template as CloudFormation receives it. builds: the names of built code, by what it is built for."""
    fragment = deepcopy(source)
    for name, resource in fragment["Resources"].items():
        for local_path in ("CodeUri", "ContentUri"):
            if local_path in resource.get("Properties", {}):
                resource["Properties"][local_path] = f"s3://bucket/{(builds or {}).get(name, 'key')}"
    answer: dict[str, Any] = transform(fragment, parameters, _NoManagedPolicies())
    return answer


@cache
def resources() -> dict[str, dict[str, Any]]:
    """Answer every resource of the translated template, by logical id."""
    found: dict[str, dict[str, Any]] = translated(template.load(), PARAMETERS)["Resources"]
    return found


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Answer the properties of the resources of one type, by logical id."""
    return {name: body["Properties"] for name, body in resources().items() if body["Type"] == kind}


def statements(role: str, conditions: Collection[str] = ()) -> list[dict[str, Any]]:
    """Answer the statements of one role's policies where these conditions of the template hold and no others, with
    actions and resources always in lists."""
    declared = [
        statement for policy in of_type("AWS::IAM::Role")[role]["Policies"] for statement in _statements_in(policy)
    ]
    return _with_lists(_chosen(statement, conditions) for statement in declared)


def attached(role: str, policies: Collection[str]) -> list[dict[str, Any]]:
    """Answer the statements of these policies of the template, as far as they are attached to the role."""
    found = [of_type("AWS::IAM::Policy")[name] for name in policies]
    return _with_lists(
        statement for policy in found if {"Ref": role} in policy["Roles"] for statement in _statements_in(policy)
    )


def _with_lists(chosen: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**statement, "Action": _listed(statement["Action"]), "Resource": _listed(statement["Resource"])}
        for statement in chosen
        if statement != {"Ref": "AWS::NoValue"}
    ]


def _statements_in(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def _chosen(statement: dict[str, Any], conditions: Collection[str]) -> dict[str, Any]:
    if "Fn::If" not in statement:
        return statement
    condition, then, otherwise = statement["Fn::If"]
    return _chosen(then if condition in conditions else otherwise, conditions)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
