"""The entitlements of subscriptions: read back from AWS, listed, and checked when a buyer wants to use a dimension."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from marketplace.entitlements.rules import (
    Decision,
    Entitlement,
    age,
    decided,
    decided_without_aws,
    granted_together,
    must_ask_again,
    refused_by_status,
)
from marketplace.entitlements.source import EntitlementSource
from marketplace.entitlements.store import EntitlementStore, UnknownSubscriptionError, rerating_after
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import AwsError

_ATTEMPTS = 2
"""A reading that was overtaken twice is given up: the second one that overtook it began after it did, so the stored
answer is as new as its own would be."""
_READ_BACK_WITHIN = 8.0
"""Seconds in which readings of one request are begun. API Gateway waits for 30; one that is under way may need as long
again (clients.entitlement_while_waiting)."""
_READ_BACK_AT_ONCE = 8
_READ_BACK_AT_MOST = 100
"""Subscriptions that one request reads back. AWS takes 20 GetEntitlements a second from an account."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome of a reading: what AWS grants now, whether that differs from what was stored, and when AWS was asked
    (seconds since the epoch)."""

    entitlements: tuple[Entitlement, ...]
    changed: bool
    synced_at: int


class Rerates(Protocol):
    """Compares what was charged for usage of times after `since` with what is granted now; see
    marketplace.usage.rerating. Raises AwsError."""

    def __call__(self, subscription_id: str, since: int) -> object: ...


class Entitlements:
    """Reads back, lists and checks. `max_age`: seconds after which AWS is asked again; `stale_limit`: seconds for which
    a stored answer counts while AWS can't be asked; `announce` publishes the outbox of a subscription (Outbox.publish);
    `parallel`: readings of one request that are under way at once; `rerate` is called once what is granted has changed,
    and again until it has returned; `on_unread` is called with each error for which an answer had to do without AWS.
    """

    def __init__(
        self,
        *,
        store: EntitlementStore,
        source: EntitlementSource,
        clock: Clock,
        max_age: int,
        stale_limit: int,
        announce: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        parallel: int = _READ_BACK_AT_ONCE,
        rerate: Rerates | None = None,
        on_unread: Callable[[AwsError], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._source = source
        self._clock = clock
        self.max_age = max_age
        self._stale_limit = stale_limit
        self._announce = announce
        self._monotonic = monotonic
        self._parallel = parallel
        self._rerate = rerate
        self._on_unread = on_unread

    def sync(self, subscription_id: str) -> Synced:
        """Reads the entitlements back from AWS and stores them, with an "Entitlements Changed" event in the outbox if
        they changed.

        Raises UnknownSubscriptionError, and AwsError when AWS or DynamoDB gave no answer; nothing is changed then.
        """
        for _ in range(_ATTEMPTS):
            before = self._store.read(subscription_id)
            now = self._now()
            after = granted_together(self._source.entitlements(before.subscription), now)
            if self._store.replace(before, after, now):
                changed = after != before.entitlements
                rerating = rerating_after(before, after)
                if self._rerate is not None and rerating is not None:
                    self._rerate(subscription_id, rerating.since)
                    self._store.rerated(subscription_id, rerating.version)
                if changed or rerating is not None:
                    self._publish(subscription_id)
                return Synced(tuple(after.values()), changed, now)
        newest = self._store.read(subscription_id)
        synced_at = newest.subscription.entitlements_synced_at or self._now()
        return Synced(tuple(newest.entitlements.values()), False, synced_at)

    def read_back(self, subscription_ids: Collection[str]) -> dict[str, int]:
        """Reads several back, side by side, within a time and a number that a request can wait for. Returns when AWS
        was asked, in seconds since the epoch, by subscription; those are missing that it was not asked about, or that
        it gave no answer for."""
        until = self._monotonic() + _READ_BACK_WITHIN

        def read(subscription_id: str) -> int | None:
            if self._monotonic() >= until:
                return None
            try:
                return self.sync(subscription_id).synced_at
            except UnknownSubscriptionError:
                return None
            except AwsError as error:
                self._on_unread(error)
                return None

        wanted = sorted(subscription_ids)[:_READ_BACK_AT_MOST]
        workers = min(self._parallel, len(wanted))
        if workers < 2:
            found = [read(one) for one in wanted]
        else:
            with ThreadPoolExecutor(workers) as pool:
                found = list(pool.map(read, wanted))
        return {one: synced_at for one, synced_at in zip(wanted, found, strict=True) if synced_at is not None}

    def entitlements_of(self, subscription_id: str) -> list[Entitlement]:
        """The entitlements in the order of their dimensions, read back first when they are older than `max_age`. What
        is stored when AWS gives no answer.

        Raises UnknownSubscriptionError, and AwsError when DynamoDB gave no answer.
        """
        stored = self._store.read(subscription_id)
        if age(stored.subscription, self._now()) > self.max_age:
            try:
                return sorted(self.sync(subscription_id).entitlements, key=lambda found: found.dimension)
            except AwsError as error:
                self._on_unread(error)
                stored = self._store.read(subscription_id)
        return [stored.entitlements[dimension] for dimension in sorted(stored.entitlements)]

    def check(self, subscription_id: str, dimension: str, quantity: int | None = None) -> Decision:
        """Whether the buyer may use `dimension`, and `quantity` of it if that is given; one read of DynamoDB when what
        is stored is young enough.

        Allowed only while the subscription is active and AWS said so recently enough. Raises AwsError when DynamoDB
        gave no answer.
        """
        subscription, entitlement = self._store.read_dimension(subscription_id, dimension)
        if subscription is None:
            return Decision(allowed=False, reason="unknown_subscription")
        now = self._now()
        refusal = refused_by_status(subscription.status_at(now))
        if refusal is not None:
            return Decision.of(subscription, now, False, refusal)
        if not must_ask_again(subscription, entitlement, now, self.max_age):
            return decided(subscription, entitlement, quantity, now)
        try:
            synced = self.sync(subscription_id)
        except AwsError as error:
            self._on_unread(error)
            return decided_without_aws(subscription, entitlement, quantity, self._now(), self._stale_limit)
        entitlement = next((found for found in synced.entitlements if found.dimension == dimension), None)
        return decided(
            replace(subscription, entitlements_synced_at=synced.synced_at), entitlement, quantity, self._now()
        )

    def _publish(self, subscription_id: str) -> None:
        if self._announce is None:
            return
        # The event is stored in the outbox. If this fails, the next message about the subscription publishes it.
        with suppress(AwsError):
            self._announce(subscription_id)

    def _now(self) -> int:
        return epoch(self._clock())
