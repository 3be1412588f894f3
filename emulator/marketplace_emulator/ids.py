"""Identifiers in the forms AWS Marketplace prints them, from a generator that a seed makes repeatable."""

import base64
import random
import re
import string

LICENSE_OWNER = "294406891311"
SNS_OWNER = "287250355862"

_ALNUM = string.ascii_lowercase + string.digits
_LICENSE_ARN = re.compile(
    r"^arn:aws[a-zA-Z-]*:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9_/.-]{0,63}"
    r":[A-Za-z0-9][A-Za-z0-9:_/+=,@.-]{0,1023}\Z"
)


class Ids:
    """Makes identifiers; the same seed makes the same ones in the same order."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311  identifiers of a test double, not secrets

    def _letters(self, count: int, alphabet: str = _ALNUM) -> str:
        return "".join(self._random.choices(alphabet, k=count))

    def agreement(self) -> str:
        """`agmt-` and 25 characters."""
        return f"agmt-{self._letters(25)}"

    def license_arn(self) -> str:
        """The form seen in real events: no region, an owner that is not the buyer, `l-` and 32 hex digits."""
        return f"arn:aws:license-manager::{LICENSE_OWNER}:license:l-{self._random.getrandbits(128):032x}"

    def offer(self) -> str:
        """`offer-` and 13 letters."""
        return f"offer-{self._letters(13, string.ascii_lowercase)}"

    def customer(self) -> str:
        """A legacy customer identifier: 11 upper-case characters."""
        return self._letters(11, string.ascii_uppercase + string.digits)

    def resale_authorization(self) -> str:
        """`resaleauthz-` and 13 letters."""
        return f"resaleauthz-{self._letters(13, string.ascii_lowercase)}"

    def uuid(self) -> str:
        """A version 4 UUID."""
        digits = f"{self._random.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def token(self) -> str:
        """A registration token: opaque, and always with the `+`, `/` and `=` a form must encode."""
        body = base64.b64encode(self._random.randbytes(63)).decode()
        return f"{body[:41]}+/{body[41:]}=="


def license_id(arn: str) -> str | None:
    """Return the trailing `l-…` of a licence ARN that fits the pattern of the service model, otherwise None.

    AWS prints the ARN of one licence in several forms; the trailing id is the same in all of them.
    """
    if not _LICENSE_ARN.match(arn):
        return None
    return arn[max(arn.rfind(":"), arn.rfind("/")) + 1 :]
