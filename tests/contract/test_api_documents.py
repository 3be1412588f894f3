"""The documents that generators of clients read: what linters and their own rules say of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import openapi, typescript
from tools.openapi_document import TAGS
from tools.template import ROOT

DOCUMENTS = (ROOT / "docs" / "openapi.json", ROOT / "docs" / "asyncapi.json")
OPENAPI: dict[str, Any] = openapi.document()
OPERATIONS = {operation["operationId"]: operation for path in OPENAPI["paths"].values() for operation in path.values()}


@pytest.fixture
def lint() -> Callable[..., list[str]]:
    if lacking := typescript.missing():
        pytest.skip(lacking)  # CI has Node, and fails on a skipped test
    return typescript.problems_of


@pytest.mark.node
def test_the_linter_finds_nothing(lint: Callable[..., list[str]]) -> None:
    assert lint(*DOCUMENTS) == []


@pytest.mark.node
@pytest.mark.parametrize(
    ("document", "spoil", "rule"),
    [
        (0, lambda content: content["info"].pop("license"), "info-license"),
        (0, lambda content: content["info"].pop("contact"), "info-contact"),
        (0, lambda content: content["paths"]["/usage"]["post"].update(tags=["unknown"]), "operation-tag-defined"),
        (0, lambda content: content["components"]["schemas"].pop("UsageReport"), "no-unresolved-refs"),
        (1, lambda content: content.update(channels=[]), "struct"),
        (1, lambda content: content["operations"]["publish"].pop("action"), "struct"),
    ],
)
def test_the_linter_finds_what_is_wrong(
    lint: Callable[..., list[str]], tmp_path: Path, document: int, spoil: Callable[[Any], Any], rule: str
) -> None:
    content = json.loads(DOCUMENTS[document].read_text())
    spoil(content)
    path = tmp_path / "document.json"
    path.write_text(json.dumps(content))
    assert rule in {problem.split(":")[0] for problem in lint(path)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_reference_leads_somewhere(document: Path) -> None:
    """The linter does not follow those of AsyncAPI."""
    text = document.read_text()
    content = json.loads(text)
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', text))
    assert len(references) > 10
    for reference in references:
        found = content
        for part in reference.split("/"):
            found = found[part]


def test_no_schema_has_a_default() -> None:
    """A generator takes a member with a default for one that is always there, so the minimum request would not be
    typed."""

    def defaults(schema: Any, where: str) -> list[str]:
        match schema:
            case dict():
                here = [where] if "default" in schema and "properties" not in where.rsplit("/", 2)[-1] else []
                return here + [found for name, one in schema.items() for found in defaults(one, f"{where}/{name}")]
            case list():
                return [found for number, one in enumerate(schema) for found in defaults(one, f"{where}/{number}")]
        return []

    assert defaults(OPENAPI["components"]["schemas"], "") == []


def test_an_answer_may_grow_and_a_request_may_not() -> None:
    requests = {"Claim", "RetryBody", "UsageReport", "UsageRequest"}
    closed = {
        name for name, schema in OPENAPI["components"]["schemas"].items() if schema.get("additionalProperties") is False
    }
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for operation in OPERATIONS.values()
        if "requestBody" in operation
    }
    assert bodies <= closed
    assert requests <= closed
    assert closed & {"Subscription", "UsageResult", "MeteringRecord", "Error"} == set()


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        ("listSubscriptions", "Exactly one of `tenant_id`, `account_id` and `status` is given."),
        ("getEntitlements", "`quantity` needs a `dimension`."),
        ("listUsage", "`to`, which must be the later"),
    ],
)
def test_a_rule_between_parameters_is_said_in_the_text(operation: str, rule: str) -> None:
    assert rule in OPERATIONS[operation]["description"]


def test_the_rule_between_a_reports_members_is_said_in_the_text() -> None:
    described = OPENAPI["components"]["schemas"]["UsageReport"]["description"]
    assert "Exactly one of `subscription_id` and `license_arn` is given." in " ".join(described.split())


def test_the_rule_of_a_tenants_name_is_said_in_the_text() -> None:
    assert "without a space at either end" in OPENAPI["components"]["schemas"]["TenantId"]["description"]


def test_every_operation_is_in_a_group_and_described() -> None:
    for name, operation in OPERATIONS.items():
        assert set(operation["tags"]) <= set(TAGS), name
        assert operation["description"].endswith("."), name
        assert {"400", "403", "429", "500", "503"} <= set(operation["responses"]), name


def test_the_document_says_how_it_changes() -> None:
    info = OPENAPI["info"]
    assert info["version"] == "1.0.0"
    assert {"contact", "license"} <= set(info)
    assert "**Deprecation.**" in info["description"]
