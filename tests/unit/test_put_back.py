"""Items that a table has lost, put back from a restored one."""

from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace_saas_cli.exits import NO_ANSWER, NOT_CONFIRMED
from tests.support.duty import Duty, on_duty
from tests.support.tables import Tables
from tests.support.world import NOON, Timeline

SUB = "sub-" + "a" * 26
RECORD = keys.usage_record(SUB, "r1")
HOUR = keys.metering_record(SUB, NOON, "calls")


@pytest.fixture
def dynamodb(moto_dynamodb: Any) -> Any:
    return moto_dynamodb


@pytest.fixture
def duty(
    dynamodb: Any, moto_tables: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Duty:
    now = Timeline().now
    return on_duty(monkeypatch, tables=moto_tables, now=now, capsys=capsys, clients={"dynamodb": dynamodb})


@pytest.fixture
def restored(duty: Duty) -> str:
    """A restored table: here the other one of the deployment, which has the same keys."""
    return duty.tables.subscriptions


def put(dynamodb: Any, table: str, key: keys.Key, **values: Any) -> None:
    dynamodb.put_item(TableName=table, Item=to_item({**key._asdict(), **values}))


def stored(dynamodb: Any, table: str) -> dict[str, dict[str, Any]]:
    return {item["sk"]["S"]: from_item(item) for item in dynamodb.scan(TableName=table)["Items"]}


def test_what_is_gone_comes_back_and_nothing_is_overwritten(dynamodb: Any, duty: Duty, restored: str) -> None:
    put(dynamodb, restored, RECORD, quantity=5)
    put(dynamodb, restored, HOUR, quantity=5, state="open")
    put(dynamodb, duty.tables.usage, HOUR, quantity=9, state="metered")

    assert duty.json("put-back", restored, "--into", "usage", status=NOT_CONFIRMED)["preview"]["gone"] == {
        "usage record": 1
    }
    assert RECORD.sk not in stored(dynamodb, duty.tables.usage)
    assert duty.json("put-back", restored, "--into", "usage", "--yes")["written"] == 1
    found = stored(dynamodb, duty.tables.usage)
    assert found[RECORD.sk]["quantity"] == 5
    assert found[HOUR.sk] == {**HOUR._asdict(), "quantity": 9, "state": "metered"}
    assert duty.json("put-back", restored, "--into", "usage", "--yes")["changed"] is False


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (keys.contact(SUB), {}),
        (keys.outbox(SUB, "event"), {}),
        (RECORD, {"expires_at": NOON}),
    ],
    ids=["a contact that was deleted", "an event that was published", "a record that has expired"],
)
def test_what_was_to_go_stays_gone(
    dynamodb: Any, duty: Duty, restored: str, key: keys.Key, values: dict[str, Any]
) -> None:
    put(dynamodb, restored, key, **values)
    assert duty.json("put-back", restored, "--into", "usage", "--yes")["changed"] is False


def test_a_table_that_is_not_there_is_said_in_a_sentence(duty: Duty) -> None:
    assert duty.run("put-back", "nowhere", "--into", "usage", "--yes") == NO_ANSWER
    assert duty.err.startswith("marketplace-saas: there is no such table")
