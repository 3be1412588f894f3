"""What AWS grants a subscription, asked with GetEntitlements."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from marketplace.entitlements.rules import Entitlement
from marketplace.platform.pages import pages
from marketplace.subscriptions.identity import Identity, LicenseIdentity, normalised_license_arn
from marketplace.subscriptions.model import Subscription

if TYPE_CHECKING:
    from mypy_boto3_marketplace_entitlement import MarketplaceEntitlementServiceClient


class EntitlementSource(Protocol):
    """Asks AWS what a subscription grants now: the rows of its answer. Raises AwsError."""

    def entitlements(self, subscription: Subscription) -> list[Entitlement]: ...


class MarketplaceEntitlements:
    """GetEntitlements."""

    def __init__(self, client: "MarketplaceEntitlementServiceClient") -> None:
        self._client = client

    def entitlements(self, subscription: Subscription) -> list[Entitlement]:
        """Every row of every page; a dimension may stand in several. Raises AwsError."""
        found = map(Entitlement.from_answer, self._rows(subscription))
        return [entitlement for entitlement in found if entitlement is not None]

    def _rows(self, subscription: Subscription) -> Iterator[Mapping[str, Any]]:
        identity = subscription.identity
        if isinstance(identity, LicenseIdentity):
            wanted = {"LICENSE_ARN": [identity.license_arn]}
        else:
            wanted = {"CUSTOMER_IDENTIFIER": [identity.customer_identifier]}
        asked = {"ProductCode": subscription.product_code, "Filter": wanted}
        for page in pages(self._client.get_entitlements, "NextToken", **asked):
            yield from (row for row in page.get("Entitlements", ()) if _is_of(row, identity))


def _is_of(row: Mapping[str, Any], identity: Identity) -> bool:
    """Whether a row is for this buyer, or names none. A row that names another buyer must not grant this one anything.
    Licence ARNs are compared by their ids: AWS prints what stands before the id in several ways."""
    if isinstance(identity, LicenseIdentity):
        named = row.get("LicenseArn")
        return not named or _license_id(named) == _license_id(identity.license_arn)
    named = row.get("CustomerIdentifier")
    return not named or named == identity.customer_identifier


def _license_id(license_arn: str) -> str:
    return normalised_license_arn(license_arn).rpartition(":")[2]
