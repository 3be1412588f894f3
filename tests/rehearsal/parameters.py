"""Parameters of template.yaml, drawn by Hypothesis: every value that AllowedValues, AllowedPattern, MinValue and
MaxValue allow, in every combination that the template's Rules allow."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.rehearsal.resolver import refusals

REQUIRED = {
    "Stage": "prod",
    "MeteringEnabled": "true",
    "ProductCodes": "examplecode00000000000000",
    "SupportContact": "help@seller.example",
    "AlarmEmail": "alarms@seller.example",
}
"""What a seller enters at least. A template takes those of them that it declares."""


def at_least(template: Mapping[str, Any], **given: str) -> dict[str, str]:
    """The value of every parameter: what is given, what a seller enters at least, and else the defaults."""
    declared = template["Parameters"]
    defaults = {name: str(body["Default"]) for name, body in declared.items() if "Default" in body}
    entered = {name: value for name, value in REQUIRED.items() if name in declared}
    return {**defaults, **entered, **given}


def values(declared: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Every value that one parameter allows."""
    if "AllowedValues" in declared:
        return st.sampled_from([str(value) for value in declared["AllowedValues"]])
    if declared["Type"] == "Number":
        return st.integers(int(declared["MinValue"]), int(declared["MaxValue"])).map(str)
    most = int(declared.get("MaxLength", 4096))  # CloudFormation's own
    return st.from_regex(declared["AllowedPattern"], fullmatch=True).filter(lambda value: len(value) <= most)


def ends(declared: Mapping[str, Any]) -> list[str]:
    """The values that one parameter allows, if they are few, and else the first and the last number."""
    if "AllowedValues" in declared:
        return [str(value) for value in declared["AllowedValues"]]
    return [str(declared[name]) for name in ("MinValue", "MaxValue") if name in declared]


def combinations(template: Mapping[str, Any]) -> st.SearchStrategy[dict[str, str]]:
    """Parameters that CloudFormation takes: of each one its usual value or any other, and no rule refuses them."""
    usual = at_least(template)
    each = {name: st.just(usual[name]) | values(body) for name, body in template["Parameters"].items()}
    return st.fixed_dictionaries(each).filter(lambda drawn: not refusals(template, drawn))
