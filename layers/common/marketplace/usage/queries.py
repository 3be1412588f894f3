"""Where the usage went: metering records by hour, and the proof chain of one usage record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.paging import cursor_of, key_after
from marketplace.dynamodb.table import key_of
from marketplace.ledger.record import UNSEALED, in_doubt
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, and where to go on; no cursor means that this was all."""

    items: list[dict[str, Any]]
    cursor: str | None


class UsageQueries:
    """The usage table, read only. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def metering_records(
        self, subscription_id: str, *, start: int, end: int, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """The metering records of the hours from `start` to before `end` (seconds since the epoch), oldest first.

        Raises InvalidCursorError. A page may be shorter than `limit` and still have a cursor.
        """
        first, last = keys.hour_prefix(start), keys.hour_prefix(end)
        pk = keys.subscription_pk(subscription_id)
        after: dict[str, Any] = {}
        if cursor is not None:
            after = {"ExclusiveStartKey": key_after(cursor, pk, first, last).item()}
        with classified_errors():
            page = self._client.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                FilterExpression="attribute_exists(seal)",
                ExpressionAttributeValues={":pk": {"S": pk}, ":first": {"S": first}, ":last": {"S": last}},
                Limit=max(1, min(limit, MAX_PAGE)),
                **after,
            )
        more = page.get("LastEvaluatedKey")
        return Page([described(item) for item in page["Items"]], cursor_of(*key_of(more)) if more else None)

    def proof(self, subscription_id: str, record_id: str) -> dict[str, Any] | None:
        """What was reported under this id, which hour took it, and what AWS Marketplace answered for that hour; None
        when nothing was recorded under the id."""
        record = self._get(keys.usage_record(subscription_id, record_id))
        if record is None:
            return None
        billed_to = record.get("billed_to", subscription_id)
        contract = _contract(record)
        metered = contract is None or contract["overage"] > 0
        hour = self._get(keys.metering_record(billed_to, record["hour"], record["dimension"])) if metered else None
        reported: dict[str, Any] = {
            "id": record["record_id"],
            "dimension": record["dimension"],
            "quantity": record["quantity"],
            "tags": record.get("tags", {}),
            "own_hour": iso(record["own_hour"]),
            "recorded_at": iso(record["recorded_at"]),
        }
        if record.get("untagged"):
            reported["untagged"] = True
        proof = {
            "subscription_id": subscription_id,
            "billed_to": billed_to,
            "record": reported,
            "hour": iso(record["hour"]),
            "metering_record": None if hour is None else _described(hour),
        }
        return proof if contract is None else {**proof, "contract": contract}

    def _get(self, key: Key) -> dict[str, Any] | None:
        with classified_errors():
            answer = self._client.get_item(TableName=self._table, Key=key.item(), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None


def _contract(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """How much of a usage record a contract includes, by the limit and the term that held when it was booked; None
    for usage that is metered whole."""
    if "included" not in record:
        return None
    included, limit, term_end = record["included"], record["term_limit"], record.get("term_end")
    overage = record["quantity"] - included
    term = "" if term_end is None else f" in the term that ends at {iso(term_end)}"
    granted = f"the contract included {limit} of {record['included_dimension']}{term}"
    counted = f"{included} of the {record['quantity']} reported units were left of it"
    metered = f"{overage} are metered" if overage else "nothing is metered"
    return {
        "included": included,
        "overage": overage,
        "included_dimension": record["included_dimension"],
        "limit": limit,
        "term_end": None if term_end is None else iso(term_end),
        "explanation": f"When this was booked, {granted}; {counted}, so {metered}.",
    }


def described(item: Item) -> dict[str, Any]:
    """A stored metering record as the API shows it."""
    return _described(from_item(item))


def _described(values: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "hour": iso(values["hour"]),
        "dimension": values["dimension"],
        "quantity": values["quantity"],
        "records": values.get("records", 0),
        "state": values["state"],
        "sealed": values["seal"] != UNSEALED,
        "timestamp": iso(values["timestamp"]),
    }
    if values["state"] != "metered" and in_doubt(values["seal"]):
        shown["in_doubt"] = True
    for name in ("metering_record_id", "reason", "tag_sets", "untagged_records"):
        if values.get(name):
            shown[name] = values[name]
    for name in ("due_at", "refuse_at", "settled_at"):
        if name in values and (name == "settled_at" or "due_shard" in values):
            shown[name] = iso(values[name])
    return shown
