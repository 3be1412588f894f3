"""Finds subscriptions by tenant, account or status, a page at a time, and reads one with all that belongs to it.

The indexes hold keys only and lag a moment behind. What they find is read consistently and checked again; so no answer
holds an outdated subscription, but one that changed a moment ago may be missing.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.paging import InvalidCursorError, cursor_of, parts_of
from marketplace.dynamodb.table import Table
from marketplace.entitlements.rules import Entitlement
from marketplace.platform.clock import Clock, epoch
from marketplace.registration.contacts import EnteredContact
from marketplace.subscriptions.identity import SUBSCRIPTION_ID
from marketplace.subscriptions.model import Status, Subscription
from marketplace.subscriptions.predecessors import Predecessors
from marketplace.subscriptions.reader import SubscriptionReader

type Attribute = Literal["tenant_id", "account_id", "status"]

MAX_PAGE = 100
"""As many as one BatchGetItem reads."""

_SUBSCRIPTION_SK = keys.subscription("").sk


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects the subscriptions whose attribute has this value at present."""

    attribute: Attribute
    value: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.attribute}\0{self.value}".encode()).hexdigest()[:16]

    def fits(self, subscription: Subscription, now: int) -> bool:
        if self.attribute == "status":
            return subscription.status_at(now) == self.value
        held: str | None = getattr(subscription, self.attribute)
        return held == self.value


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """Some subscriptions, and the cursor of the next page; None on the last page."""

    items: list[Subscription]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Details:
    """One subscription, its stored entitlements, the contacts that its buyer entered, the oldest first, and the tenant
    that is proposed for it (marketplace.subscriptions.predecessors)."""

    subscription: Subscription
    entitlements: list[Entitlement]
    contacts: list[EnteredContact]
    proposed_tenant_id: str | None


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a listing stands: in which partition, and after which subscription id."""

    partition: int
    after: str


class SubscriptionQueries:
    """The subscriptions table as the seller's application reads it. Every method raises AwsError when DynamoDB can't
    answer."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._reader = SubscriptionReader(table)
        self._predecessors = Predecessors(table)

    def get(self, subscription_id: str) -> Subscription | None:
        """The subscription, read consistently."""
        return self._reader.get_many([subscription_id]).get(subscription_id)

    def details(self, subscription_id: str) -> Details | None:
        """The subscription with what belongs to it, or None; two reads, and more to find a tenant to propose."""
        subscription = self.get(subscription_id)
        if subscription is None:
            return None
        contact = keys.contact(subscription_id).sk
        entitlements: list[Entitlement] = []
        contacts: list[EnteredContact] = []
        span = {"pk": keys.subscription_pk(subscription_id), "first": contact, "last": f"{keys.ENTITLEMENT_PREFIX}\x7f"}
        for item in self._table.items("pk = :pk AND sk BETWEEN :first AND :last", span):
            values = from_item(item)
            if values["sk"] == contact:
                contacts = EnteredContact.all_in(values)
            elif "value" in values:
                entitlements.append(Entitlement.from_values(values["dimension"], values))
        return Details(subscription, entitlements, contacts, self._predecessors.proposed_tenant(subscription))

    def find(self, wanted: Filter, *, cursor: str | None = None, limit: int = MAX_PAGE) -> SubscriptionPage:
        """At most `limit` subscriptions in the order of their ids, those of status ended in the order of their stored
        status first. A page may hold fewer, or none, and still have a cursor.

        Raises InvalidCursorError.
        """
        partitions = _partitions(wanted)
        position: _Position | None = _position(cursor, wanted, len(partitions)) if cursor else _Position(0, "")
        ids: list[str] = []
        while position is not None and len(ids) < limit:
            found, more = self._ids(wanted, partitions[position.partition], position.after, limit - len(ids))
            ids += found
            if more is not None:
                position = _Position(position.partition, more)
            elif position.partition + 1 < len(partitions):
                position = _Position(position.partition + 1, "")
            else:
                position = None
        now = epoch(self._clock())
        stored = self._reader.get_many(ids)
        items = [stored[one] for one in ids if one in stored and wanted.fits(stored[one], now)]
        more_at = cursor_of(wanted.digest, position.partition, position.after) if position else None
        return SubscriptionPage(items, more_at)

    def _ids(self, wanted: Filter, partition: str, after: str, limit: int) -> tuple[list[str], str | None]:
        """Up to `limit` subscription ids after `after`, and the id to go on after when there may be more."""
        if wanted.attribute == "tenant_id":
            index, attribute, value, id_name = None, "pk", keys.tenant_pk(partition), "sk"
        else:
            index = keys.ACCOUNT_INDEX if wanted.attribute == "account_id" else keys.STATUS_INDEX
            attribute, value, id_name = wanted.attribute, partition, "pk"
        page = self._table.page(
            f"#{attribute} = :partition AND {id_name} > :after",
            {"partition": value, "after": keys.subscription_pk(after)},
            index=index,
            limit=limit,
        )
        found = [
            keys.subscription_id_of(item[id_name]["S"])
            for item in page.items
            if id_name == "sk" or item["sk"]["S"] == _SUBSCRIPTION_SK
        ]
        return found, keys.subscription_id_of(page.after[id_name]["S"]) if page.after else None


def _partitions(wanted: Filter) -> list[str]:
    """The partitions to query. A closing subscription has ended once its deadline passes, even while it is still stored
    as closing."""
    ended: Status = "ended"
    closing: Status = "closing"
    return [ended, closing] if wanted == Filter("status", ended) else [wanted.value]


def _position(cursor: str, wanted: Filter, partitions: int) -> _Position:
    digest, partition, after = parts_of(cursor, 3)
    if (
        digest != wanted.digest
        or partition not in range(partitions)
        or not isinstance(after, str)
        or not (after == "" or SUBSCRIPTION_ID.fullmatch(after))
    ):
        raise InvalidCursorError("the cursor belongs to another query")
    return _Position(int(partition), after)
