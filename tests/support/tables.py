"""The two tables, made in a test's DynamoDB exactly as template.yaml declares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.template import create_table_arguments

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class Tables:
    """The names of one pair of tables."""

    subscriptions: str
    usage: str


def create_tables(client: DynamoDBClient, prefix: str = "") -> Tables:
    """Create both tables with their indexes and answer their names."""
    tables = Tables(subscriptions=f"{prefix}subscriptions", usage=f"{prefix}usage")
    client.create_table(**create_table_arguments("SubscriptionsTable", tables.subscriptions))
    client.create_table(**create_table_arguments("UsageTable", tables.usage))
    return tables


def delete_tables(client: DynamoDBClient, tables: Tables) -> None:
    """Delete both tables."""
    client.delete_table(TableName=tables.subscriptions)
    client.delete_table(TableName=tables.usage)
