"""The functions' environment: each has the variables that its code reads and no others, and all that the parameters
allow fits into the 4 KB that Lambda has for it.

Quota: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, "Environment variables".
"""

import ast
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from marketplace.platform.settings import Settings
from tests.functions.test_imports import FUNCTIONS, ROOT, loaded_by
from tests.support.translated import of_type, resources
from tools import template

POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}
ENDPOINTS = {
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_CLOUDTRAIL",
}
LOCAL = {*ENDPOINTS, "MARKETPLACE_CONSOLE_URL"}
NUMBER = "SETTINGS_NUMBER"
"""Makes a function new when a parameter has another value: decision 0072."""
SETTINGS = {field.name for field in fields(Settings)}
REQUIRED = {field.name for field in fields(Settings) if field.default is MISSING}
LIMIT = 4096
LONGEST_NAME = {
    "AWS::DynamoDB::Table": 128 + 1 + 18 + 1 + 13,  # stack name, logical id, and what CloudFormation adds
    "AWS::Events::EventBus": 128,
    "AWS::SQS::Queue": len("https://sqs.us-east-1.amazonaws.com/123456789012/") + 80,
    "AWS::IAM::Role": 64,
    "AWS::S3::Bucket": 63,
    "AWS::AppConfig::HostedConfigurationVersion": 9,
}


def logical_id(function: str) -> str:
    """The resource of a folder of functions/."""
    return "".join(part.title() for part in function.split("_")) + "Function"


def variables_of(function: str) -> dict[str, Any]:
    """The environment that template.yaml gives the function of a folder."""
    variables: dict[str, Any] = of_type("AWS::Lambda::Function")[logical_id(function)]["Environment"]["Variables"]
    return variables


def read_by(function: str) -> set[str]:
    """The fields of Settings whose names the function's own code has as attributes."""
    package = ROOT / "layers" / "common" / "marketplace"
    loaded = [
        package / folder / f"{name}.py" for folder, names in loaded_by(function).items() for name in names.split()
    ]
    modules = [ROOT / "functions" / function / "app.py", *loaded]
    attributes = {
        node.attr for module in modules for node in ast.walk(_tree(module)) if isinstance(node, ast.Attribute)
    }
    return attributes & SETTINGS


def _tree(module: Path) -> ast.Module:
    """A module without the class Settings, which reads some of its own fields."""
    tree = ast.parse(module.read_text())
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name == Settings.__name__)]
    return tree


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_the_settings_that_it_reads_and_no_others(function: str) -> None:
    shared = {name.lower() for name in template.load()["Globals"]["Function"]["Environment"]["Variables"]} & SETTINGS
    has = {name.lower() for name in variables_of(function)}
    assert has & SETTINGS == read_by(function) | shared
    assert shared >= REQUIRED


def test_every_shared_setting_is_required_or_read_by_several_functions() -> None:
    shared = {name.lower() for name in template.load()["Globals"]["Function"]["Environment"]["Variables"]} & SETTINGS
    for setting in shared - REQUIRED:
        assert len([function for function in FUNCTIONS if setting in read_by(function)]) > 1, setting


def test_every_setting_is_read_by_a_function() -> None:
    assert set().union(*map(read_by, FUNCTIONS)) == SETTINGS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_setting_is_for_powertools_or_for_one_machine_or_makes_a_version(function: str) -> None:
    others = {name for name in variables_of(function) if name.lower() not in SETTINGS} | LOCAL
    numbered = {NUMBER} if f"{logical_id(function)}Aliaslive" in resources() else set()
    assert others == POWERTOOLS | LOCAL | numbered


def test_a_deployed_function_has_no_endpoint_of_its_own() -> None:
    declared = template.load()
    variables = variables_of("resolve_customer")
    for name in LOCAL:
        condition, _, otherwise = variables[name]["Fn::If"]
        assert (condition, otherwise) == ("OnOneMachine", {"Ref": "AWS::NoValue"})
    assert declared["Conditions"]["OnOneMachine"] == {"Fn::Equals": [{"Ref": "Stage"}, "local"]}
    refused = declared["Rules"]["StageIsDeployable"]["Assertions"][0]["Assert"]
    assert refused == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Stage"}, "local"]}]}


# -- values -----------------------------------------------------------------------------------------------


def every_variable() -> dict[str, Any]:
    return {name: value for function in FUNCTIONS for name, value in variables_of(function).items()}


def test_the_defaults_of_the_template_are_those_of_the_settings() -> None:
    parameters = template.load()["Parameters"]
    variables = every_variable()
    for field in fields(Settings):
        parameter = parameters.get(variables[field.name.upper()].get("Ref"), {})
        if isinstance(parameter.get("Default"), int) or field.name == "metering_region":
            assert field.default == parameter["Default"], field.name


def _extreme(declared: dict[str, Any], end: int, otherwise: str) -> str:
    """The first (0) or last (-1) value that a parameter allows, if it says so."""
    bounds = [declared[name] for name in ("MinValue", "MaxValue") if name in declared]
    return str((declared.get("AllowedValues") or bounds or [otherwise])[end])


def test_settings_take_every_value_that_a_parameter_allows() -> None:
    parameters = template.load()["Parameters"]
    formed = {"OVERAGE_DIMENSIONS", "METERING_STARTS_AT"}  # tests/unit/test_settings.py has their values
    for end in (0, -1):
        environ = {
            name: _extreme(parameters.get(value["Ref"], {}), end, "" if name in formed else "something")
            for name, value in every_variable().items()
            if isinstance(value, dict) and "Ref" in value
        }
        assert Settings.from_env(environ).metering_enabled is (environ["METERING_ENABLED"] == "true")


# -- Lambda's 4 KB ----------------------------------------------------------------------------------------


def longest(value: Any) -> int:
    """The most characters that a value of the environment can have in a deployment."""
    match value:
        case {"Ref": name} if name in template.load()["Parameters"]:
            return longest_of(template.load()["Parameters"][name])
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            return LONGEST_NAME[resources()[name]["Type"]]
        case {"Fn::Sub": text}:
            return len(re.sub(r"\$\{Stage\}", "s" * longest_of(template.load()["Parameters"]["Stage"]), text))
        case {"Fn::If": ["OnOneMachine", *_]}:
            return 0
        case {"Fn::If": [_, yes, no]}:
            return max(longest(yes), longest(no))
        case str():
            return len(value)
    raise AssertionError(f"how long can {value} be?")


def longest_of(parameter: dict[str, Any]) -> int:
    """The most characters that a parameter allows."""
    if "AllowedValues" in parameter:
        return max(len(str(value)) for value in parameter["AllowedValues"])
    if parameter["Type"] == "Number":
        return max(len(str(parameter["MinValue"])), len(str(parameter["MaxValue"])))
    by_pattern = int(sre_parser.parse(parameter["AllowedPattern"]).getwidth()[1])
    return min(by_pattern, int(parameter.get("MaxLength", by_pattern)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_longest_values_of_all_parameters_fit_into_lambdas_environment(function: str) -> None:
    """Lambda counts the variables as JSON, and refuses more than 4 KB when the stack is made or changed."""
    variables = {name: value for name, value in variables_of(function).items() if name not in LOCAL}
    measured = json.dumps({name: "x" * longest(value) for name, value in variables.items()}, separators=(",", ":"))
    assert len(measured) <= LIMIT, {name: longest(value) for name, value in variables.items()}


# -- versions ---------------------------------------------------------------------------------------------


def parameters_in(value: Any) -> set[str]:
    """The parameters that a part of the template depends on, those of its conditions included."""
    declared = template.load()
    match value:
        case {"Ref": name}:
            return {name} & set(declared["Parameters"])
        case {"Fn::Sub": text}:
            return set(re.findall(r"\$\{(\w+)\}", str(text))) & set(declared["Parameters"])
        case {"Fn::If": [condition, *branches]}:
            parts = [declared["Conditions"][condition], *branches]
        case {"Condition": str(condition)}:
            parts = [declared["Conditions"][condition]]
        case dict() | list():
            parts = list(value.values()) if isinstance(value, dict) else value
        case _:
            parts = []
    return set[str]().union(*map(parameters_in, parts))


@pytest.mark.parametrize("function", ["resolve_customer", "seller_api"])
def test_every_parameter_of_a_published_function_counts_for_the_number_of_its_settings(function: str) -> None:
    """Otherwise callers of the alias would go on with the old value: decision 0072."""
    content = parameters_in(resources()["SettingsVersion"]["Properties"]["Content"])
    assert parameters_in(of_type("AWS::Lambda::Function")[logical_id(function)]) <= content
