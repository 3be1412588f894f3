"""DynamoDB in this process's memory: what the low-level boto3 client answers to the requests that the product sends.

It is deterministic, and fast enough for ten thousand fault schedules. tests/contract compares it with AWS's own
DynamoDB Local, answer for answer. It raises NotImplementedError for everything that neither the product nor its tests
send.

It does not limit the size of pages (1 MB; `page_limit` stands for it), requests (16 MB) and transactions (4 MB), nor
the throughput (`unprocessed` stands for it). Items over 400 KB are refused where one write brings the bulk. Items with
equal sort keys in an index are in the order of the table's keys; DynamoDB promises no order.
"""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache, partial
from operator import itemgetter
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, cast

import botocore.session
from botocore.errorfactory import ClientExceptionsFactory
from botocore.exceptions import ClientError, ParamValidationError

from tests.support import dynamodb_expressions as expressions
from tests.support.dynamodb_expressions import (
    Attribute,
    Compiled,
    Condition,
    InvalidExpressionError,
    InvalidValueError,
    Item,
    KeyCondition,
    Update,
    UpdateError,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Position = tuple[Any, ...]
"""Where an item stands in its partition: (sort key,) in a table, (sort key, table's keys...) in an index."""

_MAX_ACTIONS = 100
_MAX_KEYS = 100
_MAX_WRITES = 25
"""DynamoDB API reference: TransactWriteItems, BatchGetItem, BatchWriteItem and BatchExecuteStatement."""
_MAX_ITEM_BYTES = 400 * 1024
_MAX_HASH_BYTES = 2048
_MAX_RANGE_BYTES = 1024
_LIGHT_VALUE = 1000
_MANY_ATTRIBUTES = 90
_REFUSED = "The conditional request failed"
_first = itemgetter(0)


# Errors


@cache
def _exceptions() -> Any:
    """boto3's own exception classes."""
    service = botocore.session.get_session().get_service_model("dynamodb")
    return ClientExceptionsFactory().create_client_exceptions(service)


def aws_error(
    code: str, operation: str, message: str = "", *, status: int = 400, members: Mapping[str, Any] | None = None
) -> ClientError:
    """The exception that a boto3 DynamoDB client raises for an error code; `operation` as in PutItem, `members` what
    the response holds besides Error, such as CancellationReasons."""
    response: dict[str, Any] = {
        "Error": {"Message": message, "Code": code},
        "ResponseMetadata": _metadata(status),
        **(members or {}),
    }
    error: ClientError = _exceptions().from_code(code)(response, operation)
    return error


def _metadata(status: int = 200) -> dict[str, Any]:
    return {"RequestId": "MEMORY", "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}


class _RefusedError(Exception):
    """The reason of a ValidationException, or of one member's ValidationError."""


# Storage


@dataclass(slots=True)
class _Run:
    """The items of one partition, in order. Items are never changed in place, so a run may share them."""

    order: list[Position] = field(default_factory=list)
    items: dict[Position, Item] = field(default_factory=dict)

    def put(self, position: Position, item: Item) -> None:
        if position not in self.items:
            insort(self.order, position)
        self.items[position] = item

    def remove(self, position: Position) -> None:
        if self.items.pop(position, None) is not None:
            del self.order[bisect_left(self.order, position)]


@dataclass(slots=True)
class _Keyed:
    """What a table and an index have in common: a key schema, and items by partition."""

    name: str
    hash_name: str
    range_name: str
    kinds: dict[str, str]
    table_keys: tuple[str, ...] = ()
    projected: frozenset[str] | None = None
    runs: dict[Any, _Run] = field(default_factory=dict)

    def run(self, partition: Any) -> _Run:
        run = self.runs.get(partition)
        if run is None:
            run = self.runs[partition] = _Run()
        return run

    def value(self, item: Mapping[str, Attribute], name: str) -> Any:
        return expressions.plain(item[name], self.kinds[name])

    def entry(self, item: Item | None) -> tuple[Any, Position] | None:
        """Where the item stands in this index, if it does: an index holds only items with both its keys."""
        if item is None or self.hash_name not in item or self.range_name not in item:
            return None
        position = (self.value(item, self.range_name), *(self.value(item, name) for name in self.table_keys))
        return self.value(item, self.hash_name), position

    def replace(self, old: tuple[Any, Position] | None, new: tuple[Any, Position] | None, item: Item | None) -> None:
        if old is not None and old != new:
            self.runs[old[0]].remove(old[1])
        if new is not None and item is not None:
            self.run(new[0]).put(new[1], item)

    def key_of(self, item: Item) -> Item:
        names = dict.fromkeys((*self.table_keys, self.hash_name, self.range_name))
        return {name: item[name] for name in names}


class _Table(_Keyed):
    indexes: dict[str, _Keyed]

    def find(self, partition: Any, sort: Any) -> Item | None:
        run = self.runs.get(partition)
        return None if run is None else run.items.get((sort,))


def _utf8(value: str) -> int:
    return len(value.encode())


def _size(attribute: Attribute) -> int:
    """DynamoDB Developer Guide, "DynamoDB item sizes and formats"."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return _utf8(value)
        case "N":
            return len(value) // 2 + 1
        case "SS":
            return sum(map(_utf8, value))
        case "L":
            return 3 + sum(1 + _size(member) for member in value)
        case "M":
            return 3 + sum(1 + _utf8(name) + _size(member) for name, member in value.items())
    return 1


def _check_size(item: Item) -> None:
    if sum(_utf8(name) + _size(attribute) for name, attribute in item.items()) > _MAX_ITEM_BYTES:
        raise _RefusedError("Item size has exceeded the maximum allowed size")


def _owned(given: Mapping[str, Attribute]) -> tuple[Item, bool]:
    """The caller's attributes as an item that is the table's own, and whether any of them is big enough to matter."""
    item: Item = {}
    heavy = len(given) > _MANY_ATTRIBUTES
    for name, attribute in given.items():
        value = attribute.get("S")
        if value.__class__ is str and len(attribute) == 1:
            item[name] = attribute.copy()
            if len(value) > _LIGHT_VALUE:
                heavy = True
            continue
        value = attribute.get("N")
        if value.__class__ is str and len(attribute) == 1:
            item[name] = {"N": expressions.canonical(value)}
            continue
        item[name] = expressions.owned(attribute)
        heavy = True
    return item, heavy


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _deep(member) for name, member in value.items()}
    return [_deep(member) for member in value] if isinstance(value, list) else value


def _handed_out(item: Item) -> Item:
    """A copy that the caller may do with as they like."""
    return {
        name: {kind: value if value.__class__ is str else _deep(value) for kind, value in attribute.items()}
        for name, attribute in item.items()
    }


# Requests

_KEY = frozenset({"TableName", "Key"})
_NAMES = frozenset({"ExpressionAttributeNames", "ExpressionAttributeValues"})
_CONDITIONAL = frozenset({"ConditionExpression", "ReturnValuesOnConditionCheckFailure"}) | _NAMES
_MEMBERS = {
    "Put": frozenset({"TableName", "Item"}) | _CONDITIONAL,
    "Update": _KEY | {"UpdateExpression"} | _CONDITIONAL,
    "Delete": _KEY | _CONDITIONAL,
    "ConditionCheck": _KEY | _CONDITIONAL,
}
_TABLE = frozenset({"TableName", "AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes"})
_QUERY = (
    frozenset({"TableName", "IndexName", "KeyConditionExpression", "FilterExpression", "Limit", "ConsistentRead"})
    | {"ExclusiveStartKey", "ScanIndexForward"}
    | _NAMES
)
_UPDATE_STATEMENT = re.compile(
    r'\s*UPDATE\s+"([^"]+)"\s+SET\s+(\w+)\s*=\s*\?\s+WHERE\s+(\w+)\s*=\s*\?\s+AND\s+(\w+)\s*=\s*\?\s+'
    r'AND\s+((?:(?:\w+|"\w+")\s*=\s*\?\s*(?:AND\s+)?)+)'
)
_COMPARED = re.compile(r'(\w+)"?\s*=\s*\?')


@dataclass(slots=True)
class _Write:
    """One write, checked as far as that goes without the item: what must hold, and what the item then becomes."""

    table: _Table
    partition: Any
    sort: Any
    key: Item
    condition: Condition | None
    values: Item
    put: Item | None
    update: Update | None
    answer_old: bool
    heavy: bool
    check: bool

    def holds(self, old: Item | None) -> bool:
        return self.condition is None or self.condition.holds(old or {}, self.values)

    def found(self, old: Item | None) -> dict[str, Any]:
        """What a refusal says of the item, if it was asked to (ReturnValuesOnConditionCheckFailure)."""
        return {"Item": _handed_out(old)} if old is not None and self.answer_old else {}

    def result(self, old: Item | None) -> Item | None:
        """The item as it is to be. Raises _RefusedError."""
        if self.check:
            return old
        if self.update is None:
            return self.put
        try:
            new = self.update.apply(self.key if old is None else old, self.values)
        except UpdateError as error:
            raise _RefusedError(str(error)) from error
        if self.heavy or len(new) > _MANY_ATTRIBUTES:
            _check_size(new)
        for index in self.table.indexes.values():
            if index.hash_name in self.update.targets or index.range_name in self.update.targets:
                _check_index_keys(index, new)
        return new


def _check_index_keys(index: _Keyed, item: Item) -> None:
    for name in (index.hash_name, index.range_name):
        attribute = item.get(name)
        if attribute is None:
            continue
        if index.kinds[name] not in attribute:
            raise _RefusedError("One or more parameter values were invalid: Type mismatch for Index Key")
        if attribute[index.kinds[name]] == "":
            raise _RefusedError(
                "One or more parameter values are not valid. A value specified for a secondary index key is not "
                f"supported. The AttributeValue for a key attribute cannot contain an empty string value: {name}"
            )


class MemoryDynamoDB:
    """A low-level DynamoDB client with its own tables; threads may share it.

    index_lag     while true, index queries answer from how the indexes stood when it was switched on or at the last
                  `catch_up()`.
    page_limit    at most this many items are looked at for one page of a query, as 1 MB of them would be.
    unprocessed   called with BatchGetItem, BatchWriteItem or BatchExecuteStatement and how many members the request
                  has; the members at the positions that it answers are left undone and reported as DynamoDB does.
    """

    def __init__(
        self,
        *,
        index_lag: bool = False,
        page_limit: int | None = None,
        unprocessed: Callable[[str, int], Container[int]] | None = None,
    ) -> None:
        self._tables: dict[str, _Table] = {}
        self._lock = RLock()
        self._behind: list[Callable[[], None]] = []
        self._index_lag = index_lag
        self.page_limit = page_limit
        self.unprocessed = unprocessed

    @property
    def client(self) -> "DynamoDBClient":
        """This object, as the type that the product asks for."""
        return cast("DynamoDBClient", self)

    @property
    def exceptions(self) -> Any:
        """boto3's own exception classes."""
        return _exceptions()

    # Beyond the client

    @property
    def index_lag(self) -> bool:
        return self._index_lag

    @index_lag.setter
    def index_lag(self, lags: bool) -> None:
        self._index_lag = lags
        if not lags:
            self.catch_up()

    def catch_up(self) -> None:
        """Bring the indexes up to date."""
        with self._lock:
            behind, self._behind = self._behind, []
            for change in behind:
                change()

    def items(self, table: str, having: str = "") -> list[Item]:
        """Everything in a table, or what has one attribute, in the order of its keys; for assertions."""
        with self._lock:
            runs = sorted(self._tables[table].runs.items(), key=_first)
            items = (run.items[position] for _, run in runs for position in run.order)
            return [_handed_out(item) for item in items if not having or having in item]

    # Tables

    def create_table(self, **request: Any) -> dict[str, Any]:
        _check_members("CreateTable", request, _TABLE)
        name = request["TableName"]
        kinds = {each["AttributeName"]: each["AttributeType"] for each in request["AttributeDefinitions"]}
        hash_name, range_name = _schema(request["KeySchema"])
        table = _Table(name, hash_name, range_name, kinds)
        table.indexes = {
            index["IndexName"]: _index(index, table) for index in request.get("GlobalSecondaryIndexes", ())
        }
        with self._lock:
            if name in self._tables:
                raise aws_error("ResourceInUseException", "CreateTable", "Cannot create preexisting table")
            self._tables[name] = table
        return {"TableDescription": {"TableName": name, "TableStatus": "ACTIVE"}, "ResponseMetadata": _metadata()}

    def _table(self, operation: str, name: str) -> _Table:
        table = self._tables.get(name)
        if table is None:
            message = "Cannot do operations on a non-existent table"
            raise aws_error("ResourceNotFoundException", operation, message)
        return table

    # One item

    def get_item(self, **request: Any) -> dict[str, Any]:
        _check_members("GetItem", request, {"TableName", "Key", "ConsistentRead"})
        with self._lock:
            table = self._table("GetItem", request["TableName"])
            try:
                _, partition, sort = _key(table, request["Key"])
            except _RefusedError as error:
                _raise(error, "GetItem")
            item = table.find(partition, sort)
            answer: dict[str, Any] = {"ResponseMetadata": _metadata()}
            return answer if item is None else {"Item": _handed_out(item), **answer}

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._write("PutItem", "Put", request)

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._write("UpdateItem", "Update", request)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        return self._write("DeleteItem", "Delete", request)

    def _write(self, operation: str, action: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                write = self._prepared(operation, action, request)
                old = write.table.find(write.partition, write.sort)
                if not write.holds(old):
                    raise aws_error("ConditionalCheckFailedException", operation, _REFUSED, members=write.found(old))
                new = write.result(old)
            except _RefusedError as error:
                _raise(error, operation)
            self._store(write.table, write.partition, write.sort, new)
        return {"ResponseMetadata": _metadata()}

    def _prepared(self, operation: str, action: str, request: Mapping[str, Any]) -> _Write:
        """Checks a write as far as that goes without the item. Raises _RefusedError or ResourceNotFoundException."""
        _check_members(operation, request, _MEMBERS[action])
        table = self._table(operation, request["TableName"])
        values, heavy = _values(request.get("ExpressionAttributeValues"))
        written = _expressions(
            request, None, request.get("ConditionExpression"), request.get("UpdateExpression"), values
        )
        put = update = None
        if action == "Put":
            put, heavy = _own_item(table, request["Item"])
            key, partition, sort = put, *(_key_value(table, put, name) for name in (table.hash_name, table.range_name))
        else:
            key, partition, sort = _key(table, request["Key"])
        if action == "Update":
            update = written.update or _NO_UPDATE
            if not update.targets.isdisjoint((table.hash_name, table.range_name)):
                raise NotImplementedError(f"{operation}: {request['UpdateExpression']} writes a part of the key")
        answer_old = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        return _Write(
            table,
            partition,
            sort,
            key,
            written.condition,
            values,
            put,
            update,
            answer_old,
            heavy,
            action == "ConditionCheck",
        )

    def _store(self, table: _Table, partition: Any, sort: Any, new: Item | None) -> None:
        run = table.run(partition)
        position = (sort,)
        old = run.items.get(position)
        if new is None:
            run.remove(position)
            if not run.order:
                del table.runs[partition]
        else:
            run.put(position, new)
        for index in table.indexes.values():
            name = index.hash_name
            if (old is None or name not in old) and (new is None or name not in new):
                continue
            before, after = index.entry(old), index.entry(new)
            if before is None and after is None:
                continue
            if self._index_lag:
                self._behind.append(partial(index.replace, before, after, new))
            else:
                index.replace(before, after, new)

    # Transactions

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        operation = "TransactWriteItems"
        _check_members(operation, request, {"TransactItems"})
        actions: Sequence[Mapping[str, Any]] = request["TransactItems"]
        if not actions:
            raise _no_members("TransactItems")
        with self._lock:
            if len(actions) > _MAX_ACTIONS:
                _raise(_RefusedError("Member must have length less than or equal to 100"), operation)
            try:
                writes = [self._member(operation, member) for member in actions]
                if len({(write.table.name, write.partition, write.sort) for write in writes}) < len(writes):
                    raise _RefusedError("Transaction request cannot include multiple operations on one item")
            except _RefusedError as error:
                _raise(error, operation)
            judged = [_judged(write) for write in writes]
            if any(reason is not _NO_REASON for reason, _ in judged):
                raise _cancellation([reason for reason, _ in judged])
            for write, (_, result) in zip(writes, judged, strict=True):
                self._store(write.table, write.partition, write.sort, result)
        return {"ResponseMetadata": _metadata()}

    def _member(self, operation: str, member: Mapping[str, Any]) -> _Write:
        if len(member) != 1:
            raise _RefusedError("TransactItems can only contain one of Check, Put, Update or Delete")
        ((action, request),) = member.items()
        if action not in _MEMBERS:
            raise NotImplementedError(f"{operation}: {action}")
        return self._prepared(operation, action, request)

    # Batches

    def _undone(self, operation: str, count: int) -> Container[int]:
        return () if self.unprocessed is None else self.unprocessed(operation, count)

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        operation = "BatchGetItem"
        _check_members(operation, request, {"RequestItems"})
        asked = _members(request["RequestItems"], "Keys")
        answer: dict[str, Any] = {"Responses": {}, "UnprocessedKeys": {}, "ResponseMetadata": _metadata()}
        with self._lock:
            if len(asked) > _MAX_KEYS:
                _raise(_RefusedError("Too many items requested for the BatchGetItem call"), operation)
            found = self._distinct(operation, asked)
            undone = self._undone(operation, len(asked))
            for place, (name, key) in enumerate(asked):
                items = answer["Responses"].setdefault(name, [])
                if place in undone:
                    settings = {k: v for k, v in request["RequestItems"][name].items() if k != "Keys"}
                    unread = answer["UnprocessedKeys"].setdefault(name, {"Keys": [], **settings})
                    unread["Keys"].append(_deep(key))
                    continue
                table, partition, sort = found[place]
                item = table.find(partition, sort)
                if item is not None:
                    items.append(_handed_out(item))
        return answer

    def _distinct(self, operation: str, keys: Sequence[tuple[str, Item]]) -> list[tuple[_Table, Any, Any]]:
        """Where these keys stand; refused when one occurs twice."""
        found: dict[tuple[str, Any, Any], tuple[_Table, Any, Any]] = {}
        try:
            for name, given in keys:
                table = self._table(operation, name)
                _, partition, sort = _key(table, given)
                found[name, partition, sort] = (table, partition, sort)
            if len(found) < len(keys):
                raise _RefusedError("Provided list of item keys contains duplicates")
        except _RefusedError as error:
            _raise(error, operation)
        return list(found.values())

    def batch_write_item(self, **request: Any) -> dict[str, Any]:
        operation = "BatchWriteItem"
        _check_members(operation, request, {"RequestItems"})
        asked = _members(request["RequestItems"], None)
        with self._lock:
            if len(asked) > _MAX_WRITES:
                _raise(_RefusedError("Too many items requested for the BatchWriteItem call"), operation)
            writes: list[_Write] = []
            try:
                for name, member in asked:
                    _check_members(operation, member, {"PutRequest"})
                    writes.append(self._prepared(operation, "Put", {"TableName": name, **member["PutRequest"]}))
                places = {(write.table.name, write.partition, write.sort) for write in writes}
                if len(places) < len(writes):
                    raise _RefusedError("Provided list of item keys contains duplicates")
            except _RefusedError as error:
                _raise(error, operation)
            undone = self._undone(operation, len(writes))
            left: dict[str, list[Any]] = {}
            for place, write in enumerate(writes):
                if place in undone:
                    left.setdefault(write.table.name, []).append(_deep(asked[place][1]))
                else:
                    self._store(write.table, write.partition, write.sort, write.put)
        return {"UnprocessedItems": left, "ResponseMetadata": _metadata()}

    def batch_execute_statement(self, **request: Any) -> dict[str, Any]:
        """PartiQL as far as `UPDATE "table" SET a=? WHERE <key>=? AND <key>=? AND b=? AND c=?...`."""
        operation = "BatchExecuteStatement"
        _check_members(operation, request, {"Statements"})
        statements = request["Statements"]
        if not statements:
            raise _no_members("Statements")
        with self._lock:
            if len(statements) > _MAX_WRITES:
                _raise(_RefusedError("BatchWriteItem cannot write more than 25 items"), operation)
            prepared = [self._statement(statement) for statement in statements]
            writes = [each for each in prepared if isinstance(each, _Write)]
            if len({(write.table.name, write.partition, write.sort) for write in writes}) < len(writes):
                _raise(_RefusedError("Provided list of item keys contains duplicates"), operation)
            undone = self._undone(operation, len(statements))
            responses = [
                _statement_error("ThrottlingError", "Throttled") if place in undone else self._executed(each)
                for place, each in enumerate(prepared)
            ]
        return {"Responses": responses, "ResponseMetadata": _metadata()}

    def _statement(self, statement: Mapping[str, Any]) -> "_Write | dict[str, Any]":
        """A statement ready to be carried out, or its answer when it can't be."""
        _check_members("BatchExecuteStatement", statement, {"Statement", "Parameters"})
        match = _UPDATE_STATEMENT.fullmatch(statement["Statement"])
        if match is None:
            raise NotImplementedError(f"BatchExecuteStatement: {statement['Statement']}")
        name, target, *wheres, others = match.groups()
        table = self._tables.get(name)
        if table is None:
            return _statement_error("ResourceNotFound", "Cannot do operations on a non-existent table")
        compared = _COMPARED.findall(others)
        if wheres != [table.hash_name, table.range_name] or {target, *compared} & set(wheres):
            raise NotImplementedError(f"BatchExecuteStatement: {statement['Statement']}")
        parameters = statement.get("Parameters", [])
        if len(parameters) != 1 + len(wheres) + len(compared):
            return _statement_error("ValidationError", "Number of parameters in request and statement don't match.")
        value, partition, sort, *expected = parameters
        try:
            return self._prepared(
                "BatchExecuteStatement",
                "Update",
                {
                    "TableName": name,
                    "Key": {table.hash_name: partition, table.range_name: sort},
                    "UpdateExpression": "SET #target = :value",
                    "ConditionExpression": " AND ".join(f"#{name} = :{name}" for name in compared),
                    "ExpressionAttributeNames": {"#target": target, **{f"#{name}": name for name in compared}},
                    "ExpressionAttributeValues": {
                        ":value": value,
                        **{f":{name}": each for name, each in zip(compared, expected, strict=True)},
                    },
                },
            )
        except _RefusedError as error:
            return {**_statement_error("ValidationError", str(error)), "TableName": name}

    def _executed(self, write: "_Write | dict[str, Any]") -> dict[str, Any]:
        if isinstance(write, dict):
            return write
        old = write.table.find(write.partition, write.sort)
        if old is None or not write.holds(old):
            return {**_statement_error("ConditionalCheckFailed", _REFUSED), "TableName": write.table.name}
        self._store(write.table, write.partition, write.sort, write.result(old))
        return {"TableName": write.table.name}

    # Queries

    def query(self, **request: Any) -> dict[str, Any]:
        _check_members("Query", request, _QUERY)
        limit = request.get("Limit")
        if limit is not None and limit < 1:
            raise ParamValidationError(report=f"Invalid value for parameter Limit, value: {limit}, valid min value: 1")
        with self._lock:
            table = self._table("Query", request["TableName"])
            try:
                return self._queried(table, request, limit)
            except _RefusedError as error:
                _raise(error, "Query")

    def _queried(self, table: _Table, request: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
        source: _Keyed = table
        if "IndexName" in request:
            if request["IndexName"] not in table.indexes:
                raise _RefusedError(f"The table does not have the specified index: {request['IndexName']}")
            if request.get("ConsistentRead"):
                raise _RefusedError("Consistent read cannot be true when querying a GSI")
            source = table.indexes[request["IndexName"]]
        values, _ = _values(request.get("ExpressionAttributeValues"))
        asked = _expressions(request, request["KeyConditionExpression"], request.get("FilterExpression"), None, values)
        key, filtered = cast("KeyCondition", asked.key), asked.condition
        if filtered is not None and not filtered.attributes.isdisjoint((source.hash_name, source.range_name)):
            raise _RefusedError("Filter Expression can only contain non-primary key attributes")
        partition, bounds = _key_condition(source, key, values)
        run = source.runs.get(partition, _Run())
        low, high = bounds.within(run)
        forward = request.get("ScanIndexForward", True)
        start = request.get("ExclusiveStartKey")
        if start is not None:
            position = _start(source, start, partition, bounds)
            if forward:
                low = max(low, bisect_right(run.order, position))
            else:
                high = min(high, bisect_left(run.order, position))
        places = range(low, high) if forward else range(high - 1, low - 1, -1)
        limit = _smaller(limit, self.page_limit)
        return _page(source, run, places, limit=limit, filtered=filtered, values=values)


def _smaller(first: int | None, second: int | None) -> int | None:
    given = [limit for limit in (first, second) if limit is not None]
    return min(given) if given else None


def _page(
    source: _Keyed, run: _Run, places: range, *, limit: int | None, filtered: Condition | None, values: Item
) -> dict[str, Any]:
    looked_at = places if limit is None else places[:limit]
    found = []
    for place in looked_at:
        item = _projected(source, run.items[run.order[place]])
        if filtered is None or filtered.holds(item, values):
            found.append(_handed_out(item))
    answer: dict[str, Any] = {"Items": found, "Count": len(found), "ScannedCount": len(looked_at)}
    if limit is not None and len(looked_at) == limit:
        last = run.items[run.order[looked_at[-1]]]
        answer["LastEvaluatedKey"] = _handed_out(source.key_of(last))
    answer["ResponseMetadata"] = _metadata()
    return answer


def _projected(source: _Keyed, item: Item) -> Item:
    if source.projected is None:
        return item
    return {name: attribute for name, attribute in item.items() if name in source.projected}


# Reading requests


def _check_members(operation: str, request: Mapping[str, Any], known: AbstractSet[str]) -> None:
    if not request.keys() <= known:
        raise NotImplementedError(f"{operation}: {sorted(request.keys() - known)}")


def _no_members(name: str) -> ParamValidationError:
    return ParamValidationError(report=f"Invalid length for parameter {name}, value: 0, valid min length: 1")


def _raise(error: _RefusedError, operation: str) -> NoReturn:
    raise aws_error("ValidationException", operation, str(error)) from error


def _members(request: Mapping[str, Any], inner: str | None) -> list[tuple[str, Any]]:
    """The members of a batch with the tables that they are for."""
    asked: list[tuple[str, Any]] = []
    for name, body in request.items():
        if inner is not None:
            _check_members("BatchGetItem", body, {"Keys", "ConsistentRead"})
        members = body if inner is None else body[inner]
        if not members:
            raise _no_members(f"RequestItems.{name}")
        asked += [(name, member) for member in members]
    return asked


def _statement_error(code: str, message: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}}


def _schema(schema: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    keys = {each["KeyType"]: each["AttributeName"] for each in schema}
    return keys["HASH"], keys["RANGE"]


def _index(declared: Mapping[str, Any], table: _Table) -> _Keyed:
    _check_members("GlobalSecondaryIndexes", declared, {"IndexName", "KeySchema", "Projection"})
    hash_name, range_name = _schema(declared["KeySchema"])
    table_keys = (table.hash_name, table.range_name)
    projection = declared["Projection"]
    projected = None
    if projection["ProjectionType"] != "ALL":
        projected = frozenset({*table_keys, hash_name, range_name, *projection.get("NonKeyAttributes", ())})
    return _Keyed(declared["IndexName"], hash_name, range_name, table.kinds, table_keys, projected)


_NO_UPDATE = Update(lambda old, values: dict(old), frozenset())
"""What UpdateItem does without an UpdateExpression: it makes sure that the item is there."""
_NO_VALUES: Item = {}


def _values(given: Mapping[str, Attribute] | None) -> tuple[Item, bool]:
    if given is None:
        return _NO_VALUES, False
    try:
        return _owned(given)
    except TypeError as error:
        raise ParamValidationError(report=str(error)) from error
    except InvalidValueError as error:
        raise _RefusedError(str(error)) from error


def _expressions(
    request: Mapping[str, Any], key: str | None, condition: str | None, update: str | None, values: Item
) -> Compiled:
    """The request's expressions, checked against the names and values that it gives."""
    try:
        written = expressions.compiled(key, condition, update, request.get("ExpressionAttributeNames"))
        if not values and "ExpressionAttributeValues" in request:
            raise InvalidExpressionError("ExpressionAttributeValues must not be empty")
        written.check(values)
    except InvalidExpressionError as error:
        raise _RefusedError(str(error)) from error
    return written


def _key_value(table: _Table, item: Mapping[str, Attribute], name: str) -> Any:
    attribute = item.get(name)
    if attribute is None:
        raise _RefusedError("One of the required keys was not given a value")
    kind = table.kinds[name]
    value = attribute.get(kind)
    if value is None or len(attribute) != 1:
        raise _RefusedError("One or more parameter values were invalid: Type mismatch for key")
    if kind == "N":
        raise NotImplementedError(f"a number in the key of {table.name}")
    if not value:
        raise _RefusedError(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
            f"empty string value. Key: {name}"
        )
    if len(value) * 4 > _MAX_RANGE_BYTES:
        most = _MAX_HASH_BYTES if name == table.hash_name else _MAX_RANGE_BYTES
        if _utf8(value) > most:
            raise _RefusedError(f"A key is longer than it may be: {name}")
    return value


def _key(table: _Table, given: Mapping[str, Attribute]) -> tuple[Item, Any, Any]:
    """A key as an item of its own, and where it stands."""
    if given.keys() != {table.hash_name, table.range_name}:
        raise _RefusedError("The number of conditions on the keys is invalid")
    partition, sort = _key_value(table, given, table.hash_name), _key_value(table, given, table.range_name)
    return {name: attribute.copy() for name, attribute in given.items()}, partition, sort


def _own_item(table: _Table, given: Mapping[str, Attribute]) -> tuple[Item, bool]:
    item, heavy = _values(given)
    if heavy:
        _check_size(item)
    for index in table.indexes.values():
        if index.hash_name in item or index.range_name in item:
            _check_index_keys(index, item)
    return item, heavy


_NO_REASON: dict[str, Any] = {"Code": "None"}


def _judged(write: _Write) -> tuple[dict[str, Any], Item | None]:
    """Why this member cancels its transaction (_NO_REASON when it doesn't), and what the item becomes."""
    old = write.table.find(write.partition, write.sort)
    if not write.holds(old):
        reason = {"Code": "ConditionalCheckFailed", "Message": _REFUSED}
        return {**write.found(old), **reason}, None
    try:
        return _NO_REASON, write.result(old)
    except _RefusedError as error:
        return {"Code": "ValidationError", "Message": str(error)}, None


def _cancellation(reasons: list[dict[str, Any]]) -> ClientError:
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    own = [dict(reason) for reason in reasons]
    members = {"Message": message, "CancellationReasons": own}
    return aws_error("TransactionCanceledException", "TransactWriteItems", message, members=members)


# Key conditions


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Which sort keys a key condition asks for."""

    function: str = ""
    least: Any = None
    most: Any = None

    def within(self, run: _Run) -> tuple[int, int]:
        """The first place of the run that is in the bounds, and the one after the last."""
        order, least = run.order, self.least
        start, end = 0, len(order)
        if self.function == "begins_with":
            start = bisect_left(order, least, key=_first)
            end = bisect_left(order, True, lo=start, key=lambda place: not place[0].startswith(least))
        if self.function in {"=", "BETWEEN"}:
            start = bisect_left(order, least, key=_first)
        if self.function == ">":
            start = bisect_right(order, least, key=_first)
        if self.function in {"=", "<="}:
            end = bisect_right(order, least, key=_first)
        if self.function == "BETWEEN":
            end = bisect_right(order, self.most, key=_first)
        return start, end

    def hold(self, position: Position) -> bool:
        low, high = self.within(_Run(order=[position]))
        return low < high


def _key_condition(source: _Keyed, key: KeyCondition, values: Item) -> tuple[Any, _Bounds]:
    """The partition and the sort keys that a key condition asks for."""
    if (key.partition, key.sort or source.range_name) != (source.hash_name, source.range_name):
        raise _RefusedError("Query condition missed key schema element")
    partition = _key_operand(source, source.hash_name, values[key.value])
    bounds = [_key_operand(source, source.range_name, values[ref]) for ref in key.refs]
    if key.function == "BETWEEN" and bounds[0] > bounds[1]:
        raise _RefusedError("The BETWEEN operator requires upper bound to be greater than or equal to lower bound")
    return partition, _Bounds(key.function, *bounds)


def _key_operand(source: _Keyed, name: str, given: Attribute) -> Any:
    if source.kinds[name] not in given:
        raise _RefusedError("Condition parameter type does not match schema type")
    operand = expressions.plain(given, source.kinds[name])
    if operand == "":
        raise _RefusedError("The AttributeValue for a key attribute cannot contain an empty string value")
    return operand


def _start(source: _Keyed, start: Mapping[str, Attribute], partition: Any, bounds: _Bounds) -> Position:
    names = dict.fromkeys((source.range_name, *source.table_keys))
    if start.keys() != {source.hash_name, *names}:
        raise _RefusedError("Exclusive Start Key must have same size as table's key schema")
    if any(source.kinds[name] not in start[name] for name in start):
        raise _RefusedError("The provided starting key is invalid")
    position = tuple(source.value(start, name) for name in (source.range_name, *source.table_keys))
    if source.value(start, source.hash_name) != partition or not bounds.hold(position):
        raise _RefusedError("The provided starting key does not match the range key predicate")
    return position
