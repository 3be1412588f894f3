"""Registration tokens: issued to the buyer's browser, resolved by the seller.

Sources: Seller Guide "saas-product-customer-setup" (four hours, repeatable), ResolveCustomer API reference
(ExpiredTokenException, InvalidTokenException), agreement model (30 minutes for GetAgreementEntitlements tokens).
"""

from dataclasses import dataclass

from marketplace_emulator.errors import ServiceError


@dataclass(slots=True)
class Token:
    """One token. It expires at `expires_at`, in seconds since the epoch."""

    value: str
    purchase_id: str
    expires_at: float
    uses: int = 0


class Tokens:
    """All tokens by value."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    def add(self, value: str, purchase_id: str, expires_at: float) -> Token:
        """Store a new token and return it."""
        token = Token(value, purchase_id, expires_at)
        self._tokens[value] = token
        return token

    def redeem(self, value: str, now: float, *, single_use: bool) -> Token:
        """Return a token and count its use.

        Raises ServiceError: InvalidToken if it was never issued, ExpiredToken if it has expired or, with `single_use`,
        was used before.
        """
        token = self._tokens.get(value)
        if token is None:
            raise ServiceError("InvalidTokenException", "This registration token was never issued.")
        if now >= token.expires_at or (single_use and token.uses):
            raise ServiceError("ExpiredTokenException", "This registration token is no longer good.")
        token.uses += 1
        return token
