"""What the passing of time makes necessary: rechecks until a closing subscription's deadline, metering runs shortly
before it, rechecks until a scheduled start, and a reading of the entitlements shortly before the end of a term.

SQS holds a message back for 15 minutes at most (SQS Developer Guide: message timers). So each message requests the next
one until the moment has come.
"""

from marketplace.ledger.deadlines import FINAL_RUN
from marketplace.lifecycle.changes import START_RECHECK_AT, Standing
from marketplace.lifecycle.facts import State
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform.clock import Clock, epoch
from marketplace.subscriptions import recheck
from marketplace.subscriptions.recheck_queue import LifecycleRequests

FIRST_RECHECK = 60
"""Seconds after a subscription begins to close, or returns from closing, at which it is rechecked: a request that read
the subscription before the change may book usage until then."""

READING_REQUESTED_FOR = "reading_requested_for"
"""When the message comes that leads to the reading before the end of a term: an attribute of the subscription."""

CLOCK_SKEW = 60
"""Seconds by which the clocks of two functions, and of AWS, may differ."""


class Timers:
    """Requests the rechecks and readings of a subscription. Raises AwsError when SQS or DynamoDB gave no answer."""

    def __init__(self, store: SubscriptionStore, queue: LifecycleRequests, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock

    def set(self, standing: Standing) -> None:
        """Requests the next recheck of a subscription that is closing, or that waits for a scheduled start, and the
        metering run before the closing deadline."""
        now = epoch(self._clock())
        state = standing.state
        if state.status == "closing" and state.closing_deadline is not None:
            self._set_metering_run(standing.id, state.closing_deadline, now)
            delay = closing_delay(state, now)
            self._queue.look_again(standing.id, recheck.CLOSING_TIMER, delay_seconds=delay)
        if state.scheduled_start is not None and state.status != "active":
            self._set_start_timer(standing, state.scheduled_start, now)

    def _set_metering_run(self, subscription_id: str, deadline: int, now: int) -> None:
        """Requests the run, and a second one in case that the first dies, unless they are further ahead than SQS holds
        a message back: then one of the rechecks until the deadline requests them. A run more than needed is
        harmless."""
        first, second = (deadline - lead + 1 - now for lead in (FINAL_RUN, FINAL_RUN // 2))
        if first <= recheck.MAX_DELAY_SECONDS:
            self._queue.metering_run(subscription_id, deadline, delay_seconds=first)
        if 0 < second <= recheck.MAX_DELAY_SECONDS:
            self._queue.metering_run(subscription_id, deadline, delay_seconds=second)

    def set_reading(self, subscription_id: str, at: int) -> None:
        """Requests the reading of the entitlements at this moment, shortly before the end of a term."""
        stored = self._store.read(subscription_id)
        now = epoch(self._clock())
        if stored is None or _is_on_its_way(stored, READING_REQUESTED_FOR, at, now):
            return
        delay = min(at - now, recheck.MAX_DELAY_SECONDS)
        self._queue.read_back(subscription_id, at=at, delay_seconds=delay)
        self._note(stored, READING_REQUESTED_FOR, now + delay)

    def _set_start_timer(self, standing: Standing, starts_at: int, now: int) -> None:
        """Requests the next recheck. Nothing else would recheck an ended subscription until its start."""
        if _is_on_its_way(standing.stored, START_RECHECK_AT, starts_at, now):
            return
        delay = min(starts_at - now, recheck.MAX_DELAY_SECONDS)
        self._queue.look_again(standing.id, recheck.START_TIMER, delay_seconds=delay)
        self._note(standing.stored, START_RECHECK_AT, now + delay)

    def _note(self, stored: Stored, attribute: str, moment: int) -> None:
        # The request went first: one message too many is harmless, one too few is not. For the same reason it does not
        # matter if another writer was first.
        self._store.write(stored.subscription.id, read=stored, changes={attribute: moment}, defaults={})


def _is_on_its_way(stored: Stored, attribute: str, until: int, now: int) -> bool:
    """Whether the subscription says that a message of the chain that leads to `until` is on its way.

    Every message does this, so one chain exists however many messages come. Two chains, after a crash or a repeated
    delivery, become one at their next message; a lost chain begins again with the next message. A message that comes a
    little early by this clock requests the next one.
    """
    moment: int = stored.values.get(attribute, 0)
    return now + CLOCK_SKEW < moment <= min(until, now + recheck.MAX_DELAY_SECONDS)


def closing_delay(state: State, now: int) -> int:
    """Seconds until the next recheck of a closing subscription: soon after it began to close, then as late as SQS
    allows, and never later than its deadline."""
    until_deadline = (state.closing_deadline or now) - now + 1
    just_begun = abs(now - (state.changed_at or now)) < FIRST_RECHECK
    return min(FIRST_RECHECK if just_begun else recheck.MAX_DELAY_SECONDS, until_deadline)
