"""Compares subscriptions with the agreement API, and applies a difference as if a notification had reported it.

EventBridge doesn't deliver again what was sent before a deployment or lost on the way. A difference becomes a finding
with the time at which it was found. It is a fact in the history like any other, and a notification about a later event
overrides it. Agreements that changed within the last minutes are left to the notifications that are on their way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.lifecycle.agreement_api import Agreement, Agreements, Provisioning
from marketplace.lifecycle.facts import ENDING_STATUSES
from marketplace.lifecycle.lifecycle import Lifecycle
from marketplace.lifecycle.notifications import FindingKind, LookAgain, Notification, ReadBack, Reconcile, finding
from marketplace.lifecycle.outcomes import ReconcileOutcome
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import RefusedError, SystemicError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.free_trial import free_trial_values
from marketplace.subscriptions.identity import normalised_license_arn
from marketplace.subscriptions.model import Status, Subscription
from marketplace.subscriptions.recheck_queue import LifecycleRequests

SETTLING_TIME = 15 * 60
"""Seconds for which a change is left to its own notifications."""
_OPEN: tuple[Status, ...] = ("active", "closing", "pending")
_PAGE = 25
_SECONDS_PER_PAGE = 5
"""GetEntitlements allows 20 calls a second for an account; this run makes about 5."""
_PAYMENT_REASONS = frozenset({"INVALID_PAYMENT_INSTRUMENT", "INCOMPATIBLE_CURRENCY"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be applied, and the agreement that it was found at."""

    kind: FindingKind
    agreement: Agreement


def latest(agreements: Sequence[Agreement], now: int) -> Agreement | None:
    """The agreement that a licence stands on: the running one that began last, or else the one that began last."""
    begun = [agreement for agreement in agreements if agreement.starts_at <= now]
    return max(begun, key=lambda one: (one.status == "ACTIVE", one.starts_at, one.updated_at, one.id), default=None)


def needs_provisioning(subscription: Subscription, agreement: Agreement | None, now: int) -> bool:
    """Whether the status of the agreement leaves open if the licence is provisioned."""
    if agreement is None or agreement.status in ENDING_STATUSES:
        return False
    return (agreement.status == "ACTIVE") != (subscription.status_at(now) == "active")


def found_out(
    subscription: Subscription, agreement: Agreement | None, provisioning: Provisioning | None, now: int
) -> Finding | None:
    """The difference between what AWS says about the licence's agreement and the subscription; None when they agree.

    A suspended account is no end: AWS refuses its usage until the suspension is lifted, and the agreement goes on.
    """
    last_change = max(agreement.updated_at if agreement else now, subscription.last_event_at or 0)
    if agreement is None or last_change > now - SETTLING_TIME:
        return None
    status = subscription.status_at(now)
    gone = provisioning is not None and provisioning.status == "DEPROVISIONED" and agreement.status != "ACTIVE"
    if agreement.status in ENDING_STATUSES or gone:
        return Finding("license_deprovisioned", agreement) if status in {"pending", "active"} else None
    if agreement.status != "ACTIVE" or provisioning is None or status == "active":
        return None
    if provisioning.status == "PROVISIONED":
        return Finding("license_updated", agreement)
    if provisioning.status == "FAILED" and provisioning.reason in _PAYMENT_REASONS and status == "pending":
        return Finding("subscribe_fail", agreement)
    return None


class Reconciliation:
    """The use case, run daily and on request."""

    def __init__(
        self,
        *,
        store: SubscriptionStore,
        agreements: Agreements,
        lifecycle: Lifecycle,
        queue: LifecycleRequests,
        clock: Clock,
    ) -> None:
        self._store = store
        self._agreements = agreements
        self._lifecycle = lifecycle
        self._queue = queue
        self._clock = clock

    def reconcile(self, request: Reconcile) -> ReconcileOutcome:
        """Compares one subscription, or hands out the next part of a run over all. Raises AwsError: it has to be
        requested again."""
        if request.subscription_id is None:
            self._hand_out(request)
            return "page"
        stored = self._store.read(request.subscription_id)
        if stored is None:
            return "unknown_subscription"
        try:
            outcome = self._compare(stored)
        except SystemicError:
            outcome = "reconciliation_denied"
        except RefusedError:
            outcome = "reconciliation_refused"
        self._lifecycle.look_again(LookAgain(subscription_id=request.subscription_id, reason=recheck.COMPARED))
        if self._lifecycle.read_back(ReadBack(subscription_id=request.subscription_id)) == "activated":
            outcome = "corrected"
        return "account_unknown" if self._is_unbillable(request.subscription_id) else outcome

    def _compare(self, stored: Stored) -> ReconcileOutcome:
        subscription, now = stored.subscription, epoch(self._clock())
        if subscription.license_arn is None:
            # A legacy customer has no agreement that could be asked for.
            return "unconfirmed" if subscription.status == "pending" else "agrees"
        agreements = self._agreements.of_license(subscription.license_arn)
        agreement = latest(agreements, now)
        provisioning = None
        if agreement is not None and needs_provisioning(subscription, agreement, now):
            provisioning = self._provisioning(agreement, subscription.license_arn)
        found = found_out(subscription, agreement, provisioning, now)
        if found is not None:
            self._lifecycle.receive(self._notification(subscription, found, now))
        if agreement is not None:
            self._note_account(subscription.id, agreement)
            self._note_free_trial(subscription.id, agreement, now)
        return "agrees" if found is None else "corrected"

    def _provisioning(self, agreement: Agreement, license_arn: str) -> Provisioning | None:
        """The entry of this licence, or the agreement's only entry when that names no licence yet."""
        entries = self._agreements.provisioning(agreement.id)
        wanted = normalised_license_arn(license_arn)
        for entry in entries:
            if entry.license_arn is not None and normalised_license_arn(entry.license_arn) == wanted:
                return entry
        return entries[0] if len(entries) == 1 and entries[0].license_arn is None else None

    def _notification(self, subscription: Subscription, found: Finding, now: int) -> Notification:
        return finding(
            found.kind,
            f"reconciled-{found.kind}-{found.agreement.id}-{found.agreement.updated_at}",
            now,
            subscription,
            agreement_id=found.agreement.id,
        )

    def _is_unbillable(self, subscription_id: str) -> bool:
        """Whether it takes usage by its state and can't, because its buyer's account is not known."""
        stored = self._store.read(subscription_id)
        if stored is None or not stored.subscription.lacks_account:
            return False
        return stored.subscription.status_at(epoch(self._clock())) in {"active", "closing"}

    def _note_account(self, subscription_id: str, agreement: Agreement) -> None:
        """Writes the buyer's account where no registration and no notification has named it."""
        stored = self._store.read(subscription_id)
        if stored is not None and stored.subscription.lacks_account and agreement.account_id is not None:
            # Another writer in between is no loss: the next reconciliation writes it.
            self._store.write(subscription_id, read=stored, changes={}, defaults={"account_id": agreement.account_id})

    def _note_free_trial(self, subscription_id: str, agreement: Agreement, now: int) -> None:
        """Writes whether the agreement is a free trial. Its terms are read once, unless the registration has asked."""
        stored = self._store.read(subscription_id)
        if stored is None:
            return
        known = stored.values.get("free_trial_agreement_id") == agreement.id
        has_trial: bool = stored.values["has_free_trial"] if known else self._agreements.has_free_trial(agreement.id)
        own = {agreement.id, *stored.subscription.agreement_ids}
        changes: dict[str, Any] = {
            **free_trial_values(agreement.id, has_trial=has_trial, ends_at=agreement.free_trial_ends_at, now=now),
            # Only an agreement of another licence: a tenant to propose is looked for there.
            "initial_agreement_id": None if agreement.initial_id in own else agreement.initial_id,
        }
        if any(stored.values.get(name) != value for name, value in changes.items()):
            # Another writer in between is no loss: the next reconciliation writes it.
            self._store.write(subscription_id, read=stored, changes=changes, defaults={})

    def _hand_out(self, request: Reconcile) -> None:
        """Requests the comparison of each subscription of a page, and the next page."""
        status: Status = next((one for one in _OPEN if one == request.status), _OPEN[0])
        ids = self._store.with_status(status, after=request.after, limit=_PAGE)
        for index, subscription_id in enumerate(ids):
            self._queue.reconcile(subscription_id, delay_seconds=index * _SECONDS_PER_PAGE // _PAGE)
        if len(ids) == _PAGE:
            self._queue.reconcile_all(status, after=ids[-1], delay_seconds=_SECONDS_PER_PAGE)
        elif status != _OPEN[-1]:
            self._queue.reconcile_all(_OPEN[_OPEN.index(status) + 1], after=None, delay_seconds=_SECONDS_PER_PAGE)
        else:
            self._store.note_reconciliation(epoch(self._clock()))
