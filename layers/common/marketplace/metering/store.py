"""Metering records in the usage table, as a metering run sees them: find what is due, seal, read, settle.

Sealing and every outcome but `metered` are conditional on the seal that was seen, so of two runs only the later
one's view is written; `metered` is written whatever else happened, because AWS said so.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_attribute
from marketplace.dynamodb.batch_read import read_items
from marketplace.dynamodb.keys import Key
from marketplace.metering.wire import Allocation, DueEntry, Unreadable
from marketplace.platform.aws_errors import classified, classified_errors, statement_error
from marketplace.platform.backoff import pause

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_DUE_KEYS = ("due_shard", "due_at")
_WRITES_PER_CALL = 25
"""DynamoDB API reference: BatchWriteItem and BatchExecuteStatement take 25 each."""
_STORE_ATTEMPTS = 5
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_NOT_THE_SEAL_SEEN = "ConditionalCheckFailed"
_PASSING = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingError",
        "TransactionConflict",
    }
)
"""Errors of a statement that it is asked again after (botocore model, BatchStatementErrorCodeEnum)."""


class MeteringStore:
    """The usage table as metering sees it. Methods raise AwsError when DynamoDB gives no answer.

    What DynamoDB leaves undone of a batch is asked again after a pause (`sleep`, in seconds; `jitter` gives 0 to 1), a
    few times.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        sleep: Callable[[float], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep
        self._jitter = jitter

    def _wait(self, attempt: int) -> None:
        self._sleep(pause(attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self._jitter()))

    def due(self, now: int) -> Iterator[DueEntry | Unreadable]:
        """The unsettled records whose due time has come: one query per shard and page. Read from the index, so what it
        says may be a moment old, and a record that moves while the pages are read may come twice; sealing finds
        out."""
        for shard in keys.all_due_shards():
            yield from self._due_in(shard, now)

    def _due_in(self, shard: str, now: int) -> Iterator[DueEntry | Unreadable]:
        start: dict[str, Any] = {}
        while True:
            with classified_errors():
                page = self._client.query(
                    TableName=self._table,
                    IndexName=keys.DUE_INDEX,
                    KeyConditionExpression="due_shard = :shard AND due_at <= :now",
                    ExpressionAttributeValues={":shard": {"S": shard}, ":now": {"N": str(now)}},
                    **start,
                )
            for item in page["Items"]:
                yield _due_entry(item)
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def seal(self, entries: Sequence[DueEntry], token: str) -> Counter[str]:
        """Puts `token` in place of the seal each entry was seen with; after it, no writer can change the record.

        Says nothing about success: an answer can be lost, so who owns a record is what `read` finds. Returns the error
        codes of the statements that DynamoDB would not carry out; when that is all of them, it raises AwsError.
        """
        # The table's name is the deployment's own setting; PartiQL has no parameter for it.
        statement = f'UPDATE "{self._table}" SET seal=? WHERE pk=? AND sk=? AND seal=?'  # noqa: S608
        statements: list[Any] = [
            {
                "Statement": statement,
                "Parameters": [{"S": token}, {"S": entry.key.pk}, {"S": entry.key.sk}, {"S": entry.seal}],
            }
            for entry in entries
        ]
        failed: Counter[str] = Counter()
        for start in range(0, len(statements), _WRITES_PER_CALL):
            failed += self._execute(statements[start : start + _WRITES_PER_CALL])
        if failed.total() == len(statements):
            raise statement_error(next(iter(failed)))
        return failed

    def _execute(self, statements: list[Any]) -> Counter[str]:
        """The codes of what failed for good, or too often. That a record doesn't carry the seal is no failure."""
        failed: Counter[str] = Counter()
        pending = statements
        for attempt in range(_STORE_ATTEMPTS):
            with classified_errors():
                answers = self._client.batch_execute_statement(Statements=pending)["Responses"]
            codes = [str(answer["Error"].get("Code")) if "Error" in answer else "" for answer in answers]
            failed += Counter(code for code in codes if code not in {"", _NOT_THE_SEAL_SEEN, *_PASSING})
            again = [(one, code) for one, code in zip(pending, codes, strict=True) if code in _PASSING]
            pending = [one for one, _ in again]
            if not pending:
                return failed
            if attempt + 1 < _STORE_ATTEMPTS:
                self._wait(attempt)
        return failed + Counter(code for _, code in again)

    def read(self, wanted: Sequence[Key]) -> dict[Key, Item]:
        """The records as they are (consistent read). Those that DynamoDB leaves unread are not in the answer."""
        found, _ = read_items(self._client, self._table, wanted, self._wait)
        return found

    def allocations(self, key: Key) -> list[Allocation]:
        """The allocations of a sealed record, in the order of their keys, so always the same."""
        found: list[Allocation] = []
        start: dict[str, Any] = {}
        while True:
            with classified_errors():
                page = self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
                    ExpressionAttributeValues={":pk": {"S": key.pk}, ":prefix": {"S": keys.allocation_prefix(key.sk)}},
                    ConsistentRead=True,
                    **start,
                )
            for item in page["Items"]:
                values = from_item(item)
                found.append(Allocation(values["quantity"], tuple(sorted(values["tags"].items()))))
            if not page.get("LastEvaluatedKey"):
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def settle(self, settled: Iterable[Item]) -> set[Key]:
        """Writes whole items without their due keys, whatever is stored. Returns those that DynamoDB did not take in
        several attempts; they stay due, and sending them again is safe."""
        pending: list[Any] = [{"PutRequest": {"Item": _without_due_keys(item)}} for item in settled]
        for attempt in range(_STORE_ATTEMPTS):
            if not pending:
                break
            if attempt:
                self._wait(attempt - 1)
            with classified_errors():
                answer = self._client.batch_write_item(RequestItems={self._table: pending[:_WRITES_PER_CALL]})
            pending = [*pending[_WRITES_PER_CALL:], *answer.get("UnprocessedItems", {}).get(self._table, [])]
        untaken = (write["PutRequest"]["Item"] for write in pending)
        return {Key(item["pk"]["S"], item["sk"]["S"]) for item in untaken}

    def change_if(
        self,
        key: Key,
        seal: str,
        values: dict[str, str | int],
        *,
        settled: bool = False,
        refused_by: int | None = None,
    ) -> bool:
        """Writes the values if the record still carries the seal, and takes it out of the index when it is settled.
        With `refused_by`, only if AWS takes it no more at that moment. False when another run has got further, or the
        deadline has moved; nothing is written then."""
        clauses = []
        if values:
            clauses.append("SET " + ", ".join(f"#{name} = :{name}" for name in values))
        if settled:
            clauses.append("REMOVE " + ", ".join(_DUE_KEYS))
        try:
            self._client.update_item(
                TableName=self._table,
                Key=key.item(),
                UpdateExpression=" ".join(clauses),
                ConditionExpression="#seal = :seen_seal"
                + ("" if refused_by is None else " AND refuse_at <= :refused_by"),
                ExpressionAttributeNames={"#seal": "seal", **{f"#{name}": name for name in values}},
                ExpressionAttributeValues={
                    ":seen_seal": {"S": seal},
                    **({} if refused_by is None else {":refused_by": {"N": str(refused_by)}}),
                    **{f":{name}": to_attribute(value) for name, value in values.items()},
                },
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        except (BotoCoreError, ClientError) as error:
            raise classified(error) from error
        return True


def _due_entry(item: Any) -> DueEntry | Unreadable:
    key = Key(item["pk"]["S"], item["sk"]["S"])
    try:
        return DueEntry(
            key=key,
            seal=item["seal"]["S"],
            state=sys.intern(item["state"]["S"]),
            refuse_at=int(item["refuse_at"]["N"]),
            quantity=int(item["quantity"]["N"]),
            product_code=sys.intern(item["product_code"]["S"]),
            licensed="license_arn" in item,
            due_at=int(item["due_at"]["N"]),
        )
    except (KeyError, ValueError):
        return Unreadable(key)


def _without_due_keys(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in _DUE_KEYS}
