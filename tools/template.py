"""template.yaml as data, for tests and tools: its resources as written, and its tables as boto3 creates them."""

from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"


@cache
def load() -> dict[str, Any]:
    """Answer template.yaml with its short-form intrinsics (`!Ref X`) in their long form (`{"Ref": "X"}`)."""
    parsed: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return parsed


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Answer the resources of one CloudFormation type, by logical id."""
    return {name: body for name, body in load()["Resources"].items() if body["Type"] == kind}


def create_table_arguments(logical_id: str, table_name: str) -> dict[str, Any]:
    """Answer what boto3's `create_table` takes to make the table that the template declares."""
    declared = resources("AWS::DynamoDB::Table")[logical_id]["Properties"]
    taken = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
    return {"TableName": table_name} | {name: declared[name] for name in taken if name in declared}
