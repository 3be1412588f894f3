"""The products listed and the purchases made, found by id, licence, customer and agreement without scanning."""

from typing import Any

from marketplace_emulator.catalog import Product, parse_product
from marketplace_emulator.clock import iso_millis
from marketplace_emulator.errors import AdminError
from marketplace_emulator.ids import license_id
from marketplace_emulator.model import Agreement, Purchase, State
from marketplace_emulator.settings import Settings


class Registry:
    """Look-ups of products, purchases and agreements. Callers that need the current state use `Agenda.acting`."""

    def __init__(self, settings: Settings, products: list[Product]) -> None:
        self._settings = settings
        self.products = {item.code: item for item in products}
        self.purchases: dict[str, Purchase] = {}
        self.by_license: dict[str, Purchase] = {}
        self.by_customer: dict[tuple[str, str], Purchase] = {}
        self.by_account: dict[tuple[str, str], Purchase] = {}
        self.by_product: dict[str, list[Purchase]] = {}
        self.agreements: dict[str, Agreement] = {}
        self.customer_identifiers: dict[tuple[str, str], str] = {}
        self.known_customers: set[str] = set()
        self.suspended: set[str] = set()
        self.resubscribed: set[str] = set()

    def get(self, purchase_id: str) -> Purchase:
        """Return a purchase by its id, licence ARN, licence id or agreement id. Raises AdminError (404)."""
        found = self.purchases.get(purchase_id)
        if found is None:
            found = self.by_license.get(license_id(purchase_id) or purchase_id)
        if found is None and purchase_id in self.agreements:
            found = self.purchases[self.agreements[purchase_id].purchase_id]
        if found is None:
            raise AdminError(404, f"there is no purchase {purchase_id!r}", "GET /admin/purchases lists them")
        return found

    def add(self, purchase: Purchase) -> None:
        """Add a new purchase."""
        code = purchase.product.code
        self.purchases[purchase.id] = purchase
        self.by_license[purchase.license_id] = purchase
        self.by_product.setdefault(code, []).append(purchase)
        self.by_account[code, purchase.account_id] = purchase
        if purchase.is_legacy:
            self.by_customer[code, purchase.customer_identifier] = purchase
            self.known_customers.add(purchase.customer_identifier)

    def product(self, code: str) -> Product:
        """Return a product by its code. Raises AdminError (404)."""
        if code not in self.products:
            raise AdminError(404, f"there is no product {code!r}", f"the products are: {', '.join(self.products)}")
        return self.products[code]

    def add_product(self, listed: Product | dict[str, Any]) -> Product:
        """List a product, or change the one with the same code.

        Its buyers get the new dimensions at once. Buyers of another integration keep the product that they bought.
        """
        product = listed if isinstance(listed, Product) else parse_product(listed)
        self.products[product.code] = product
        for purchase in self.by_product.get(product.code, []):
            if purchase.product.integration == product.integration:
                purchase.product = product
        return product

    def state(self, purchase: Purchase, now: float) -> State:
        """Return the state of a purchase at `now`, in seconds since the epoch."""
        if purchase.failed_reason:
            return "failed"
        if purchase.ended_at is not None:
            return "closing" if now < self.metering_closes_at(purchase) else "ended"
        if purchase.provisioned_at is not None:
            return "active"
        return "scheduled" if purchase.agreement.starts_at > now else "pending"

    def metering_closes_at(self, purchase: Purchase) -> float:
        """Return the time from which usage is refused, in seconds since the epoch; infinite while the purchase runs.

        Source: Seller Guide "saas-eventbridge-integration": the final records are due within one hour. Its editions
        disagree on which event opens that hour; the setting `closing_window` holds the three readings.
        """
        ended = purchase.ended_at
        if ended is None:
            return float("inf")
        window = self._settings.closing_window_seconds
        if purchase.is_legacy:
            return ended + window
        gone = purchase.deprovisioned_at
        match self._settings.closing_window:
            case "after_ended":
                return ended + window
            case "until_deprovisioned":
                return min(ended + window, gone if gone is not None else float("inf"))
            case "after_later":
                later = gone if gone is not None else ended + self._settings.deprovision_delay_seconds
                return max(ended, later) + window

    def describe(self, purchase: Purchase, now: float) -> dict[str, Any]:
        """Return a purchase as the admin API shows it."""
        closes_at = self.metering_closes_at(purchase)
        return {
            "id": purchase.id,
            "product_code": purchase.product.code,
            "product_id": purchase.product.id,
            "title": purchase.product.title,
            "integration": purchase.product.integration,
            "pricing": purchase.product.pricing,
            "account_id": purchase.account_id,
            "customer_identifier": purchase.customer_identifier,
            "license_arn": purchase.license_arn,
            "agreement_id": purchase.agreement_id,
            "agreements": [
                {"id": item.id, "status": item.status, "intent": item.intent, "offer_id": item.offer_id}
                for item in purchase.agreements
            ],
            "state": self.state(purchase, now),
            "suspended": purchase.account_id in self.suspended,
            "entitlements": purchase.entitlements,
            "agreed_entitlements": purchase.agreement.entitlements,
            "auto_renew": purchase.auto_renew,
            "starts_at": _moment(purchase.agreement.starts_at),
            "ends_at": _moment(purchase.agreement.ends_at),
            "free_trial_until": _moment(purchase.free_trial_until),
            "provisioned_at": _moment(purchase.provisioned_at),
            "ended_at": _moment(purchase.ended_at),
            "deprovisioned_at": _moment(purchase.deprovisioned_at),
            "metering_closes_at": _moment(closes_at if closes_at != float("inf") else None),
            "registered_at": _moment(purchase.registered_at),
            "failed_reason": purchase.failed_reason,
            "cancellation_request": purchase.cancellation_request,
        }


def _moment(timestamp: float | None) -> str | None:
    return iso_millis(timestamp) if timestamp is not None else None
