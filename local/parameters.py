"""The template's parameters: what was given is checked as CloudFormation checks it, the rest has its default."""

import re
from collections.abc import Mapping
from typing import Any

from local.template_yaml import TemplateError


def chosen(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every parameter. Raises TemplateError for a value that the template does not allow, a parameter
    that it does not declare, and one without a value."""
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise TemplateError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(declared)}")
    values = {name: given.get(name, body.get("Default")) for name, body in declared.items()}
    missing = sorted(name for name, value in values.items() if value is None)
    if missing:
        raise TemplateError(f"the template's parameter {', '.join(missing)} has no value")
    for name in given:
        if refusal := _refusal(declared[name], str(values[name])):
            raise TemplateError(f"the parameter {name}={values[name]} {refusal}")
    return values


def _refusal(declared: Mapping[str, Any], value: str) -> str:
    """What is wrong with a value, or an empty text.

    Source: CloudFormation User Guide, "Parameters": AllowedValues, AllowedPattern (the whole value), MinLength,
    MaxLength, MinValue and MaxValue. Where a pattern asks for https, http is accepted as well: pages on one machine
    have no certificate.
    """
    allowed = [str(one) for one in declared.get("AllowedValues", ())]
    if allowed and value not in allowed:
        return f"is none of {', '.join(allowed)}"
    if declared.get("Type") == "Number":
        return _number_refusal(declared, value)
    pattern = declared.get("AllowedPattern")
    if pattern and not any(re.fullmatch(pattern, form) for form in (value, re.sub("^http:", "https:", value))):
        return str(declared.get("ConstraintDescription", f"does not match {pattern}"))
    if not int(declared.get("MinLength", 0)) <= len(value) <= int(declared.get("MaxLength", len(value))):
        return f"has {len(value)} characters, not {_between(declared, 'Length')}"
    return ""


def _number_refusal(declared: Mapping[str, Any], value: str) -> str:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return "is not a number"
    if not float(declared.get("MinValue", value)) <= float(value) <= float(declared.get("MaxValue", value)):
        return f"is not {_between(declared, 'Value')}"
    return ""


def _between(declared: Mapping[str, Any], what: str) -> str:
    low, high = declared.get(f"Min{what}"), declared.get(f"Max{what}")
    if low is None or high is None:
        return f"at least {low}" if high is None else f"at most {high}"
    return f"from {low} to {high}"
