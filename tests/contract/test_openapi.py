"""The API's document: current, valid, and of the same routes as template.yaml and the application."""

import json
import re
from typing import Any

import openapi_spec_validator
import pytest

from marketplace.platform.problem import Problem
from marketplace.seller_api import problems
from marketplace.seller_api.routes import ROUTES
from tools import openapi
from tools.template import ROOT, resources

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())


def routes_in_template(function: str) -> dict[str, dict[str, Any]]:
    events = resources("AWS::Serverless::Function")[function]["Properties"]["Events"]
    found = [event["Properties"] for event in events.values() if event["Type"] == "HttpApi"]
    keys = [f"{event['Method'].upper()} {event['Path']}" if "Path" in event else "$default" for event in found]
    return dict(zip(keys, found, strict=True))


def routes_in_document() -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_the_document_is_current() -> None:
    assert (ROOT / "docs" / "openapi.json").read_text() == openapi.as_text(), (
        "run: PYTHONPATH=layers/common python -m tools.openapi > docs/openapi.json"
    )


def test_the_document_is_valid_openapi() -> None:
    openapi_spec_validator.validate(DOCUMENT)


def test_template_application_and_document_have_the_same_routes() -> None:
    template = routes_in_template("SellerApiFunction")

    assert {route.key for route in ROUTES} == set(template)
    assert routes_in_document() == {route.replace("+}", "}") for route in template}
    assert {route.operation for route in ROUTES} == set(openapi.WORDS)


def test_every_route_of_the_seller_is_signed() -> None:
    for route, event in routes_in_template("SellerApiFunction").items():
        assert event["Auth"]["Authorizer"] == "AWS_IAM", route


def test_the_buyers_routes_are_those_that_the_application_answers() -> None:
    source = (ROOT / "layers/common/marketplace/registration/routes.py").read_text()

    answered = set(re.findall(r'"((?:GET|HEAD|POST) /[^"]*)"', source))
    assert answered | {"$default"} == set(routes_in_template("ResolveCustomerFunction"))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_every_operation_names_its_parameters_and_errors(route: Any) -> None:
    method, _, path = route.key.partition(" ")
    operation = DOCUMENT["paths"][path.replace("+}", "}")][method.lower()]

    named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
    assert named == {name.rstrip("+") for name in re.findall(r"\{([^}]+)\}", path)}
    asked = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
    assert asked == {field.alias or name for name, field in route.query.model_fields.items()}
    assert {"500", "503"} <= set(operation["responses"])
    assert ("requestBody" in operation) == (route.body is not None)


def test_every_error_that_the_seller_can_meet_is_documented() -> None:
    described = json.dumps(
        [operation["responses"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    )
    sellers = [
        value
        for name, value in vars(problems).items()
        if isinstance(value, Problem) and not name.startswith(("TOKEN_", "FORM_", "PAGE_", "PRODUCT_", "REGISTRATION_"))
    ]

    undocumented = {problem.code for problem in sellers if f"`{problem.code}`" not in described}
    assert undocumented == {"route_not_found"}
