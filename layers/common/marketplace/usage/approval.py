"""The seller's decisions about unusual usage, which waits for approval instead of being sent."""

from dataclasses import dataclass
from typing import Any, Literal

from marketplace.dynamodb.table import Table
from marketplace.ledger.recent import recent_records
from marketplace.ledger.record import Approval, awaiting_approval
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.subscriptions.reader import SubscriptionReader

MAX_DECIDED = 100
"""Metering records that one request decides about: each is a write, and API Gateway waits 30 seconds."""

type Choice = Literal["approve", "refuse"]
_STORED: dict[Choice, Approval] = {"approve": "approved", "refuse": "refused"}


@dataclass(frozen=True, slots=True)
class Decided:
    """Metering records as the API shows them. `more`: there are others, and the same request again goes on with
    them."""

    decided: list[dict[str, Any]]
    more: bool


class UsageApproval:
    """Stores what the seller decides; the next metering run carries it out. Until then a decision can be changed."""

    def __init__(self, table: Table, subscriptions: SubscriptionReader, clock: Clock) -> None:
        self._table = table
        self._subscriptions = subscriptions
        self._clock = clock

    def decide(
        self, subscription_id: str, choice: Choice, *, dimension: str | None = None, hour: EpochSeconds | None = None
    ) -> Decided | None:
        """Decides about what awaits approval, in one dimension or all, of one hour or all. None: there is no such
        subscription.

        Can be repeated: what has this decision is left alone, and so is what a metering run has begun to send. Raises
        AwsError when DynamoDB gives no answer; some records may be decided then.
        """
        if subscription_id not in self._subscriptions.get_many([subscription_id]):
            return None
        now, wanted = epoch(self._clock()), _STORED[choice]
        decided: list[dict[str, Any]] = []
        for record in recent_records(self._table, subscription_id, now, awaiting_approval(dimension)):
            if record.approval == wanted or hour not in {None, record.hour}:
                continue
            if len(decided) == MAX_DECIDED:
                return Decided(decided, more=True)
            update, changed = record.decided(wanted, now)
            if self._table.update_if(record.key, update):
                decided.append(changed.described())
        return Decided(decided, more=False)
