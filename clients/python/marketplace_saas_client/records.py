"""A usage record as the seller's application reports it, and the form in which it is kept and sent."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class UsageRecord:
    """What was used. The record is counted once, however often it is reported or sent, because of its `id`.

    Derive `id` from what is reported (tenant, hour, dimension, part), never from the attempt, and take `timestamp` from
    the usage itself: a repetition with another time is other content. Exactly one of `subscription_id` and
    `license_arn` is given. docs/integration.md, section 5, describes the members.
    """

    id: str
    dimension: str
    quantity: int
    timestamp: datetime
    subscription_id: str | None = None
    license_arn: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.subscription_id is None) == (self.license_arn is None):
            raise ValueError("give either subscription_id or license_arn")
        if self.timestamp.tzinfo is None:
            raise ValueError("timestamp needs a time zone: datetime.now(UTC)")
        for text in (self.id, self.dimension, self.subscription_id or self.license_arn or "", *self.tags.values()):
            text.encode()  # what is no Unicode text would have the whole request refused

    @property
    def subscription(self) -> str:
        """The name by which the record names its subscription."""
        return self.subscription_id or self.license_arn or ""

    def as_json(self) -> dict[str, Any]:
        """The record as the API takes it."""
        name = "subscription_id" if self.subscription_id is not None else "license_arn"
        body: dict[str, Any] = {
            "id": self.id,
            name: self.subscription,
            "dimension": self.dimension,
            "quantity": self.quantity,
            "timestamp": self.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
        return {**body, "tags": dict(self.tags)} if self.tags else body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "UsageRecord":
        """The record that `as_json` answered."""
        return cls(**{**body, "timestamp": datetime.fromisoformat(body["timestamp"])})


def encoded(record: UsageRecord) -> str:
    """The record as text. One content has one text."""
    return json.dumps(record.as_json(), allow_nan=False, sort_keys=True, separators=(",", ":"))


def key_of(text: str) -> str:
    """The key of an encoded record. It depends on the whole content: an id that is used twice by mistake makes two
    entries, and the API says which of the two counts."""
    return hashlib.sha256(text.encode()).hexdigest()
