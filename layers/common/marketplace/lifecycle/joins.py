"""Which subscriptions an agreement belongs to. Agreement events name no licence: they wait until the join is known.

Who writes a join reads the events that wait afterwards; who brings an event keeps it and reads the joins afterwards. So
whichever comes second sees the other.
"""

from collections.abc import Iterable

from marketplace.dynamodb import keys
from marketplace.lifecycle.agreement_api import LicenseFinder
from marketplace.lifecycle.facts import ENDING_STATUSES, Fact
from marketplace.lifecycle.notifications import Notification
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.subscriptions.identity import LicenseIdentity

_ROUNDS = 10


class Joins:
    """The joins in the subscriptions table. `find_licenses` is asked about an ended agreement that no notification has
    joined to a licence. Every method raises AwsError; `found` alone asks AWS Marketplace."""

    def __init__(self, store: SubscriptionStore, find_licenses: LicenseFinder) -> None:
        self._store = store
        self._find_licenses = find_licenses

    def facts(self, subscription_id: str, agreement_ids: Iterable[str]) -> list[Fact]:
        """Joins the agreements to the subscription, copies the notifications that wait under them to its inbox, and
        returns their facts."""
        facts: list[Fact] = []
        for agreement_id in agreement_ids:
            self._store.join(agreement_id, subscription_id)
            waiting = self._store.waiting(agreement_id)
            if waiting:
                self._store.await_no_join(agreement_id)
            for notification in waiting:
                self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
                fact = Fact.of(notification)
                facts += [] if fact is None else [fact]
        return facts

    def await_join(self, agreement_id: str, now: int) -> None:
        """Marks the agreement as waiting for its join, or no more. It is looked at again after the mark is written: so
        of several that bring its events at once, the last one to write has seen what all of them have kept."""
        for _ in range(_ROUNDS):
            since = self._waits_since(agreement_id, now)
            if since is None:
                self._store.await_no_join(agreement_id)
            else:
                self._store.await_join(agreement_id, since)
            if self._waits_since(agreement_id, now) == since:
                return

    def _waits_since(self, agreement_id: str, now: int) -> int | None:
        """Since when the events of an agreement have waited for the join, or from when on they will: nobody expects a
        licence before the agreement's start. None when they wait no more: the agreement is joined, or it is over and
        its buyer has nothing that it may be the end of."""
        if self._store.joined(agreement_id):
            return None
        events = [one for one in self._store.waiting(agreement_id) if Fact.of(one) is not None]
        ended = [one for one in events if one.kind == "agreement_ended"]
        if ended:
            events = [one for one in ended if self.may_concern_a_licence(one)]
        if not events:
            return None
        starts = [(one.at_ms, one.starts_at_ms) for one in events if one.starts_at_ms is not None]
        expected_at = max(starts)[1] // 1000 if starts else 0
        return max(min(events[0].at_ms // 1000, now), expected_at, self._store.awaited_until(agreement_id))

    def may_concern_a_licence(self, notification: Notification) -> bool:
        """Whether an agreement has ended whose buyer has an open subscription. Only the buyer's account is known then.
        Nothing may be closed on that: the account may have other licences, and agreements of the seller's other
        products arrive here too."""
        if notification.kind != "agreement_ended" or notification.agreement_status not in ENDING_STATUSES:
            return False
        if notification.account_id is None:
            return False
        return any(map(self._is_open, self._store.of_account(notification.account_id)))

    def found(self, agreement_id: str) -> list[str]:
        """The ids of an agreement's subscriptions, by its joins and by the licences that AWS names."""
        named = [LicenseIdentity(license_arn).subscription_id for license_arn in self._find_licenses(agreement_id)]
        known = [subscription_id for subscription_id in named if self._store.read(subscription_id) is not None]
        return list(dict.fromkeys([*self._store.joined(agreement_id), *known]))

    def _is_open(self, subscription_id: str) -> bool:
        stored = self._store.read(subscription_id)
        return stored is not None and stored.subscription.status in {"pending", "active"}
