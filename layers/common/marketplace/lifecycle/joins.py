"""Which subscriptions an agreement belongs to. Agreement events name no licence: they wait until the join is known, or
until the agreement is known to be of a product that is not sold here.

Who writes a join reads the events that wait afterwards; who brings an event keeps it and reads the joins afterwards. So
whichever comes second sees the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from marketplace.dynamodb import keys
from marketplace.lifecycle.agreement_api import LicenseFinder
from marketplace.lifecycle.facts import ENDING_STATUSES, Fact
from marketplace.lifecycle.notifications import Kind, Notification
from marketplace.lifecycle.store import INBOX_DAYS, SubscriptionStore
from marketplace.platform.clock import DAY
from marketplace.subscriptions.identity import LicenseIdentity

_ROUNDS = 10
_LAST_EVENTS: frozenset[Kind] = frozenset({"agreement_ended", "license_deprovisioned"})


@dataclass(frozen=True, slots=True)
class Found:
    """The ids of an agreement's subscriptions, and whether AWS names any licence of it at all."""

    subscription_ids: list[str]
    names_licences: bool


class Joins:
    """The joins in the subscriptions table. `find_licenses` is asked about an ended agreement that no notification has
    joined to a licence. Every method raises AwsError; `found` alone asks AWS Marketplace."""

    def __init__(self, store: SubscriptionStore, find_licenses: LicenseFinder) -> None:
        self._store = store
        self._find_licenses = find_licenses

    def joined(self, notification: Notification, agreement_id: str) -> list[str]:
        """The ids of the agreement's subscriptions that the notification may be about."""
        return list(filter(notification.may_concern, self._store.joined(agreement_id)))

    def waiting(self, subscription_id: str, agreement_ids: Iterable[str]) -> list[Notification]:
        """Joins the agreements to the subscription, copies the notifications that wait under them to its inbox, and
        returns them."""
        found: list[Notification] = []
        for agreement_id in agreement_ids:
            self._store.join(agreement_id, subscription_id)
            waiting = self._store.waiting(agreement_id)
            if waiting:
                self._store.await_no_join(agreement_id)
            for notification in waiting:
                if notification.may_concern(subscription_id):
                    self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
                    found.append(notification)
        return found

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
        licence before the agreement's start. None when they wait no more: the agreement is joined or of another
        product, or it is over and its buyer has nothing that it may be the end of."""
        if self._store.joined(agreement_id) or self._store.is_of_other_product(agreement_id):
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

    def found(self, agreement_id: str) -> Found:
        """By the agreement's joins and by the licences that AWS names."""
        named = [LicenseIdentity(license_arn).subscription_id for license_arn in self._find_licenses(agreement_id)]
        known = [subscription_id for subscription_id in named if self._store.read(subscription_id) is not None]
        return Found(list(dict.fromkeys([*self._store.joined(agreement_id), *known])), bool(named))

    def is_of_other_product(self, agreement_id: str) -> bool:
        """Whether the agreement is known to be of a product that is not sold here, and of none that is."""
        return self._store.is_of_other_product(agreement_id) and not self._store.joined(agreement_id)

    def note_other_product(self, notification: Notification, agreement_id: str) -> None:
        """Remembers that the agreement is of a product that is not sold here: as long as it lasts, and then as long as
        the notifications about it are kept. An agreement may last for years without another word about its product."""
        is_last = notification.kind in _LAST_EVENTS
        self._store.note_other_product(agreement_id, expires_at=_forgotten_at(notification.at_ms) if is_last else None)
        self._store.await_no_join(agreement_id)

    def note_no_licence_here(self, agreement_id: str, now: int) -> None:
        """Remembers the same of an ended agreement of which AWS names licences, none of them known here."""
        self._store.note_other_product(agreement_id, expires_at=_forgotten_at(now * 1000))
        self._store.await_no_join(agreement_id)

    def _is_open(self, subscription_id: str) -> bool:
        stored = self._store.read(subscription_id)
        return stored is not None and stored.subscription.status in {"pending", "active"}


def _forgotten_at(ended_at_ms: int) -> int:
    return ended_at_ms // 1000 + INBOX_DAYS * DAY
