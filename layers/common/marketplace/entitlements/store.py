"""The stored entitlements of a subscription: one item for each dimension, replaced as a whole.

An item holds what AWS grants now, and the terms in which it granted something before (marketplace.entitlements.terms).
When AWS lists the dimension no more, the item stays without a value: late usage counts against the term that held.

`entitlements_version` on the subscription counts the replacements. Each is written on the condition that the count is
the one that was read before AWS was asked. So an older answer of AWS never replaces a newer one, and what is written is
always the difference to what is stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table, Update
from marketplace.dynamodb.transactions import Write
from marketplace.entitlements.rules import Entitlement
from marketplace.entitlements.terms import History
from marketplace.platform.clock import iso
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id

_CHANGES_PER_TRANSACTION = 98
"""A transaction holds 100 writes (DynamoDB API reference, TransactWriteItems); one of them counts, one is the event."""


class UnknownSubscriptionError(Exception):
    """There is no such subscription."""


@dataclass(frozen=True, slots=True)
class Rerating:
    """A comparison of usage that was charged with what is granted as of this version. `since`: usage of later times is
    concerned; AWS was asked then, and what it answered is what usage before it was split by."""

    version: int
    since: int


@dataclass(frozen=True, slots=True)
class StoredEntitlements:
    """A subscription, what it is granted and the terms of that, by dimension, as stored. `version` counts the
    replacements so far; None before the first. `rerating`: what was charged has still to be compared with what is
    granted."""

    subscription: Subscription
    entitlements: Mapping[str, Entitlement]
    histories: Mapping[str, History]
    version: int | None
    rerating: Rerating | None = None


class EntitlementStore:
    """Entitlements in the subscriptions table. Every method raises AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, subscription_id: str) -> StoredEntitlements:
        """The subscription with all its entitlements (consistent reads). Raises UnknownSubscriptionError."""
        item = self._table.get(keys.subscription(subscription_id))
        if item is None:
            raise UnknownSubscriptionError(subscription_id)
        values = from_item(item)
        entitlements: dict[str, Entitlement] = {}
        histories: dict[str, History] = {}
        for one in self._table.items_under(keys.subscription_pk(subscription_id), keys.ENTITLEMENT_PREFIX):
            dimension = keys.decoded(one["sk"]["S"].removeprefix(keys.ENTITLEMENT_PREFIX))
            stored = from_item(one)
            histories[dimension] = History.from_values(dimension, stored)
            if "value" in stored:
                entitlements[dimension] = Entitlement.from_values(dimension, stored)
        subscription = Subscription.from_values(values)
        version, due = values.get("entitlements_version"), values.get("rerating_due")
        rerating = None if due is None else Rerating(due, values["rerating_since"])
        return StoredEntitlements(subscription, entitlements, histories, version, rerating)

    def read_dimension(self, subscription_id: str, dimension: str) -> tuple[Subscription | None, Entitlement | None]:
        """The subscription and its entitlement in one dimension, each None when it is not stored; one request."""
        subscription, entitlement = keys.subscription(subscription_id), keys.entitlement(subscription_id, dimension)
        found = self._table.get_many([subscription, entitlement])
        granted = from_item(found.get(entitlement, {}))
        return (
            Subscription.from_item(found[subscription]) if subscription in found else None,
            Entitlement.from_values(dimension, granted) if "value" in granted else None,
        )

    def histories(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], History]:
        """The terms of each (subscription id, dimension) that AWS ever granted anything in."""
        places = {keys.entitlement(*place): place for place in wanted}
        found = self._table.get_many(places)
        return {places[key]: History.from_values(places[key][1], from_item(item)) for key, item in found.items()}

    def grants_anything(self, subscription_id: str) -> bool:
        """Whether AWS grants the subscription anything now."""
        items = self._table.items_under(keys.subscription_pk(subscription_id), keys.ENTITLEMENT_PREFIX)
        return any("value" in item for item in items)

    def replace(self, before: StoredEntitlements, after: Mapping[str, Entitlement], now: int) -> bool:
        """Writes the difference between `before` and `after` (by dimension), with an "Entitlements Changed" event in
        the outbox if there is one. `now`: when AWS was asked, in seconds since the epoch.

        Returns False when another reading was written since `before` was read. Of more than 98 changes a part may be
        written then; the next reading corrects it.
        """
        changes = self._changes(before, after, now)
        count = before.version
        for start in range(0, max(len(changes), 1), _CHANGES_PER_TRANSACTION):
            part = changes[start : start + _CHANGES_PER_TRANSACTION]
            last = start + _CHANGES_PER_TRANSACTION >= len(changes)
            counted = _counted(count, now if last else None, rerating_after(before, after))
            writes = [self._table.update_action(keys.subscription(before.subscription.id), counted), *part]
            if last and changes:
                event = _changed_event(before, after, now, count or 0)
                writes.append(self._table.put_action(outbox_item(before.subscription.id, event)))
            if self._table.write_together(writes) is not None:
                return False
            count = (count or 0) + 1
        return True

    def rerated(self, subscription_id: str, version: int) -> None:
        """Notes that usage was compared with what is granted as of this version."""
        done = ("rerating_due", "rerating_since")
        update = Update(remove=done, condition="#rerating_due = :version", given={"version": version})
        self._table.update_if(keys.subscription(subscription_id), update)

    def _changes(self, before: StoredEntitlements, after: Mapping[str, Entitlement], now: int) -> list[Write]:
        changes: list[Write] = []
        for dimension in {**before.histories, **after}:
            history, granted = before.histories.get(dimension, History()), after.get(dimension)
            new = history.after_reading(
                granted, now, empty=not after, read_before=before.subscription.entitlements_synced_at
            )
            if new != history or granted != before.entitlements.get(dimension):
                revision = (before.version or 0) + 1
                changes.append(
                    self._put(before.subscription.id, dimension, granted, replace(new, revision=revision), now)
                )
        return changes

    def _put(
        self, subscription_id: str, dimension: str, granted: Entitlement | None, history: History, now: int
    ) -> Write:
        values = {} if granted is None else granted.as_values()
        stamp = {"dimension": dimension, "synced_at": now, "revision": history.revision}
        key = keys.entitlement(subscription_id, dimension)._asdict()
        return self._table.put_action(to_item({**key, **values, **history.as_values(), **stamp}))


def unchanged(revision: int | None) -> tuple[str, dict[str, Any]]:
    """The condition, with its values, that the item of an entitlement has this revision still (History.revision)."""
    if revision is None:
        return "attribute_not_exists(#revision)", {}
    return "#revision = :revision", {"revision": revision}


def rerating_after(before: StoredEntitlements, after: Mapping[str, Entitlement]) -> Rerating | None:
    """The comparison that is due once `after` is granted; None if nothing has changed since the last one. A dimension's
    first grant concerns all usage."""
    if after == before.entitlements:
        return before.rerating
    first = not after.keys() <= before.histories.keys()
    since = 0 if first else before.subscription.entitlements_synced_at or 0
    earlier = since if before.rerating is None else before.rerating.since
    return Rerating((before.version or 0) + 1, min(since, earlier))


def _counted(count: int | None, synced_at: int | None, rerating: Rerating | None) -> Update:
    """One more replacement written, on the condition that none was written since `count` was read."""
    values = {
        "entitlements_version": (count or 0) + 1,
        **({} if synced_at is None else {"entitlements_synced_at": synced_at}),
        **({} if rerating is None else {"rerating_due": rerating.version, "rerating_since": rerating.since}),
    }
    if count is None:
        return Update(set=values, condition="attribute_exists(pk) AND attribute_not_exists(entitlements_version)")
    return Update(set=values, condition="entitlements_version = :read", given={"read": count})


def _changed_event(before: StoredEntitlements, after: Mapping[str, Entitlement], now: int, count: int) -> SellerEvent:
    subscription = before.subscription
    return SellerEvent(
        "Entitlements Changed",
        stable_id("Entitlements Changed", subscription.id, count),
        now,
        {
            "subscription_id": subscription.id,
            "tenant_id": subscription.tenant_id,
            "before": _announced(before.entitlements),
            "after": _announced(after),
        },
    )


def _announced(entitlements: Mapping[str, Entitlement]) -> dict[str, Any]:
    return {
        dimension: {"value_type": granted.value_type, "value": granted.value}
        | ({} if granted.expires_at is None else {"expires_at": iso(granted.expires_at)})
        for dimension, granted in entitlements.items()
    }
