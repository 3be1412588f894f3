"""Booking usage in the usage table: a transaction, so that a report is counted once or not at all.

    put    RECORD#<id>               on condition that the id is new
    update HOUR#<hour>#<dimension>   add the quantity, on condition that it is unsealed and the sum fits
    update ...#TAGS#<digest>         add to the allocation of the tag set

All of it happens or none of it does; repeating it after a lost answer fails on the first condition and reads as a
duplicate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from marketplace import keys
from marketplace.batch_read import read_items
from marketplace.clock import DAY
from marketplace.errors import ThrottledError, classified_errors
from marketplace.items import Item, from_item, to_item
from marketplace.keys import Key
from marketplace.metering_record import MAX_ALLOCATION_BYTES, MAX_TAG_SETS, UNSEALED
from marketplace.subscription import Subscription
from marketplace.usage_rules import MAX_QUANTITY, MAX_TAGS, UsageReport, tag_bytes, tag_set, tags_digest

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

type TagSet = tuple[tuple[str, str], ...]

MAX_ACTIONS = 100
"""DynamoDB API reference, TransactWriteItems."""
_NEW_ID = "attribute_not_exists(pk)"
_OPEN_WITH_ROOM = "attribute_not_exists(pk) OR (seal = :unsealed AND quantity <= :room)"


@dataclass(frozen=True, slots=True)
class Booking:
    """One report, the subscription it names, and the hour it is of. Ids are the named subscription's, whichever
    subscription is billed, so a repetition is found across a migration too."""

    report: UsageReport
    named: str
    own_hour: int


@dataclass(frozen=True, slots=True)
class Target:
    """The metering record that is to take some bookings, and what it is created with when it is new."""

    subscription: Subscription
    dimension: str
    hour: int
    timestamp: int
    due_at: int
    refuse_at: int
    override_due: bool
    """Whether due_at and refuse_at replace those of an existing record: while the subscription is closing."""

    @property
    def key(self) -> Key:
        return keys.metering_record(self.subscription.id, self.hour, self.dimension)


@dataclass(frozen=True, slots=True)
class Job:
    """Bookings for one metering record."""

    target: Target
    bookings: Sequence[Booking]


type Obstacle = Literal["sealed", "full", "changed", "busy"]


@dataclass(frozen=True, slots=True)
class Booked:
    """The transaction went through. `untagged` holds the ids whose tags found no room."""

    untagged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NotBooked:
    """Nothing of the transaction was written. `known` holds the stored records of ids that exist already; `obstacle`
    says what else was in the way: the hour is sealed or full, or another writer was there (changed, busy: try
    again)."""

    known: dict[str, dict[str, Any]]
    obstacle: Obstacle | None


class UsageStore:
    """The usage table as recording sees it.

    Its methods raise marketplace.errors.AwsError when DynamoDB gives no answer; what was asked may have happened then.
    """

    def __init__(self, client: "DynamoDBClient", table: str, ttl_days: int) -> None:
        self._client = client
        self._table = table
        self._ttl = ttl_days * DAY

    def known(self, ids: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """The stored records among these (subscription id, record id) pairs."""
        wanted = list(ids)
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for item in self._read([keys.usage_record(*pair) for pair in wanted]).values():
            found[(keys.subscription_id_of(item["pk"]["S"]), item["record_id"]["S"])] = from_item(item)
        return found

    def capacity(self, bookings: Sequence[Booking], taken: int = 0) -> int:
        """How many of these, from the start, fit a transaction in which `taken` actions stand already."""
        sets: set[TagSet] = set()
        for count, booking in enumerate(bookings):
            sets.add(tag_set(booking.report.tags))
            if taken + count + 1 + 1 + len(sets - {()}) > MAX_ACTIONS:
                return count
        return len(bookings)

    def actions(self, bookings: Sequence[Booking]) -> int:
        """How many actions of a transaction booking these takes."""
        return len(bookings) + 1 + len({tag_set(booking.report.tags) for booking in bookings} - {()})

    def book(self, jobs: Sequence[Job], now: int) -> list[Booked | NotBooked]:
        """Counts all the reports of all the jobs in their targets, or none of them; one outcome per job.

        The jobs have different targets, and ids that differ within a subscription; together they fit a transaction.
        """
        totals = [sum(booking.report.quantity for booking in job.bookings) for job in jobs]
        if any(total > MAX_QUANTITY for total in totals):
            return [NotBooked({}, "full" if total > MAX_QUANTITY else None) for total in totals]
        taggings = self._taggings(jobs)
        actions: list[TransactWriteItemTypeDef] = []
        starts: list[int] = []
        for job, total, tagging in zip(jobs, totals, taggings, strict=True):
            starts.append(len(actions))
            actions += self._actions(job, total, tagging, now)
        with classified_errors():
            try:
                self._client.transact_write_items(TransactItems=actions)
            except self._client.exceptions.TransactionCanceledException as cancelled:
                reasons = cast("list[dict[str, Any]]", cancelled.response.get("CancellationReasons", []))
                ends = [*starts[1:], len(actions)]
                return [
                    _obstacles(job, total, reasons[start:end])
                    for job, total, start, end in zip(jobs, totals, starts, ends, strict=True)
                ]
        return [Booked(_untagged(job, tagging)) for job, tagging in zip(jobs, taggings, strict=True)]

    def _actions(self, job: Job, total: int, tagging: "_Tagging", now: int) -> "list[TransactWriteItemTypeDef]":
        untagged = _untagged(job, tagging)
        added = _by_tag_set(job)
        return [
            *(self._put_record(job.target, booking, booking.report.id in untagged, now) for booking in job.bookings),
            self._count(job.target, total, len(job.bookings), tagging, len(untagged)),
            *(self._allocate(job.target, tags, added[tags], tags in tagging.new) for tags in tagging.accepted),
        ]

    def _taggings(self, jobs: Sequence[Job]) -> "list[_Tagging]":
        """What becomes of each job's tag sets, read for all of them at once; nothing is read when nothing is tagged."""
        wanted = [sorted(tags for tags in _by_tag_set(job) if tags) for job in jobs]
        asked = [
            key
            for job, tag_sets in zip(jobs, wanted, strict=True)
            if tag_sets
            for key in (job.target.key, *(_allocation_key(job.target, tags) for tags in tag_sets))
        ]
        stored = self._read(asked) if asked else {}
        return [
            _tagging(job.target, tag_sets, stored) if tag_sets else _Tagging()
            for job, tag_sets in zip(jobs, wanted, strict=True)
        ]

    def _read(self, wanted: Sequence[Key]) -> dict[Key, Item]:
        found, unread = read_items(self._client, self._table, wanted)
        if unread:
            raise ThrottledError("UnprocessedKeys", f"{len(unread)} keys were left unread")
        return found

    def _put_record(self, target: Target, booking: Booking, untagged: bool, now: int) -> "TransactWriteItemTypeDef":
        report = booking.report
        key = keys.usage_record(booking.named, report.id)
        item = to_item(
            {
                "pk": key.pk,
                "sk": key.sk,
                "record_id": report.id,
                "digest": report.content_digest,
                "dimension": report.dimension,
                "quantity": report.quantity,
                "tags": report.tags or None,
                "untagged": untagged or None,
                "own_hour": booking.own_hour,
                "billed_to": None if booking.named == target.subscription.id else target.subscription.id,
                "hour": target.hour,
                "recorded_at": now,
                "expires_at": now + self._ttl,
            }
        )
        return {
            "Put": {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": _NEW_ID,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _count(
        self, target: Target, total: int, reports: int, tagging: "_Tagging", untagged: int
    ) -> "TransactWriteItemTypeDef":
        subscription = target.subscription
        constant = {
            "dimension": target.dimension,
            "hour": target.hour,
            "state": "open",
            "seal": UNSEALED,
            "timestamp": target.timestamp,
            "product_code": subscription.product_code,
            "license_arn": subscription.license_arn,
            "customer_identifier": None if subscription.license_arn else subscription.customer_identifier,
            "account_id": subscription.account_id if subscription.license_arn else None,
            "due_shard": keys.due_shard(subscription.id),
        }
        deadline = {"due_at": target.due_at, "refuse_at": target.refuse_at}
        values = to_item({**constant, **deadline})
        names = {f"#{name}": name for name in values}
        first = set(values) - (set(deadline) if target.override_due else set())
        sets = [
            f"#{name} = if_not_exists(#{name}, :{name})" if name in first else f"#{name} = :{name}" for name in values
        ]
        adds = {"quantity": total, "records": reports, "tag_sets": tagging.new_sets, "tag_bytes": tagging.new_bytes}
        adds = {
            name: value for name, value in {**adds, "untagged_records": untagged}.items() if value or name == "quantity"
        }
        add_values: Item = {f":add_{name}": {"N": str(value)} for name, value in adds.items()}
        names |= {f"#{name}": name for name in adds}
        add = [f"#{name} :add_{name}" for name in adds]
        condition = f"({_OPEN_WITH_ROOM})"
        extra: Item = {":unsealed": {"S": UNSEALED}, ":room": {"N": str(MAX_QUANTITY - total)}}
        if tagging.new:
            # Whether a tag set has room depends on the sets that are there: creating one needs them to be unchanged.
            unchanged = "#tag_sets = :tag_sets" if tagging.sets else "attribute_not_exists(#tag_sets)"
            condition += f" AND (attribute_not_exists(pk) OR {unchanged})"
            if tagging.sets:
                extra[":tag_sets"] = {"N": str(tagging.sets)}
        if tagging.new_keys:
            add.append("#tag_keys :new_keys")
            names["#tag_keys"] = "tag_keys"
            extra[":new_keys"] = {"SS": sorted(tagging.new_keys)}
        return {
            "Update": {
                "TableName": self._table,
                "Key": target.key.item(),
                "UpdateExpression": f"SET {', '.join(sets)} ADD {', '.join(add)}",
                "ConditionExpression": condition,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {
                    **{f":{name}": value for name, value in values.items()},
                    **add_values,
                    **extra,
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _allocate(self, target: Target, tags: TagSet, quantity: int, new: bool) -> "TransactWriteItemTypeDef":
        values: Item = {":quantity": {"N": str(quantity)}}
        expression = "ADD quantity :quantity"
        if new:
            expression = "SET tags = :tags " + expression
            values[":tags"] = {"M": {key: {"S": value} for key, value in tags}}
        return {
            "Update": {
                "TableName": self._table,
                "Key": _allocation_key(target, tags).item(),
                "UpdateExpression": expression,
                "ConditionExpression": "attribute_not_exists(pk)" if new else "attribute_exists(pk)",
                "ExpressionAttributeValues": values,
            }
        }


def _obstacles(job: Job, total: int, reasons: Sequence[dict[str, Any]]) -> NotBooked:
    """Why a job's part of a transaction that was cancelled could not be: in the order of its actions. A part without
    a reason of its own was cancelled with the others."""
    known: dict[str, dict[str, Any]] = {}
    obstacle: Obstacle | None = None
    for index, reason in enumerate(reasons):
        code = reason.get("Code", "None")
        if code == "None":
            continue
        if code != "ConditionalCheckFailed":
            obstacle = obstacle or "busy"
        elif index < len(job.bookings):
            known[job.bookings[index].report.id] = from_item(reason["Item"])
        elif index == len(job.bookings):
            obstacle = _hour_obstacle(from_item(reason.get("Item", {})), total)
        else:
            obstacle = obstacle or "changed"
    return NotBooked(known, obstacle)


def _by_tag_set(job: Job) -> dict[TagSet, int]:
    added: dict[TagSet, int] = {}
    for booking in job.bookings:
        tags = tag_set(booking.report.tags)
        added[tags] = added.get(tags, 0) + booking.report.quantity
    return added


def _untagged(job: Job, tagging: "_Tagging") -> frozenset[str]:
    """The ids of the job whose tags found no room."""
    return frozenset(one.report.id for one in job.bookings if tag_set(one.report.tags) in tagging.refused)


def _tagging(target: Target, tag_sets: list[TagSet], stored: dict[Key, Item]) -> "_Tagging":
    hour = from_item(stored[target.key]) if target.key in stored else dict[str, Any]()
    there = {tags for tags in tag_sets if _allocation_key(target, tags) in stored}
    return _Tagging.decide(
        existing=[tags for tags in tag_sets if tags in there],
        wanted=[tags for tags in tag_sets if tags not in there],
        sets=hour.get("tag_sets", 0),
        size=hour.get("tag_bytes", 0),
        tag_keys=hour.get("tag_keys", []),
    )


def _hour_obstacle(hour: dict[str, Any], total: int) -> Obstacle:
    if hour.get("seal") != UNSEALED:
        return "sealed"
    return "full" if hour["quantity"] + total > MAX_QUANTITY else "changed"


def _allocation_key(target: Target, tags: TagSet) -> Key:
    return keys.allocation(target.subscription.id, target.hour, target.dimension, tags_digest(tags))


@dataclass(frozen=True, slots=True)
class _Tagging:
    """Which tag sets get an allocation of their own; the others' usage stays in the untagged rest."""

    accepted: tuple[TagSet, ...] = ()
    new: frozenset[TagSet] = frozenset()
    refused: frozenset[TagSet] = frozenset()
    new_keys: frozenset[str] = frozenset()
    new_sets: int = 0
    new_bytes: int = 0
    sets: int = 0

    @classmethod
    def decide(
        cls, *, existing: list[TagSet], wanted: list[TagSet], sets: int, size: int, tag_keys: Iterable[str]
    ) -> "_Tagging":
        """Takes new tag sets in order while the record keeps within BatchMeterUsage's limits: 2500 sets (one place is
        left for the untagged rest), 5 different keys, and a size that lets the record go into a request alone."""
        new: list[TagSet] = []
        known_keys, new_bytes = set(tag_keys), 0
        for tags in wanted:
            with_these = known_keys | {key for key, _ in tags}
            fits = (
                sets + len(new) + 1 < MAX_TAG_SETS
                and len(with_these) <= MAX_TAGS
                and size + new_bytes + tag_bytes(tags) <= MAX_ALLOCATION_BYTES
            )
            if fits:
                new.append(tags)
                known_keys = with_these
                new_bytes += tag_bytes(tags)
        return cls(
            accepted=(*existing, *new),
            new=frozenset(new),
            refused=frozenset(wanted) - frozenset(new),
            new_keys=frozenset(known_keys - set(tag_keys)),
            new_sets=len(new),
            new_bytes=new_bytes,
            sets=sets,
        )
