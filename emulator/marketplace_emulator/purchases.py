"""What happens to purchases: subscribe, provision, change, renew, replace, cancel, fail, suspend.

Each step changes the purchase and announces it in the order of real events: the agreement first, then the licence.
Sources: Seller Guide "saas-eventbridge-integration", "saas-notification", "saas-free-trials"; the agreement
model; events captured on 2026-08-20 (License Updated 61 s after Created; Deprovisioned 31 s after Ended).
"""

from functools import partial

from marketplace_emulator.agenda import Agenda
from marketplace_emulator.clock import DAY, Moment, to_timestamp
from marketplace_emulator.errors import AdminError
from marketplace_emulator.events import Announcer
from marketplace_emulator.ids import Ids
from marketplace_emulator.lifecycle import Lifecycle, cancel_tasks, checked_entitlements
from marketplace_emulator.model import Agreement, Entitlements, Purchase
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

CANCELLATION_APPROVAL = 7 * DAY


class Purchases:
    """The actions of buyers, of AWS and of the seller on purchases.

    A purchase is named by its id, licence ARN, licence id or agreement id. Every action first runs what is due by the
    clock. Actions that do not fit the state of a purchase raise AdminError (409).
    """

    def __init__(
        self, *, settings: Settings, ids: Ids, agenda: Agenda, announcer: Announcer, registry: Registry
    ) -> None:
        self._ids = ids
        self._agenda = agenda
        self._announce = announcer
        self._registry = registry
        self._life = Lifecycle(settings=settings, ids=ids, agenda=agenda, announcer=announcer, registry=registry)

    def get(self, purchase_id: str) -> Purchase:
        """Return a purchase."""
        with self._agenda.acting():
            return self._registry.get(purchase_id)

    def all(self) -> list[Purchase]:
        """Return all purchases, oldest first."""
        with self._agenda.acting():
            return list(self._registry.purchases.values())

    def state(self, purchase_id: str) -> str:
        """Return `scheduled`, `pending`, `active`, `closing`, `ended` or `failed`."""
        with self._agenda.acting() as now:
            return self._registry.state(self._registry.get(purchase_id), now)

    # -- buying -------------------------------------------------------------------------------------------

    def subscribe(
        self,
        product_code: str | None = None,
        account_id: str = "111122223333",
        *,
        entitlements: Entitlements | None = None,
        free_trial_days: int | None = None,
        auto_renew: bool = False,
        start: Moment | None = None,
        end: Moment | None = None,
        reseller: bool = False,
        provision: bool = False,
        license_arn: str | None = None,
    ) -> Purchase:
        """Buy a product, by default the first one.

        The licence is issued `license_delay_seconds` (61) after the purchase or its start date, or now with
        `provision`. Until then usage is answered CustomerNotSubscribed. A legacy account holds one subscription per
        product; subscribing again before unsubscribe-success cancels that message (Seller Guide "saas-notification").
        `license_arn` is the licence's ARN, for who needs a certain one.
        """
        with self._agenda.acting() as now:
            purchase = self._life.open(
                self._registry.product(product_code or next(iter(self._registry.products))),
                account_id,
                now,
                entitlements=entitlements,
                free_trial_days=free_trial_days,
                auto_renew=auto_renew,
                start=to_timestamp(start),
                end=to_timestamp(end),
                reseller=reseller,
                license_arn=license_arn,
            )
            if provision:
                self._life.provision_now(purchase, now)
            self._agenda.settle()
            return purchase

    def provision(self, purchase_id: str) -> None:
        """Issue the licence now instead of after `license_delay_seconds`."""
        with self._agenda.acting() as now:
            self._life.provision_now(self._registry.get(purchase_id), now)

    def amend(
        self,
        purchase_id: str,
        *,
        entitlements: Entitlements | None = None,
        auto_renew: bool | None = None,
        end: Moment | None = None,
    ) -> Agreement:
        """Change the agreement in force: an upgrade, renewal on or off, another end. Amended, then License Updated."""
        with self._agenda.acting() as now:
            purchase = self._running(purchase_id, now)
            agreement = purchase.agreement
            ends_at = to_timestamp(end)
            if entitlements is not None:
                changes = checked_entitlements(purchase.product, entitlements, partial=True)
                agreement.entitlements = {**agreement.entitlements, **changes}
            if auto_renew is not None:
                agreement.auto_renew = auto_renew
            if ends_at is not None:
                if ends_at <= now:
                    raise AdminError(400, "the new end lies in the past", "give a later end, or cancel")
                agreement.ends_at = ends_at
                purchase.note_grant(now)
            agreement.intent = "AMEND"
            agreement.updated_at = now
            self._announce.agreement_amended(purchase, agreement, now)
            if entitlements is not None or ends_at is not None:
                self._life.provision_later(purchase, agreement.entitlements, max(now, agreement.starts_at))
            self._life.watch_end(purchase)
            return agreement

    def renew(
        self, purchase_id: str, *, entitlements: Entitlements | None = None, end: Moment | None = None
    ) -> Agreement:
        """Make a new agreement for the same licence: Created with intent RENEW, Ended with RENEWED, License Updated."""
        with self._agenda.acting() as now:
            purchase = self._running(purchase_id, now)
            return self._life.succeed(purchase, "RENEW", now, entitlements=entitlements, end=to_timestamp(end))

    def replace(
        self,
        purchase_id: str,
        *,
        entitlements: Entitlements | None = None,
        end: Moment | None = None,
        new_license: bool = False,
    ) -> Purchase:
        """Replace the agreement by one from another offer; with `new_license`, by a new purchase, which is returned."""
        with self._agenda.acting() as now:
            purchase = self._running(purchase_id, now)
            ends_at = to_timestamp(end)
            if not new_license:
                purchase.free_trial_until = None
                self._life.succeed(purchase, "REPLACE", now, entitlements=entitlements, end=ends_at)
                return purchase
            if purchase.is_legacy:
                hint = "replace without new_license"
                raise AdminError(409, "a legacy subscription keeps its customer identifier", hint)
            old = purchase.agreement
            successor = self._life.open(
                purchase.product,
                purchase.account_id,
                now,
                entitlements={**old.entitlements, **(entitlements or {})},
                auto_renew=old.auto_renew,
                end=ends_at,
                replaces=old,
            )
            self._life.end(purchase, "REPLACED", now)
            return successor

    # -- ending -------------------------------------------------------------------------------------------

    def cancel(self, purchase_id: str) -> None:
        """The buyer cancels: Ended now, License Deprovisioned `deprovision_delay_seconds` (31) later."""
        with self._agenda.acting() as now:
            self._life.end(self._running(purchase_id, now), "CANCELLED", now)

    def expire(self, purchase_id: str) -> None:
        """The agreement ends without renewal."""
        with self._agenda.acting() as now:
            self._life.end(self._running(purchase_id, now), "EXPIRED", now)

    def terminate(self, purchase_id: str) -> None:
        """AWS ends the agreement, for example after a failed payment."""
        with self._agenda.acting() as now:
            self._life.end(self._running(purchase_id, now), "TERMINATED", now)

    def fail(self, purchase_id: str, reason: str = "INVALID_PAYMENT_INSTRUMENT") -> None:
        """The subscription fails before its licence is issued: subscribe-fail, or a FAILED entitlement."""
        with self._agenda.acting() as now:
            purchase = self._registry.get(purchase_id)
            if purchase.provisioned_at is not None or purchase.ended_at is not None:
                raise AdminError(409, f"{purchase.id} was already provisioned", "terminate it instead")
            cancel_tasks(purchase)
            purchase.failed_reason = reason
            purchase.agreement.updated_at = now
            self._announce.subscription_failed(purchase, now)

    def suspend(self, account_id: str) -> None:
        """Suspend the buyer's AWS account: its usage is answered CustomerNotSubscribed."""
        with self._agenda.acting():
            self._registry.suspended.add(account_id)

    def unsuspend(self, account_id: str) -> None:
        """Lift the suspension."""
        with self._agenda.acting():
            self._registry.suspended.discard(account_id)

    # -- requests to cancel -------------------------------------------------------------------------------

    def request_cancellation(self, purchase_id: str) -> None:
        """The seller asks the buyer to agree to a cancellation. It is approved by itself after seven days."""
        with self._agenda.acting() as now:
            purchase = self._running(purchase_id, now)
            if purchase.cancellation_request:
                raise AdminError(409, "a cancellation request is already pending", "approve, reject or withdraw it")
            purchase.cancellation_request = f"acr-{self._ids.uuid()[:13]}"
            self._announce.cancellation_request(purchase, "Pending Approval", now)
            purchase.approval_task = self._agenda.at(
                now + CANCELLATION_APPROVAL, partial(self._life.approve_cancellation, purchase)
            )

    def answer_cancellation(self, purchase_id: str, outcome: str = "Approved") -> None:
        """Answer the request with `Approved`, `Rejected`, `Cancelled` (withdrawn) or `Validation Failed`."""
        with self._agenda.acting() as now:
            purchase = self._registry.get(purchase_id)
            if not purchase.cancellation_request:
                raise AdminError(409, "no cancellation request is pending", "request_cancellation first")
            if purchase.approval_task:
                purchase.approval_task.cancel()
            if outcome == "Approved":
                self._life.approve_cancellation(purchase, now)
                return
            self._announce.cancellation_request(purchase, outcome, now)
            purchase.cancellation_request = ""

    def advisory(self, purchase_id: str, outcome: str = "Issued", reason: str = "ACCOUNT_COMPROMISED") -> None:
        """Announce an advisory about the buyer, `Issued` or `Resolved`."""
        with self._agenda.acting() as now:
            self._announce.advisory(self._registry.get(purchase_id), outcome, reason, now)

    def _running(self, purchase_id: str, now: float) -> Purchase:
        purchase = self._registry.get(purchase_id)
        if purchase.failed_reason or purchase.ended_at is not None:
            state = self._registry.state(purchase, now)
            raise AdminError(409, f"{purchase.id} is {state}", "subscribe again for a new purchase")
        return purchase
