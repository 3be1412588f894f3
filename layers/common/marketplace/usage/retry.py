"""Usage that AWS refused, made due again on request, once the seller has mended the cause."""

from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb.table import Table
from marketplace.ledger.deadlines import refuse_at
from marketplace.ledger.recent import recent_records
from marketplace.ledger.selections import REFUSED_BY_AWS
from marketplace.platform.clock import Clock, EpochSeconds, epoch
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader

MAX_RETRIED = 100
"""Metering records that one request makes due again: each is a write, and API Gateway waits 30 seconds."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Metering records as the API shows them. `too_late`: AWS takes no more usage of their hour, and they were not
    changed. `more`: there are others, and the same request again goes on with them."""

    due_again: list[dict[str, Any]]
    too_late: list[dict[str, Any]]
    more: bool


class UsageRetry:
    """Makes `rejected`, `held` and `unbillable` metering records due again, but for what the seller has refused. They
    are sent as they were sealed, so the quantity and the identity are those that AWS refused; what changes is what AWS
    makes of them."""

    def __init__(self, table: Table, subscriptions: SubscriptionReader, clock: Clock) -> None:
        self._table = table
        self._subscriptions = subscriptions
        self._clock = clock

    def retry(self, subscription_id: str, dimension: str | None = None) -> Retried | None:
        """Makes due again what AWS can still take, in one dimension or all: its window decides, not the deadline of a
        closing subscription, because only AWS knows whether that has passed. None: there is no such subscription.

        Can be repeated: what is due already is left alone. Raises AwsError when DynamoDB gives no answer; some records
        may be due again then, and the same request goes on with the rest.
        """
        subscription = self._subscriptions.get_many([subscription_id]).get(subscription_id)
        if subscription is None:
            return None
        now = epoch(self._clock())
        due_again: list[dict[str, Any]] = []
        too_late: list[dict[str, Any]] = []
        for record in recent_records(self._table, subscription_id, now, REFUSED_BY_AWS.of_dimension(dimension)):
            if refuse_at(record.hour) <= now:
                too_late.append(record.described())
                continue
            if len(due_again) == MAX_RETRIED:
                return Retried(due_again, too_late, more=True)
            update, changed = record.made_due(now, refused_from(subscription, record.hour))
            if self._table.update_if(record.key, update):
                due_again.append(changed.described())
        return Retried(due_again, too_late, more=False)


def refused_from(subscription: Subscription, hour: EpochSeconds) -> EpochSeconds:
    """When AWS stops taking usage of this hour of the subscription, as far as is known here."""
    regular = refuse_at(hour)
    deadline = None if subscription.status == "active" else subscription.closing_deadline
    return regular if deadline is None else EpochSeconds(min(regular, deadline))
