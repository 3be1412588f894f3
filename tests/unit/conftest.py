"""Fixtures that several files of unit tests share: the metering side of a world, and the registration side."""

from typing import Any

import pytest

from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.storefront import Storefront
from tests.support.tables import Tables
from tests.support.world import World


@pytest.fixture
def calls() -> Calls:
    """The calls to AWS that the use cases of `world` and `either_world` make."""
    return Calls()


@pytest.fixture
def store() -> MemoryDynamoDB:
    """The DynamoDB of `world`."""
    return MemoryDynamoDB()


@pytest.fixture
def world_settings() -> dict[str, Any]:
    """Further arguments of `world` and `either_world`; a file of tests overrides it."""
    return {}


@pytest.fixture
def world(store: MemoryDynamoDB, calls: Calls, world_settings: dict[str, Any]) -> World:
    """A world on the in-memory DynamoDB."""
    return World.on(store, wrap=calls.wrap, **world_settings)


@pytest.fixture(params=["memory", "moto"])
def either_world(request: pytest.FixtureRequest, calls: Calls, world_settings: dict[str, Any]) -> World:
    """A world on the in-memory DynamoDB and on moto."""
    if request.param == "memory":
        return World.on(MemoryDynamoDB(), wrap=calls.wrap, **world_settings)
    tables: Tables = request.getfixturevalue("moto_tables")
    return World(request.getfixturevalue("moto_dynamodb"), tables, wrap=calls.wrap, **world_settings)


@pytest.fixture
def shop(moto_dynamodb: Any, moto_tables: Tables) -> Storefront:
    """The registration and the seller API on moto."""
    return Storefront(moto_dynamodb, moto_tables)
