"""Zero records for hours without usage, for sellers whose listing test asks for a record every hour.

AWS keeps the first quantity of an hour and refuses a later one, so a zero is written only for an hour that is due: from
then on no usage is booked there (metering skill: an early zero locks the hour at 0).

A walk goes through the active subscriptions a page at a time and fills, for each, every missing hour up to the walk's
target: the last hour that was due when the walk began. After each page a mark in the usage table stores how far the
walk has come, so a call that runs out of time, or fails, leaves at most one page to be repeated.

When later hours become due during a walk, it still ends at its own target, and another walk over every page fills the
later ones, so that no subscription misses an hour. A walk is abandoned, and one over every missing hour begun, when its
target is older than hours are filled, or is not due any more because the seal delay was raised.

A zero is written only where there is no item, and a mark never becomes wrong; so calls may be repeated and may run at
the same time. A subscription whose status changes during a walk may be missed for these hours or visited twice; neither
does harm, because a zero bills nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.ledger.deadlines import Period, due_at, last_due_hour, timestamp_of
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import HOUR, EpochSeconds, hour_of
from marketplace.subscriptions.model import Subscription

_CATCH_UP = 20 * HOUR
"""How far back hours are filled after an outage: AWS takes 24 hours, and a run needs some of them."""

_PAGE = 100
"""Subscriptions in a page: one BatchGetItem reads them (DynamoDB API reference)."""

type Position = Mapping[str, str]
"""Where a page ended in the order of all pages, as plain values that only the source of the pages interprets."""


@dataclass(frozen=True, slots=True)
class ActivePage:
    """Some active subscriptions, and where the page ended; `position` is None when no more follow."""

    subscriptions: Sequence[Subscription]
    position: Position | None


class ActiveSubscriptions(Protocol):
    """Every subscription that is active now, in pages whose order never changes; the first page is after None."""

    def page(self, after: Position | None) -> ActivePage: ...


@dataclass(frozen=True, slots=True)
class Filled:
    """How many zeros were written, and whether nothing that is due was left for want of time."""

    written: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Mark:
    """No hour up to `filled_to` is to be filled any more; those after it, up to `target`, only beyond `position`."""

    filled_to: int
    target: int | None = None
    position: Position | None = None

    def walk(self, last_due: int) -> tuple[int, Position | None]:
        """The target of the walk to go on with, and the position it has reached."""
        if self.target is not None and last_due - _CATCH_UP <= self.target <= last_due:
            return self.target, self.position
        return last_due, None


@dataclass(slots=True)
class Heartbeat:
    """Writes a zero in `dimension` for each hour in which an active subscription has no usage; up to `workers` at
    once, because nearly all of the time is spent waiting for DynamoDB. `seal_delay` is in seconds. One worker needs no
    thread. Hours before `starts_at` get no zero."""

    table: Table
    subscriptions: ActiveSubscriptions
    dimension: str
    seal_delay: int
    workers: int = 8
    starts_at: int = 0

    def fill(self, now: EpochSeconds, time_left: Callable[[], float]) -> Filled:
        """Writes the missing zeros until `time_left` gives no more seconds; the next call goes on with the page at
        which this one stopped. With less time than one page takes, that page is begun again each time. Costs one read
        when nothing is missing.

        Raises AwsError when DynamoDB gives no answer; the next call goes on with the same page.
        """
        last_due = last_due_hour(now, self.seal_delay)
        mark = self._mark() or _Mark(filled_to=last_due - HOUR)
        written = 0
        while mark.filled_to < last_due:
            if time_left() <= 0:
                return Filled(written, complete=False)
            target, position = mark.walk(last_due)
            first = max(last_due - _CATCH_UP, mark.filled_to + HOUR)
            hours = map(EpochSeconds, range(first, target + HOUR, HOUR))
            page = self.subscriptions.page(position)
            filled = self._fill_all(product(page.subscriptions, hours), now, time_left)
            written += filled.written
            if not filled.complete:
                return Filled(written, complete=False)
            more = page.position is not None
            mark = _Mark(mark.filled_to, target, page.position) if more else _Mark(filled_to=target)
            self._remember(mark)
        return Filled(written, complete=True)

    def skip(self, now: EpochSeconds) -> Filled:
        """Leaves every hour up to the running one as it is, for good: a zero of a deployment that did not meter would
        take the hour from the one that did. Raises AwsError when DynamoDB gives no answer."""
        running, mark = hour_of(now), self._mark()
        if mark is None or mark.filled_to < running:
            self._remember(_Mark(filled_to=running))
        return Filled(written=0, complete=True)

    def _fill_all(
        self, wanted: Iterable[tuple[Subscription, EpochSeconds]], now: EpochSeconds, time_left: Callable[[], float]
    ) -> Filled:
        def fill(one: tuple[Subscription, EpochSeconds]) -> int | None:
            return self._fill(*one, now) if time_left() > 0 else None

        if self.workers == 1:
            done = [fill(one) for one in wanted]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                done = list(pool.map(fill, wanted))
        return Filled(sum(each or 0 for each in done), complete=None not in done)

    def _fill(self, subscription: Subscription, hour: EpochSeconds, now: EpochSeconds) -> int:
        if subscription.activated_at is None or subscription.lacks_account:
            return 0
        period = Period(subscription.activated_at, since=self.starts_at)
        if (
            hour < period.first_hour
            or not period.is_reached(hour, now)
            or subscription.billed_to(hour) != subscription.id
        ):
            return 0
        if self._has_usage(subscription.id, hour):
            return 0
        zero = MeteringRecord.new(
            subscription,
            hour,
            self.dimension,
            timestamp=timestamp_of(hour, subscription.activated_at),
            due_at=due_at(hour, self.seal_delay),
            refuse_at=period.refuse_at(hour),
        )
        return int(self.table.put_new(zero.to_item()))

    def _has_usage(self, subscription_id: str, hour: EpochSeconds) -> bool:
        place = {"pk": keys.subscription_pk(subscription_id), "hour": keys.hour_prefix(hour)}
        return bool(self.table.page("pk = :pk AND begins_with(sk, :hour)", place, limit=1).items)

    def _mark(self) -> _Mark | None:
        item = self.table.get(keys.heartbeat_mark(self.dimension))
        if item is None:
            return None
        values = from_item(item)
        return _Mark(values["filled_to"], values.get("target"), values.get("position"))

    def _remember(self, mark: _Mark) -> None:
        key = keys.heartbeat_mark(self.dimension)
        self.table.put(to_item({**key._asdict(), **asdict(mark)}))


@dataclass(frozen=True, slots=True)
class ActiveByStatus:
    """The active subscriptions, from the by_status index and then read consistently, a page at a time."""

    table: Table
    read: "SubscriptionPages"

    def page(self, after: Position | None) -> ActivePage:
        """The page after that position, which need not be an active subscription's any more. Raises
        AwsError when DynamoDB gives no answer."""
        page = self.table.page(
            "#status = :active",
            {"active": "active"},
            index=keys.STATUS_INDEX,
            after=None if after is None else to_item(after),
            limit=_PAGE,
        )
        ids = [keys.subscription_id_of(item["pk"]["S"]) for item in page.items]
        active = [one for one in self.read.get_many(ids).values() if one.status == "active"]
        return ActivePage(active, None if page.after is None else from_item(page.after))


class SubscriptionPages(Protocol):
    """Reads subscriptions by id."""

    def get_many(self, ids: Sequence[str]) -> dict[str, Subscription]: ...
