"""Unsettled usage when its subscription closes or becomes active (again): due at once, or due again."""

from collections.abc import Callable

from marketplace.dynamodb.table import Table
from marketplace.ledger.deadlines import Period, due_at, refuse_at
from marketplace.ledger.recent import recent_records
from marketplace.ledger.record import MeteringRecord, Schedule
from marketplace.ledger.selections import UNSETTLED
from marketplace.platform.clock import EpochSeconds


class UsageDeadlines:
    """The usage table as a change of a subscription sees it. Every method can be repeated.

    `seal_delay`: seconds after its end at which an hour is due. Methods raise AwsError when DynamoDB gives no answer;
    some records may be changed then, and the rest is for the repetition.
    """

    def __init__(self, table: Table, seal_delay: int) -> None:
        self._table = table
        self._seal_delay = seal_delay

    def close(self, subscription_id: str, *, deadline: int, now: int) -> int:
        """Makes all unsettled usage due in time for the deadline (deadlines.Period.due_at), and refused from the
        deadline on, or when AWS regularly refuses it; a later deadline counts like an earlier one. Returns how many
        records were changed."""
        moment = EpochSeconds(now)

        def closing(record: MeteringRecord) -> Schedule:
            refused = EpochSeconds(min(refuse_at(record.hour), deadline))
            if record.state != "open":
                return record.with_refusal_at(refused, moment)
            due = Period(record.timestamp, deadline).due_at(record.hour, self._seal_delay, moment)
            return Schedule(record.state, min(record.schedule.due_at, due), refused)

        return self._change(subscription_id, now, closing)

    def release(self, subscription_id: str, *, now: int) -> int:
        """Gives unsettled usage its regular times back, and makes held usage due again. Returns how many records were
        changed."""

        def released(record: MeteringRecord) -> Schedule:
            regular = self._regular(record.hour)
            if record.state in {"rejected", "awaiting_approval"}:
                return record.with_refusal_at(regular.refuse_at, EpochSeconds(now))
            return regular

        return self._change(subscription_id, now, released)

    def reopen(self, subscription_id: str, *, now: int) -> int:
        """Gives unsettled usage its regular times back, as `release` does, but leaves held usage held. Returns how many
        records were changed."""

        def reopened(record: MeteringRecord) -> Schedule:
            regular = self._regular(record.hour)
            if record.state == "open":
                return regular
            return record.with_refusal_at(regular.refuse_at, EpochSeconds(now))

        return self._change(subscription_id, now, reopened)

    def _regular(self, hour: EpochSeconds) -> Schedule:
        return Schedule("open", due_at(hour, self._seal_delay), refuse_at(hour))

    def _change(self, subscription_id: str, now: int, new: Callable[[MeteringRecord], Schedule]) -> int:
        records = list(recent_records(self._table, subscription_id, now, UNSETTLED))
        return sum(self._is_changed(record, new) for record in records)

    def _is_changed(self, record: MeteringRecord, new: Callable[[MeteringRecord], Schedule]) -> bool:
        """A record that a metering run settles meanwhile is left alone. One that the seller decides about is read
        again: its next step follows from both."""
        while (update := record.rescheduled(new(record))) is not None:
            if self._table.update_if(record.key, update):
                return True
            item = self._table.get(record.key) if record.state == "awaiting_approval" else None
            before, record = record, record if item is None else MeteringRecord.from_item(item)
            if record.approval == before.approval or record.state != before.state or record.due_at is None:
                return False
        return False
