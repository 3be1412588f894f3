"""Who is being billed: one subscription is one licence (or, in legacy products, one customer of one product).

The subscription id is derived from AWS's own identifiers, never looked up, so every function computes the same id
from a registration, an event or a usage report.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Literal

type Integration = Literal["license", "legacy"]

_LICENSE_ID = re.compile(r"(?:^|[:/])(l(?:ic)?-[A-Za-z0-9]+)$")
SUBSCRIPTION_ID = re.compile(r"^sub-[a-z2-7]{26}$")


class InvalidIdentityError(ValueError):
    """An identifier that names no licence and no customer."""


@dataclass(frozen=True, slots=True)
class LicenseIdentity:
    """A licence of Concurrent Agreements."""

    license_arn: str

    @property
    def subscription_id(self) -> str:
        return _derive("license", normalised_license_arn(self.license_arn))


@dataclass(frozen=True, slots=True)
class LegacyIdentity:
    """A customer of one product in the integration from before Concurrent Agreements."""

    product_code: str
    customer_identifier: str

    @property
    def subscription_id(self) -> str:
        return _derive("legacy", self.product_code, self.customer_identifier)


type Identity = LicenseIdentity | LegacyIdentity


def normalised_license_arn(license_arn: str) -> str:
    """One text for all the forms in which AWS prints the ARN of one licence.

    The ARN appears with and without `arn:`, with and without a region, with `license:` or `license/` before the id, and
    with different accounts (ResolveCustomer, the EventBridge examples of the Seller Guide and the metering skill
    differ), so only the trailing licence id, 128 random bits, carries identity. What has another shape is kept as it
    stands: the model's pattern is loose, and refusing it would refuse a buyer.

    Raises InvalidIdentityError when the ARN is empty.
    """
    text = license_arn.strip()
    if not text:
        raise InvalidIdentityError("the licence ARN is empty")
    license_id = _LICENSE_ID.search(text)
    return text if license_id is None else license_id.group(1)


def _derive(*parts: str) -> str:
    if not all(parts):
        raise InvalidIdentityError("an identifier is empty")
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return "sub-" + base64.b32encode(digest).decode().lower()[:26]
