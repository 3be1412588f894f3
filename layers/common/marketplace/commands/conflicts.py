"""Resolves a conflict with numbers: a person, or CloudTrail, says what AWS has of an hour that another sender metered.

    1. update HOUR#<hour>#<dimension>   what AWS has, if nobody has said so before, and
       put CHANGE#<time>#...            for the timeline, and
       put OUTBOX#<event id>            "Conflict Resolved", for the seller's application
    2. request a recheck                which publishes the event
    3. record usage                     the units that AWS has too little, under an id that follows from the record; of
                                        no contract, so what was charged stays charged
    4. update HOUR#<hour>#<dimension>   which hour took them

Whoever dies in between leaves a conflict whose missing units are not carried, or an event that nobody was asked to
publish; the same command again goes on. What AWS has too much is left to a correction (marketplace.corrections), which
is possible from step 1 on.
"""

from dataclasses import dataclass
from typing import Any

from marketplace.archive.content import EXPIRY
from marketplace.commands.activation import Rechecks
from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger import conflict
from marketplace.ledger.change import UsageChange
from marketplace.ledger.record import MAX_QUANTITY, MeteringRecord
from marketplace.platform.clock import Clock, EpochSeconds, epoch, iso
from marketplace.platform.moments import moment_of
from marketplace.subscriptions import recheck
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id
from marketplace.usage.recorder import UsageRecorder


@dataclass(frozen=True, slots=True)
class Plan:
    """What resolving a conflict with AWS's quantity does: so many units are recorded in a later hour, or are to be
    given back."""

    record: MeteringRecord
    aws_quantity: int

    @property
    def missing(self) -> int:
        return max(0, self.record.quantity - self.aws_quantity)

    @property
    def excess(self) -> int:
        return max(0, self.aws_quantity - self.record.quantity)

    @property
    def is_made(self) -> bool:
        """Whether nothing of it is left to do but a correction."""
        return conflict.is_resolved(self.record) and not conflict.to_carry(self.record)


class Conflicts:
    """The use case. `recorder` knows no contracts. Methods raise CommandRefusedError, and AwsError when DynamoDB gave
    no answer; each may be repeated then."""

    def __init__(
        self, usage: Table, subscriptions: Table, recorder: UsageRecorder, queue: Rechecks, clock: Clock
    ) -> None:
        self._usage = usage
        self._subscriptions = subscriptions
        self._recorder = recorder
        self._queue = queue
        self._clock = clock

    def find(self, subscription_id: str, hour: EpochSeconds, dimension: str) -> MeteringRecord:
        """The conflict of an hour."""
        item = self._usage.get(keys.metering_record(subscription_id, hour, dimension))
        if item is None:
            raise CommandRefusedError(f"there is no metering record of {dimension} at {iso(hour)}")
        record = MeteringRecord.from_item(item)
        if record.state != "conflict":
            raise CommandRefusedError(f"{dimension} at {iso(hour)} is {record.state}, and no conflict")
        if EXPIRY in item:
            raise CommandRefusedError(f"{dimension} at {iso(hour)} is archived")
        return record

    def plan(self, record: MeteringRecord, aws_quantity: int) -> Plan:
        """What would be done; nothing is written. An earlier word about AWS's quantity stands."""
        if not 0 <= aws_quantity <= MAX_QUANTITY:
            raise CommandRefusedError(f"AWS Marketplace has from 0 to {MAX_QUANTITY} units of an hour")
        if record.aws_quantity not in (None, aws_quantity):
            raise CommandRefusedError(
                f"the conflict was resolved by {record.resolved_by} with {record.aws_quantity} units, and that stands"
            )
        settled = record.settled_at or record.hour
        if record.aws_quantity is None and epoch(self._clock()) < settled + conflict.RUN_MAY_LAST:
            raise CommandRefusedError(
                f"the conflict was found at {iso(settled)}: for 15 minutes the run that sent the usage may go on"
            )
        plan = Plan(record, aws_quantity)
        if plan.missing and not plan.is_made:
            _hour_of(self._recorder.record([_usage(plan)], validate=True)[0])
        return plan

    def resolve(self, plan: Plan, caller: str) -> MeteringRecord:
        """Does what was planned, and returns the conflict as it is stored then. Of a plan that is made already, it has
        the event published if it was not yet."""
        record = plan.record
        if record.aws_quantity is None:
            self._store(plan, caller)
            record = self._read(record)
        if not conflict.is_resolved(record) or record.aws_quantity != plan.aws_quantity:
            raise CommandRefusedError("the record was changed by somebody else meanwhile; look again")
        self._queue.look_again(record.subscription_id, recheck.CONFLICT_RESOLVED)
        if not conflict.to_carry(record):
            return record
        hour = _hour_of(self._recorder.record([_usage(plan)])[0])
        self._usage.update_if(record.key, conflict.carried(record, hour))
        return self._read(record)

    def _store(self, plan: Plan, caller: str) -> None:
        """Keeps what AWS has, unless somebody was first."""
        record, now = plan.record, epoch(self._clock())
        told = UsageChange(
            what="conflict resolved",
            at=now,
            by=caller,
            name=record.key.sk,
            dimension=record.dimension,
            hour=record.hour,
            units=record.quantity,
            aws_quantity=plan.aws_quantity,
        )
        self._usage.write_together(
            [
                self._usage.update_action(record.key, conflict.resolution(record, plan.aws_quantity, caller, now)),
                self._usage.put_action(told.to_item(record.subscription_id)),
                self._subscriptions.put_action(outbox_item(record.subscription_id, _event(plan, now))),
            ]
        )

    def _read(self, record: MeteringRecord) -> MeteringRecord:
        return self.find(record.subscription_id, record.hour, record.dimension)


def _event(plan: Plan, now: EpochSeconds) -> SellerEvent:
    """What the seller is told. A conflict is resolved once, so the event has one id."""
    record = plan.record
    detail = {
        "subscription_id": record.subscription_id,
        "dimension": record.dimension,
        "hour": iso(record.hour),
        "quantity": record.quantity,
        "aws_quantity": plan.aws_quantity,
        "missing": plan.missing,
        "excess": plan.excess,
        "record_id": conflict.carrying_id(record) if plan.missing else None,
    }
    return SellerEvent("Conflict Resolved", stable_id("Conflict Resolved", *record.key), now, detail)


def _usage(plan: Plan) -> dict[str, Any]:
    """The missing units as a usage record of now, without tags: whose they are of the hour's tag sets is not known."""
    return {
        "id": conflict.carrying_id(plan.record),
        "subscription_id": plan.record.subscription_id,
        "dimension": plan.record.dimension,
        "quantity": plan.missing,
    }


def _hour_of(result: dict[str, Any]) -> EpochSeconds:
    """The hour that took the missing units."""
    if result["status"] not in {"recorded", "duplicate"}:
        raise CommandRefusedError(f"the missing units can't be recorded: {result['message']}")
    return EpochSeconds(epoch(moment_of(result["hour"])))
