"""Activates a customer on an operator's word, when AWS Marketplace's own notification was lost or came before the
deployment. The word is kept in the inbox like a notification, with its reason, and a later one of AWS overrides it.

What AWS grants the customer now (GetEntitlements) is asked first.
"""

from dataclasses import dataclass
from typing import Protocol

from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.entitlements.rules import Entitlement, granted_together
from marketplace.entitlements.source import EntitlementSource
from marketplace.lifecycle.changes import Change, change
from marketplace.lifecycle.notifications import Notification, finding
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform.clock import Clock, epoch, iso
from marketplace.platform.errors import RefusedError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription

_ROUNDS = 5


class Rechecks(Protocol):
    """Requests rechecks; see marketplace.subscriptions.recheck_queue."""

    def look_again(self, subscription_id: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AwsAnswer:
    """What AWS grants a customer now; `refusal` is its error code if it does not answer for this one."""

    granted: tuple[Entitlement, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"AWS refuses to answer: {self.refusal}"
        if not self.granted:
            return "AWS lists nothing, which is all it says of a customer without a contract"
        return f"AWS lists {', '.join(map(_shown, self.granted))}"


def asked(source: EntitlementSource, subscription: Subscription, now: int) -> AwsAnswer:
    """Asks AWS about a customer. Raises AwsError when it gave no answer."""
    try:
        granted = granted_together(source.entitlements(subscription), now)
    except RefusedError as error:
        return AwsAnswer(refusal=error.code)
    return AwsAnswer(tuple(granted[dimension] for dimension in sorted(granted)))


class Activation:
    """The use case. The recheck that it requests does what follows: held usage is released, the seller is told."""

    def __init__(self, store: SubscriptionStore, clock: Clock, queue: Rechecks | None = None) -> None:
        self._store = store
        self._clock = clock
        self._queue = queue

    def check(self, subscription_id: str) -> Stored:
        """The subscription. Raises CommandRefusedError when it can't be activated, and AwsError."""
        read = self._read(subscription_id)
        if read.subscription.status != "active":
            now = epoch(self._clock())
            self._planned(read, self._word(read, now, ""), now)
        return read

    def write(self, subscription_id: str, reason: str) -> bool:
        """Activates the subscription; False when it is active already. Repeating it completes what an interrupted run
        has left. Raises CommandRefusedError and AwsError."""
        for _ in range(_ROUNDS):
            read = self._read(subscription_id)
            if read.subscription.status == "active":
                self._look_again(subscription_id)
                return False
            now = epoch(self._clock())
            word = self._word(read, now, reason)
            planned = self._planned(read, word, now)
            self._store.keep(keys.event(subscription_id, word.time, word.id), word)
            if self._store.write(
                subscription_id,
                read=read,
                changes=planned.attributes,
                defaults=planned.defaults,
                events=planned.events,
            ):
                self._look_again(subscription_id)
                return True
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _read(self, subscription_id: str) -> Stored:
        read = self._store.read(subscription_id)
        if read is None:
            raise CommandRefusedError(f"there is no subscription {subscription_id} in this table")
        return read

    def _word(self, read: Stored, now: int, reason: str) -> Notification:
        """The operator's word. Its id is the same until something else is known of the subscription, so that a run that
        was interrupted and repeated leaves one."""
        subscription = read.subscription
        licensed = subscription.integration == "license"
        named = subscription.agreement_ids[-1] if subscription.agreement_ids else None
        return finding(
            "license_updated" if licensed else "subscribe_success",
            f"operator-{subscription.id}-{subscription.last_event_at or 0}",
            now,
            subscription,
            agreement_id=read.values.get("current_agreement_id", named) if licensed else None,
            reason=reason,
        )

    def _planned(self, read: Stored, word: Notification, now: int) -> Change:
        if read.subscription.status_at(now) == "closing":
            raise CommandRefusedError(
                f"{read.subscription.id} is closing: AWS has ended it; a new activation of AWS's brings it back"
            )
        planned = change(read.subscription.id, read, [word], now)
        if planned.state.status != "active":
            start = planned.state.expected_start
            starts = "" if start is None else f": its agreement starts at {iso(start)}"
            raise CommandRefusedError(f"{read.subscription.id} would stay {planned.state.status}{starts}")
        return planned

    def _look_again(self, subscription_id: str) -> None:
        if self._queue is not None:
            self._queue.look_again(subscription_id, recheck.RECONCILED)


def _shown(granted: Entitlement) -> str:
    until = "" if granted.expires_at is None else f" until {iso(granted.expires_at)}"
    return f"{granted.dimension}={granted.value}{until}"
