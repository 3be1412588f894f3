"""What is done with a notification: it is kept, joined to its subscription, applied, and what follows from it is done.

Each step may be repeated: a crash after any of them is finished by SQS's next delivery of the message, or by the next
message about the same subscription. The order puts money first: the state with its event for the seller, then open
usage, then the timers, then the publication of events. None of it asks AWS Marketplace anything: what has to be asked
is requested by a message on a queue of its own, and done by `read_back` and `find_licenses`.

Messages about one subscription may be handled at the same time. The version of the subscription protects its state.
Its usage is adjusted until the subscription, read again afterwards, is what the usage was adjusted to; so the last one
to adjust it sees what every other has written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from marketplace.dynamodb import keys
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.rules import Entitlement, decide
from marketplace.entitlements.store import UnknownSubscriptionError
from marketplace.entitlements.terms import next_reading_at
from marketplace.lifecycle.agreement_api import LicenseFinder
from marketplace.lifecycle.changes import ACTIVATION_SEEN_AT, RELEASE_DUE, Change, Standing, change
from marketplace.lifecycle.facts import ACTIVATING, CHANGES_ENTITLEMENTS, KNOWN_STATUSES, Fact
from marketplace.lifecycle.joins import Joins
from marketplace.lifecycle.notifications import FindLicenses, LookAgain, Notification, ReadBack, finding
from marketplace.lifecycle.outcomes import Outcome, ReadBackOutcome
from marketplace.lifecycle.products import Products
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.lifecycle.timers import CLOCK_SKEW, FIRST_RECHECK, Timers
from marketplace.platform.clock import MINUTE, Clock, EpochSeconds, epoch
from marketplace.platform.errors import RefusedError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent, stable_id
from marketplace.subscriptions.waiting import waits

_PENDING_DELAYS = (120, 900, 900, 900, 900)
"""Seconds after which entitlements that AWS doesn't list yet are read back again, unless the product is known to have
none. They reach beyond the hour for which an empty answer means "not yet" (marketplace.entitlements.rules). Whatever
comes later is read when it is needed: by each check of a dimension that isn't stored, and by reconciliation."""
_ROUNDS = 10
_JOINING = frozenset(
    {recheck.REGISTERED, recheck.CLAIMED, recheck.NOT_SUBSCRIBED, recheck.RECONCILED, recheck.COMPARED}
)
_READING_BACK = frozenset({recheck.REGISTERED, recheck.NOT_SUBSCRIBED, recheck.RECONCILED})
_DECISIONS = frozenset({"adjustment_completed", "adjustment_failed"})
_ASKED_AGAIN = 5 * MINUTE
"""Seconds after which AWS is asked once more for the licences of an ended agreement. Notifications overtake each other
by seconds, and of the final hour enough is left."""
_ACCOUNT_DELAY = 2 * MINUTE
"""Seconds for which the buyer's account of an activated licence is awaited before AWS is asked: the registration, or
another notification, usually names it."""
_RECONCILE_DELAY = recheck.MAX_DELAY_SECONDS
"""A registration often comes before its License Updated, which is awaited for some minutes before AWS is asked."""


class OpenUsage(Protocol):
    """The usage of a subscription that isn't settled yet. Every call may be repeated at any time and raises AwsError.

    `deadline` and `now` are seconds since the epoch.
    """

    def close(self, subscription_id: str, *, deadline: int, now: int) -> object:
        """Makes it due at once, to be sent before the deadline, which may be earlier or later than one before."""

    def reopen(self, subscription_id: str, *, now: int) -> object:
        """Gives all of it its regular deadlines back; held usage stays held. For an active subscription, whose usage a
        closing that is over by now may have left with a deadline."""

    def release(self, subscription_id: str, *, now: int) -> object:
        """Makes held usage due again and gives all of it its regular deadlines back."""


class Adjustments(Protocol):
    """The corrections that asked AWS for billing adjustments; see marketplace.corrections.decisions."""

    def apply(
        self, subscription_ids: Iterable[str], request_id: str, *, completed: bool, message: str, at: EpochSeconds
    ) -> list[SellerEvent]: ...


class Lifecycle:
    """The use case. `product_codes`: the products that are the seller's; empty takes every product. `products`: what is
    known of their entitlements. `find_licenses` is asked about an ended agreement that no notification has joined to a
    licence."""

    def __init__(
        self,
        *,
        store: SubscriptionStore,
        entitlements: Entitlements,
        usage: OpenUsage,
        bus: SellerBus,
        outbox: Outbox,
        queue: LifecycleRequests,
        clock: Clock,
        products: Products,
        product_codes: frozenset[str] = frozenset(),
        find_licenses: LicenseFinder = lambda _: [],
        adjustments: Adjustments | None = None,
    ) -> None:
        self._store = store
        self._joins = Joins(store, find_licenses)
        self._predecessors = store.predecessors
        self._timers = Timers(store, queue, clock)
        self._entitlements = entitlements
        self._usage = usage
        self._bus = bus
        self._outbox = outbox
        self._queue = queue
        self._clock = clock
        self._adjustments = adjustments
        self._products = products
        self._product_codes = product_codes

    def receive(self, notification: Notification) -> Outcome:
        """Keeps the notification and does all that follows from it. Raises AwsError: it has to be received again."""
        if notification.kind == "own_purchase":
            return "own_purchase"
        if not self._may_sell(notification.product_code):
            return self._of_other_product(notification)
        subscription_id = self._named(notification)
        if subscription_id is not None:
            return self._of_subscription(notification, subscription_id)
        if notification.agreement_id is not None:
            return self._of_agreement(notification, notification.agreement_id)
        advisory = notification.kind == "advisory_issued"
        waiting = None if advisory else waits("unassigned", self._past(notification))
        self._store.keep(keys.unassigned_event(notification.time, notification.id), notification, waiting)
        return self._without_effect(notification, []) if advisory else "unknown"

    def look_again(self, request: LookAgain) -> Outcome:
        """Does what is due for the subscription by now. Raises AwsError: it has to be requested again."""
        stored = self._store.read(request.subscription_id)
        if stored is None:
            return "unknown_subscription"
        waiting: list[Notification] = []
        if request.reason in _JOINING:
            agreements = dict.fromkeys([*stored.subscription.agreement_ids, request.agreement_id])
            waiting = self._joins.waiting(request.subscription_id, filter(None, agreements))
        standing = self._apply(request.subscription_id, waiting, agreement_id=request.agreement_id)
        if standing is None:
            return "unknown_subscription"
        release = _refused_before_activation(request, standing)
        standing = self._follow_up(standing, release=release)
        self._request_answers(request, standing, released=release)
        return "applied"

    def read_back(self, request: ReadBack) -> ReadBackOutcome:
        """Reads the entitlements from AWS. When AWS lists none although some may have to be there, requests another
        reading; likewise around the end of a term. Raises AwsError: it has to be requested again."""
        subscription_id, now = request.subscription_id, epoch(self._clock())
        if request.at is not None and now < request.at:
            self._timers.set_reading(subscription_id, request.at)
            return "read_back_later"
        try:
            granted = self._entitlements.sync(subscription_id).entitlements
        except UnknownSubscriptionError:
            return "unknown_subscription"
        except RefusedError:
            return "entitlements_refused"
        following = next_reading_at(granted, now)
        if following is not None:
            self._timers.set_reading(subscription_id, following)
        stored = self._store.read(subscription_id)
        if stored is None:
            return "unknown_subscription"
        if granted:
            self._products.note_listed(stored.subscription.product_code)
            return "activated" if self._activated_by(granted, stored.subscription) else "read_back"
        self._read_again(stored, request.attempt)
        return "read_back"

    def find_licenses(self, request: FindLicenses) -> Outcome:
        """Asks AWS for the licences of an ended agreement, and applies to their subscriptions what waits for it. When
        AWS names none, asks once more later: the notification that says whose the agreement is may be on its way.
        Raises AwsError: it has to be requested again."""
        agreement_id = request.agreement_id
        if self._joins.is_of_other_product(agreement_id):
            return "other_product"
        found = self._joins.found(agreement_id)
        for subscription_id in found.subscription_ids:
            standing = self._apply(subscription_id, self._joins.waiting(subscription_id, [agreement_id]))
            if standing is not None:
                self._follow_up(standing, release=False)
        if found.subscription_ids:
            return "applied"
        if found.names_licences:
            self._joins.note_no_licence_here(agreement_id, epoch(self._clock()))
            return "other_product"
        if not request.last:
            self._queue.find_licenses(agreement_id, last=True, delay_seconds=_ASKED_AGAIN)
        return "ambiguous" if request.last else "waiting"

    def _named(self, notification: Notification) -> str | None:
        """The id of the subscription that the notification names. One that names a licence and no product may be about
        a product of others; it is taken for a licence that is known."""
        if notification.identity is None:
            return None
        subscription_id = notification.identity.subscription_id
        if notification.product_code is None and self._store.read(subscription_id) is None:
            # Whatever makes the licence known applies what its inbox holds; that may have happened by now.
            self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
            return subscription_id if self._store.read(subscription_id) is not None else None
        return subscription_id

    def _of_other_product(self, notification: Notification) -> Outcome:
        self._store.keep(keys.unassigned_event(notification.time, notification.id), notification)
        if notification.agreement_id is not None and notification.kind != "unknown":
            self._joins.note_other_product(notification, notification.agreement_id)
        return "other_product"

    def _of_subscription(self, notification: Notification, subscription_id: str) -> Outcome:
        self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
        if Fact.of(notification) is None:
            return self._without_effect(notification, [subscription_id])
        waiting: list[Notification] = []
        if notification.agreement_id is not None:
            waiting = self._joins.waiting(subscription_id, [notification.agreement_id])
        return self._applied(subscription_id, notification, waiting)

    def _of_agreement(self, notification: Notification, agreement_id: str) -> Outcome:
        self._store.keep(keys.agreement_event(agreement_id, notification.time, notification.id), notification)
        subscription_ids = self._joins.joined(notification, agreement_id)
        for subscription_id in subscription_ids:
            self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
        if not subscription_ids and self._joins.is_of_other_product(agreement_id):
            self._joins.note_other_product(notification, agreement_id)
            return "other_product"
        if Fact.of(notification) is None:
            return self._without_effect(notification, subscription_ids)
        for subscription_id in subscription_ids:
            self._applied(subscription_id, notification)
        if notification.kind == "agreement_ended" and notification.agreement_status not in KNOWN_STATUSES:
            return "unknown"
        if subscription_ids:
            return "applied"
        self._joins.await_join(agreement_id, epoch(self._clock()))
        if self._joins.may_concern_a_licence(notification):
            self._queue.find_licenses(agreement_id)
        return "waiting"

    def _without_effect(self, notification: Notification, subscription_ids: Sequence[str]) -> Outcome:
        if notification.kind == "advisory_issued":
            self._announce_advisory(notification, subscription_ids)
        if notification.kind in _DECISIONS and self._announce_decision(notification, subscription_ids):
            return "applied"
        return "unknown" if notification.kind == "unknown" else "noted"

    def _may_sell(self, product_code: str | None) -> bool:
        return product_code is None or not self._product_codes or product_code in self._product_codes

    def _applied(
        self, subscription_id: str, notification: Notification, waiting: Sequence[Notification] = ()
    ) -> Outcome:
        standing = self._apply(subscription_id, [notification, *waiting])
        if standing is None:
            return "waiting"  # whoever makes the join reads this notification, which is kept by now
        may_activate = notification.kind in ACTIVATING or notification.kind == "agreement_created"
        standing = self._follow_up(standing, release=may_activate)
        if notification.kind in ACTIVATING and standing.stored.subscription.lacks_account:
            self._queue.reconcile(subscription_id, delay_seconds=_ACCOUNT_DELAY)
        if notification.kind in CHANGES_ENTITLEMENTS:
            activated = notification.kind in ACTIVATING and standing.state.status == "active"
            self._queue.read_back(subscription_id, attempt=0 if activated else None)
        if any(one.intent == "REPLACE" and one.previous_agreement_id is None for one in (notification, *waiting)):
            self._queue.reconcile(subscription_id)  # AWS's agreement API names the first agreement of the chain
        return "applied"

    def _apply(
        self, subscription_id: str, notifications: Sequence[Notification], agreement_id: str | None = None
    ) -> Standing | None:
        """Adds the notifications' facts to the subscription and writes the state that follows, with the event about it,
        if that differs from what is stored. `agreement_id`: as marketplace.lifecycle.changes.change takes it.

        A subscription without facts takes what its inbox holds of notifications that name no product: they may have
        come before anybody knew whose it is. So they are read once more after it is written.

        None when there is no such subscription and no notification says whose it would be.
        """
        told, is_new = list(notifications), False
        for _ in range(_ROUNDS):
            read = self._store.read(subscription_id)
            if read is None and not any(one.identity and one.product_code for one in notifications):
                return None
            is_new = is_new or read is None or not read.facts
            if is_new:
                kept = self._store.inbox(subscription_id)
                told = [*notifications, *(one for one in kept if one.product_code is None)]
            found = change(subscription_id, read, told, epoch(self._clock()), agreement_id=agreement_id)
            if read is not None and found.is_stored_in(read):
                return Standing(read, found.state)
            events = [self._with_proposal(event, read, found) for event in found.events]
            written = self._store.write(
                subscription_id, read=read, changes=found.attributes, defaults=found.defaults, events=events
            )
            if written is not None and not is_new:
                return Standing(written, found.state)
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _with_proposal(self, event: SellerEvent, read: Stored | None, found: Change) -> SellerEvent:
        """The event of an activation with the tenant that is proposed for the subscription, if nobody has claimed it;
        any other event as it is."""
        if event.kind != "Subscription Activated":
            return event
        values = {} if read is None else read.values
        after = Subscription.from_values({**found.defaults, **values, **found.attributes})
        return replace(event, detail={**event.detail, "proposed_tenant_id": self._predecessors.proposed_tenant(after)})

    def _follow_up(self, standing: Standing, *, release: bool) -> Standing:
        """Does what follows from the state of a subscription: its usage adjusted, its timers set, its events published.
        `release`: held usage is made due again if the subscription is active. Returns the state that the usage was
        adjusted to."""
        standing = self._adjust_until_current(standing, release=release)
        self._timers.set(standing)
        self._outbox.publish(standing.id)
        return standing

    def _adjust_until_current(self, standing: Standing, *, release: bool) -> Standing:
        for _ in range(_ROUNDS):
            self._adjust_usage(standing, release=release)
            current = self._apply(standing.id, [])
            if current is None or (current.closing == standing.closing and not current.release_due):
                return standing
            standing = current
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _adjust_usage(self, standing: Standing, *, release: bool) -> None:
        state, now = standing.state, epoch(self._clock())
        match state.status:
            case "active" if standing.release_due:
                self._usage.release(standing.id, now=now)
                # A request that had read "closing" may still book usage with the deadline that is gone.
                self._queue.look_again(standing.id, recheck.CLOSING_TIMER, delay_seconds=FIRST_RECHECK)
                # Only if nobody has changed it since it was read: a newer activation has a release of its own due.
                self._store.write(standing.id, read=standing.stored, changes={RELEASE_DUE: None}, defaults={})
            case "active" if release:
                self._usage.release(standing.id, now=now)
            case "active":
                self._usage.reopen(standing.id, now=now)
            case "closing" | "ended" if state.closing_deadline is not None:
                self._usage.close(standing.id, deadline=state.closing_deadline, now=now)
            case _:
                pass

    def _request_answers(self, request: LookAgain, standing: Standing, *, released: bool) -> None:
        """Has AWS asked for the entitlements, and about a subscription whose state may have changed without a
        notification."""
        started = request.reason == recheck.START_TIMER and standing.state.status == "active"
        if request.reason == recheck.NOT_SUBSCRIBED and not released:
            self._queue.reconcile(standing.id)  # reads the entitlements back as well
        elif started or (request.reason in _READING_BACK and not _read_since_activation(request, standing)):
            self._queue.read_back(standing.id, attempt=0 if started else None)
        if request.reason == recheck.REGISTERED and standing.state.status not in {"active", "closing"}:
            self._queue.reconcile(standing.id, delay_seconds=_RECONCILE_DELAY)

    def _activated_by(self, granted: Sequence[Entitlement], subscription: Subscription) -> bool:
        """Activates a legacy customer whom AWS grants something and whose subscribe-success has not come. There is no
        other question that AWS would answer about them; of a licence the agreement API knows more."""
        now = epoch(self._clock())
        entitled = any(decide(entitlement, None, now)[0] for entitlement in granted)
        if subscription.status != "pending" or subscription.integration != "legacy" or not entitled:
            return False
        found = finding("subscribe_success", f"entitled-{subscription.id}", now, subscription)
        return self.receive(found) == "applied"

    def _read_again(self, stored: Stored, attempt: int | None) -> None:
        """Requests another reading of entitlements that AWS did not list in the reading of this number, if it may list
        them later."""
        subscription = stored.subscription
        if attempt is None or subscription.status != "active":
            return
        agreement_id, last = stored.values.get("current_agreement_id"), attempt >= len(_PENDING_DELAYS)
        may_list = self._products.may_list_later(subscription.product_code, agreement_id, first=attempt == 0, last=last)
        if may_list and not last:
            delay = _PENDING_DELAYS[attempt]
            self._queue.read_back(subscription.id, attempt=attempt + 1, delay_seconds=delay)

    def _past(self, notification: Notification) -> int:
        """When the notification's event happened; now, if it claims a later time."""
        return min(notification.at_ms // 1000, epoch(self._clock()))

    def _announce_decision(self, notification: Notification, subscription_ids: Sequence[str]) -> bool:
        """Applies what AWS has decided about a billing adjustment, and tells it; False if no correction asked for it.
        It is published before the message is deleted, so it needs no place in the outbox."""
        if self._adjustments is None or notification.adjustment_id is None:
            return False
        events = self._adjustments.apply(
            subscription_ids,
            notification.adjustment_id,
            completed=notification.kind == "adjustment_completed",
            message=notification.adjustment_message or "",
            at=EpochSeconds(self._past(notification)),
        )
        self._bus.publish(events)
        return bool(events)

    def _announce_advisory(self, notification: Notification, subscription_ids: Sequence[str]) -> None:
        """Passes on AWS's warning of a closed, compromised or abusive account; people decide what follows (Seller
        Guide). It is published before the message is deleted, so it needs no place in the outbox."""
        event = SellerEvent(
            "Advisory Issued",
            stable_id("Advisory Issued", notification.id),
            notification.at_ms // 1000,
            {
                "subscription_ids": list(subscription_ids),
                "agreement_id": notification.agreement_id,
                "advisory": dict(notification.advisory or {}),
            },
        )
        self._bus.publish([event])


def _read_since_activation(request: LookAgain, standing: Standing) -> bool:
    """Whether a buyer registers whose entitlements were read when their subscription was activated."""
    synced_at = standing.stored.subscription.entitlements_synced_at or 0
    activated = standing.state.status == "active" and synced_at >= (standing.state.last_activating_at or 0)
    return activated and request.reason == recheck.REGISTERED


def _refused_before_activation(request: LookAgain, standing: Standing) -> bool:
    """Whether usage that AWS refused with CustomerNotSubscribed was sent before the activation had arrived. What was
    refused after it stays held: made due again, it would only be refused again."""
    if request.reason != recheck.NOT_SUBSCRIBED or request.since is None:
        return False
    seen_at: int = standing.stored.values.get(ACTIVATION_SEEN_AT, 0)
    return request.since <= max(seen_at, standing.state.last_activating_at or 0) + CLOCK_SKEW
