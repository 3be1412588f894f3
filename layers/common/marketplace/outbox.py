"""Events for the seller that are decided: published, then forgotten.

An event is decided in the same transaction as the change that it tells of. A crash between that and its publication
leaves it for the next message about the subscription.
"""

from marketplace.seller_events import SellerBus
from marketplace.subscription_store import SubscriptionStore


class Outbox:
    """The outboxes of all subscriptions."""

    def __init__(self, store: SubscriptionStore, bus: SellerBus) -> None:
        self._store = store
        self._bus = bus

    def publish(self, subscription_id: str) -> None:
        """Publishes what waits, oldest first. Raises AwsError when it couldn't; nothing is lost then."""
        events = self._store.unpublished(subscription_id)
        if events:
            self._bus.publish(events)
            self._store.published(subscription_id, events)
