"""A CloudFormation template worked out without CloudFormation: which resources a set of parameters makes, what their
properties come to, and what they depend on.

What only AWS can know, such as an ARN, becomes a text in double angle brackets, `<<UsageTable.Arn>>`. Everything that
CloudFormation would refuse is collected as a fault, so that one rehearsal names all of them.

Source: CloudFormation User Guide, "Intrinsic function reference", "Condition functions", "Rules section".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tests.rehearsal import schemas

NO_VALUE = object()
ACCOUNT = "123456789012"
STACK = "marketplace-saas"
PSEUDO: dict[str, Any] = {
    "AWS::Region": "us-east-1",
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": STACK,
    "AWS::StackId": f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/{STACK}/5e1bb8c0-0000-11f0-a000-0e0000000000",
    "AWS::NoValue": NO_VALUE,
}
_SUB = re.compile(r"\$\{(!?)([^}]+)\}")


@dataclass(frozen=True)
class Resource:
    """One resource as it would be made."""

    kind: str
    properties: dict[str, Any]
    attributes: dict[str, Any]
    """DeletionPolicy and the like."""


@dataclass
class Stack:
    """What a template makes of its parameters, and what is wrong with it."""

    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)
    depends: dict[str, set[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of one type, by logical id."""
        return {name: resource.properties for name, resource in self.resources.items() if resource.kind == kind}


def refusals(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """What the template's Rules say against these parameters."""
    solver = _Solver(template, parameters)
    return [
        str(assertion.get("AssertDescription", rule))
        for rule, body in template.get("Rules", {}).items()
        if solver.value(body.get("RuleCondition", True), rule)
        for assertion in body["Assertions"]
        if not solver.value(assertion["Assert"], rule)
    ]


def resolved(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> Stack:
    """The stack that a translated template makes. parameters: the value of each one, the defaults included."""
    return _Solver(template, parameters).stack()


class _Solver:
    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        self._template = template
        self._parameters = parameters
        self._conditions: dict[str, bool] = {}
        self._found = Stack()
        self._all: Mapping[str, Any] = template.get("Resources", {})
        self._depends: set[str] = set()

    def stack(self) -> Stack:
        """Works out every resource and output."""
        made = {name: body for name, body in self._all.items() if self._is_made(body)}
        for name, body in made.items():
            self._depends = set()
            self._after(name, body.get("DependsOn", []))
            attributes = {
                key: self.value(body[key], f"{name}.{key}")
                for key in ("DeletionPolicy", "UpdateReplacePolicy", "UpdatePolicy", "CreationPolicy")
                if key in body
            }
            properties = self.value(body.get("Properties", {}), name)
            self._found.resources[name] = Resource(body["Type"], properties, attributes)
            self._found.depends[name] = self._depends
        self._depends = set()
        for name, body in self._template.get("Outputs", {}).items():
            if self._is_made(body):
                self._found.outputs[name] = self.value(body["Value"], f"the output {name}")
                if "Export" in body:
                    self._found.exports[name] = self.value(body["Export"]["Name"], f"the export {name}")
        try:
            TopologicalSorter(self._found.depends).prepare()
        except CycleError as error:
            self._fault("the template", f"has a cycle: {' -> '.join(error.args[1])}")
        return self._found

    def value(self, raw: Any, at: str) -> Any:
        """What a part of the template comes to."""
        if isinstance(raw, list):
            values = [value for item in raw if (value := self.value(item, at)) is not NO_VALUE]
            if raw and not values:
                self._fault(at, "has a list of which the conditions leave nothing")
            return values
        if not isinstance(raw, dict):
            return raw
        if len(raw) == 1:
            ((name, argument),) = raw.items()
            if name == "Ref" or (name == "Condition" and isinstance(argument, str)) or name.startswith("Fn::"):
                return self._intrinsic(name, argument, at)
        return {key: value for key, item in raw.items() if (value := self.value(item, f"{at}.{key}")) is not NO_VALUE}

    def _fault(self, at: str, what: str) -> None:
        self._found.faults.append(f"{at} {what}")

    def _is_made(self, body: Mapping[str, Any]) -> bool:
        return "Condition" not in body or self._condition(body["Condition"])

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            declared = self._template.get("Conditions", {})
            if name not in declared:
                self._fault("the template", f"has no condition {name}")
                return False
            self._conditions[name] = bool(self.value(declared[name], f"the condition {name}"))
        return self._conditions[name]

    def _after(self, name: str, others: str | list[str]) -> None:
        for other in [others] if isinstance(others, str) else others:
            self._needs(other, f"{name}.DependsOn")

    def _needs(self, name: str, at: str) -> bool:
        """Notes that the resource at hand needs another one. Answers whether that one is made."""
        if name not in self._all:
            self._fault(at, f"refers to {name}, which the template does not have")
            return False
        if not self._is_made(self._all[name]):
            self._fault(at, f"refers to {name}, which these parameters do not make")
            return False
        self._depends.add(name)
        return True

    def _ref(self, name: str, at: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._parameters:
            return self._parameters[name]
        self._needs(name, at)
        return f"<<{name}>>"

    def _attribute(self, name: str, attribute: str, at: str) -> str:
        if self._needs(name, at) and not schemas.has_attribute(self._all[name]["Type"], attribute):
            self._fault(at, f"takes {attribute} of {name}, which a {self._all[name]['Type']} does not have")
        return f"<<{name}.{attribute}>>"

    def _intrinsic(self, name: str, argument: Any, at: str) -> Any:
        found: Any
        match name:
            case "Ref":
                found = self._ref(argument, at)
            case "Condition":
                found = self._condition(argument)
            case "Fn::If":
                found = self.value(argument[1] if self._condition(argument[0]) else argument[2], at)
            case "Fn::GetAtt":
                resource, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
                found = self._attribute(resource, attribute, at)
            case "Fn::Sub":
                found = self._substituted(argument, at)
            case _:
                found = self._computed(name, argument, at)
        return found

    def _computed(self, name: str, argument: Any, at: str) -> Any:
        if name not in _FUNCTIONS:
            self._fault(at, f"uses {name}, which the rehearsal does not know")
            return NO_VALUE
        try:
            return _FUNCTIONS[name](self.value(argument, at))
        except (IndexError, TypeError, ValueError) as error:
            self._fault(at, f"uses {name} on {argument}: {error}")
            return NO_VALUE

    def _substituted(self, argument: Any, at: str) -> str:
        text, given = (argument, {}) if isinstance(argument, str) else argument

        def of(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in given:
                value = self.value(given[name], at)
            else:
                resource, dot, attribute = name.partition(".")
                value = self._attribute(resource, attribute, at) if dot else self._ref(name, at)
            if not isinstance(value, (str, int)):
                self._fault(at, f"puts {value!r} into a text for {name}")
            return str(value)

        return _SUB.sub(of, text)


_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "Fn::Equals": lambda given: str(given[0]) == str(given[1]),
    "Fn::Not": lambda given: not given[0],
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Contains": lambda given: str(given[1]) in map(str, given[0]),
    "Fn::Select": lambda given: given[1][int(given[0])],
    "Fn::Split": lambda given: given[1].split(given[0]),
    "Fn::Join": lambda given: given[0].join(map(str, given[1])),
}
