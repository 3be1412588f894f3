"""Activates a customer on an operator's word, when AWS Marketplace's own notification was lost or came before the
deployment. The word is kept in the inbox like a notification, with its reason, and a later one of AWS overrides it.

What AWS grants the customer now (GetEntitlements) is shown first. Nothing is written without --write. From a shell with
credentials for the table:

    python -m marketplace.commands.activation --table TABLE --subscription ID --reason TEXT [--queue-url URL --write]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from marketplace.commands.shell import CommandRefusedError, in_sentences
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.entitlements.rules import Entitlement, granted_together
from marketplace.entitlements.source import EntitlementSource, MarketplaceEntitlements
from marketplace.lifecycle.changes import Change, change
from marketplace.lifecycle.notifications import Notification, finding
from marketplace.lifecycle.store import Stored, SubscriptionStore
from marketplace.platform import clients
from marketplace.platform.clock import Clock, epoch, iso, utc_now
from marketplace.platform.errors import RefusedError, ThrottledError
from marketplace.platform.seller_role import SellerRole
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.recheck_queue import Requests

_ROUNDS = 5


class Rechecks(Protocol):
    """Requests rechecks; see marketplace.subscriptions.recheck_queue."""

    def look_again(self, subscription_id: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AwsAnswer:
    """What AWS grants a customer now; `refusal` is its error code if it does not answer for this one."""

    granted: tuple[Entitlement, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"AWS refuses to answer: {self.refusal}"
        if not self.granted:
            return "AWS lists nothing, which is all it says of a customer without a contract"
        return f"AWS lists {', '.join(map(_shown, self.granted))}"


def asked(source: EntitlementSource, subscription: Subscription, now: int) -> AwsAnswer:
    """Asks AWS about a customer. Raises AwsError when it gave no answer."""
    try:
        granted = granted_together(source.entitlements(subscription), now)
    except RefusedError as error:
        return AwsAnswer(refusal=error.code)
    return AwsAnswer(tuple(granted[dimension] for dimension in sorted(granted)))


class Activation:
    """The use case. The recheck that it requests does what follows: held usage is released, the seller is told."""

    def __init__(self, store: SubscriptionStore, clock: Clock, queue: Rechecks | None = None) -> None:
        self._store = store
        self._clock = clock
        self._queue = queue

    def check(self, subscription_id: str) -> Stored:
        """The subscription. Raises CommandRefusedError when it can't be activated, and AwsError."""
        read = self._read(subscription_id)
        if read.subscription.status != "active":
            now = epoch(self._clock())
            self._planned(read, self._word(read, now, ""), now)
        return read

    def write(self, subscription_id: str, reason: str) -> bool:
        """Activates the subscription; False when it is active already. Repeating it completes what an interrupted run
        has left. Raises CommandRefusedError and AwsError."""
        for _ in range(_ROUNDS):
            read = self._read(subscription_id)
            if read.subscription.status == "active":
                self._look_again(subscription_id)
                return False
            now = epoch(self._clock())
            word = self._word(read, now, reason)
            planned = self._planned(read, word, now)
            self._store.keep(keys.event(subscription_id, word.time, word.id), word)
            if self._store.write(
                subscription_id,
                read=read,
                changes=planned.attributes,
                defaults=planned.defaults,
                events=planned.events,
            ):
                self._look_again(subscription_id)
                return True
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _read(self, subscription_id: str) -> Stored:
        read = self._store.read(subscription_id)
        if read is None:
            raise CommandRefusedError(f"there is no subscription {subscription_id} in this table")
        return read

    def _word(self, read: Stored, now: int, reason: str) -> Notification:
        """The operator's word. Its id is the same until something else is known of the subscription, so that a run that
        was interrupted and repeated leaves one."""
        subscription = read.subscription
        licensed = subscription.integration == "license"
        named = subscription.agreement_ids[-1] if subscription.agreement_ids else None
        return finding(
            "license_updated" if licensed else "subscribe_success",
            f"operator-{subscription.id}-{subscription.last_event_at or 0}",
            now,
            subscription,
            agreement_id=read.values.get("current_agreement_id", named) if licensed else None,
            reason=reason,
        )

    def _planned(self, read: Stored, word: Notification, now: int) -> Change:
        if read.subscription.status_at(now) == "closing":
            raise CommandRefusedError(
                f"{read.subscription.id} is closing: AWS has ended it; a new activation of AWS's brings it back"
            )
        planned = change(read.subscription.id, read, [word], now)
        if planned.state.status != "active":
            start = planned.state.expected_start
            starts = "" if start is None else f": its agreement starts at {iso(start)}"
            raise CommandRefusedError(f"{read.subscription.id} would stay {planned.state.status}{starts}")
        return planned

    def _look_again(self, subscription_id: str) -> None:
        if self._queue is not None:
            self._queue.look_again(subscription_id, recheck.RECONCILED)


def _shown(granted: Entitlement) -> str:
    until = "" if granted.expires_at is None else f" until {iso(granted.expires_at)}"
    return f"{granted.dimension}={granted.value}{until}"


def main(arguments: Sequence[str], show: Callable[[str], object] = sys.stdout.write) -> int:
    """The command in the module's docstring. Returns the exit status: 2 when the customer can't be activated or AWS did
    not answer, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m marketplace.commands.activation", description=__doc__)
    parser.add_argument("--table", required=True, help="the subscriptions table")
    parser.add_argument("--subscription", required=True, help="the id of the subscription")
    parser.add_argument("--reason", required=True, help="why it is known to be active; it is kept")
    parser.add_argument("--queue-url", help="the URL of the notification queue")
    parser.add_argument("--write", action="store_true", help="activate it")
    add_seller_role(parser)
    given = parser.parse_args(arguments)
    require_queue_and_reason(parser, given)
    return in_sentences(lambda: _run(given, show), show)


def add_seller_role(parser: argparse.ArgumentParser) -> None:
    """The options of a command that asks AWS Marketplace, for a product that another account published."""
    parser.add_argument("--seller-role-arn", help="the deployment's parameter SellerRoleArn")
    parser.add_argument("--external-id", default="", help="the deployment's parameter SellerRoleExternalId")


def given_seller_role(given: argparse.Namespace) -> SellerRole | None:
    """The role of these options."""
    return SellerRole(given.seller_role_arn, given.external_id) if given.seller_role_arn else None


def require_queue_and_reason(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the command if something is to be written without a queue, or if the reason is blank."""
    if given.write and not given.queue_url:
        parser.error("--write needs --queue-url: what follows from a change is done by a recheck")
    if given.reason is not None and not given.reason.strip():
        parser.error("--reason must not be blank")


def _run(given: argparse.Namespace, show: Callable[[str], object]) -> int:
    queue = Requests(clients.sqs(), given.queue_url) if given.queue_url else None
    activation = Activation(SubscriptionStore(Table(clients.dynamodb(), given.table)), utc_now, queue)
    subscription = activation.check(given.subscription).subscription
    answer = asked(
        MarketplaceEntitlements(clients.entitlement(given_seller_role(given))), subscription, epoch(utc_now())
    )
    show(f"{subscription.id}: {subscription.status}, product {subscription.product_code}; {answer}\n")
    if answer.refusal is not None:
        raise CommandRefusedError("AWS does not know this customer of this product")
    if not given.write:
        show("nothing is written without --write\n")
        return 0
    activated = activation.write(subscription.id, given.reason.strip())
    show("activated\n" if activated else "it is active already\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
