"""Transactions: several writes that are made together or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.dynamodb.attributes import from_item
from marketplace.platform.aws_errors import classified
from marketplace.platform.errors import ThrottledError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

type Write = Mapping[str, Any]
"""One member of TransactItems, such as {"Put": {...}}."""

_ATTEMPTS = 5
_BACKOFF = 0.02
_CONDITION = "ConditionalCheckFailed"
_PASSING = {_CONDITION, "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Cancellation reasons that do not mean a faulty request (DynamoDB API reference, TransactWriteItems)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The write of a transaction whose condition didn't hold. `index` is its place among the writes; `found` holds the
    stored attributes, if the write asked for them (ReturnValuesOnConditionCheckFailure)."""

    index: int
    found: Mapping[str, Any]


def write_together(
    client: "DynamoDBClient", writes: Sequence[Write], sleep: Callable[[float], None], jitter: Callable[[], float]
) -> Refusal | None:
    """Makes all the writes in one transaction, or none. Returns the first refusal, or None when they are made.

    While another writer of the same items is in the way, it waits and tries again: sleep takes seconds, jitter returns
    0 to 1.

    Raises AwsError when DynamoDB gave no answer, ThrottledError when others stayed in the way.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(_BACKOFF * 2**attempt * jitter())
        reasons = cancellation_reasons(client, writes)
        for index, reason in enumerate(reasons):
            if condition_failed(reason):
                return Refusal(index, from_item(reason.get("Item") or {}))
        if not reasons:
            return None
    raise ThrottledError("TransactionConflict")


def condition_failed(reason: Mapping[str, Any]) -> bool:
    """Whether the write with this reason was refused for its own condition."""
    return reason.get("Code") == _CONDITION


def cancellation_reasons(client: "DynamoDBClient", writes: Sequence[Write]) -> list[dict[str, Any]]:
    """Makes all the writes in one transaction, in one attempt. Returns nothing when they were made, otherwise the
    reason of each.

    Raises AwsError when DynamoDB gave no answer, or when the request is faulty.
    """
    try:
        client.transact_write_items(TransactItems=cast("list[TransactWriteItemTypeDef]", writes))
    except ClientError as error:
        reasons = cast("list[dict[str, Any]]", error.response.get("CancellationReasons", []))
        if {reason.get("Code", "None") for reason in reasons} & _PASSING:
            return reasons
        raise classified(error) from error
    except BotoCoreError as error:
        raise classified(error) from error
    return []
