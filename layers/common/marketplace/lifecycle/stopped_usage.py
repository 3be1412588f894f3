"""Subscriptions that were used in every hour of a day and are used no more: their reporter may be broken.

What metering runs have noted says whom to look at. Whether a subscription is active, and has no usage, is read from the
subscription and from its metering records.
"""

from collections.abc import Iterable
from itertools import islice

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.activity import SILENT_HOURS, HourlyActivity
from marketplace.platform.clock import DAY, HOUR, Clock, EpochSeconds, epoch, hour_of
from marketplace.subscriptions.reader import SubscriptionReader

MOST = 100
"""How many are looked at: one read of all of them, and a query of the last hours for each."""


class StoppedUsage:
    """The use case. `find` raises AwsError when DynamoDB gives no answer."""

    def __init__(self, usage: Table, subscriptions: Table, clock: Clock) -> None:
        self._usage = usage
        self._activity = HourlyActivity(usage)
        self._reader = SubscriptionReader(subscriptions)
        self._clock = clock

    def find(self) -> list[str]:
        """The ids of these subscriptions, MOST at most."""
        now = epoch(self._clock())
        return [one for one in self._active(islice(self._activity.stopped(now), MOST), now) if self._is_idle(one, now)]

    def _active(self, ids: Iterable[str], now: EpochSeconds) -> list[str]:
        known = self._reader.get_many(sorted(ids))
        return [subscription.id for subscription in known.values() if subscription.status_at(now) == "active"]

    def _is_idle(self, subscription_id: str, now: EpochSeconds) -> bool:
        """Whether its last hours, and those that take usage ahead, have no usage. Zeros for idle hours are none."""
        span = {
            "pk": keys.subscription_pk(subscription_id),
            "first": keys.hour_prefix(hour_of(now) - SILENT_HOURS * HOUR),
            "last": keys.hour_prefix(now + DAY),
        }
        used = self._usage.items(
            "pk = :pk AND sk BETWEEN :first AND :last", {**span, "none": 0}, where="#quantity > :none"
        )
        return next(used, None) is None
