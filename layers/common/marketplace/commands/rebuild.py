"""Recomputes the state of a subscription from everything that was received about it, and shows what would change.

For use after a correction of the rules, or in doubt. The inbox is the source. Facts that are older than the items of
the inbox live are taken from the subscription's own history. What time has done by now is computed for now, or for the
latest moment that the subscription itself has seen, if that is later: a deadline that was reached by the clock of the
functions stays reached by that of the operator's machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from marketplace.commands.refusal import CommandRefusedError
from marketplace.lifecycle.changes import state_changes, state_events
from marketplace.lifecycle.facts import Fact, State, compacted, folded, merged
from marketplace.lifecycle.store import INBOX_DAYS, Stored, SubscriptionStore
from marketplace.platform.clock import DAY, Clock, epoch
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Status
from marketplace.subscriptions.recheck_queue import Requests

_MARGIN_DAYS = 2
"""Time to live deletes within days of the date (DynamoDB Developer Guide)."""
_ROUNDS = 5
_PAST = ("last_event_at", "activated_at", "last_activating_at", "activation_seen_at", "entitlements_synced_at")
"""Attributes that hold a moment which had come when they were written."""


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute as it is stored and as it is recomputed."""

    name: str
    stored: Any
    rebuilt: Any


@dataclass(frozen=True, slots=True)
class Diff:
    """What a rebuild would write; empty when the subscription agrees with its inbox."""

    subscription_id: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.subscription_id}: as its inbox says"
        lines = (f"  {change.name}: {change.stored!r} -> {change.rebuilt!r}" for change in self.changes)
        return "\n".join([f"{self.subscription_id}:", *lines])


class Rebuild:
    """The use case. With a queue, a rebuilt subscription is rechecked: its usage is adjusted, its timers are set and
    its events are published."""

    def __init__(self, store: SubscriptionStore, clock: Clock, queue: Requests | None = None) -> None:
        self._store = store
        self._clock = clock
        self._queue = queue

    def diff(self, subscription_id: str) -> Diff:
        """What would change. Writes nothing. Raises CommandRefusedError when there is no such subscription, and
        AwsError."""
        return self._planned(self._read(subscription_id))[0]

    def write(self, subscription_id: str) -> Diff:
        """Writes what changes, with the event for the seller if the status does, and returns it.

        Raises CommandRefusedError when there is no such subscription, and AwsError.
        """
        for _ in range(_ROUNDS):
            read = self._read(subscription_id)
            diff, changes, state = self._planned(read)
            if not diff.changes:
                return diff
            events = state_events(subscription_id, read.subscription.status, state, read.values)
            if self._store.write(subscription_id, read=read, changes=changes, defaults={}, events=events):
                if self._queue is not None:
                    self._queue.look_again(subscription_id, recheck.RECONCILED)
                return diff
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def all_ids(self) -> Iterator[str]:
        """Every subscription, by status."""
        for status in get_args(Status.__value__):
            after: str | None = None
            while ids := self._store.with_status(status, after=after):
                yield from ids
                after = ids[-1]

    def _read(self, subscription_id: str) -> Stored:
        read = self._store.read(subscription_id)
        if read is None:
            raise CommandRefusedError(f"there is no subscription {subscription_id} in this table")
        return read

    def _planned(self, read: Stored) -> tuple[Diff, dict[str, Any], Any]:
        now = latest_seen(read, epoch(self._clock()))
        facts = self._facts(read, now)
        state = folded(facts, now)
        if state.closing_deadline is not None and _has_run_out(read, state):
            now = state.closing_deadline
            state = folded(facts, now)
        changes = state_changes(state, compacted(facts, now), read)
        differing = tuple(
            Change(name, read.values.get(name), value)
            for name, value in changes.items()
            if (read.values.get(name) or None) != (value or None)
        )
        return Diff(read.subscription.id, differing), changes, state

    def _facts(self, read: Stored, now: int) -> list[Fact]:
        oldest = (now - (INBOX_DAYS - _MARGIN_DAYS) * DAY) * 1000
        received = self._store.inbox(read.subscription.id)
        for agreement_id in read.subscription.agreement_ids:
            received += self._store.waiting(agreement_id)
        concerning = (Fact.of(one) for one in received if one.may_concern(read.subscription.id))
        inbox = [fact for fact in concerning if fact is not None]
        return merged(inbox, [fact for fact in read.facts if fact.at_ms < oldest])


def latest_seen(read: Stored, now: int) -> int:
    """`now`, or the latest moment that is stored of the subscription as past, if that is later (seconds since the
    epoch)."""
    return max(now, *(int(read.values.get(name) or 0) for name in _PAST))


def _has_run_out(read: Stored, state: State) -> bool:
    """Whether the subscription is stored as ended by the deadline of a closing that the facts still show as open."""
    ended = read.subscription.status == "ended" and state.status == "closing"
    return ended and read.subscription.closing_deadline == state.closing_deadline
