"""What a buyer is entitled to, and whether that allows what they want to do. Pure rules: in doubt access is refused.

Source: botocore model of marketplace-entitlement: one of four value types per entitlement; ExpirationDate is "the
*minimum* date through which this entitlement is expected to remain valid", and renewing customers have one too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Self

from marketplace.platform.clock import DAY, HOUR, MINUTE, epoch
from marketplace.subscriptions.model import Status, Subscription

type ValueType = Literal["integer", "double", "boolean", "string"]
type Reason = Literal[
    "entitled",
    "in_grace",  # past its date, but AWS, asked again, still lists it
    "not_entitled",
    "quantity_exceeded",
    "quantity_not_comparable",  # the entitlement is a text
    "expired",
    "entitlements_pending",  # active, and AWS has listed nothing yet
    "entitlements_unavailable",  # never read, and AWS can't be asked
    "entitlements_too_old",  # beyond the stale limit, and AWS can't be asked
    "unknown_subscription",
    "subscription_pending",
    "subscription_closing",
    "subscription_ended",
    "subscription_failed",
]

EXPIRY_GRACE = DAY
"""How long after its date an entitlement that AWS still lists counts; a renewal may be late by less."""
PENDING_FOR = HOUR
"""How long after an activation an empty answer is taken to mean "not yet". AWS gives no number; minutes are seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What AWS grants in one dimension. A Double is kept as its decimal text; `expires_at` in seconds since the
    epoch."""

    dimension: str
    value_type: ValueType
    value: int | bool | str
    expires_at: int | None = None

    def as_values(self) -> dict[str, Any]:
        """Plain values for an item. When it expires is not in `expires_at`, the attribute by which DynamoDB deletes
        items: an entitlement is there until AWS lists it no more."""
        values = {"value_type": self.value_type, "value": self.value, "valid_until": self.expires_at}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_values(cls, dimension: str, values: Mapping[str, Any]) -> Self:
        return cls(
            dimension=dimension,
            value_type=values["value_type"],
            value=values["value"],
            expires_at=values.get("valid_until"),
        )

    @classmethod
    def from_answer(cls, row: Mapping[str, Any]) -> Self | None:
        """From a row of GetEntitlements; None for one that grants nothing in any dimension."""
        value_type, value = _value(row.get("Value") or {})
        dimension = row.get("Dimension")
        if not dimension or value_type is None:
            return None
        expires: datetime | None = row.get("ExpirationDate")
        return cls(
            dimension=dimension,
            value_type=value_type,
            value=value,
            expires_at=None if expires is None else epoch(expires),
        )


def granted_together(rows: Iterable[Entitlement], now: int) -> dict[str, Entitlement]:
    """What the rows of one answer of GetEntitlements grant at `now`, by dimension.

    Several rows of one dimension that are valid at once are grants side by side, and their quantities are added up: the
    answer is a list in which each row has a value and a date of its own (API reference, GetEntitlements and
    Entitlement), and nothing there says that one takes another's place. Rows whose date has passed do not count beside
    one that is valid. The sum has the earliest of their dates, because from then on it is another one. Of values that
    are no quantities the one that is valid longest counts; of several truths, one is enough.
    """
    by_dimension: dict[str, list[Entitlement]] = {}
    for row in rows:
        by_dimension.setdefault(row.dimension, []).append(row)
    return {dimension: _together(found, now) for dimension, found in by_dimension.items()}


def _together(rows: Sequence[Entitlement], now: int) -> Entitlement:
    valid = [row for row in rows if row.expires_at is None or row.expires_at > now] or rows
    numbers = [row for row in valid if row.value_type in {"integer", "double"}]
    if not numbers:
        return max(valid, key=lambda row: (row.value is True, _until(row)))
    first = min(numbers, key=_until)
    if all(row.value_type == "integer" for row in numbers):
        return replace(first, value=sum(int(row.value) for row in numbers))
    if len(numbers) == 1:
        return first
    return replace(first, value_type="double", value=str(sum(Decimal(row.value) for row in numbers)))


def _until(row: Entitlement) -> float:
    return float("inf") if row.expires_at is None else row.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether access is allowed, and why. `stale`: the answer rests on what AWS said longer ago than it should."""

    allowed: bool
    reason: Reason
    stale: bool = False
    status: Status | None = None
    entitlement: Entitlement | None = None
    synced_at: int | None = None

    @property
    def failed_closed(self) -> bool:
        """Whether access is refused for no other reason than that AWS can't be asked."""
        return self.reason in {"entitlements_unavailable", "entitlements_too_old"}

    @classmethod
    def of(
        cls,
        subscription: Subscription,
        now: int,
        allowed: bool,
        reason: Reason,
        *,
        entitlement: Entitlement | None = None,
        stale: bool = False,
    ) -> Self:
        """The decision about a subscription as it is at `now`."""
        return cls(
            allowed=allowed,
            reason=reason,
            stale=stale,
            status=subscription.status_at(now),
            entitlement=entitlement,
            synced_at=subscription.entitlements_synced_at,
        )


_STATUS_REASONS: dict[Status, Reason] = {
    "pending": "subscription_pending",
    "closing": "subscription_closing",
    "ended": "subscription_ended",
    "failed": "subscription_failed",
}


def refused_by_status(status: Status) -> Reason | None:
    """Why nothing is allowed in this status; None for a status that allows access."""
    return _STATUS_REASONS.get(status)


def age(subscription: Subscription, now: int) -> float:
    """How many seconds ago AWS was asked for the entitlements; infinite when it never was."""
    synced_at = subscription.entitlements_synced_at
    return float("inf") if synced_at is None else now - synced_at


def must_ask_again(subscription: Subscription, entitlement: Entitlement | None, now: int, max_age: int) -> bool:
    """Whether AWS has to be asked before what is stored for a dimension can be relied on."""
    since_asked = age(subscription, now)
    if since_asked > max_age:
        return True
    if entitlement is None:
        return since_asked >= MINUTE and _may_still_come(subscription, now)
    expires_at, synced_at = entitlement.expires_at, subscription.entitlements_synced_at or 0
    return expires_at is not None and synced_at < expires_at <= now


def decided(
    subscription: Subscription, entitlement: Entitlement | None, quantity: int | None, now: int, *, stale: bool = False
) -> Decision:
    """Whether an active subscription with this entitlement may use `quantity` of its dimension (None: any use)."""
    allowed, reason = decide(entitlement, quantity, now)
    if entitlement is None and _may_still_come(subscription, now):
        reason = "entitlements_pending"
    return Decision.of(subscription, now, allowed, reason, entitlement=entitlement, stale=stale)


def decided_without_aws(
    subscription: Subscription, entitlement: Entitlement | None, quantity: int | None, now: int, stale_limit: int
) -> Decision:
    """The same when AWS gave no answer: what is stored counts for `stale_limit` seconds after AWS said it."""
    if subscription.entitlements_synced_at is None:
        return Decision.of(subscription, now, False, "entitlements_unavailable", stale=True)
    if age(subscription, now) > stale_limit:
        return Decision.of(subscription, now, False, "entitlements_too_old", entitlement=entitlement, stale=True)
    return decided(subscription, entitlement, quantity, now, stale=True)


def _may_still_come(subscription: Subscription, now: int) -> bool:
    """Right after a purchase AWS may list nothing yet."""
    return subscription.activated_at is not None and now - subscription.activated_at < PENDING_FOR


def decide(entitlement: Entitlement | None, quantity: int | None, now: int) -> tuple[bool, Reason]:
    """Whether the entitlement covers `quantity` (None: any use at all) at `now`."""
    if entitlement is None:
        return False, "not_entitled"
    if entitlement.expires_at is not None and now >= entitlement.expires_at + EXPIRY_GRACE:
        return False, "expired"
    refusal = _refused_by_value(entitlement, quantity)
    if refusal is not None:
        return False, refusal
    past = entitlement.expires_at is not None and now >= entitlement.expires_at
    return True, "in_grace" if past else "entitled"


def _refused_by_value(entitlement: Entitlement, quantity: int | None) -> Reason | None:
    match entitlement.value_type:
        case "boolean":
            return None if entitlement.value is True else "not_entitled"
        case "string":
            if not entitlement.value:
                return "not_entitled"
            return None if quantity is None else "quantity_not_comparable"
        case "integer" | "double":
            granted = Decimal(entitlement.value)
            if granted <= 0:
                return "not_entitled"
            return None if quantity is None or granted >= quantity else "quantity_exceeded"


def _value(value: Mapping[str, Any]) -> tuple[ValueType | None, Any]:
    if isinstance(integer := value.get("IntegerValue"), int):
        return "integer", integer
    if (double := value.get("DoubleValue")) is not None:
        return ("double", str(double)) if _finite(double) else (None, None)
    if isinstance(boolean := value.get("BooleanValue"), bool):
        return "boolean", boolean
    if isinstance(text := value.get("StringValue"), str):
        return "string", text
    return None, None


def _finite(double: object) -> bool:
    try:
        return Decimal(str(double)).is_finite()
    except InvalidOperation:
        return False
