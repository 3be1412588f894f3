"""The tests' in-memory DynamoDB, which also counts what AWS would bill: request units by the sizes of the items."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.support.memory_dynamodb import MemoryDynamoDB, _size, _Table, _utf8

KB = 1024
ENTRY_OVERHEAD = 100
"""Bytes that DynamoDB adds to an item, and to its entry in an index, when it counts storage (DynamoDB Developer Guide,
"item sizes and formats" and "global secondary indexes")."""


class PricedDynamoDB(MemoryDynamoDB):
    """`units` counts write and read request units.

    Sources: DynamoDB Developer Guide, "read and write operations" (a unit is 1 KB written or 4 KB read; a transaction
    counts twice; an eventually consistent read half; a write counts the larger of the item before and after) and
    "global secondary indexes" (a changed entry is a write, one that moves is two).
    """

    def __init__(self) -> None:
        super().__init__()
        self.units: Counter[str] = Counter()
        self._factor = 1

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        self.units["calls"] += 1
        self._factor = 2
        try:
            checks = sum("ConditionCheck" in member for member in request["TransactItems"])
            self.units["read"] += 2 * checks
            return super().transact_write_items(**request)
        finally:
            self._factor = 1

    def _store(self, table: _Table, partition: Any, sort: Any, new: Any) -> None:
        old = table.find(partition, sort)
        self.units["write"] += self._factor * _units(max(_bytes(old), _bytes(new)), KB)
        for index in table.indexes.values():
            before, after = index.entry(old), index.entry(new)
            entries = [self._projected(index, item) if there else None for item, there in ((old, before), (new, after))]
            if entries[0] != entries[1]:
                moved = before is not None and after is not None and before != after
                self.units["write"] += self._factor * (2 if moved else 1) * _units(max(map(_bytes, entries)), KB)
        super()._store(table, partition, sort, new)

    @staticmethod
    def _projected(index: Any, item: Any) -> Any:
        return item if index.projected is None else {name: item[name] for name in index.projected if name in item}

    def get_item(self, **request: Any) -> dict[str, Any]:
        answer = super().get_item(**request)
        self._read([answer.get("Item", {})], request.get("ConsistentRead", False))
        return answer

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        answer = super().batch_get_item(**request)
        for name, asked in request["RequestItems"].items():
            found = answer["Responses"].get(name, [])
            missing: list[Mapping[str, Any]] = [{}] * (len(asked["Keys"]) - len(found))
            self._read([*found, *missing], asked.get("ConsistentRead", False))
        return answer

    def query(self, **request: Any) -> dict[str, Any]:
        answer = super().query(**request)
        total = sum(map(_bytes, answer["Items"]))
        self.units["read"] += _units(total, 4 * KB) * (1 if request.get("ConsistentRead") else 0.5)  # type: ignore[assignment]
        return answer

    def _read(self, items: list[Mapping[str, Any]], consistent: bool) -> None:
        self.units["read"] += sum(_units(_bytes(item), 4 * KB) for item in items) * (1 if consistent else 0.5)  # type: ignore[assignment]

    def stored_bytes(self, table: str, kind: str) -> float:
        """The mean size of a kind of item, as it is billed; `kind` begins the sort key."""
        sizes = [_bytes(item) + ENTRY_OVERHEAD for item in self.items(table) if item["sk"]["S"].startswith(kind)]
        return sum(sizes) / len(sizes)


def _bytes(item: Any) -> int:
    return sum(_utf8(name) + _size(attribute) for name, attribute in (item or {}).items())


def _units(size: int, step: int) -> int:
    return max(1, -(-size // step))
