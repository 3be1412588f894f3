"""The buyer's side: purchases, their agreements and licences, and what happens to them over time.

Each step changes the state and announces it in the order seen in real events: agreement first, licence after.
Sources: Seller Guide "saas-eventbridge-integration", "saas-notification", "saas-free-trials"; the agreement
model; events captured on 2026-08-20 (Created, License Updated 61 s later; Ended, Deprovisioned 31 s later).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from marketplace_emulator.agenda import Agenda, Task
from marketplace_emulator.catalog import Product
from marketplace_emulator.clock import DAY, iso_millis
from marketplace_emulator.errors import AdminError
from marketplace_emulator.events import Announcer
from marketplace_emulator.ids import Ids, license_id
from marketplace_emulator.settings import Settings

type Value = int | float | bool | str
type Entitlements = dict[str, Value]
State = Literal["scheduled", "pending", "active", "closing", "ended", "failed"]

YEAR = 365 * DAY
CANCELLATION_APPROVAL = 7 * DAY


@dataclass(slots=True)
class Agreement:
    """One agreement; a renewal or replacement makes a new one for the same purchase."""

    id: str
    purchase_id: str
    product_id: str
    account_id: str
    proposer_id: str
    offer_id: str
    intent: str
    status: str
    accepted_at: float
    starts_at: float
    ends_at: float | None
    updated_at: float
    license_arn: str
    initial_id: str
    previous_id: str | None = None
    auto_renew: bool = False
    free_trial_until: float | None = None
    resale_authorization: str | None = None
    entitlements: Entitlements = field(default_factory=dict)


@dataclass(slots=True)
class Purchase:
    """One thing a buyer bought: a licence (or legacy subscription) and the chain of agreements behind it."""

    id: str
    product: Product
    account_id: str
    license_arn: str
    customer_identifier: str
    agreements: list[Agreement]
    entitlements: Entitlements
    provisioned_at: float | None = None
    provisioned_agreement_id: str = ""
    ended_at: float | None = None
    deprovisioned_at: float | None = None
    failed_reason: str = ""
    registered_at: float | None = None
    free_trial_until: float | None = None
    cancellation_request: str = ""
    license_task: Task | None = None
    ending_tasks: list[Task] = field(default_factory=list)
    approval_task: Task | None = None

    @property
    def license_id(self) -> str:
        """The trailing `l-…` of the licence ARN."""
        return license_id(self.license_arn) or self.license_arn

    @property
    def product_code(self) -> str:
        """The code of the product bought."""
        return self.product.code

    @property
    def is_legacy(self) -> bool:
        """Whether the buyer is identified by CustomerIdentifier."""
        return self.product.integration == "legacy"

    @property
    def agreement(self) -> Agreement:
        """The agreement in force, or the last one."""
        return self.agreements[-1]

    @property
    def agreement_id(self) -> str:
        """The id of the agreement in force."""
        return self.agreements[-1].id

    @property
    def auto_renew(self) -> bool:
        """Whether the agreement in force renews itself at its end."""
        return self.agreements[-1].auto_renew


class Registry:
    """All purchases, found by id, licence, legacy customer and agreement without scanning."""

    def __init__(
        self,
        *,
        settings: Settings,
        ids: Ids,
        agenda: Agenda,
        announcer: Announcer,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._ids = ids
        self._agenda = agenda
        self._announce = announcer
        self._now = now
        self.products: dict[str, Product] = {}
        self.purchases: dict[str, Purchase] = {}
        self.by_license: dict[str, Purchase] = {}
        self.by_customer: dict[tuple[str, str], Purchase] = {}
        self.by_account: dict[tuple[str, str], Purchase] = {}
        self.by_product: dict[str, list[Purchase]] = {}
        self.agreements: dict[str, Agreement] = {}
        self.customer_identifiers: dict[tuple[str, str], str] = {}
        self.known_customers: set[str] = set()
        self.suspended: set[str] = set()
        self._resubscribed: set[str] = set()

    # -- looking up ---------------------------------------------------------------------------------------

    def get(self, purchase_id: str) -> Purchase:
        """A purchase by its id, licence ARN or licence id, or agreement id."""
        found = self.purchases.get(purchase_id)
        if found is None:
            found = self.by_license.get(license_id(purchase_id) or purchase_id)
        if found is None and purchase_id in self.agreements:
            found = self.purchases[self.agreements[purchase_id].purchase_id]
        if found is None:
            raise AdminError(404, f"there is no purchase {purchase_id!r}", "GET /admin/purchases lists them")
        return found

    def product(self, code: str) -> Product:
        """A product by its code."""
        if code not in self.products:
            raise AdminError(404, f"there is no product {code!r}", f"the products are: {', '.join(self.products)}")
        return self.products[code]

    def state(self, purchase: Purchase, now: float) -> State:
        """Where the purchase stands at `now`."""
        if purchase.failed_reason:
            return "failed"
        if purchase.ended_at is not None:
            return "closing" if now < self.metering_closes_at(purchase) else "ended"
        if purchase.provisioned_at is not None:
            return "active"
        return "scheduled" if purchase.agreement.starts_at > now else "pending"

    def had_earlier_purchase(self, purchase: Purchase) -> bool:
        """Whether a legacy buyer was subscribed before, so that older usage may still be due."""
        return purchase.id in self._resubscribed

    def metering_closes_at(self, purchase: Purchase) -> float:
        """From when on usage is no longer taken (infinite while the purchase runs).

        Seller Guide "saas-eventbridge-integration": the final records are due within one hour. Its editions
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

    # -- buying -------------------------------------------------------------------------------------------

    def subscribe(
        self,
        product_code: str,
        account_id: str,
        *,
        entitlements: Entitlements | None = None,
        free_trial_days: int | None = None,
        auto_renew: bool = False,
        start: float | None = None,
        end: float | None = None,
        reseller: bool = False,
    ) -> Purchase:
        """Accept an offer. The licence follows `license_delay_seconds` later, at the start date if dated ahead.

        A legacy account holds one subscription per product; subscribing again before unsubscribe-success
        cancels that message (Seller Guide "saas-notification").
        """
        return self._open(
            self.product(product_code),
            account_id,
            entitlements=entitlements,
            free_trial_days=free_trial_days,
            auto_renew=auto_renew,
            start=start,
            end=end,
            reseller=reseller,
        )

    def _open(
        self,
        product: Product,
        account_id: str,
        *,
        entitlements: Entitlements | None,
        free_trial_days: int | None = None,
        auto_renew: bool = False,
        start: float | None = None,
        end: float | None = None,
        reseller: bool = False,
        replaces: Agreement | None = None,
    ) -> Purchase:
        if len(account_id) != 12 or not (account_id.isascii() and account_id.isdigit()):
            raise AdminError(400, f"{account_id!r} is not an AWS account", "an account has 12 digits")
        now = self._now()
        bought = self._checked_entitlements(product, entitlements)
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

        purchase_id = f"purchase-{len(self.purchases) + 1}"
        license_arn = self._ids.license_arn()
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
        self.purchases[purchase_id] = purchase
        self.by_license[purchase.license_id] = purchase
        self.by_product.setdefault(product.code, []).append(purchase)
        self.by_account[product.code, account_id] = purchase
        if purchase.is_legacy:
            self.by_customer[product.code, purchase.customer_identifier] = purchase
        self._announce.agreement_created(purchase, agreement, now)
        self._provision_later(purchase, bought, starts_at)
        self._watch_end(purchase)
        return purchase

    def provision(self, purchase: Purchase) -> None:
        """Issue the licence now instead of waiting for `license_delay_seconds`."""
        task = purchase.license_task
        if task is None or task.cancelled:
            raise AdminError(409, f"{purchase.id} waits for no licence", "subscribe, upgrade or renew first")
        task.cancel()
        task.action(self._now())

    def amend(
        self,
        purchase: Purchase,
        *,
        entitlements: Entitlements | None = None,
        auto_renew: bool | None = None,
        end: float | None = None,
    ) -> Agreement:
        """Change the agreement in force: an upgrade, auto-renewal on or off, another end."""
        self._must_run(purchase)
        now = self._now()
        agreement = purchase.agreement
        if entitlements is not None:
            merged = {**agreement.entitlements, **self._checked_entitlements(purchase.product, entitlements, True)}
            agreement.entitlements = merged
        if auto_renew is not None:
            agreement.auto_renew = auto_renew
        if end is not None:
            if end <= now:
                raise AdminError(400, "the new end lies in the past", "give a later end, or cancel")
            agreement.ends_at = end
        agreement.intent = "AMEND"
        agreement.updated_at = now
        self._announce.agreement_amended(purchase, agreement, now)
        if entitlements is not None or end is not None:
            self._provision_later(purchase, agreement.entitlements, max(now, agreement.starts_at))
        self._watch_end(purchase)
        return agreement

    def renew(
        self, purchase: Purchase, *, entitlements: Entitlements | None = None, end: float | None = None
    ) -> Agreement:
        """A new agreement for the same licence; the old one ends as RENEWED, the licence lives on."""
        self._must_run(purchase)
        return self._succeed(purchase, "RENEW", self._now(), entitlements=entitlements, end=end)

    def replace(
        self,
        purchase: Purchase,
        *,
        entitlements: Entitlements | None = None,
        end: float | None = None,
        new_license: bool = False,
    ) -> Purchase:
        """An agreement from another offer takes over; with `new_license` a new purchase takes its place."""
        self._must_run(purchase)
        if not new_license:
            purchase.free_trial_until = None
            self._succeed(purchase, "REPLACE", self._now(), entitlements=entitlements, end=end)
            return purchase
        if purchase.is_legacy:
            raise AdminError(409, "a legacy subscription keeps its customer identifier", "replace without new_license")
        old = purchase.agreement
        successor = self._open(
            purchase.product,
            purchase.account_id,
            entitlements={**old.entitlements, **(entitlements or {})},
            auto_renew=old.auto_renew,
            end=end,
            replaces=old,
        )
        self._end(purchase, "REPLACED", self._now())
        return successor

    # -- ending -------------------------------------------------------------------------------------------

    def cancel(self, purchase: Purchase) -> None:
        """The buyer cancels: Ended with CANCELLED, the licence goes `deprovision_delay_seconds` later."""
        self._must_run(purchase)
        self._end(purchase, "CANCELLED", self._now())

    def expire(self, purchase: Purchase) -> None:
        """The agreement reaches its end without renewal."""
        self._must_run(purchase)
        self._end(purchase, "EXPIRED", self._now())

    def terminate(self, purchase: Purchase) -> None:
        """AWS ends the agreement, for example after a failed payment."""
        self._must_run(purchase)
        self._end(purchase, "TERMINATED", self._now())

    def fail(self, purchase: Purchase, reason: str = "INVALID_PAYMENT_INSTRUMENT") -> None:
        """The subscription fails before the licence is issued: subscribe-fail, or a FAILED entitlement."""
        if purchase.provisioned_at is not None or purchase.ended_at is not None:
            raise AdminError(409, f"{purchase.id} was already provisioned", "terminate it instead")
        self._drop_tasks(purchase)
        purchase.failed_reason = reason
        purchase.agreement.updated_at = self._now()
        self._announce.subscription_failed(purchase, self._now())

    def suspend(self, account_id: str) -> None:
        """Suspend the buyer's AWS account: its usage is answered CustomerNotSubscribed."""
        self.suspended.add(account_id)

    def unsuspend(self, account_id: str) -> None:
        """Lift the suspension."""
        self.suspended.discard(account_id)

    # -- requests to cancel -------------------------------------------------------------------------------

    def request_cancellation(self, purchase: Purchase) -> None:
        """The seller asks the buyer to agree to a cancellation; approved by itself after seven days."""
        self._must_run(purchase)
        if purchase.cancellation_request:
            raise AdminError(409, "a cancellation request is already pending", "approve, reject or withdraw it")
        now = self._now()
        purchase.cancellation_request = f"acr-{self._ids.uuid()[:13]}"
        self._announce.cancellation_request(purchase, "Pending Approval", now)
        purchase.approval_task = self._agenda.at(
            now + CANCELLATION_APPROVAL, lambda moment: self._approve_cancellation(purchase, moment)
        )

    def answer_cancellation(self, purchase: Purchase, outcome: str) -> None:
        """`Approved`, `Rejected`, `Cancelled` (withdrawn) or `Validation Failed`."""
        if not purchase.cancellation_request:
            raise AdminError(409, "no cancellation request is pending", "request_cancellation first")
        if purchase.approval_task:
            purchase.approval_task.cancel()
        now = self._now()
        if outcome == "Approved":
            self._approve_cancellation(purchase, now)
            return
        self._announce.cancellation_request(purchase, outcome, now)
        purchase.cancellation_request = ""

    def _approve_cancellation(self, purchase: Purchase, now: float) -> None:
        if not purchase.cancellation_request or purchase.ended_at is not None:
            return
        self._announce.cancellation_request(purchase, "Approved", now)
        purchase.cancellation_request = ""
        self._end(purchase, "CANCELLED", now)

    # -- inner steps --------------------------------------------------------------------------------------

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
            resale, proposer = self._ids.resale_authorization(), "999988887777"
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
        self.agreements[agreement_id] = agreement
        return agreement

    def _succeed(
        self,
        purchase: Purchase,
        intent: str,
        now: float,
        *,
        entitlements: Entitlements | None = None,
        end: float | None = None,
    ) -> Agreement:
        old = purchase.agreement
        bought = dict(old.entitlements)
        if entitlements is not None:
            bought.update(self._checked_entitlements(purchase.product, entitlements, partial=True))
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
        if intent != "RENEW" or self._settings.renewal_events == "created_and_license":
            self._announce.agreement_created(purchase, agreement, now)
            self._announce.agreement_ended(purchase, old, now)
        self._provision_later(purchase, bought, now)
        self._watch_end(purchase)
        return agreement

    def _provision_later(self, purchase: Purchase, entitlements: Entitlements, starts_at: float) -> None:
        if purchase.license_task:
            purchase.license_task.cancel()
        bought = dict(entitlements)
        purchase.license_task = self._agenda.at(
            starts_at + self._settings.license_delay_seconds,
            lambda moment: self._provision(purchase, bought, moment),
        )

    def _provision(self, purchase: Purchase, entitlements: Entitlements, now: float) -> None:
        purchase.license_task = None
        first = purchase.provisioned_at is None
        if first:
            purchase.provisioned_at = float(int(now))
        purchase.provisioned_agreement_id = purchase.agreement_id
        delay = self._settings.entitlement_delay_seconds
        if delay:
            self._agenda.at(now + delay, lambda _: self._show_entitlements(purchase, entitlements))
        else:
            purchase.entitlements.update(entitlements)
        self._announce.license_updated(purchase, now, first=first)

    @staticmethod
    def _show_entitlements(purchase: Purchase, entitlements: Entitlements) -> None:
        if purchase.deprovisioned_at is None:
            purchase.entitlements.update(entitlements)

    def _watch_end(self, purchase: Purchase) -> None:
        for task in purchase.ending_tasks:
            task.cancel()
        agreement = purchase.agreement
        purchase.ending_tasks = []
        if agreement.ends_at is not None:
            purchase.ending_tasks.append(
                self._agenda.at(agreement.ends_at, lambda moment: self._reach_end(purchase, moment))
            )

    def _reach_end(self, purchase: Purchase, now: float) -> None:
        if purchase.ended_at is not None or purchase.failed_reason:
            return
        if purchase.agreement.auto_renew:
            self._succeed(purchase, "RENEW", now)
        else:
            self._end(purchase, "EXPIRED", now)

    def _end(self, purchase: Purchase, status: str, now: float) -> None:
        self._drop_tasks(purchase)
        agreement = purchase.agreement
        agreement.status, agreement.updated_at = status, now
        purchase.ended_at = now
        self._announce.agreement_ended(purchase, agreement, now, final=True)
        delay = self._settings.closing_window_seconds if purchase.is_legacy else None
        if delay is None:
            delay = self._settings.deprovision_delay_seconds
        purchase.ending_tasks = [self._agenda.at(now + delay, lambda moment: self._deprovision(purchase, moment))]

    def _deprovision(self, purchase: Purchase, now: float) -> None:
        purchase.deprovisioned_at = now
        purchase.entitlements = {}
        self._announce.license_deprovisioned(purchase, now)

    def _take_over(self, purchase: Purchase, now: float) -> None:
        former = self.by_customer.get((purchase.product.code, purchase.customer_identifier))
        if former is None or former.failed_reason:
            return
        if former.ended_at is None:
            raise AdminError(
                409,
                f"account {purchase.account_id} is already subscribed to {purchase.product.code}",
                "a legacy product has one subscription per account; cancel it first",
            )
        self._resubscribed.add(purchase.id)
        if former.deprovisioned_at is None:
            self._drop_tasks(former)
            former.deprovisioned_at = now
            former.entitlements = {}

    def _customer_identifier(self, product: Product, account_id: str) -> str:
        if product.integration != "legacy":
            return ""
        key = (product.code, account_id)
        if key not in self.customer_identifiers:
            self.customer_identifiers[key] = self._ids.customer()
            self.known_customers.add(self.customer_identifiers[key])
        return self.customer_identifiers[key]

    def _must_run(self, purchase: Purchase) -> None:
        if purchase.failed_reason or purchase.ended_at is not None:
            raise AdminError(
                409, f"{purchase.id} is {self.state(purchase, self._now())}", "subscribe again for a new purchase"
            )

    @staticmethod
    def _drop_tasks(purchase: Purchase) -> None:
        for task in (purchase.license_task, purchase.approval_task, *purchase.ending_tasks):
            if task is not None:
                task.cancel()
        purchase.license_task = purchase.approval_task = None
        purchase.ending_tasks = []

    @staticmethod
    def _checked_entitlements(
        product: Product, entitlements: Entitlements | None, partial: bool = False
    ) -> Entitlements:
        known = {item.key: item for item in product.entitlement_dimensions()}
        if entitlements is None:
            defaults: dict[str, Value] = {"integer": 1, "double": 1.0, "boolean": True, "string": "standard"}
            return {} if partial else {key: defaults[item.value_type] for key, item in known.items()}
        kinds: dict[str, tuple[type, ...]] = {
            "integer": (int,),
            "double": (int, float),
            "boolean": (bool,),
            "string": (str,),
        }
        for key, value in entitlements.items():
            if key not in known:
                raise AdminError(
                    400,
                    f"{product.code} has no entitlement dimension {key!r}",
                    f"it has: {', '.join(known) or 'none (a pay-as-you-go product)'}",
                )
            kind = known[key].value_type
            if not isinstance(value, kinds[kind]) or (kind != "boolean" and isinstance(value, bool)):
                raise AdminError(400, f"{value!r} does not fit {key!r}", f"its values are of type {kind}")
        return dict(entitlements)


def purchase_dict(registry: Registry, purchase: Purchase, now: float) -> dict[str, Any]:
    """A purchase as the admin API shows it."""
    closes_at = registry.metering_closes_at(purchase)
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
        "state": registry.state(purchase, now),
        "suspended": purchase.account_id in registry.suspended,
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


def in_free_trial(purchase: Purchase, moment: float) -> bool:
    """Whether usage at `moment` falls in the free trial; AWS prices it at zero."""
    return purchase.free_trial_until is not None and moment < purchase.free_trial_until


def unit_price(purchase: Purchase, dimension: str, moment: float) -> Decimal:
    """What one unit costs the buyer at `moment`."""
    if in_free_trial(purchase, moment):
        return Decimal(0)
    return purchase.product.dimensions[dimension].price


def _moment(timestamp: float | None) -> str | None:
    return iso_millis(timestamp) if timestamp is not None else None
