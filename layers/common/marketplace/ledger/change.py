"""What a person has changed about a subscription's usage, as its timeline tells it.

It is written in the transaction of the change, because a usage record and a metering record can't be found by the time
at which they were changed. Corrections have items of their own (marketplace.ledger.correction).
"""

import hashlib
from dataclasses import dataclass, fields
from typing import Literal, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.platform.clock import DAY, EpochSeconds, iso

KEPT_FOR = 400 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageChange:
    """Each field is the attribute of its name. `name`: what was changed, unique among the changes of a moment;
    `units`: as many as the change concerns; `aws_quantity`: what AWS has of a conflict's hour."""

    what: Literal["voided", "conflict resolved", "usage approved", "usage refused"]
    at: EpochSeconds
    by: str
    name: str
    dimension: str
    hour: EpochSeconds
    units: int
    aws_quantity: int | None = None

    def described(self) -> str:
        """What was changed, for a person."""
        said = f"{self.units:,} {self.dimension} of {iso(self.hour)}"
        if self.what == "voided":
            return f"{said}, {self.name}"
        return said if self.aws_quantity is None else f"{said}, AWS Marketplace has {self.aws_quantity:,}"

    @classmethod
    def from_item(cls, item: Item) -> Self:
        values = from_item(item)
        return cls(**{name: values[name] for name in _ATTRIBUTES if name in values})

    def to_item(self, subscription_id: str) -> Item:
        """The change as it is kept under one of its subscriptions."""
        digest = hashlib.sha256(f"{self.what}\0{self.name}".encode()).hexdigest()[:32]
        key = keys.usage_change(subscription_id, self.at, digest)
        values = {name: getattr(self, name) for name in _ATTRIBUTES}
        return to_item({**key._asdict(), **values, "expires_at": self.at + KEPT_FOR})


_ATTRIBUTES = tuple(field.name for field in fields(UsageChange))
