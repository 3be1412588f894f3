"""Walks through everything that a deployment has stored."""

from collections.abc import Iterator
from typing import get_args

from marketplace.dynamodb import keys
from marketplace.ledger.due_index import DueEntry, Unreadable, unsettled_in
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, epoch, hour_of
from marketplace.platform.moments import moment_of
from marketplace.seller_api.subscription_queries import Filter, SubscriptionQueries
from marketplace.subscriptions.model import Status, Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.session import Session

STATUSES: tuple[Status, ...] = get_args(Status.__value__)


def unsettled(session: Session) -> Iterator[DueEntry | Unreadable]:
    """Everything in the `due` index, in no order: what waits to be sent, and what is in trouble."""
    for shard in keys.all_due_shards():
        selection = unsettled_in(shard)
        for item in session.usage.items(selection.expression, selection.values, index=keys.DUE_INDEX):
            yield DueEntry.from_item(item)


def subscriptions(session: Session, wanted: Filter | None = None) -> Iterator[Subscription]:
    """The subscriptions that the filter selects, or all of them."""
    queries = SubscriptionQueries(session.subscriptions, session.clock)
    seen: set[str] = set()
    for one in [wanted] if wanted is not None else [Filter("status", status) for status in STATUSES]:
        cursor: str | None = None
        while True:
            page = queries.find(one, cursor=cursor)
            for subscription in page.items:
                if subscription.id not in seen:
                    seen.add(subscription.id)
                    yield subscription
            cursor = page.cursor
            if cursor is None:
                break


def subscription(session: Session, subscription_id: str) -> Subscription:
    """One subscription. Raises RefusedError when there is none."""
    found = SubscriptionReader(session.subscriptions).get_many([subscription_id]).get(subscription_id)
    if found is None:
        raise RefusedError(f"there is no subscription {subscription_id} in {session.stack.name}")
    return found


def chosen(session: Session, subscription_id: str | None) -> list[Subscription]:
    """The named subscription, or all of them. Raises RefusedError when there is no such one."""
    if subscription_id is not None:
        return [subscription(session, subscription_id)]
    return list(subscriptions(session))


def metering_records(
    session: Session, found: list[Subscription], start: int, end: int
) -> Iterator[tuple[Subscription, MeteringRecord]]:
    """Every metering record of these subscriptions and hours, with a line that says how far it is."""
    queries = session.queries
    for one in session.output.each(found, "subscriptions", len(found)):
        for record in queries.all_metering_records(one.id, start, end):
            yield one, record


def hours(session: Session, first: str | None, last: str | None, *, days: int = 1) -> tuple[int, int]:
    """The hours that overlap the time between two moments: the first, and the one after the last (seconds since the
    epoch). By default the last `days` up to the present hour. Raises RefusedError."""
    try:
        end = hour_of(session.now) + HOUR if last is None else hour_of(epoch(moment_of(last)) + HOUR - 1)
        start = end - days * DAY if first is None else hour_of(epoch(moment_of(first)))
    except ValueError as error:
        raise RefusedError(f"the time {error}") from error
    if end <= start:
        raise RefusedError("--to must be later than --from")
    return start, end


def hour(text: str) -> EpochSeconds:
    """The hour of a moment that somebody has written. Raises RefusedError."""
    try:
        return hour_of(epoch(moment_of(text)))
    except ValueError as error:
        raise RefusedError(f"the time {error}") from error


def who(subscription: Subscription) -> dict[str, str | None]:
    """Whose a metering record is, as files and tables show it."""
    return {
        "subscription_id": subscription.id,
        "product_code": subscription.product_code,
        "license_arn": subscription.license_arn,
        "customer_identifier": subscription.customer_identifier,
        "account_id": subscription.account_id,
        "tenant_id": subscription.tenant_id,
    }


def moment(text: str) -> int:
    """A moment that the layer has shown, in seconds since the epoch."""
    return epoch(moment_of(text))
