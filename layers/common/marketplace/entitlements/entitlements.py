"""Entitlements as AWS states them: read back whole, kept one item per dimension, and asked on every log-in.

A read of AWS and the writing of what it said are tied together by a counter on the subscription: what was read before
another read was written is thrown away. So an older answer never replaces a newer one, and the changes written are
always the difference to what was there.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_attribute, to_item
from marketplace.dynamodb.batch_read import read_items
from marketplace.dynamodb.transactions import Write, write_together
from marketplace.entitlements.rules import Decision, Entitlement, Reason, decide, refused_by_status
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import DAY, HOUR, Clock, epoch, iso
from marketplace.platform.errors import AwsError, ThrottledError
from marketplace.subscriptions.identity import Identity, LicenseIdentity, normalised_license_arn
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_marketplace_entitlement import MarketplaceEntitlementServiceClient

_CHANGES_PER_TRANSACTION = 98
"""Of the 100 writes that a transaction may hold (DynamoDB API reference), one counts and one announces."""
_LOST_RACES = 2
"""Who wins the second race began to ask AWS after the first was won, so after this reading began: its answer is as new
as this one would be."""
MINUTE = 60
WITHDRAWN_FOR = 2 * DAY
"""How long the entitlements of a contract that has ended are kept: its last usage, at most a day old, counts against
them (marketplace.usage.contract_terms)."""
PENDING_FOR = HOUR
"""How long after an activation an empty answer is taken to mean "not yet"; AWS gives no number, minutes are seen."""


class EntitlementSource(Protocol):
    """Asks AWS what a subscription grants now. Raises AwsError."""

    def entitlements(self, subscription: Subscription) -> list[Entitlement]: ...


class MarketplaceEntitlements:
    """GetEntitlements."""

    def __init__(self, client: "MarketplaceEntitlementServiceClient") -> None:
        self._client = client

    def entitlements(self, subscription: Subscription) -> list[Entitlement]:
        """Every dimension of every page; a page may be empty and still have a next one (botocore model).

        Raises AwsError.
        """
        strongest: dict[str, Entitlement] = {}
        for row in self._rows(subscription):
            found = Entitlement.from_answer(row)
            if found is None:
                continue
            known = strongest.get(found.dimension)
            if known is None or found.strength > known.strength:
                strongest[found.dimension] = found
        return list(strongest.values())

    def _rows(self, subscription: Subscription) -> Iterator[Mapping[str, Any]]:
        identity = subscription.identity
        if isinstance(identity, LicenseIdentity):
            wanted = {"LICENSE_ARN": [identity.license_arn]}
        else:
            wanted = {"CUSTOMER_IDENTIFIER": [identity.customer_identifier]}
        token: str | None = None
        while True:
            arguments: Any = {"ProductCode": subscription.product_code, "Filter": wanted}
            if token is not None:
                arguments["NextToken"] = token
            with classified_errors():
                answer: Mapping[str, Any] = self._client.get_entitlements(**arguments)
            yield from (row for row in answer.get("Entitlements", ()) if _is_of(row, identity))
            token = answer.get("NextToken")
            if not token:
                return


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome of reading back: what AWS grants now, and whether that is news."""

    entitlements: tuple[Entitlement, ...]
    changed: bool
    synced_at: int


class UnknownSubscriptionError(Exception):
    """There is no such subscription."""


class Entitlements:
    """Reading back, listing and checking. `max_age_minutes`: how old an answer may be before AWS is asked again;
    `stale_limit_minutes`: how old it may be while AWS can't be asked; `announce` publishes the outbox of a subscription
    (Outbox.publish)."""

    def __init__(
        self,
        *,
        client: "DynamoDBClient",
        table: str,
        source: EntitlementSource,
        clock: Clock,
        max_age_minutes: int,
        stale_limit_minutes: int,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._table = table
        self._source = source
        self._clock = clock
        self._max_age = max_age_minutes * MINUTE
        self._stale_limit = stale_limit_minutes * MINUTE
        self._sleep = sleep
        self._jitter = jitter
        self._announce = announce

    def sync(self, subscription_id: str) -> Synced:
        """Reads the entitlements back from AWS and stores them, with an "Entitlements Changed" event in the outbox if
        they did.

        Raises UnknownSubscriptionError, and AwsError when AWS or the store gave no answer; nothing is changed then.
        """
        for _ in range(_LOST_RACES):
            before = self._stored(subscription_id)
            now = epoch(self._clock())
            after = {found.dimension: found for found in self._source.entitlements(before.subscription)}
            if self._replace(before, after, now):
                changed = after != before.entitlements
                if changed:
                    self._publish(subscription_id)
                return Synced(tuple(after.values()), changed, now)
        newest = self._stored(subscription_id)
        synced_at = newest.subscription.entitlements_synced_at or epoch(self._clock())
        return Synced(tuple(newest.entitlements.values()), False, synced_at)

    def entitlements_of(self, subscription_id: str) -> list[Entitlement]:
        """What is stored, by dimension; refreshed first when it is older than it may be and AWS can be asked.

        Raises UnknownSubscriptionError, and AwsError when the store gave no answer.
        """
        stored = self._stored(subscription_id)
        if self._age(stored.subscription) > self._max_age:
            try:
                return sorted(self.sync(subscription_id).entitlements, key=lambda found: found.dimension)
            except AwsError:
                stored = self._stored(subscription_id)
        return [stored.entitlements[dimension] for dimension in sorted(stored.entitlements)]

    def check(self, subscription_id: str, dimension: str, quantity: int | None = None) -> Decision:
        """Whether the buyer may use `dimension`, and `quantity` of it if that is given; one read when it is fresh.

        Never allowed unless the subscription is active and AWS said so recently enough. Raises AwsError when the
        subscriptions table gave no answer.
        """
        subscription, entitlement = self._look_up(subscription_id, dimension)
        if subscription is None:
            return Decision(allowed=False, reason="unknown_subscription")
        refusal = refused_by_status(subscription.status_at(epoch(self._clock())))
        if refusal is not None:
            return self._decision(subscription, False, refusal, None)
        if not self._must_ask_again(subscription, entitlement):
            return self._decided(subscription, entitlement, quantity, stale=False)
        try:
            synced = self.sync(subscription_id)
        except AwsError:
            return self._without_aws(subscription, entitlement, quantity)
        entitlement = next((found for found in synced.entitlements if found.dimension == dimension), None)
        read_back = replace(subscription, entitlements_synced_at=synced.synced_at)
        return self._decided(read_back, entitlement, quantity, stale=False)

    def _publish(self, subscription_id: str) -> None:
        if self._announce is None:
            return
        # The event is safe in the outbox; what fails here is done by the next message about the subscription.
        with suppress(AwsError):
            self._announce(subscription_id)

    def _decided(
        self, subscription: Subscription, entitlement: Entitlement | None, quantity: int | None, *, stale: bool
    ) -> Decision:
        allowed, reason = decide(entitlement, quantity, epoch(self._clock()))
        if entitlement is None and self._may_still_come(subscription):
            reason = "entitlements_pending"
        return self._decision(subscription, allowed, reason, entitlement, stale=stale)

    def _without_aws(
        self, subscription: Subscription, entitlement: Entitlement | None, quantity: int | None
    ) -> Decision:
        if subscription.entitlements_synced_at is None:
            return self._decision(subscription, False, "entitlements_unavailable", None, stale=True)
        if self._age(subscription) > self._stale_limit:
            return self._decision(subscription, False, "entitlements_too_old", entitlement, stale=True)
        return self._decided(subscription, entitlement, quantity, stale=True)

    def _decision(
        self,
        subscription: Subscription,
        allowed: bool,
        reason: Reason,
        entitlement: Entitlement | None,
        *,
        stale: bool = False,
    ) -> Decision:
        return Decision(
            allowed=allowed,
            reason=reason,
            stale=stale,
            status=subscription.status_at(epoch(self._clock())),
            entitlement=entitlement,
            synced_at=subscription.entitlements_synced_at,
        )

    def _must_ask_again(self, subscription: Subscription, entitlement: Entitlement | None) -> bool:
        age = self._age(subscription)
        if age > self._max_age:
            return True
        if entitlement is None:
            return age >= MINUTE and self._may_still_come(subscription)
        expires_at, synced_at = entitlement.expires_at, subscription.entitlements_synced_at or 0
        return expires_at is not None and synced_at < expires_at <= epoch(self._clock())

    def _may_still_come(self, subscription: Subscription) -> bool:
        """Right after a purchase AWS may list nothing yet."""
        activated_at = subscription.activated_at
        return activated_at is not None and epoch(self._clock()) - activated_at < PENDING_FOR

    def _age(self, subscription: Subscription) -> float:
        synced_at = subscription.entitlements_synced_at
        return float("inf") if synced_at is None else epoch(self._clock()) - synced_at

    def _look_up(self, subscription_id: str, dimension: str) -> tuple[Subscription | None, Entitlement | None]:
        wanted = keys.subscription(subscription_id), keys.entitlement(subscription_id, dimension)
        found, unread = read_items(self._client, self._table, wanted)
        if unread:
            raise ThrottledError("UnprocessedKeys")
        items = [found.get(key) for key in wanted]
        return (
            None if items[0] is None else Subscription.from_item(items[0]),
            None if items[1] is None else Entitlement.from_values(dimension, from_item(items[1])),
        )

    def _stored(self, subscription_id: str) -> "_Stored":
        with classified_errors():
            answer = self._client.get_item(
                TableName=self._table, Key=keys.subscription(subscription_id).item(), ConsistentRead=True
            )
            if "Item" not in answer:
                raise UnknownSubscriptionError(subscription_id)
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
                ExpressionAttributeValues={
                    ":pk": to_attribute(keys.subscription_pk(subscription_id)),
                    ":prefix": to_attribute(keys.ENTITLEMENT_PREFIX),
                },
                ConsistentRead=True,
            )
            items = [from_item(item) for page in pages for item in page["Items"]]
        values = from_item(answer["Item"])
        dimensions = {keys.decoded(item["sk"].removeprefix(keys.ENTITLEMENT_PREFIX)): item for item in items}
        return _Stored(
            Subscription.from_values(values),
            {dimension: Entitlement.from_values(dimension, item) for dimension, item in dimensions.items()},
            values.get("entitlements_version"),
        )

    def _replace(self, before: "_Stored", after: Mapping[str, Entitlement], now: int) -> bool:
        """Writes the difference. False when someone else wrote since `before` was read: nothing of this part is
        written then, and a part written earlier is put right by the next reading."""
        changes = self._changes(before, after, now)
        counter = before.version
        for start in range(0, max(len(changes), 1), _CHANGES_PER_TRANSACTION):
            part = changes[start : start + _CHANGES_PER_TRANSACTION]
            last = start + _CHANGES_PER_TRANSACTION >= len(changes)
            writes = [self._count(before.subscription.id, counter, now if last else None), *part]
            if last and changes:
                event = _changed_event(before, after, now, counter or 0)
                writes.append({"Put": {"TableName": self._table, "Item": outbox_item(before.subscription.id, event)}})
            if write_together(self._client, writes, self._sleep, self._jitter) is not None:
                return False
            counter = (counter or 0) + 1
        return True

    def _changes(self, before: "_Stored", after: Mapping[str, Entitlement], now: int) -> list[Write]:
        subscription_id = before.subscription.id
        puts: list[Write] = [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": to_item(
                        {
                            **keys.entitlement(subscription_id, dimension)._asdict(),
                            "dimension": dimension,
                            **granted.as_values(),
                            "synced_at": now,
                        }
                    ),
                }
            }
            for dimension, granted in after.items()
            if before.entitlements.get(dimension) != granted
        ]
        deletes: list[Write] = [
            {"Delete": {"TableName": self._table, "Key": keys.entitlement(subscription_id, dimension).item()}}
            for dimension in before.entitlements
            if dimension not in after
        ]
        withdrawn: list[Write] = [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": to_item(
                        {
                            **keys.withdrawn_entitlement(subscription_id, dimension)._asdict(),
                            **granted.as_values(),
                            "withdrawn_at": now,
                            "expires_at": now + WITHDRAWN_FOR,
                        }
                    ),
                }
            }
            for dimension, granted in before.entitlements.items()
            if not after
        ]
        return [*withdrawn, *puts, *deletes]

    def _count(self, subscription_id: str, counter: int | None, synced_at: int | None) -> Write:
        """One more reading written, on the condition that it was the next one. The time is set with its last part."""
        expression = "SET entitlements_version = :next"
        values = {":next": to_attribute((counter or 0) + 1)}
        condition = "attribute_exists(pk) AND attribute_not_exists(entitlements_version)"
        if counter is not None:
            condition = "entitlements_version = :read"
            values[":read"] = to_attribute(counter)
        if synced_at is not None:
            expression += ", entitlements_synced_at = :now"
            values[":now"] = to_attribute(synced_at)
        return {
            "Update": {
                "TableName": self._table,
                "Key": keys.subscription(subscription_id).item(),
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
            }
        }


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is known before AWS is asked. `version` counts the readings written so far."""

    subscription: Subscription
    entitlements: Mapping[str, Entitlement]
    version: int | None


def _changed_event(before: _Stored, after: Mapping[str, Entitlement], now: int, counter: int) -> SellerEvent:
    subscription = before.subscription
    return SellerEvent(
        "Entitlements Changed",
        stable_id("Entitlements Changed", subscription.id, counter),
        now,
        {
            "subscription_id": subscription.id,
            "tenant_id": subscription.tenant_id,
            "before": _told(before.entitlements),
            "after": _told(after),
        },
    )


def _told(entitlements: Mapping[str, Entitlement]) -> dict[str, Any]:
    return {
        dimension: {"value_type": granted.value_type, "value": granted.value}
        | ({} if granted.expires_at is None else {"expires_at": iso(granted.expires_at)})
        for dimension, granted in entitlements.items()
    }


def _is_of(row: Mapping[str, Any], identity: Identity) -> bool:
    """A row that names another buyer than the one asked for grants this one nothing. Licence ARNs are compared by
    their ids: AWS prints what stands before the id in several ways."""
    if isinstance(identity, LicenseIdentity):
        named = row.get("LicenseArn")
        return not named or _license_id(named) == _license_id(identity.license_arn)
    named = row.get("CustomerIdentifier")
    return not named or named == identity.customer_identifier


def _license_id(license_arn: str) -> str:
    return normalised_license_arn(license_arn).rpartition(":")[2]
