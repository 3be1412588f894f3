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
            for notification in self._store.waiting(agreement_id):
                self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
                fact = Fact.of(notification)
                facts += [] if fact is None else [fact]
        return facts

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
