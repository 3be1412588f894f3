"""Fixtures for every test: AWS that is never the real one, on moto or on AWS's own DynamoDB Local.

moto is imported before anything makes a boto3 client, because a client made earlier would escape it.
"""

from __future__ import annotations

# isort: off
from moto import mock_aws
# isort: on

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.support import lasting
from tests.support.tables import Tables, create_tables, delete_tables
from tools import dynamodb_local as local_engine

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_serial = itertools.count(1)


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the SDK credentials that open nothing, one region, and no configuration of the person at the keyboard."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def moto(aws_environment: None) -> Iterator[None]:
    """Let every boto3 client of the test talk to moto, in this process."""
    with mock_aws():
        yield


@pytest.fixture(scope="session")
def lasting_dynamodb() -> Iterator[DynamoDBClient]:
    """Answer a client for all tests on moto."""
    client: DynamoDBClient = lasting.client("dynamodb")
    yield client
    client.close()


@pytest.fixture
def moto_dynamodb(lasting_dynamodb: DynamoDBClient, moto: None) -> DynamoDBClient:
    """Answer a DynamoDB client on moto."""
    return lasting_dynamodb


@pytest.fixture
def moto_tables(moto_dynamodb: DynamoDBClient) -> Tables:
    """Answer both tables, empty, on moto."""
    return create_tables(moto_dynamodb)


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """Answer the endpoint of a DynamoDB Local of this test process; the test carries the marker `dynamodb_local`."""
    with local_engine.running() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def local_dynamodb(dynamodb_local: str) -> Iterator[DynamoDBClient]:
    """Answer a client of DynamoDB Local for all tests."""
    client = boto3.client(
        "dynamodb",
        endpoint_url=dynamodb_local,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    yield client
    client.close()


@pytest.fixture
def local_tables(local_dynamodb: DynamoDBClient) -> Iterator[Tables]:
    """Answer both tables, empty and the test's own, on DynamoDB Local."""
    tables = create_tables(local_dynamodb, prefix=f"t{next(_serial)}-")
    yield tables
    delete_tables(local_dynamodb, tables)
