"""What is done with a notification: kept, joined to its subscription, applied, and everything that follows from it.

Each step may be repeated: a crash after any of them is finished by SQS's next delivery of the message, or by the next
message about the same subscription. The order is money first: the state with its event for the seller, then open usage,
then the timers, then what is told and read back.

Messages about one subscription may be handled at the same time. The state is safe from that by its version; usage is
adjusted until the subscription, read again afterwards, is what the usage was adjusted to. So the last one to adjust it
sees what every other has written.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from marketplace.dynamodb import keys
from marketplace.entitlements.entitlements import Entitlements
from marketplace.lifecycle.changes import (
    _CLOCK_SKEW,
    _FIRST_TIMER,
    _RELEASE_DUE,
    _START_LOOK_AT,
    _any_activation,
    _deadlines,
    _is_settled,
    _release_due,
    _Standing,
    _who,
    state_changes,
    state_events,
)
from marketplace.lifecycle.facts import (
    ACTIVATING,
    CHANGES_ENTITLEMENTS,
    ENDING_STATUSES,
    KNOWN_STATUSES,
    Fact,
    State,
    compacted,
    folded,
    merged,
)
from marketplace.lifecycle.notifications import LookAgain, Notification
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import RefusedError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import Identity, LicenseIdentity
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent, stable_id

type Outcome = Literal[
    "applied",
    "waiting",  # of an agreement whose licence isn't known yet
    "ambiguous",  # as waiting, but an agreement has ended and its buyer holds licences: a person may have to look
    "noted",
    "unknown",
    "other_product",
    "unknown_subscription",
    "entitlements_refused",  # AWS won't say for this product; the rest is done
]

_PENDING_DELAYS = (60, 120, 300, 600, 900, 900, 900)
_ROUNDS = 10
_JOINING = frozenset({recheck.REGISTERED, recheck.CLAIMED, recheck.NOT_SUBSCRIBED, recheck.RECONCILED})
_READING_BACK = frozenset(
    {recheck.REGISTERED, recheck.NOT_SUBSCRIBED, recheck.ENTITLEMENTS_PENDING, recheck.RECONCILED}
)
_RECONCILE_DELAY = recheck.MAX_DELAY_SECONDS
"""A registration often comes before its License Updated, which is awaited for some minutes before AWS is asked."""


type LicenseFinder = Callable[[str], list[str]]
"""The licence ARNs of an agreement, as far as AWS says."""


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


class Lifecycle:
    """The use case. `product_codes`: the products that are the seller's; empty takes every product. `find_licenses`:
    asked about an ended agreement that no notification has joined to a licence."""

    def __init__(
        self,
        *,
        store: SubscriptionStore,
        entitlements: Entitlements,
        usage: OpenUsage,
        bus: SellerBus,
        outbox: Outbox,
        queue: Requests,
        clock: Clock,
        product_codes: frozenset[str] = frozenset(),
        find_licenses: LicenseFinder = lambda _: [],
    ) -> None:
        self._store = store
        self._entitlements = entitlements
        self._usage = usage
        self._bus = bus
        self._outbox = outbox
        self._queue = queue
        self._clock = clock
        self._product_codes = product_codes
        self._find_licenses = find_licenses

    def receive(self, notification: Notification) -> Outcome:
        """Keeps the notification and does all that follows from it. Raises AwsError: it has to be received again."""
        identity = notification.identity
        if identity is not None and self._sells(notification.product_code):
            return self._of_subscription(notification, identity)
        if identity is None and notification.agreement_id is not None:
            return self._of_agreement(notification, notification.agreement_id)
        self._store.keep(keys.unassigned_event(notification.time, notification.id), notification)
        if notification.kind == "advisory_issued":
            self._announce_advisory(notification, [])
            return "noted"
        return "unknown" if identity is None else "other_product"

    def look_again(self, request: LookAgain) -> Outcome:
        """Does what is due for the subscription by now. Raises AwsError: it has to be asked again."""
        stored = self._store.read(request.subscription_id)
        if stored is None:
            return "unknown_subscription"
        facts: list[Fact] = []
        if request.reason in _JOINING:
            agreements = dict.fromkeys([*stored.subscription.agreement_ids, request.agreement_id])
            facts = self._joined_facts(request.subscription_id, filter(None, agreements))
        standing = self._apply(request.subscription_id, None, facts, agreement_id=request.agreement_id)
        if standing is None:
            return "unknown_subscription"
        release = self._refused_before_activation(request, standing)
        standing = self._look_after_usage(standing, release=release)
        self._set_timers(standing)
        self._outbox.publish(request.subscription_id)
        if request.reason == recheck.NOT_SUBSCRIBED and not release:
            self._queue.reconcile(request.subscription_id)
        if request.reason == recheck.REGISTERED and standing.state.status not in {"active", "closing"}:
            self._queue.reconcile(request.subscription_id, delay_seconds=_RECONCILE_DELAY)
        active = standing.state.status == "active"
        started = request.reason == recheck.START_TIMER and active
        if request.reason not in _READING_BACK and not started:
            return "applied"
        expected = started or (request.reason == recheck.ENTITLEMENTS_PENDING and active)
        return self._read_back(request.subscription_id, attempt=request.attempt if expected else None)

    def _of_subscription(self, notification: Notification, identity: Identity) -> Outcome:
        subscription_id = identity.subscription_id
        self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
        fact = Fact.of(notification)
        if fact is None:
            return self._without_effect(notification, [subscription_id])
        facts = [fact]
        if notification.agreement_id is not None:
            self._store.join(notification.agreement_id, subscription_id)
            facts += self._joined_facts(subscription_id, [notification.agreement_id])
        return self._apply_and_follow_up(subscription_id, notification, facts)

    def _of_agreement(self, notification: Notification, agreement_id: str) -> Outcome:
        self._store.keep(keys.agreement_event(agreement_id, notification.time, notification.id), notification)
        subscription_ids = self._store.joined(agreement_id) or self._found(notification, agreement_id)
        for subscription_id in subscription_ids:
            self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
        fact = Fact.of(notification)
        if fact is None:
            return self._without_effect(notification, subscription_ids)
        for subscription_id in subscription_ids:
            self._apply_and_follow_up(subscription_id, notification, [fact])
        if notification.kind == "agreement_ended" and notification.agreement_status not in KNOWN_STATUSES:
            return "unknown"
        if subscription_ids:
            return "applied"
        return "ambiguous" if self._may_concern_a_licence(notification) else "waiting"

    def _found(self, notification: Notification, agreement_id: str) -> list[str]:
        """The subscriptions of an agreement that has ended, by asking AWS for its licences."""
        if not self._may_concern_a_licence(notification):
            return []
        named = [LicenseIdentity(license_arn).subscription_id for license_arn in self._find_licenses(agreement_id)]
        known = [subscription_id for subscription_id in named if self._store.read(subscription_id) is not None]
        for subscription_id in known:
            self._store.join(agreement_id, subscription_id)
        return known

    def _without_effect(self, notification: Notification, subscription_ids: Sequence[str]) -> Outcome:
        if notification.kind == "advisory_issued":
            self._announce_advisory(notification, subscription_ids)
        return "unknown" if notification.kind == "unknown" else "noted"

    def _sells(self, product_code: str | None) -> bool:
        return not self._product_codes or product_code in self._product_codes

    def _may_concern_a_licence(self, notification: Notification) -> bool:
        """An agreement ended and only its buyer's account is known. Nothing may be closed on that: the account may have
        other licences, and agreements of the seller's other products arrive here too."""
        if notification.kind != "agreement_ended" or notification.agreement_status not in ENDING_STATUSES:
            return False
        if notification.account_id is None:
            return False
        return any(
            self._is_open(subscription_id) for subscription_id in self._store.of_account(notification.account_id)
        )

    def _is_open(self, subscription_id: str) -> bool:
        stored = self._store.read(subscription_id)
        return stored is not None and stored.subscription.status in {"pending", "active"}

    def _joined_facts(self, subscription_id: str, agreement_ids: Iterable[str]) -> list[Fact]:
        """The facts that wait under these agreements, their notifications copied to the subscription's own inbox."""
        facts: list[Fact] = []
        for agreement_id in agreement_ids:
            self._store.join(agreement_id, subscription_id)
            for notification in self._store.waiting(agreement_id):
                self._store.keep(keys.event(subscription_id, notification.time, notification.id), notification)
                fact = Fact.of(notification)
                facts += [] if fact is None else [fact]
        return facts

    def _apply_and_follow_up(self, subscription_id: str, notification: Notification, facts: Sequence[Fact]) -> Outcome:
        standing = self._apply(subscription_id, notification, facts)
        if standing is None:
            return "waiting"  # whoever makes the join reads this notification, which is kept by now
        may_activate = notification.kind in ACTIVATING or notification.kind == "agreement_created"
        standing = self._look_after_usage(standing, release=may_activate)
        self._set_timers(standing)
        self._outbox.publish(subscription_id)
        if notification.kind not in CHANGES_ENTITLEMENTS:
            return "applied"
        activated = notification.kind in ACTIVATING and standing.state.status == "active"
        return self._read_back(subscription_id, attempt=0 if activated else None)

    def _apply(
        self,
        subscription_id: str,
        notification: Notification | None,
        facts: Sequence[Fact],
        agreement_id: str | None = None,
    ) -> _Standing | None:
        """Adds the facts to the subscription and writes down the state that follows, with the event that tells of it.
        `agreement_id`: one that a registration named, of which no fact may be known yet.

        None when there is no such subscription and the notification doesn't say who it would be.
        """
        for _ in range(_ROUNDS):
            read = self._store.read(subscription_id)
            identity = None if notification is None else notification.identity
            if read is None and identity is None:
                return None
            now = epoch(self._clock())
            known = () if read is None else read.facts
            whole = merged(known, facts)
            state, history = folded(whole, now), compacted(whole, now)
            defaults = _who(subscription_id, identity, notification)
            changes = state_changes(state, history, read, agreement_id)
            if _any_activation(history, known):
                changes["activation_seen_at"] = now
            if read is not None and _is_settled(read, changes, defaults):
                return _Standing(read, state)
            before = read.subscription.status if read is not None else "pending"
            known_values = {**defaults, **(read.values if read is not None else {})}
            events = state_events(subscription_id, before, state, known_values)
            self._store.write(subscription_id, read=read, changes=changes, defaults=defaults, events=events)
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _look_after_usage(self, standing: _Standing, *, release: bool) -> _Standing:
        """Adjusts the usage to the state, and again to the state that is stored by then, until they are the same.
        Answers what it was adjusted to. `release`: held usage too, if the subscription is active."""
        subscription_id = standing.stored.subscription.id
        for _ in range(_ROUNDS):
            self._adjust_usage(standing, release=release)
            current = self._apply(subscription_id, None, [])
            if current is None or (_deadlines(current) == _deadlines(standing) and not _release_due(current)):
                return standing
            standing = current
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _adjust_usage(self, standing: _Standing, *, release: bool) -> None:
        subscription_id, state = standing.stored.subscription.id, standing.state
        now = epoch(self._clock())
        match state.status:
            case "active" if _release_due(standing):
                self._usage.release(subscription_id, now=now)
                # A request that had read "closing" may still book usage with the deadline that is gone.
                self._queue.look_again(subscription_id, recheck.CLOSING_TIMER, delay_seconds=_FIRST_TIMER)
                # Only if nobody has changed it since it was read: a newer activation has a release of its own due.
                self._store.write(subscription_id, read=standing.stored, changes={_RELEASE_DUE: None}, defaults={})
            case "active" if release:
                self._usage.release(subscription_id, now=now)
            case "active":
                self._usage.reopen(subscription_id, now=now)
            case "closing" | "ended" if state.closing_deadline is not None:
                self._usage.close(subscription_id, deadline=state.closing_deadline, now=now)
            case _:
                pass

    def _set_timers(self, standing: _Standing) -> None:
        if standing.state.status == "closing":
            self._set_closing_timer(standing.stored.subscription.id, standing.state)
        if standing.state.scheduled_start is not None and standing.state.status != "active":
            self._set_start_timer(standing, standing.state.scheduled_start)

    def _set_closing_timer(self, subscription_id: str, state: State) -> None:
        """The next look at a closing subscription: soon after it began, then until its deadline."""
        now = epoch(self._clock())
        until_deadline = (state.closing_deadline or now) - now + 1
        begun = now - (state.changed_at or now) >= _FIRST_TIMER
        delay = recheck.MAX_DELAY_SECONDS if begun else _FIRST_TIMER
        self._queue.look_again(subscription_id, recheck.CLOSING_TIMER, delay_seconds=min(delay, until_deadline))

    def _set_start_timer(self, standing: _Standing, starts_at: int) -> None:
        """The next look at a subscription that isn't active and will be at `starts_at`. SQS holds nothing back for
        longer than 15 minutes, so looks follow one another, each asking for the next, however far the start is: nothing
        else looks at an ended subscription.

        Any look, and any message, asks for the next one unless one is on its way, as the subscription itself says. So
        there is one such chain however many messages come, two that a crash or a repetition of SQS made join at their
        next look, and one that was lost is begun again by whatever comes next. A look that comes a little early by this
        clock asks again rather than none.
        """
        now = epoch(self._clock())
        if now + _CLOCK_SKEW < standing.stored.values.get(_START_LOOK_AT, 0) <= starts_at:
            return
        subscription_id, delay = standing.stored.subscription.id, min(starts_at - now, recheck.MAX_DELAY_SECONDS)
        self._queue.look_again(subscription_id, recheck.START_TIMER, delay_seconds=delay)
        # Asked first, for a look too many is harmless and one too few is not; so is another writer in between.
        self._store.write(subscription_id, read=standing.stored, changes={_START_LOOK_AT: now + delay}, defaults={})

    def _refused_before_activation(self, request: LookAgain, standing: _Standing) -> bool:
        """Whether usage that AWS refused with CustomerNotSubscribed was sent before the activation was heard of. What
        was refused after it stays held: making it due again would only have it refused again."""
        if request.reason != recheck.NOT_SUBSCRIBED or request.since is None:
            return False
        seen_at: int = standing.stored.values.get("activation_seen_at", 0)
        return request.since <= max(seen_at, standing.state.last_activating_at or 0) + _CLOCK_SKEW

    def _read_back(self, subscription_id: str, *, attempt: int | None) -> Outcome:
        """Reads the entitlements back. Nothing yet, right after an activation, is asked again later; `attempt` counts
        that, None doesn't expect anything."""
        try:
            granted = self._entitlements.sync(subscription_id).entitlements
        except RefusedError:
            return "entitlements_refused"
        if not granted and attempt is not None and attempt < len(_PENDING_DELAYS):
            self._queue.look_again(
                subscription_id,
                recheck.ENTITLEMENTS_PENDING,
                delay_seconds=_PENDING_DELAYS[attempt],
                attempt=attempt + 1,
            )
        return "applied"

    def _announce_advisory(self, notification: Notification, subscription_ids: Sequence[str]) -> None:
        """AWS warns of a closed, compromised or abusive account. People decide what follows (Seller Guide); it is only
        passed on. Published before the message is done with, so nothing has to be remembered."""
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
