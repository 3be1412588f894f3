"""The tables that the template declares, as both engines make them."""

import pytest
from mypy_boto3_dynamodb import DynamoDBClient

from tests.support.tables import Tables


def test_moto_makes_both_tables(moto_dynamodb: DynamoDBClient, moto_tables: Tables) -> None:
    assert _indexes(moto_dynamodb, moto_tables.usage) == {"due"}
    assert _indexes(moto_dynamodb, moto_tables.subscriptions) == {"by_account", "by_status"}


@pytest.mark.dynamodb_local
def test_dynamodb_local_makes_both_tables(local_dynamodb: DynamoDBClient, local_tables: Tables) -> None:
    assert _indexes(local_dynamodb, local_tables.usage) == {"due"}
    assert _indexes(local_dynamodb, local_tables.subscriptions) == {"by_account", "by_status"}


def _indexes(client: DynamoDBClient, table: str) -> set[str]:
    described = client.describe_table(TableName=table)["Table"]
    return {index["IndexName"] for index in described["GlobalSecondaryIndexes"]}
