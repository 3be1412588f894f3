"""A subscription: who is billed, through which integration, and whether usage may be metered now.

The stored item is the attributes of this class under `keys.subscription(id)`; times are whole seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from marketplace.dynamodb.attributes import Item, from_item
from marketplace.platform.clock import HOUR
from marketplace.subscriptions.identity import Identity, Integration, LegacyIdentity, LicenseIdentity

type Status = Literal["pending", "active", "closing", "ended", "failed"]

CLOSING_WINDOW = HOUR
"""How long AWS takes usage after a closing event (Seller Guide: saas-eventbridge-integration and saas-notification,
the final hour)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """The stored state of one subscription.

    `activated_at` is the event time from which AWS meters; `closing_deadline` the moment after which it no longer does,
    set while `status` is closing or ended. `cutover_at` is the hour from which usage is billed to the licence
    `migrated_to` and no longer to the legacy customer `migrated_from`; both hold it. While `usage_hold` stands, a
    migration is finding out whether the licence has usage: read from the table, the subscription has no `activated_at`
    then, so that it takes none.

    `claim_revision` counts the changes of the claim (claimed, released, transferred); `released_at` is the time of the
    last release. `predecessor_agreement_ids` and `initial_agreement_id` name agreements of another licence that this
    one may have replaced.
    """

    id: str
    integration: Integration
    product_code: str
    license_arn: str | None = None
    customer_identifier: str | None = None
    account_id: str | None = None
    agreement_ids: tuple[str, ...] = ()
    status: Status = "pending"
    activated_at: int | None = None
    closing_deadline: int | None = None
    offer_id: str | None = None
    free_trial: bool | None = None
    free_trial_ends_at: int | None = None
    tenant_id: str | None = None
    claim_revision: int = 0
    claimed_at: int | None = None
    released_at: int | None = None
    predecessor_agreement_ids: tuple[str, ...] = ()
    initial_agreement_id: str | None = None
    registered_at: int | None = None
    last_event_at: int | None = None
    entitlements_synced_at: int | None = None
    migrated_to: str | None = None
    migrated_from: str | None = None
    cutover_at: int | None = None
    usage_hold: str | None = None
    version: int = 0

    @property
    def identity(self) -> Identity:
        if self.license_arn is not None:
            return LicenseIdentity(self.license_arn)
        return LegacyIdentity(self.product_code, self.customer_identifier or "")

    @property
    def lacks_account(self) -> bool:
        """Whether it is a licence whose buyer's account is not known yet. BatchMeterUsage requires both."""
        return self.license_arn is not None and self.account_id is None

    def status_at(self, now: int) -> Status:
        """The status as of now: a closing subscription has ended once its deadline is reached, whether or not the
        timer that writes it down has run."""
        if self.status == "closing" and self.closing_deadline is not None and now >= self.closing_deadline:
            return "ended"
        return self.status

    def free_trial_at(self, now: int) -> bool | None:
        """Whether the subscription is a free trial as of now; None when AWS has not said."""
        over = self.free_trial_ends_at is not None and now >= self.free_trial_ends_at
        return self.free_trial and not over

    def billed_to(self, hour: int) -> str:
        """The id of the subscription that usage of this hour is billed to: this one's, or across a migration the
        other's. AWS bills twice when ProductCode and LicenseArn are both sent for one customer and hour (botocore
        model, BatchMeterUsage)."""
        if self.cutover_at is not None and self.migrated_to is not None and hour >= self.cutover_at:
            return self.migrated_to
        if self.cutover_at is not None and self.migrated_from is not None and hour < self.cutover_at:
            return self.migrated_from
        return self.id

    @classmethod
    def from_item(cls, item: Item) -> Self:
        return cls.from_values(from_item(item))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for name in ("agreement_ids", "predecessor_agreement_ids"):
            known[name] = tuple(known.get(name) or ())
        if "usage_hold" in known:
            known["activated_at"] = None
        return cls(**known)
