"""docs/cost.md: its tables are what is counted now, and the counting counts as AWS does."""

from collections.abc import Callable
from typing import Any

import pytest

from bench import cost
from bench.priced_dynamodb import PricedDynamoDB
from tests.support.tables import create_tables
from tools.template import ROOT

DOCUMENT = (ROOT / "docs" / "cost.md").read_text()


def test_the_document_has_what_is_counted() -> None:
    assert f"<!-- bench.cost -->\n{cost.text()}<!-- /bench.cost -->" in DOCUMENT, "run: python -m bench.cost"


def test_every_price_is_named_with_its_source() -> None:
    prices = DOCUMENT.split("## Prices")[1]
    for name, dollars in cost.PRICES.items():
        shown = f"{dollars:.4f}" if dollars > 10 else f"{dollars:g}" if dollars == 0.625 else None
        assert (shown or f"{dollars:.2f}".replace("0.12", "0.125")) in prices, name


KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
ITEM = {**KEY, "value": {"S": "x"}}
LARGE = {**KEY, "value": {"S": "x" * 1500}}
DUE = {**KEY, "due_shard": {"S": "1"}, "due_at": {"N": "5"}}


@pytest.mark.parametrize(
    ("act", "write", "read"),
    [
        (lambda db, name: db.put_item(TableName=name, Item=ITEM), 1, 0),
        (lambda db, name: db.put_item(TableName=name, Item=LARGE), 2, 0),
        (lambda db, name: db.put_item(TableName=name, Item=DUE), 2, 0),
        (lambda db, name: db.transact_write_items(TransactItems=[{"Put": {"TableName": name, "Item": DUE}}]), 4, 0),
        (lambda db, name: db.get_item(TableName=name, Key=KEY), 0, 0.5),
        (lambda db, name: db.get_item(TableName=name, Key=KEY, ConsistentRead=True), 0, 1),
        (lambda db, name: db.batch_get_item(RequestItems={name: {"Keys": [KEY], "ConsistentRead": True}}), 0, 1),
    ],
)
def test_units_are_counted_as_dynamodb_bills_them(act: Callable[[Any, str], Any], write: float, read: float) -> None:
    memory = PricedDynamoDB()
    act(memory, create_tables(memory.client).usage)
    assert (memory.units["write"], memory.units["read"]) == (write, read)


@pytest.mark.parametrize(("due_at", "write"), [("5", 1), ("9", 3), (None, 2)])
def test_an_index_entry_that_moves_is_two_writes_and_one_that_stays_none(due_at: str | None, write: int) -> None:
    memory = PricedDynamoDB()
    name = create_tables(memory.client).usage
    memory.put_item(TableName=name, Item=DUE)
    memory.units.clear()
    changed = {**DUE, "due_at": {"N": due_at}} if due_at else {**KEY}
    memory.put_item(TableName=name, Item=changed)
    assert memory.units["write"] == write
