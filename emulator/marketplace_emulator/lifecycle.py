"""The steps in the life of a purchase: open, provision, renew or replace, end, deprovision.

purchases.py decides when a step is allowed, and holds the lock of the agenda around it.
"""

from functools import partial

from marketplace_emulator.agenda import Agenda
from marketplace_emulator.catalog import Product
from marketplace_emulator.clock import DAY
from marketplace_emulator.errors import AdminError
from marketplace_emulator.events import Announcer
from marketplace_emulator.ids import Ids, license_id
from marketplace_emulator.model import Agreement, Entitlements, Purchase, Value
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

YEAR = 365 * DAY
RESELLER_ACCOUNT = "999988887777"


class Lifecycle:
    """Changes purchases and announces each change. Times are seconds since the epoch."""

    def __init__(
        self, *, settings: Settings, ids: Ids, agenda: Agenda, announcer: Announcer, registry: Registry
    ) -> None:
        self._settings = settings
        self._ids = ids
        self._agenda = agenda
        self._announce = announcer
        self._registry = registry

    def open(
        self,
        product: Product,
        account_id: str,
        now: float,
        *,
        entitlements: Entitlements | None,
        free_trial_days: int | None = None,
        auto_renew: bool = False,
        start: float | None = None,
        end: float | None = None,
        reseller: bool = False,
        replaces: Agreement | None = None,
        license_arn: str | None = None,
    ) -> Purchase:
        """Make a purchase and its first agreement, announce it, and plan its licence and its end.

        Raises AdminError if the account, the entitlements, the trial or the dates are not valid.
        """
        if len(account_id) != 12 or not (account_id.isascii() and account_id.isdigit()):
            raise AdminError(400, f"{account_id!r} is not an AWS account", "an account has 12 digits")
        bought = checked_entitlements(product, entitlements)
        starts_at = max(start, now) if start is not None else now
        trial_until = None
        if free_trial_days is not None:
            if not 7 <= free_trial_days <= 90:
                raise AdminError(400, "a SaaS free trial lasts 7 to 90 days", "give free_trial_days from 7 to 90")
            trial_until = starts_at + free_trial_days * DAY
        ends_at = end
        if ends_at is None and product.has_contract:
            ends_at = trial_until if trial_until is not None else starts_at + YEAR
        if ends_at is not None and ends_at <= starts_at:
            raise AdminError(400, "the end lies before the start", "give an end after the start")

        if license_arn is not None and not (named := license_id(license_arn)):
            raise AdminError(400, f"{license_arn!r} is not a licence ARN", f"for example {self._ids.license_arn()}")
        if license_arn is not None and named in self._registry.by_license:
            raise AdminError(409, f"there is a purchase with the licence {named}", "give another license_arn, or none")

        purchase_id = f"purchase-{len(self._registry.purchases) + 1}"
        license_arn = license_arn or self._ids.license_arn()
        purchase = Purchase(
            id=purchase_id,
            product=product,
            account_id=account_id,
            license_arn=license_arn,
            customer_identifier=self._customer_identifier(product, account_id),
            agreements=[],
            entitlements={},
            free_trial_until=trial_until,
        )
        if purchase.is_legacy:
            self._take_over(purchase, now)
        agreement = self._agree(
            purchase,
            intent="REPLACE" if replaces else "NEW",
            now=now,
            starts_at=starts_at,
            ends_at=ends_at,
            entitlements=bought,
            auto_renew=auto_renew,
            free_trial_until=trial_until,
            reseller=reseller,
            previous=replaces,
        )
        self._registry.add(purchase)
        self._announce.agreement_created(purchase, agreement, now)
        self.provision_later(purchase, bought, starts_at)
        self.watch_end(purchase)
        return purchase

    def approve_cancellation(self, purchase: Purchase, now: float) -> None:
        """End the purchase, unless its cancellation request is withdrawn or it has ended already."""
        if not purchase.cancellation_request or purchase.ended_at is not None:
            return
        self._announce.cancellation_request(purchase, "Approved", now)
        purchase.cancellation_request = ""
        self.end(purchase, "CANCELLED", now)

    def _agree(
        self,
        purchase: Purchase,
        *,
        intent: str,
        now: float,
        starts_at: float,
        ends_at: float | None,
        entitlements: Entitlements,
        auto_renew: bool,
        free_trial_until: float | None = None,
        reseller: bool = False,
        previous: Agreement | None = None,
    ) -> Agreement:
        previous = purchase.agreements[-1] if purchase.agreements else previous
        agreement_id = self._ids.agreement()
        resale = previous.resale_authorization if previous else None
        proposer = previous.proposer_id if previous else self._settings.seller_account
        if reseller:
            resale, proposer = self._ids.resale_authorization(), RESELLER_ACCOUNT
        agreement = Agreement(
            id=agreement_id,
            purchase_id=purchase.id,
            product_id=purchase.product.id,
            account_id=purchase.account_id,
            proposer_id=proposer,
            offer_id=previous.offer_id if previous and intent == "RENEW" else self._ids.offer(),
            intent=intent,
            status="ACTIVE",
            accepted_at=now,
            starts_at=starts_at,
            ends_at=ends_at,
            updated_at=now,
            license_arn=purchase.license_arn,
            initial_id=previous.initial_id if previous else agreement_id,
            previous_id=previous.id if previous else None,
            auto_renew=auto_renew,
            free_trial_until=free_trial_until,
            resale_authorization=resale,
            entitlements=entitlements,
        )
        purchase.agreements.append(agreement)
        self._registry.agreements[agreement_id] = agreement
        return agreement

    def succeed(
        self,
        purchase: Purchase,
        intent: str,
        now: float,
        *,
        entitlements: Entitlements | None = None,
        end: float | None = None,
    ) -> Agreement:
        """Make the next agreement of a purchase, with intent RENEW or REPLACE, and end the one before it."""
        old = purchase.agreement
        bought = dict(old.entitlements)
        if entitlements is not None:
            bought.update(checked_entitlements(purchase.product, entitlements, partial=True))
        term = (old.ends_at - old.starts_at) if old.ends_at is not None else None
        if intent == "REPLACE" and purchase.product.has_contract:
            term = YEAR
        ends_at = end if end is not None else (now + term if term is not None else None)
        agreement = self._agree(
            purchase,
            intent=intent,
            now=now,
            starts_at=now,
            ends_at=ends_at,
            entitlements=bought,
            auto_renew=old.auto_renew,
        )
        old.status, old.updated_at = "RENEWED" if intent == "RENEW" else "REPLACED", now
        purchase.note_grant(now)
        if intent != "RENEW" or self._settings.renewal_events == "created_and_license":
            self._announce.agreement_created(purchase, agreement, now)
            self._announce.agreement_ended(purchase, old, now)
        self.provision_later(purchase, bought, now)
        self.watch_end(purchase)
        return agreement

    def provision_now(self, purchase: Purchase, now: float) -> None:
        """Issue the licence that is planned. Raises AdminError (409) if there is none."""
        task = purchase.license_task
        if task is None or task.cancelled:
            raise AdminError(409, f"{purchase.id} waits for no licence", "subscribe, upgrade or renew first")
        task.cancel()
        task.action(now)

    def provision_later(self, purchase: Purchase, entitlements: Entitlements, starts_at: float) -> None:
        """Plan the licence for `license_delay_seconds` after `starts_at`, instead of one planned before."""
        if purchase.license_task:
            purchase.license_task.cancel()
        bought = dict(entitlements)
        purchase.license_task = self._agenda.at(
            starts_at + self._settings.license_delay_seconds,
            partial(self._provision, purchase, bought),
        )

    def _provision(self, purchase: Purchase, entitlements: Entitlements, now: float) -> None:
        purchase.license_task = None
        first = purchase.provisioned_at is None
        if first:
            purchase.provisioned_at = float(int(now))
        purchase.provisioned_agreement_id = purchase.agreement_id
        delay = self._settings.entitlement_delay_seconds
        if delay:
            self._agenda.at(now + delay, partial(self._show_entitlements, purchase, entitlements))
        else:
            self._show_entitlements(purchase, entitlements, now)
        self._announce.license_updated(purchase, now, first=first)

    def _show_entitlements(self, purchase: Purchase, entitlements: Entitlements, now: float) -> None:
        if purchase.deprovisioned_at is None:
            purchase.entitlements.update(entitlements)
            purchase.note_grant(now)

    def watch_end(self, purchase: Purchase) -> None:
        """Plan the renewal or expiry at the end of the agreement in force."""
        for task in purchase.ending_tasks:
            task.cancel()
        agreement = purchase.agreement
        purchase.ending_tasks = []
        if agreement.ends_at is not None:
            purchase.ending_tasks.append(self._agenda.at(agreement.ends_at, partial(self._reach_end, purchase)))

    def _reach_end(self, purchase: Purchase, now: float) -> None:
        if purchase.ended_at is not None or purchase.failed_reason:
            return
        if purchase.agreement.auto_renew:
            self.succeed(purchase, "RENEW", now)
        else:
            self.end(purchase, "EXPIRED", now)

    def end(self, purchase: Purchase, status: str, now: float) -> None:
        """End the purchase with the status CANCELLED, EXPIRED, TERMINATED or REPLACED, and plan its deprovisioning."""
        cancel_tasks(purchase)
        agreement = purchase.agreement
        agreement.status, agreement.updated_at = status, now
        purchase.ended_at = now
        self._announce.agreement_ended(purchase, agreement, now, final=True)
        settings = self._settings
        delay = settings.closing_window_seconds if purchase.is_legacy else settings.deprovision_delay_seconds
        purchase.ending_tasks = [self._agenda.at(now + delay, partial(self._deprovision, purchase))]

    def _deprovision(self, purchase: Purchase, now: float) -> None:
        purchase.deprovisioned_at = now
        purchase.entitlements = {}
        purchase.note_grant(now)
        self._announce.license_deprovisioned(purchase, now)

    def _take_over(self, purchase: Purchase, now: float) -> None:
        former = self._registry.by_customer.get((purchase.product.code, purchase.customer_identifier))
        if former is None or former.failed_reason:
            return
        if former.ended_at is None:
            raise AdminError(
                409,
                f"account {purchase.account_id} is already subscribed to {purchase.product.code}",
                "a legacy product has one subscription per account; cancel it first",
            )
        self._registry.resubscribed.add(purchase.id)
        if former.deprovisioned_at is None:
            cancel_tasks(former)
            former.deprovisioned_at = now
            former.entitlements = {}

    def _customer_identifier(self, product: Product, account_id: str) -> str:
        if product.integration != "legacy":
            return ""
        known = self._registry.customer_identifiers
        if (product.code, account_id) not in known:
            known[product.code, account_id] = self._ids.customer()
        return known[product.code, account_id]


def cancel_tasks(purchase: Purchase) -> None:
    """Cancel everything that is planned for a purchase."""
    for task in (purchase.license_task, purchase.approval_task, *purchase.ending_tasks):
        if task is not None:
            task.cancel()
    purchase.license_task = purchase.approval_task = None
    purchase.ending_tasks = []


_DEFAULTS: dict[str, Value] = {"integer": 1, "double": 1.0, "boolean": True, "string": "standard"}
_KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "string": (str,),
}


def checked_entitlements(product: Product, entitlements: Entitlements | None, *, partial: bool = False) -> Entitlements:
    """Return the entitlements of a product, after checking names and types; None stands for one of each dimension.

    With `partial`, None stands for no change. Raises AdminError (400).
    """
    known = {item.key: item for item in product.entitlement_dimensions()}
    if entitlements is None:
        return {} if partial else {key: _DEFAULTS[item.value_type] for key, item in known.items()}
    for key, value in entitlements.items():
        if key not in known:
            raise AdminError(
                400,
                f"{product.code} has no entitlement dimension {key!r}",
                f"it has: {', '.join(known) or 'none (a pay-as-you-go product)'}",
            )
        kind = known[key].value_type
        if not isinstance(value, _KINDS[kind]) or (kind != "boolean" and isinstance(value, bool)):
            raise AdminError(400, f"{value!r} does not fit {key!r}", f"its values are of type {kind}")
    return dict(entitlements)
