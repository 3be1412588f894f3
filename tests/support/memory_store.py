"""The subscription store in memory; tests/contract holds it to what the real one answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from marketplace.items import from_item, to_item
from marketplace.keys import Key
from marketplace.notifications import Notification, parsed
from marketplace.seller_events import SellerEvent
from marketplace.subscription import Status
from marketplace.subscription_store import Stored


class MemoryStore:
    """`SubscriptionStore` without a table."""

    def __init__(self) -> None:
        self._inboxes: dict[str, dict[str, Notification]] = defaultdict(dict)
        self._joins: dict[str, set[str]] = defaultdict(set)
        self._subscriptions: dict[str, dict[str, Any]] = {}
        self._outboxes: dict[str, dict[str, SellerEvent]] = defaultdict(dict)

    def keep(self, key: Key, notification: Notification) -> None:
        again = parsed(notification.message)
        assert isinstance(again, Notification)
        self._inboxes[key.pk][key.sk] = again

    def inbox(self, subscription_id: str) -> list[Notification]:
        return self._sorted(f"SUB#{subscription_id}")

    def waiting(self, agreement_id: str) -> list[Notification]:
        return self._sorted(f"AGREEMENT#{agreement_id}")

    def _sorted(self, pk: str) -> list[Notification]:
        return [found for _, found in sorted(self._inboxes[pk].items())]

    def join(self, agreement_id: str, subscription_id: str) -> None:
        self._joins[agreement_id].add(subscription_id)

    def joined(self, agreement_id: str) -> list[str]:
        return sorted(self._joins[agreement_id])

    def read(self, subscription_id: str) -> Stored | None:
        values = self._subscriptions.get(subscription_id)
        return None if values is None else Stored.from_values(dict(values))

    def write(
        self,
        subscription_id: str,
        *,
        read: Stored | None,
        changes: Mapping[str, Any],
        defaults: Mapping[str, Any],
        events: Sequence[SellerEvent] = (),
    ) -> bool:
        stored = self._subscriptions.get(subscription_id)
        if (stored is None) != (read is None):
            return False
        if stored is not None and read is not None and stored.get("version") != read.values.get("version"):
            return False
        values = {**{name: value for name, value in defaults.items() if value is not None}, **(stored or {}), **changes}
        plain = from_item(to_item(values))
        self._subscriptions[subscription_id] = {**plain, "version": values.get("version", 0) + 1}
        self._outboxes[subscription_id].update({event.id: event for event in events})
        return True

    def unpublished(self, subscription_id: str) -> list[SellerEvent]:
        return sorted(self._outboxes[subscription_id].values(), key=lambda event: (event.time, event.kind))

    def published(self, subscription_id: str, events: Sequence[SellerEvent]) -> None:
        for event in events:
            self._outboxes[subscription_id].pop(event.id, None)

    def of_account(self, account_id: str) -> list[str]:
        found = self._subscriptions.items()
        return [subscription_id for subscription_id, values in found if values.get("account_id") == account_id]

    def with_status(self, status: Status, *, after: str | None = None, limit: int = 100) -> list[str]:
        found = (one for one, values in sorted(self._subscriptions.items()) if values["status"] == status)
        return [one for one in found if after is None or one > after][:limit]
