"""Events for the seller, stored until they are published.

An event is stored in the same transaction as the change that it reports. After a crash before its publication, the next
message about the subscription publishes it.
"""

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent, from_outbox


class Outbox:
    """The outboxes of all subscriptions. Every method raises AwsError when DynamoDB or EventBridge gave no answer; the
    events stay stored then."""

    def __init__(self, table: Table, bus: SellerBus) -> None:
        self._table = table
        self._bus = bus

    def publish(self, subscription_id: str) -> None:
        """Publishes the unpublished events of a subscription, oldest first."""
        events = self.unpublished(subscription_id)
        if not events:
            return
        self._bus.publish(events)
        for event in events:
            self._table.delete(keys.outbox(subscription_id, event.id))

    def unpublished(self, subscription_id: str) -> list[SellerEvent]:
        """The stored events of a subscription, oldest first. One may have been published already, just before a
        crash."""
        found = self._table.items_under(keys.subscription_pk(subscription_id), keys.OUTBOX_PREFIX)
        return sorted(map(from_outbox, found), key=lambda event: (event.time, event.kind))
