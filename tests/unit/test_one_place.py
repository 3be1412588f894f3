"""What the layer says in one place only: the attributes of a metering record, and the calls to DynamoDB."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYER = ROOT / "layers" / "common" / "marketplace"
MODULES = sorted([*LAYER.rglob("*.py"), *(ROOT / "functions").rglob("*.py")])

RECORD = tuple(LAYER / "ledger" / f"{name}.py" for name in ("record", "due_index", "selections", "conflict"))
"""The record, the index that a metering run reads of it, what a query finds of it, and what is said of its conflict."""
ATTRIBUTES = (
    "seal",
    "due_shard",
    "due_at",
    "refuse_at",
    "metering_record_id",
    "settled_at",
    "tag_sets",
    "tag_bytes",
    "tag_keys",
    "untagged_records",
)
"""The attributes that no other item has."""

OPERATIONS = frozenset(
    {
        "query",
        "scan",
        "get_item",
        "put_item",
        "update_item",
        "delete_item",
        "batch_get_item",
        "batch_write_item",
        "batch_execute_statement",
        "execute_statement",
        "transact_get_items",
        "transact_write_items",
        "get_paginator",
    }
)
"""The data operations of a DynamoDB client, under boto3's names. It takes keyword arguments only, unlike the query of
an HTTP request; but for `get_paginator`."""


def texts(tree: ast.AST) -> Iterator[str]:
    """The string literals of a module, those inside f-strings too, without its docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def attributes_named_in(text: str) -> set[str]:
    """The attributes of a metering record that a literal names: as a whole, as `#name` or `:name`, in a function of an
    expression, or compared or assigned in one."""
    found = {name for name in ATTRIBUTES if text == name}
    for name in ATTRIBUTES:
        if re.search(rf"[#:]{name}\b|[(,]\s*{name}\s*[,)]|\b{name}\s*(=|<|>|\bIN\b|\bBETWEEN\b)", text):
            found.add(name)
    return found


def attributes_named_by(source: str) -> set[str]:
    return {name for text in texts(ast.parse(source)) for name in attributes_named_in(text)}


def calls_to_the_store(source: str) -> set[str]:
    """The client's data operations that a module calls, and the error of a condition where it names it."""
    tree = ast.parse(source)
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in OPERATIONS
        and (node.keywords or node.func.attr == "get_paginator")
    }
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | set(texts(tree))
    return called | {name for name in names if "ConditionalCheckFailed" in name}


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in MODULES if path not in RECORD], ids=place)
def test_the_attributes_of_a_metering_record_are_named_in_its_own_modules_alone(path: Path) -> None:
    assert attributes_named_by(path.read_text()) == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != LAYER / "dynamodb"], ids=place)
def test_only_the_dynamodb_package_calls_the_store(path: Path) -> None:
    assert calls_to_the_store(path.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        'item["seal"]',
        'values = {"seal": token}',
        'Update(condition="#seal = :seen")',
        'Update(condition="attribute_exists(seal)")',
        'update = f"SET {names}, seal = :token"',
        'statement = "UPDATE t SET seal=? WHERE pk=?"',
        'value = "if_not_exists(seal, :dash)"',
        'given = {":seal": token}',
    ],
)
def test_an_attribute_is_recognised_wherever_it_is_named(source: str) -> None:
    assert attributes_named_by(source) == {"seal"}


@pytest.mark.parametrize("source", ['"""The seal."""', "record.seal", 'log("the seal is broken")', 'x = "sealed"'])
def test_prose_and_fields_name_no_attribute(source: str) -> None:
    assert attributes_named_by(source) == set()


@pytest.mark.parametrize(
    "source",
    [
        "client.put_item(TableName=table)",
        "self._client.get_paginator('query')",
        "except_(client.exceptions.ConditionalCheckFailedException)",
        'code == "ConditionalCheckFailed"',
    ],
)
def test_a_call_to_the_store_is_recognised(source: str) -> None:
    assert calls_to_the_store(source)


def test_there_are_attributes_and_calls_to_find() -> None:
    assert {name for path in RECORD for name in attributes_named_by(path.read_text())} == set(ATTRIBUTES)
    assert calls_to_the_store((LAYER / "dynamodb" / "table.py").read_text()) >= {"query", "update_item", "put_item"}
