"""Changes of moto's DynamoDB that make it quick, and its transactions atomic (decision 0012).

moto copies the whole table once for every item of a transaction, sorts the whole table for every query, and turns all
tables into JSON for every PartiQL statement. Here a failed transaction puts back the items it touched, only what a
query finds is sorted, and a statement that names a key is given that item alone. The caller handles one request at a
time.
"""

import copy
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

from moto.dynamodb.exceptions import MockValidationException, TransactionCanceledException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import partiql

_UPDATE = re.compile(r'\s*UPDATE\s+"(?P<table>[^"]+)"\s+SET\s+(?P<clauses>.+)', re.IGNORECASE | re.DOTALL)
_EQUALITY = re.compile(r'"?(\w+)"?\s*=\s*\?')


@contextmanager
def quick_dynamodb() -> Iterator[None]:
    """The changes, for the length of a `with` block."""
    with ExitStack() as changes:
        changes.enter_context(_plain_transactions())
        changes.enter_context(_keyed_statements())
        changes.enter_context(mock.patch.object(Table, "all_items", _all_items))
        yield


@contextmanager
def _keyed_statements() -> Iterator[None]:
    """`UPDATE ... WHERE <key>=? AND ...` without looking at other items."""
    original = DynamoDBBackend.execute_statement

    def execute_statement(self: DynamoDBBackend, statement: str, parameters: list[dict[str, Any]]) -> Any:
        table, key = _key_of(self, statement, parameters)
        if table is None:
            return original(self, statement, parameters)
        item = table.get_item(*key)
        seen = {table.name: [] if item is None else [item.to_json()["Attributes"]]}
        answer, updates = partiql.query(statement, seen, parameters)
        for _, after in updates.get(table.name, ()):
            table.put_item(after)
        return answer

    with mock.patch.object(DynamoDBBackend, "execute_statement", execute_statement):
        yield


def _key_of(backend: DynamoDBBackend, statement: str, parameters: list[dict[str, Any]]) -> tuple[Any, tuple[Any, ...]]:
    """The table and the key that an UPDATE with nothing but equalities and parameters names; None where it does not."""
    match = _UPDATE.fullmatch(statement)
    table = backend.tables.get(match["table"]) if match else None
    if match is None or table is None:
        return None, ()
    names = _EQUALITY.findall(match["clauses"])
    first = len(_EQUALITY.findall(re.split(r"\bWHERE\b", match["clauses"], flags=re.IGNORECASE)[0]))
    given = dict(zip(names[first:], parameters[first:], strict=False))
    if len(names) != len(parameters) or not set(table.table_key_attrs) <= set(given):
        return None, ()
    return table, tuple(DynamoType(given[name]) for name in table.table_key_attrs)


@contextmanager
def _plain_transactions() -> Iterator[None]:
    """Transactions that put back the touched items when they fail, instead of copying tables beforehand."""
    original = DynamoDBBackend.transact_write_items

    def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        touched = list(_touched(self, transact_items))
        try:
            original(self, transact_items)
        except (TransactionCanceledException, MockValidationException):
            for table, key, item in touched:
                with suppress(KeyError):
                    table.delete_item(*key)
                if item is not None and key[1] is not None:
                    table.items[key[0]][key[1]] = item
                elif item is not None:
                    table.items[key[0]] = item
            raise

    with (
        mock.patch.object(DynamoDBBackend, "transact_write_items", transact_write_items),
        mock.patch.object(Table, "__deepcopy__", lambda table, _memo: table, create=True),
    ):
        yield


def _all_items(table: Table) -> list[Any]:
    """moto's own, without sorting: Query sorts what it has found, and nothing here scans."""
    if table.range_key_attr is None:
        return list(table.items.values())
    return [item for items in table.items.values() for item in items.values()]


def _touched(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> Iterator[tuple[Any, Any, Any]]:
    for operation in transact_items:
        ((kind, body),) = operation.items()
        table = backend.tables.get(body.get("TableName"))
        if table is not None and kind != "ConditionCheck":
            given = body["Item"] if kind == "Put" else body["Key"]
            key = backend.get_keys_value(table, given)
            yield table, key, copy.deepcopy(table.get_item(*key))
