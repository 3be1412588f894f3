"""The seller's decisions about unusual usage, which awaits approval instead of being sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.update import Update
from marketplace.ledger.change import UsageChange
from marketplace.ledger.deadlines import refuse_at
from marketplace.ledger.recent import recent_records
from marketplace.ledger.record import Approval, MeteringRecord
from marketplace.ledger.seal import in_doubt
from marketplace.ledger.selections import AWAITING_APPROVAL
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.usage.retry import refused_from

MAX_DECIDED = 100
"""Metering records that one request decides about: each is a write, and API Gateway waits 30 seconds."""

_TRIES = 5
"""How often a record is tried that a metering run changes meanwhile: telling and sealing are two changes."""

type Choice = Literal["approve", "refuse"]
_STORED: dict[Choice, Approval] = {"approve": "approved", "refuse": "refused"}


@dataclass(frozen=True, slots=True)
class Decided:
    """Metering records as the API shows them. `decided`: they carry this decision. `undecided`: it came too late for
    them. `more`: there are others, and the same request again goes on with them."""

    decided: list[dict[str, Any]]
    undecided: list[dict[str, Any]]
    more: bool


@dataclass(frozen=True, slots=True)
class _Request:
    """`named`: it is about one metering record, named by its dimension and hour. Then it may change what was decided
    before; otherwise it is about what nobody has decided yet."""

    subscription: Subscription
    wanted: Approval
    caller: str
    now: EpochSeconds
    named: bool

    def is_met_by(self, record: MeteringRecord) -> bool:
        return record.approval == self.wanted

    def change_of(self, record: MeteringRecord) -> tuple[Update, MeteringRecord] | None:
        """None: the decision comes too late for the record. What a metering run has sealed to be sent may be known to
        AWS; what was refused can be approved until AWS takes its hour no more."""
        if record.state == "awaiting_approval" and not in_doubt(record.seal):
            is_open = self.named or record.approval == "awaited"
            return record.decided(self.wanted, self.now) if is_open else None
        was_refused = record.state == "unbillable" and record.approval == "refused"
        if self.named and was_refused and self.wanted == "approved" and refuse_at(record.hour) > self.now:
            return record.made_due(self.now, refused_from(self.subscription, record.hour))
        return None

    def told_of(self, record: MeteringRecord) -> UsageChange:
        """The decision, as the timeline tells it."""
        return UsageChange(
            what="usage approved" if self.wanted == "approved" else "usage refused",
            at=self.now,
            by=self.caller,
            name=record.key.sk,
            dimension=record.dimension,
            hour=record.hour,
            units=record.quantity,
        )


class UsageApproval:
    """Stores what the seller decides; the next metering run carries it out."""

    def __init__(self, table: Table, subscriptions: SubscriptionReader, clock: Clock) -> None:
        self._table = table
        self._subscriptions = subscriptions
        self._clock = clock

    def decide(
        self,
        subscription_id: str,
        choice: Choice,
        caller: str,
        *,
        dimension: str | None = None,
        hour: EpochSeconds | None = None,
    ) -> Decided | None:
        """Decides about what awaits approval, in one dimension or all, of one hour or all. None: there is no such
        subscription. Each decision is written with an entry of the timeline, which names the caller.

        Can be repeated. Raises AwsError when DynamoDB gives no answer; some records may be decided then, and the same
        request goes on with the rest.
        """
        subscription = self._subscriptions.get_many([subscription_id]).get(subscription_id)
        if subscription is None:
            return None
        now = epoch(self._clock())
        named = dimension is not None and hour is not None
        request = _Request(subscription, _STORED[choice], caller, now, named)
        decided: list[dict[str, Any]] = []
        undecided: list[dict[str, Any]] = []
        written = 0
        for record in self._found(request, dimension, hour):
            if request.is_met_by(record):
                decided.append(record.described())
                continue
            if written == MAX_DECIDED:
                return Decided(decided, undecided, more=True)
            after, done = self._decide(record, request)
            written += 1
            (decided if done else undecided).append(after.described())
        return Decided(decided, undecided, more=False)

    def _found(self, request: _Request, dimension: str | None, hour: EpochSeconds | None) -> Iterator[MeteringRecord]:
        if dimension is not None and hour is not None:
            item = self._table.get(keys.metering_record(request.subscription.id, hour, dimension))
            yield from () if item is None else [MeteringRecord.from_item(item)]
            return
        awaiting = AWAITING_APPROVAL.of_dimension(dimension)
        for record in recent_records(self._table, request.subscription.id, request.now, awaiting):
            undecided = record.approval in {"awaited", request.wanted}
            if undecided and hour in {None, record.hour}:
                yield record

    def _decide(self, record: MeteringRecord, request: _Request) -> tuple[MeteringRecord, bool]:
        """The record as it is in the end, and whether it carries the decision."""
        for _ in range(_TRIES):
            change = request.change_of(record)
            if change is None:
                break
            update, after = change
            told = request.told_of(record).to_item(record.subscription_id)
            writes = [self._table.update_action(record.key, update), self._table.put_action(told)]
            if self._table.write_together(writes) is None:
                return after, True
            item = self._table.get(record.key)
            if item is None:
                break
            record = MeteringRecord.from_item(item)
            if request.is_met_by(record):
                return record, True
        return record, False
