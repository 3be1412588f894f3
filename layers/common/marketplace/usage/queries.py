"""Where the usage went: metering records by hour, and the proof chain of one usage record; those of archived months
too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from marketplace.archive.bucket import Objects
from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.paging import cursor_of, key_after
from marketplace.dynamodb.table import Table, key_of
from marketplace.ledger.correction import Correction
from marketplace.ledger.record import MeteringRecord, is_metering_record
from marketplace.ledger.selections import METERING_RECORDS
from marketplace.platform.clock import Clock, iso, utc_now

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, and where to go on; no cursor means that this was all."""

    items: list[dict[str, Any]]
    cursor: str | None


class UsageQueries:
    """The usage table, read only. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table, clock: Clock = utc_now, archive: Objects | None = None) -> None:
        self._table = table
        self._history = UsageHistory(table, clock, archive)

    def metering_records(
        self, subscription_id: str, *, start: int, end: int, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """The metering records of the hours from `start` to before `end` (seconds since the epoch), oldest first.

        Raises InvalidCursorError. A page may be shorter than `limit` and still have a cursor.
        """
        first, last = keys.hour_prefix(start), keys.hour_prefix(end)
        pk = keys.subscription_pk(subscription_id)
        after = None if cursor is None else key_after(cursor, pk, first, last)
        most = max(1, min(limit, MAX_PAGE))
        if self._history.archived_months(subscription_id, first, last):
            return self._with_archive(subscription_id, first if after is None else after.sk, last, most, after)
        page = self._table.page(
            "pk = :pk AND sk BETWEEN :first AND :last",
            {"pk": pk, "first": first, "last": last},
            where=METERING_RECORDS.expression,
            after=None if after is None else after.item(),
            limit=most,
            consistent=False,
        )
        records = [MeteringRecord.from_item(item).described() for item in page.items]
        return Page(records, None if page.after is None else cursor_of(*key_of(page.after)))

    def _with_archive(self, subscription_id: str, first: str, last: str, limit: int, after: Key | None) -> Page:
        """The same of hours that are archived, in part at least."""
        items = self._history.items(subscription_id, first, last)
        wanted = (item for item in items if is_metering_record(item) and (after is None or key_of(item) != after))
        found = list(islice(wanted, limit + 1))
        shown = [MeteringRecord.from_item(item).described() for item in found[:limit]]
        return Page(shown, None if len(found) <= limit else cursor_of(*key_of(found[limit - 1])))

    def all_metering_records(self, subscription_id: str, start: int, end: int) -> Iterator[MeteringRecord]:
        """Every metering record of the hours from `start` to before `end`, oldest first."""
        first, last = keys.hour_prefix(start), keys.hour_prefix(end)
        for item in self._history.items(subscription_id, first, last, where=METERING_RECORDS.expression):
            if is_metering_record(item):
                yield MeteringRecord.from_item(item)

    def accepted_as(self, subscription_id: str, metering_record_id: str, start: int, end: int) -> MeteringRecord | None:
        """The metering record of these hours that AWS accepted under this id."""
        records = self.all_metering_records(subscription_id, start, end)
        return next((one for one in records if one.metering_record_id == metering_record_id), None)

    def record_ids_in(self, record: MeteringRecord) -> Iterator[str]:
        """The ids of the usage records that a metering record sums up."""
        items = self._table.items(
            "pk = :pk AND begins_with(sk, :prefix)",
            {
                "pk": record.key.pk,
                "prefix": keys.RECORD_PREFIX,
                "hour": record.hour,
                "dimension": record.dimension,
                "payer": record.subscription_id,
            },
            where="#hour = :hour AND #dimension = :dimension AND attribute_not_exists(#voided_at) AND "
            "(attribute_not_exists(#billed_to) OR #billed_to = :payer)",
        )
        return (str(from_item(item)["record_id"]) for item in items)

    def proof(self, subscription_id: str, record_id: str) -> dict[str, Any] | None:
        """What was reported under this id, which hour took it, and what AWS Marketplace answered for that hour; None
        when nothing was recorded under the id."""
        item = self._table.get(keys.usage_record(subscription_id, record_id))
        if item is None:
            return None
        record = from_item(item)
        billed_to = record.get("billed_to", subscription_id)
        contract = _contract(record)
        metered = "voided_at" not in record and (contract is None or contract["overage"] > 0)
        key = keys.metering_record(billed_to, record["hour"], record["dimension"])
        hour = self._history.get(key) if metered else None
        corrections = [] if hour is None else self._corrections(MeteringRecord.from_item(hour), record_id)
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
        if "voided_at" in record:
            reported |= {"voided_at": iso(record["voided_at"]), "voided_by": record["voided_by"]}
        proof: dict[str, Any] = {
            "subscription_id": subscription_id,
            "billed_to": billed_to,
            "record": reported,
            "hour": iso(record["hour"]),
            "metering_record": None if hour is None else MeteringRecord.from_item(hour).described(),
        }
        if corrections:
            proof["corrections"] = corrections
        return proof if contract is None else {**proof, "contract": contract}

    def _corrections(self, hour: MeteringRecord, record_id: str) -> list[dict[str, Any]]:
        """The corrections of a usage record, and those of its hour that name none."""
        if not hour.corrected:
            return []
        found = self._table.items_under(hour.key.pk, keys.corrections_prefix(hour.hour, hour.dimension))
        corrections = map(Correction.from_item, found)
        return [one.described() for one in corrections if one.record_id in (None, record_id)]


def _contract(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """How much of a usage record a contract includes, by the limit and the term that it counts against, and what was
    charged and has to be credited to the buyer; None for usage that is metered whole, or voided."""
    if "included" not in record or "voided_at" in record:
        return None
    included, limit, term_end = record["included"], record["term_limit"], record.get("term_end")
    overage, correction = record["quantity"] - included, record.get("correction_due")
    term = "" if term_end is None else f" in the term that ends at {iso(term_end)}"
    explanation = (
        f"Counted against {limit} of {record['included_dimension']}{term}: of the {record['quantity']} reported units "
        f"{included} are included and {overage} are metered."
    )
    shown = {
        "included": included,
        "overage": overage,
        "included_dimension": record["included_dimension"],
        "limit": limit,
        "term_end": None if term_end is None else iso(term_end),
        "explanation": explanation,
    }
    if not correction:
        return shown
    explanation += (
        f" As AWS showed later, {correction} of the metered units are included too: credit them to the buyer."
    )
    return {**shown, "correction_due": correction, "explanation": explanation}
