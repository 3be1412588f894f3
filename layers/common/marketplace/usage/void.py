"""Voiding a usage record: what was reported by mistake is taken back exactly, while its hour is open.

    update RECORD#<id>               it is voided, on condition that it is as it was read, under each of its names
    update HOUR#<hour>#<dimension>   its metered units leave the hour, on condition that this is unsealed
    update ...#TAGS#<digest>         and the allocation of its tag set
    update INCLUDED#<dim>#<term>     its included units can be used again, in each term that counts them
    update DAY#<day>#<dimension>     and are no longer of the day's
    put    CHANGE#<time>#...         for the timeline

All of it happens or none of it does. The usage record stays, marked as voided, so its id can't be used again, and
voiding it again changes nothing. Of usage that a contract includes whole AWS hears nothing; it can be voided until AWS
certainly takes no usage of its hour any more, whether or not the hour is sealed.

Units that a void gives back to a term may be due to usage that was charged beyond the term. That is compared again
(marketplace.usage.rerating) after the void and after its repetition.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write
from marketplace.dynamodb.update import Update
from marketplace.ledger.change import UsageChange
from marketplace.ledger.deadlines import window_closes_at
from marketplace.ledger.record import MeteringRecord
from marketplace.ledger.seal import UNSEALED
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.platform.errors import AwsError, ThrottledError, UnavailableError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.included_days import included_of_days
from marketplace.usage.placement import names_of
from marketplace.usage.record import RecordName, Rejection, tag_set
from marketplace.usage.report import NamedRecord, valid
from marketplace.usage.results import (
    BUSY,
    NOT_TRACEABLE,
    SEALED,
    TOO_LATE,
    UNAVAILABLE,
    UNKNOWN_RECORD,
    Rejected,
    Voided,
    as_json,
    id_of,
    voided,
)
from marketplace.usage.taking_back import Taken, taken_out

MAX_VOIDED = 100
"""Usage records of one request: each is a transaction, and API Gateway waits 30 seconds."""
_ATTEMPTS = 10


class Subscriptions(Protocol):
    """Where subscriptions are read from; consistent, several at once."""

    def get_many(self, ids: Sequence[str]) -> Mapping[str, Subscription]: ...


class Rerates(Protocol):
    """Compares what was charged beyond a contract with what is included; see marketplace.usage.rerating."""

    def __call__(self, subscription_id: str, since: int, *, as_charged: bool) -> object: ...


@dataclass(frozen=True, slots=True)
class _Stored:
    """A usage record as it is stored, under those of its names' keys that exist."""

    keys: Sequence[Key]
    values: Mapping[str, Any]

    @property
    def is_voided(self) -> bool:
        return "voided_at" in self.values

    @property
    def billed_to(self) -> str:
        named: str = self.values.get("billed_to") or keys.subscription_id_of(self.keys[0].pk)
        return named

    @property
    def hour(self) -> EpochSeconds:
        return EpochSeconds(self.values["hour"])

    @property
    def metering_record(self) -> Key:
        return keys.metering_record(self.billed_to, self.hour, self.values["dimension"])

    @property
    def included(self) -> int:
        return int(self.values.get("included", 0))

    @property
    def is_metered(self) -> bool:
        """Whether something of it stands in a metering record: all but what a contract includes whole does."""
        return "included" not in self.values or self.included < self.values["quantity"]

    @property
    def taken(self) -> Taken:
        untagged = bool(self.values.get("untagged"))
        tags = () if untagged else tag_set(self.values.get("tags"))
        return Taken(self.values["quantity"] - self.included, tags, untagged=untagged)


class UsageVoid:
    """Voids usage records. `rerate` and `announce` are called once a void has given units back to a contract: the
    latter publishes what the former has stored for the seller."""

    def __init__(
        self,
        table: Table,
        subscriptions: Subscriptions,
        clock: Clock,
        rerate: Rerates,
        announce: Callable[[str], object] | None = None,
    ) -> None:
        self._table = table
        self._subscriptions = subscriptions
        self._clock = clock
        self._rerate = rerate
        self._announce = announce

    def void(self, records: Sequence[object], caller: str) -> tuple[list[dict[str, object]], int]:
        """One result per record, in order: voided or rejected; and how many were not voided before. `caller`: who asked
        for it, for the proof. Can be repeated. Raises AwsError when the subscriptions can't be read; nothing is voided
        then."""
        requests = [valid(NamedRecord, raw) for raw in records]
        names = self._names([one for one in requests if isinstance(one, NamedRecord)])
        results: list[Voided | Rejected] = []
        owners: list[str | None] = []
        count = 0
        for raw, request in zip(records, requests, strict=True):
            owner = None
            if isinstance(request, NamedRecord):
                result, stored, is_new = self._void(next(names), caller)
                count += is_new
                owner = stored.billed_to if stored is not None and stored.included else None
            else:
                result = Rejected(id_of(raw), request)
            results.append(result)
            owners.append(owner)
        unfinished = self._compare(dict.fromkeys(owner for owner in owners if owner is not None))
        for index, (result, owner) in enumerate(zip(results, owners, strict=True)):
            if owner in unfinished:
                results[index] = Rejected(result.id, UNAVAILABLE)
        return [as_json(one) for one in results], count

    def _names(self, requests: Sequence[NamedRecord]) -> Iterator[RecordName]:
        """The name of each usage record, which of a migrated customer's is of two subscriptions."""
        named = sorted({one.named_subscription for one in requests})
        return iter(names_of(requests, self._subscriptions.get_many(named).values() if named else ()))

    def _void(self, name: RecordName, caller: str) -> tuple[Voided | Rejected, _Stored | None, bool]:
        """What became of one usage record; as it was stored, once it is voided; and whether that is new."""
        try:
            for _ in range(_ATTEMPTS):
                stored = self._read(name)
                if stored is None:
                    return Rejected(name.id, UNKNOWN_RECORD), None, False
                if stored.is_voided:
                    return voided(stored.values), stored, False
                writes = self._writes(stored, caller)
                if isinstance(writes, Rejection):
                    return Rejected(name.id, writes), None, False
                if writes is not None and self._table.write_together(writes) is None:
                    return voided(stored.values), stored, True
        except ThrottledError:
            pass
        except UnavailableError:
            return Rejected(name.id, UNAVAILABLE), None, False
        return Rejected(name.id, BUSY), None, False

    def _read(self, name: RecordName) -> _Stored | None:
        found = self._table.get_many(name.keys)
        there = [key for key in name.keys if key in found]
        return _Stored(there, from_item(found[there[0]])) if there else None

    def _writes(self, stored: _Stored, caller: str) -> list[Write] | Rejection | None:
        """The transaction that voids the record as it is stored, or why it can't be; None when its hour was changed
        since it was read."""
        now = epoch(self._clock())
        values = stored.values
        counted = [(Key(pk, sk), units) for pk, sk, units in values.get("counted", ())]
        if sum(units for _, units in counted) != stored.included:
            return NOT_TRACEABLE
        as_read = "attribute_exists(pk) AND attribute_not_exists(#voided_at)"
        if "included" in values:
            as_read, given = f"{as_read} AND #included = :was", {"was": stored.included}
        else:
            as_read, given = f"{as_read} AND attribute_not_exists(#included)", {}
        mark = Update(set={"voided_at": now, "voided_by": caller}, condition=as_read, given=given)
        writes: list[Write] = [self._table.update_action(key, mark) for key in stored.keys]
        told = UsageChange(
            what="voided",
            at=now,
            by=caller,
            name=values["record_id"],
            dimension=values["dimension"],
            hour=stored.hour,
            units=values["quantity"],
        )
        writes += [self._table.put_action(told.to_item(keys.subscription_id_of(key.pk))) for key in stored.keys]
        if stored.is_metered:
            item = self._table.get(stored.metering_record)
            if item is None:
                return None
            hour = MeteringRecord.from_item(item)
            if hour.seal != UNSEALED:
                return SEALED
            writes += taken_out(self._table, hour, [stored.taken])
        elif now >= window_closes_at(stored.hour):
            return TOO_LATE
        for key, units in counted:
            back = Update(add={"used": -units}, condition="#used >= :units", given={"units": units})
            writes.append(self._table.update_action(key, back))
        tags = tag_set(values.get("tags"))
        share = (stored.billed_to, stored.hour, values["dimension"], tags, -stored.included)
        return [*writes, *(self._table.update_action(*change) for change in included_of_days([share]))]

    def _compare(self, owners: Iterable[str]) -> set[str]:
        """Has what these subscriptions were charged compared with what is included now; returns those of which that
        failed."""
        unfinished: set[str] = set()
        for owner in owners:
            try:
                self._rerate(owner, 0, as_charged=True)
            except AwsError:
                unfinished.add(owner)
                continue
            if self._announce is not None:
                # The events are stored; the next message about the subscription publishes them otherwise.
                with suppress(AwsError):
                    self._announce(owner)
        return unfinished
