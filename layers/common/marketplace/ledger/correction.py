"""A correction: units of a metered hour for which the buyer gets money back by a billing adjustment of AWS Marketplace.

It stands in the usage table under the subscription, by hour and dimension, and is stored before AWS is asked:

    prepared    AWS may have been asked, or not; asking again with the same client token is the same request
    requested   AWS has the request, and validates it
    completed   AWS has adjusted the invoice
    refused     AWS made no adjustment; `message` says why, and the correction can be made anew
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.update import Update
from marketplace.platform.clock import EpochSeconds, iso

type Standing = Literal["prepared", "requested", "completed", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Each field but the key is the attribute of its name. `record_id`: the usage record that was reported wrong, if it
    is one; otherwise `reference` tells several corrections of an hour apart. `price` is of one unit and `amount` of
    all, as decimal text. `tags`: those of the usage record, where its hour holds them. `attempt` counts the requests of
    which AWS has refused the earlier ones."""

    key: Key
    dimension: str
    hour: EpochSeconds
    units: int
    price: str
    amount: str
    currency: str
    reason: str
    agreement_id: str
    invoice_id: str
    prepared_at: EpochSeconds
    prepared_by: str
    record_id: str | None = None
    tags: Mapping[str, str] | None = None
    reference: str | None = None
    description: str | None = None
    state: Standing = "prepared"
    attempt: int = 1
    request_id: str | None = None
    message: str | None = None
    ended_at: EpochSeconds | None = None

    @classmethod
    def from_item(cls, item: Item) -> Self:
        values = from_item(item)
        given = {name: values[name] for name in _ATTRIBUTES if name in values}
        return cls(key=Key(values["pk"], values["sk"]), **given)

    def to_item(self) -> Item:
        return to_item({**self.key._asdict(), **{name: getattr(self, name) for name in _ATTRIBUTES}})

    @property
    def is_open(self) -> bool:
        """Whether AWS can still refuse it."""
        return self.state in ("prepared", "requested")

    @property
    def content(self) -> tuple[object, ...]:
        """What AWS is asked for; two requests with one client token have the same."""
        return tuple(getattr(self, name) for name in _CONTENT)

    @property
    def client_token(self) -> str:
        """The same at every repetition, so AWS makes one request of all of them (botocore model, clientToken)."""
        digest = hashlib.sha256("\0".join(self.key).encode()).hexdigest()[:48]
        return f"{digest}-{self.attempt}"

    def moved(self, state: Standing, **values: Any) -> Update:
        """The change to a state, on the condition that the correction is as it was read."""
        return Update(
            set={"state": state, **values},
            condition="#state = :seen_state AND #attempt = :seen_attempt",
            given={"seen_state": self.state, "seen_attempt": self.attempt},
        )

    def replaces(self, refused: "Correction | None") -> tuple[str, dict[str, Any]]:
        """The condition, with its values, on which this may be stored: nothing is there, or what AWS has refused."""
        if refused is None:
            return "attribute_not_exists(pk)", {}
        condition = "#state = :refused AND #attempt = :seen_attempt"
        return condition, {"refused": "refused", "seen_attempt": refused.attempt}

    def described(self) -> dict[str, Any]:
        """The correction as the API shows it."""
        shown: dict[str, Any] = {"state": self.state, "hour": iso(self.hour), "prepared_at": iso(self.prepared_at)}
        for name in (*_CONTENT, "record_id", "reference", "units", "price", "prepared_by", "request_id", "message"):
            if value := getattr(self, name):
                shown[name] = value
        if self.ended_at is not None:
            shown["ended_at"] = iso(self.ended_at)
        return shown


_ATTRIBUTES = tuple(field.name for field in fields(Correction) if field.name != "key")
_CONTENT = ("agreement_id", "invoice_id", "amount", "currency", "reason", "description")


def correction_key(
    subscription_id: str, hour: EpochSeconds, dimension: str, record_id: str | None, reference: str | None
) -> Key:
    """The key is derived from what is corrected, so the same correction is one item whoever makes it."""
    kind, name = ("record", record_id) if record_id is not None else ("reference", reference or "")
    digest = hashlib.sha256(f"{kind}\0{name}".encode()).hexdigest()[:32]
    return keys.correction(subscription_id, hour, dimension, digest)


def amount_of(units: int, price: Decimal) -> str:
    """What these units cost, as AWS takes it (botocore model, PositiveAmountUpto8Decimals)."""
    return format((units * price).normalize(), "f")
