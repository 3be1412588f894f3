"""template.yaml as CloudFormation receives it: translated by SAM's own translator, offline."""

from collections.abc import Mapping
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


def statements(role: str) -> list[dict[str, Any]]:
    """Answer the statements of one role's policies, with actions and resources always in lists."""
    policies = of_type("AWS::IAM::Role")[role]["Policies"]
    return [
        {**statement, "Action": _listed(statement["Action"]), "Resource": _listed(statement["Resource"])}
        for policy in policies
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
