"""A DynamoDB table, as all of the layer uses it: no other package calls the client's data operations.

Values go in plain (strings, whole numbers, booleans, lists, maps, sets of strings) and items come out in DynamoDB's
attribute-value form, which marketplace.dynamodb.attributes turns into plain values. In an expression an attribute is
named `#name` and a value `:name`; the placeholders are filled in here.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.dynamodb.attributes import Item, to_attribute
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.transactions import Refusal, Write, cancellation_reasons, write_together
from marketplace.dynamodb.update import Update, placeholders
from marketplace.platform.aws_errors import classified, classified_errors, statement_error
from marketplace.platform.backoff import pause
from marketplace.platform.errors import ThrottledError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Page", "Table", "Update", "key_of"]

_ABSENT = "attribute_not_exists(pk)"
_KEYS_PER_READ = 100
"""DynamoDB API reference, BatchGetItem."""
_WRITES_PER_CALL = 25
"""DynamoDB API reference: BatchWriteItem and BatchExecuteStatement take 25 each."""
_ATTEMPTS = 5
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_CONDITION_FAILED = "ConditionalCheckFailed"
_PASSING = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingError",
        "TransactionConflict",
    }
)
"""Errors of a statement that it is tried again after (botocore model, BatchStatementErrorCodeEnum)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Items of one query, and the key after which the next page begins; None when this was the last."""

    items: list[Item]
    after: Item | None


class Table:
    """A table by its name. Every method raises AwsError when DynamoDB gives no answer; a write may have happened then.

    What DynamoDB leaves undone of a batch is tried again after a pause, several times. `sleep` takes seconds, `jitter`
    gives 0 to 1.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self.name = name
        self._sleep = sleep
        self._jitter = jitter

    # Reading

    def get(self, key: Key) -> Item | None:
        """The item as last written (a consistent read), or None."""
        with classified_errors():
            answer = self._client.get_item(TableName=self.name, Key=key.item(), ConsistentRead=True)
        return answer.get("Item")

    def get_many(self, wanted: Iterable[Key]) -> dict[Key, Item]:
        """The items that exist among these keys, by key (consistent reads). Raises ThrottledError when DynamoDB leaves
        some unread in several attempts."""
        found, unread = self.get_readable(wanted)
        if unread:
            raise ThrottledError("UnprocessedKeys", f"{len(unread)} keys were left unread")
        return found

    def get_readable(self, wanted: Iterable[Key]) -> tuple[dict[Key, Item], list[Key]]:
        """The items that exist among these keys, by key (consistent reads), and the keys that DynamoDB left unread in
        several attempts."""
        found: dict[Key, Item] = {}
        pending = [key.item() for key in dict.fromkeys(wanted)]
        idle = 0
        while pending and idle < _ATTEMPTS:
            asked, rest = pending[:_KEYS_PER_READ], pending[_KEYS_PER_READ:]
            with classified_errors():
                request: Any = {self.name: {"Keys": asked, "ConsistentRead": True}}
                answer = cast("Any", self._client.batch_get_item(RequestItems=request))
            for item in answer["Responses"].get(self.name, []):
                found[key_of(item)] = item
            unread = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            pending = [*rest, *unread]
            idle = idle + 1 if len(unread) == len(asked) else 0
            if idle and idle < _ATTEMPTS:
                self.wait(idle - 1)
        return found, [key_of(key) for key in pending]

    def items(
        self, condition: str, values: Mapping[str, Any], *, where: str = "", index: str | None = None
    ) -> Iterator[Item]:
        """Every item of a query, page after page as they are asked for. `condition` is the key condition, `where` a
        filter; without an index the reads are consistent."""
        after: Item | None = None
        while True:
            page = self.page(condition, values, where=where, index=index, after=after)
            yield from page.items
            after = page.after
            if after is None:
                return

    def page(
        self,
        condition: str,
        values: Mapping[str, Any],
        *,
        where: str = "",
        index: str | None = None,
        after: Item | None = None,
        limit: int | None = None,
        consistent: bool = True,
        last_first: bool = False,
    ) -> Page:
        """One page of such a query: at most `limit` items before the filter, those after the key `after`, in the order
        of their keys or with the last one first."""
        arguments: dict[str, Any] = {"KeyConditionExpression": condition}
        optional = {"FilterExpression": where, "IndexName": index, "ExclusiveStartKey": after, "Limit": limit}
        arguments |= {name: value for name, value in optional.items() if value}
        if index is None and consistent:
            arguments["ConsistentRead"] = True
        if last_first:
            arguments["ScanIndexForward"] = False
        arguments |= placeholders(f"{condition} {where}", values)
        with classified_errors():
            answer = self._client.query(TableName=self.name, **arguments)
        return Page(answer["Items"], answer.get("LastEvaluatedKey") or None)

    def items_under(self, pk: str, prefix: str) -> Iterator[Item]:
        """The items of a partition whose sort keys start with the prefix, in their order (consistent reads)."""
        return self.items("pk = :pk AND begins_with(sk, :prefix)", {"pk": pk, "prefix": prefix})

    # Writing one item

    def put(self, item: Item) -> None:
        """Writes an item, in place of what is there."""
        with classified_errors():
            self._client.put_item(TableName=self.name, Item=item)

    def put_new(self, item: Item) -> bool:
        """Writes an item if there is none under its key; False when there is."""
        try:
            self._client.put_item(TableName=self.name, Item=item, ConditionExpression=_ABSENT)
        except (BotoCoreError, ClientError) as error:
            _raise_unless_refused(error)
            return False
        return True

    def update_if(self, key: Key, update: Update) -> bool:
        """Makes the change if its condition holds. False when it does not: another writer was there first.

        The SDK repeats a write whose answer was lost, and the repetition finds the condition broken by its own first
        attempt. So a refusal returns the stored item: if that holds all that the change sets and nothing that it
        removes, the change is made.
        """
        try:
            self._client.update_item(
                TableName=self.name,
                Key=key.item(),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **update.arguments(),
            )
        except (BotoCoreError, ClientError) as error:
            stored = _raise_unless_refused(error)
            return stored is not None and update.is_done_in(stored)
        return True

    def delete(self, key: Key) -> None:
        """Deletes the item, if there is one."""
        with classified_errors():
            self._client.delete_item(TableName=self.name, Key=key.item())

    # Writing several items together, or none

    def put_action(self, item: Item, condition: str = "", given: Mapping[str, Any] | None = None) -> Write:
        """A member of a transaction that writes an item; `given` holds the values that the condition names. A refusal
        by the condition holds the stored item."""
        return {"Put": {"TableName": self.name, "Item": item, **_condition(condition, given or {})}}

    def update_action(self, key: Key, update: Update, *, tell: bool = False) -> Write:
        """A member of a transaction that changes an item. `tell`: a refusal by the condition holds the stored item."""
        told = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if tell else {}
        return {"Update": {"TableName": self.name, "Key": key.item(), **update.arguments(), **told}}

    def delete_action(self, key: Key, condition: str = "", given: Mapping[str, Any] | None = None) -> Write:
        """A member of a transaction that deletes an item; `given` holds the values that the condition names."""
        return {"Delete": {"TableName": self.name, "Key": key.item(), **_conditional(condition, given or {})}}

    def check_action(self, key: Key, condition: str, given: Mapping[str, Any]) -> Write:
        """A member of a transaction that changes nothing and requires a condition of an item."""
        return {"ConditionCheck": {"TableName": self.name, "Key": key.item(), **_conditional(condition, given)}}

    def write_together(self, writes: Sequence[Write]) -> Refusal | None:
        """Makes all the writes in one transaction, or none. Returns the first refusal, or None when they are made.
        While another writer of the same items is in the way, it tries again, and raises ThrottledError in the end."""
        return write_together(self._client, writes, self._sleep, self._jitter)

    def try_together(self, writes: Sequence[Write]) -> list[dict[str, Any]]:
        """Makes all the writes in one transaction, in one attempt. Returns nothing when they were made, otherwise the
        reason of each."""
        return cancellation_reasons(self._client, writes)

    # Writing many items

    def put_all(self, items: Iterable[Item]) -> set[Key]:
        """Writes items, in place of what is there. Returns the keys of those that DynamoDB did not take in several
        attempts."""
        writes: list[Any] = [{"PutRequest": {"Item": item}} for item in items]
        left = [
            write
            for start in range(0, len(writes), _WRITES_PER_CALL)
            for write in self._put_few(writes[start : start + _WRITES_PER_CALL])
        ]
        return {key_of(write["PutRequest"]["Item"]) for write in left}

    def _put_few(self, writes: list[Any]) -> list[Any]:
        """Makes the writes of one call; returns those that were not made in several attempts."""
        pending = writes
        for attempt in range(_ATTEMPTS):
            if attempt:
                self.wait(attempt - 1)
            with classified_errors():
                answer = self._client.batch_write_item(RequestItems={self.name: pending})
            pending = answer.get("UnprocessedItems", {}).get(self.name, [])
            if not pending:
                break
        return pending

    def update_all(self, clauses: str, parameters: Sequence[Sequence[str | int]]) -> Counter[str]:
        """Carries out `UPDATE <table> <clauses>` once for each row of parameters, in batches (PartiQL), each statement
        by itself. A statement whose WHERE finds nothing is no failure.

        Returns the error codes of the statements that DynamoDB would not carry out; when that is all of them, it
        raises AwsError.
        """
        # The table's name is the deployment's own setting; PartiQL has no parameter for it.
        statement = f'UPDATE "{self.name}" {clauses}'
        statements: list[Any] = [
            {
                "Statement": statement,
                "Parameters": [{"S": value} if type(value) is str else to_attribute(value) for value in row],
            }
            for row in parameters
        ]
        failed: Counter[str] = Counter()
        for start in range(0, len(statements), _WRITES_PER_CALL):
            failed += self._execute(statements[start : start + _WRITES_PER_CALL])
        if statements and failed.total() == len(statements):
            raise statement_error(next(iter(failed)))
        return failed

    def _execute(self, statements: list[Any]) -> Counter[str]:
        """The error codes of the statements that failed for good, or in every attempt."""
        failed: Counter[str] = Counter()
        pending = statements
        for attempt in range(_ATTEMPTS):
            with classified_errors():
                answers = self._client.batch_execute_statement(Statements=pending)["Responses"]
            codes = [str(answer["Error"].get("Code")) if "Error" in answer else "" for answer in answers]
            failed += Counter(code for code in codes if code not in {"", _CONDITION_FAILED, *_PASSING})
            again = [(one, code) for one, code in zip(pending, codes, strict=True) if code in _PASSING]
            pending = [one for one, _ in again]
            if not pending:
                return failed
            if attempt + 1 < _ATTEMPTS:
                self.wait(attempt)
        return failed + Counter(code for _, code in again)

    def wait(self, attempt: int) -> None:
        """Pauses before another attempt, longer from attempt to attempt; the first is 0."""
        self._sleep(pause(attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=self._jitter()))


def _raise_unless_refused(error: BotoCoreError | ClientError) -> Item | None:
    """Raises AwsError unless the error says that a condition does not hold; returns the stored item, if it was asked
    for and there is one."""
    response = cast("dict[str, Any]", getattr(error, "response", None) or {})
    if response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
        raise classified(error) from error
    return response.get("Item")


def key_of(item: Mapping[str, Any]) -> Key:
    """The primary key of an item in attribute-value form."""
    return Key(item["pk"]["S"], item["sk"]["S"])


def _conditional(condition: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"ConditionExpression": condition, **placeholders(condition, given)} if condition else {}


def _condition(condition: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if not condition:
        return {}
    told = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return told | placeholders(condition, given)
