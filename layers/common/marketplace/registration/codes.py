"""One-time registration codes: what a buyer's browser carries instead of AWS Marketplace's token.

Only a code's hash is stored. Time to live deletes an item days late (DynamoDB Developer Guide), so expiry is checked
when a code is read.
"""

import re
import secrets
from dataclasses import asdict, dataclass

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR, Clock, epoch

LIFETIME = HOUR
"""How long a registration code may be used, in seconds."""

SHAPE = re.compile(r"[A-Za-z0-9_-]{22,64}")


def new_code() -> str:
    """192 random bits, safe in a URL."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a code opens; `created_at`: when the code was given out, in seconds since the epoch."""

    subscription_id: str
    product_code: str
    created_at: int = 0


def code_item(code: str, opened: Opened, now: int) -> Item:
    """The stored item of a code: which subscription of which product it opens, and until when."""
    values = {**asdict(opened), "created_at": now, "expires_at": now + LIFETIME}
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

    def opened_by(self, code: str) -> Opened | None:
        """What the code opens; None when the code is unknown or has expired. A code that an earlier version made names
        no product.

        Raises AwsError.
        """
        if not SHAPE.fullmatch(code):
            return None
        item = self._table.get(keys.registration(code))
        if item is None:
            return None
        values = from_item(item)
        if epoch(self._clock()) >= values["expires_at"]:
            return None
        return Opened(str(values["subscription_id"]), str(values.get("product_code", "")), values["created_at"])
