"""What the emulator's pages may know of the application that runs beside it."""

from typing import Protocol

from local.aws import LocalAws
from local.clock import StackClock
from local.deployment import Deployment
from local.traffic import Traffic
from marketplace_emulator import Marketplace
from marketplace_emulator.clock import HOUR
from marketplace_emulator.model import Purchase


class System(Protocol):
    """What the console uses of the stack that it belongs to."""

    api_url: str
    marketplace_url: str
    aws: LocalAws
    clock: StackClock
    deployment: Deployment
    marketplace: Marketplace
    traffic: Traffic

    def next_tick(self, after: float) -> float | None:
        """When a schedule fires next after a moment, in seconds since the epoch."""


class LocalSeller:
    """The seller on this machine, as marketplace_emulator.story.Seller describes one."""

    def __init__(self, system: System, console_url: str) -> None:
        self._system = system
        self.console_url = console_url

    def has_reported(self, purchase: Purchase) -> bool:
        """Whether usage was recorded for the purchase since this machine was started."""
        names = {purchase.license_arn, *self._subscriptions_of(purchase)}
        reports = self._system.traffic.reports(*names)
        return any(one.result.get("status") in ("recorded", "duplicate") for one in reports)

    def activity(self) -> int:
        """How much has been written and asked here."""
        return self._system.aws.writes + self._system.traffic.passed

    def metered_at(self) -> float | None:
        """When the hour that is running will be metered."""
        now = self._system.clock.timestamp()
        delay = int(self._system.deployment.parameters.get("SealDelayMinutes", 0)) * 60
        return self._system.next_tick((now // HOUR + 1) * HOUR + delay - 1)

    def _subscriptions_of(self, purchase: Purchase) -> set[str]:
        """The ids that events for the seller give to the purchase's subscription."""
        wanted = (
            ("customer_identifier", purchase.customer_identifier)
            if purchase.is_legacy
            else ("license_arn", purchase.license_arn)
        )
        details = (event.detail for event in list(self._system.aws.events) if isinstance(event.detail, dict))
        return {str(one.get("subscription_id")) for one in details if one.get(wanted[0]) == wanted[1]}


def purchase_of(marketplace: Marketplace, subscription: dict[str, object]) -> Purchase | None:
    """The purchase behind a subscription as the API shows it."""
    registry = marketplace.registry
    arn = str(subscription.get("license_arn") or "")
    if arn:
        return registry.by_license.get(arn.rpartition(":")[2])
    product, customer = str(subscription.get("product_code")), str(subscription.get("customer_identifier"))
    return registry.by_customer.get((product, customer))
