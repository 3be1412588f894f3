"""Booking usage in the usage table: a transaction, so that a report is counted once or not at all.

    put    RECORD#<id>               on condition that the id is new
    update HOUR#<hour>#<dimension>   add the quantity, on condition that it is unsealed and the sum fits
    update ...#TAGS#<digest>         add to the allocation of the tag set
    update INCLUDED#<dim>#<end>      what the contract's term includes is used up by so much

The last is for contracts with consumption: what the term includes is counted there and only the rest goes to the
metering record and the allocations; a report without such a rest touches neither.

All of it happens or none of it does; repeating it after a lost answer fails on the first condition and reads as a
duplicate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.batch_read import read_items
from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import UNSEALED
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import DAY
from marketplace.platform.errors import ThrottledError
from marketplace.usage.overage import Term, included_parts
from marketplace.usage.report import MAX_QUANTITY, tag_set
from marketplace.usage.tag_sets import (
    Booking,
    RecordName,
    TagSet,
    Target,
    _allocation_key,
    _by_tag_set,
    _Tagging,
    _tagging,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


MAX_ACTIONS = 100
"""DynamoDB API reference, TransactWriteItems."""
_NEW_ID = "attribute_not_exists(pk)"
_OPEN_WITH_ROOM = "attribute_not_exists(pk) OR (seal = :unsealed AND quantity <= :room)"


@dataclass(frozen=True, slots=True)
class Job:
    """Bookings for one metering record. `term`: the contract's term that they count against first; None where all
    usage is metered."""

    target: Target
    bookings: Sequence[Booking]
    term: Term | None = None


type Obstacle = Literal["sealed", "full", "changed", "busy"]


@dataclass(frozen=True, slots=True)
class Booked:
    """The transaction went through. `untagged` names the records whose tags found no room; `included`, of a job with a
    term, says how much of each record's quantity the contract includes."""

    untagged: frozenset[RecordName] = frozenset()
    included: Mapping[RecordName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotBooked:
    """Nothing of the transaction was written. `known` holds the records that exist already, as they are stored;
    `obstacle` says what else was in the way: the hour is sealed or full, or another writer was there (changed, busy:
    try again)."""

    known: dict[RecordName, dict[str, Any]]
    obstacle: Obstacle | None


class UsageStore:
    """The usage table as recording sees it.

    Its methods raise AwsError when DynamoDB gives no answer; what was asked may have happened then.
    """

    def __init__(self, client: "DynamoDBClient", table: str, ttl_days: int) -> None:
        self._client = client
        self._table = table
        self._ttl = ttl_days * DAY

    def known(self, names: Iterable[RecordName]) -> dict[RecordName, dict[str, Any]]:
        """The stored records among these."""
        wanted = list(names)
        found: dict[RecordName, dict[str, Any]] = {}
        for item in self._read([keys.usage_record(*name) for name in wanted]).values():
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

    def used(self, terms: Iterable[Term]) -> dict[Key, int]:
        """How much of each term is used, by the key of its counter; nothing is read without a term."""
        wanted = list({term.counter for term in terms})
        return {key: _used(item) for key, item in self._read(wanted).items()} if wanted else {}

    def actions(self, bookings: Sequence[Booking]) -> int:
        """How many actions of a transaction booking these takes, without a term's counter."""
        return len(bookings) + 1 + len({tag_set(booking.report.tags) for booking in bookings} - {()})

    def book(self, jobs: Sequence[Job], now: int) -> list[Booked | NotBooked]:
        """Counts all the reports of all the jobs in their targets, or none of them; one outcome per job.

        The jobs have different targets, and ids that differ within a subscription; together they fit a transaction.
        """
        stored = self._look(jobs)
        counters: dict[Key, _Counter] = {}
        parts = [_part(job, counters, stored) for job in jobs]
        if any(part.total > MAX_QUANTITY for part in parts):
            return [NotBooked({}, "full" if part.total > MAX_QUANTITY else None) for part in parts]
        actions: list[TransactWriteItemTypeDef] = []
        starts: list[int] = []
        for part in parts:
            starts.append(len(actions))
            actions += self._actions(part, now)
        ends = [*starts[1:], len(actions)]
        touched = [counter for counter in counters.values() if counter.taken]
        actions += [self._use(counter) for counter in touched]
        with classified_errors():
            try:
                self._client.transact_write_items(TransactItems=actions)
            except self._client.exceptions.TransactionCanceledException as cancelled:
                reasons = cast("list[dict[str, Any]]", cancelled.response.get("CancellationReasons", []))
                in_use = _in_use(touched, reasons[ends[-1] :])
                outcomes: list[Booked | NotBooked] = [
                    _obstacles(part, reasons[start:end], in_use)
                    for part, start, end in zip(parts, starts, ends, strict=True)
                ]
                unexplained = all(outcome == NotBooked({}, None) for outcome in outcomes)
                return [NotBooked({}, "busy") for _ in parts] if unexplained else outcomes
        return [Booked(part.untagged, part.included) for part in parts]

    def _actions(self, part: "_Part", now: int) -> "list[TransactWriteItemTypeDef]":
        records = [self._put_record(part, booking, now) for booking in part.job.bookings]
        if not part.metered:
            return records
        target, tagging, added = part.job.target, part.tagging, _by_tag_set(part.metered)
        return [
            *records,
            self._count(target, part.total, len(part.metered), tagging, len(part.untagged)),
            *(self._allocate(target, tags, added[tags], tags in tagging.new) for tags in tagging.accepted),
        ]

    def _look(self, jobs: Sequence[Job]) -> dict[Key, Item]:
        """What the decisions about these jobs depend on, read at once: their terms' counters, and what there is of
        their tag sets. Nothing is read for usage without either."""
        asked: list[Key] = []
        for job in jobs:
            if job.term is not None and job.term.limit:
                asked.append(job.term.counter)
            if tag_sets := {tag_set(booking.report.tags) for booking in job.bookings} - {()}:
                asked += [job.target.key, *(_allocation_key(job.target, tags) for tags in sorted(tag_sets))]
        return self._read(asked) if asked else {}

    def _use(self, counter: "_Counter") -> "TransactWriteItemTypeDef":
        """Uses up what the jobs take of a term. Where all of their usage is included, it is enough that there is room,
        so reporters do not get into each other's way; where it is used up, nobody else may have taken a unit since."""
        term = counter.term
        values = {"dimension": term.dimension, "included_dimension": term.included_dimension, "limit": term.limit}
        values |= {} if term.ends_at is None else {"term_end": term.ends_at}
        if not counter.exhausted:
            condition, bound = "attribute_not_exists(#used) OR #used <= :bound", term.limit - counter.taken
        elif counter.used:
            condition, bound = "#used = :bound", counter.used
        else:
            condition, bound = "attribute_not_exists(#used)", None
        return {
            "Update": {
                "TableName": self._table,
                "Key": term.counter.item(),
                "UpdateExpression": f"SET {', '.join(f'#{name} = :{name}' for name in values)} ADD #used :taken",
                "ConditionExpression": condition,
                "ExpressionAttributeNames": {f"#{name}": name for name in (*values, "used")},
                "ExpressionAttributeValues": to_item(
                    {**{f":{name}": value for name, value in values.items()}, ":taken": counter.taken, ":bound": bound}
                ),
            }
        }

    def _read(self, wanted: Sequence[Key]) -> dict[Key, Item]:
        found, unread = read_items(self._client, self._table, wanted)
        if unread:
            raise ThrottledError("UnprocessedKeys", f"{len(unread)} keys were left unread")
        return found

    def _put_record(self, part: "_Part", booking: Booking, now: int) -> "TransactWriteItemTypeDef":
        target, report = part.job.target, booking.report
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
                "untagged": booking.name in part.untagged or None,
                **_split(part, booking.name),
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


@dataclass(slots=True)
class _Counter:
    """How much of a term is used, as read; what jobs take of it, and whether that leaves some usage without."""

    term: Term
    used: int
    taken: int = 0
    exhausted: bool = False

    def take(self, quantities: Sequence[int]) -> tuple[int, ...]:
        parts = included_parts(quantities, self.term.left(self.used + self.taken))
        self.taken += sum(parts)
        self.exhausted = self.exhausted or sum(parts) < sum(quantities)
        return parts


@dataclass(frozen=True, slots=True)
class _Part:
    """A job decided: what of each report is included in a term, and what is left for the metering record."""

    job: Job
    included: Mapping[RecordName, int]
    metered: Sequence[tuple[Booking, int]]
    tagging: "_Tagging"

    @property
    def total(self) -> int:
        return sum(quantity for _, quantity in self.metered)

    @property
    def untagged(self) -> frozenset[RecordName]:
        """The records whose tags found no room."""
        refused = self.tagging.refused
        return frozenset(one.name for one, _ in self.metered if tag_set(one.report.tags) in refused)


def _part(job: Job, counters: dict[Key, _Counter], stored: Mapping[Key, Item]) -> _Part:
    included: dict[RecordName, int] = {}
    metered = [(booking, booking.report.quantity) for booking in job.bookings]
    if job.term is not None:
        key = job.term.counter
        counter = counters.setdefault(key, _Counter(job.term, _used(stored.get(key, {}))))
        taken = counter.take([quantity for _, quantity in metered])
        included = {booking.name: part for booking, part in zip(job.bookings, taken, strict=True)}
        beyond = ((booking, quantity - part) for (booking, quantity), part in zip(metered, taken, strict=True))
        metered = [(booking, quantity) for booking, quantity in beyond if quantity]
    tag_sets = sorted(tags for tags in _by_tag_set(metered) if tags)
    return _Part(job, included, metered, _tagging(job.target, tag_sets, stored) if tag_sets else _Tagging())


def _used(counter: Item) -> int:
    return int(counter["used"]["N"]) if counter else 0


def _split(part: _Part, name: RecordName) -> dict[str, Any]:
    """What a usage record keeps of the term that it was counted against."""
    term = part.job.term
    if term is None:
        return {}
    return {
        "included": part.included[name],
        "included_dimension": term.included_dimension,
        "term_limit": term.limit,
        "term_end": term.ends_at,
    }


def _in_use(counters: Sequence[_Counter], reasons: Sequence[dict[str, Any]]) -> dict[Key, Obstacle]:
    """The counters that another writer changed or is changing."""
    codes = {one.term.counter: reason.get("Code", "None") for one, reason in zip(counters, reasons, strict=False)}
    return {
        key: "changed" if code == "ConditionalCheckFailed" else "busy" for key, code in codes.items() if code != "None"
    }


def _obstacles(part: _Part, reasons: Sequence[dict[str, Any]], in_use: Mapping[Key, Obstacle]) -> NotBooked:
    """Why a job's part of a transaction that was cancelled could not be: in the order of its actions. A part without
    a reason of its own was cancelled with the others."""
    job = part.job
    known: dict[RecordName, dict[str, Any]] = {}
    obstacle: Obstacle | None = in_use.get(job.term.counter) if job.term is not None else None
    for index, reason in enumerate(reasons):
        code = reason.get("Code", "None")
        if code == "None":
            continue
        if code != "ConditionalCheckFailed":
            obstacle = obstacle or "busy"
        elif index < len(job.bookings):
            known[job.bookings[index].name] = from_item(reason["Item"])
        elif index == len(job.bookings):
            obstacle = _hour_obstacle(from_item(reason.get("Item", {})), part.total)
        else:
            obstacle = obstacle or "changed"
    return NotBooked(known, obstacle)


def _hour_obstacle(hour: dict[str, Any], total: int) -> Obstacle:
    if hour.get("seal") != UNSEALED:
        return "sealed"
    return "full" if hour["quantity"] + total > MAX_QUANTITY else "changed"
