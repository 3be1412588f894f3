"""One-time registration codes: what a buyer's browser carries instead of AWS Marketplace's token.

Only a code's hash is stored. Time to live deletes an item days late (DynamoDB Developer Guide), so expiry is checked
when a code is read.
"""

import re
import secrets
from dataclasses import dataclass

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR, Clock, epoch

LIFETIME = HOUR
"""How long a registration code may be used, in seconds."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]{22,64}")


@dataclass(frozen=True, slots=True)
class OpenedRegistration:
    """What a code opens, and when the code was given out, in seconds since the epoch."""

    subscription_id: str
    created_at: int


def new_code() -> str:
    """192 random bits, safe in a URL."""
    return secrets.token_urlsafe(24)


def code_item(code: str, subscription_id: str, now: int) -> Item:
    """The stored item of a code: which subscription it opens, and until when."""
    values = {"subscription_id": subscription_id, "created_at": now, "expires_at": now + LIFETIME}
    return to_item({**keys.registration(code)._asdict(), **values})


class RegistrationCodes:
    """The stored registration codes."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def subscription_of(self, code: str) -> str | None:
        """The id of the subscription that the code opens; None when the code is unknown or has expired.

        Raises AwsError.
        """
        opened = self.opened_by(code)
        return None if opened is None else opened.subscription_id

    def opened_by(self, code: str) -> OpenedRegistration | None:
        """What the code opens; None when the code is unknown or has expired. Raises AwsError."""
        if not _SHAPE.fullmatch(code):
            return None
        item = self._table.get(keys.registration(code))
        if item is None:
            return None
        values = from_item(item)
        if epoch(self._clock()) >= values["expires_at"]:
            return None
        return OpenedRegistration(values["subscription_id"], values["created_at"])
