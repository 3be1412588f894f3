"""Reading many items at once, consistently, with what DynamoDB leaves unread asked for again."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.platform.aws_errors import classified_errors

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_KEYS_PER_CALL = 100
"""DynamoDB API reference, BatchGetItem."""
_CALLS_WITHOUT_PROGRESS = 5


def _at_once(attempt: int) -> None:
    pass


def read_items(
    client: "DynamoDBClient", table: str, wanted: Sequence[Key], wait: Callable[[int], None] = _at_once
) -> tuple[dict[Key, Item], list[Key]]:
    """The items that exist among these keys, and the keys that DynamoDB would not read in several attempts. `wait` is
    called between attempts that bring nothing, with the number of such attempts in a row (from 0).

    Raises AwsError when it gives no answer.
    """
    found: dict[Key, Item] = {}
    pending = [key.item() for key in dict.fromkeys(wanted)]
    idle = 0
    while pending and idle < _CALLS_WITHOUT_PROGRESS:
        asked, rest = pending[:_KEYS_PER_CALL], pending[_KEYS_PER_CALL:]
        with classified_errors():
            answer = cast("Any", client.batch_get_item(RequestItems={table: {"Keys": asked, "ConsistentRead": True}}))
        for item in answer["Responses"].get(table, []):
            found[Key(item["pk"]["S"], item["sk"]["S"])] = item
        unread = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        pending = [*rest, *unread]
        idle = idle + 1 if len(unread) == len(asked) else 0
        if idle and idle < _CALLS_WITHOUT_PROGRESS:
            wait(idle - 1)
    return found, [Key(key["pk"]["S"], key["sk"]["S"]) for key in pending]
