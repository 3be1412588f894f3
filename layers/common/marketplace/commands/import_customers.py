"""Takes over customers that a seller has already: they subscribed before this deployment, so no notification of AWS
Marketplace about them will come, and they have no reason to register again.

The file (marketplace.commands.customer_file has its form) is checked as a whole; nothing is written if a line is wrong.
Then AWS is asked about each customer (GetEntitlements), and one that it refuses to answer for is left out. The others
become pending subscriptions, unless they are known. A customer whom AWS grants something is activated by the recheck
that this requests, and so is a licence that the agreement API shows as provisioned. Of a legacy customer without a
contract AWS says nothing: --activate activates all customers of the file, with a reason that is kept.

Nothing is written without --write; running it again changes nothing that is done. From a shell with credentials for the
table:

    python -m marketplace.commands.import_customers --table TABLE --file FILE --product-codes CODE,CODE
        [--activate --reason TEXT] [--queue-url URL --write]
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from marketplace.commands.activation import (
    Activation,
    AwsAnswer,
    Rechecks,
    add_seller_role,
    asked,
    given_seller_role,
    require_queue_and_reason,
)
from marketplace.commands.customer_file import Customer, CustomerFileError, customers_of
from marketplace.commands.shell import CommandRefusedError, in_sentences
from marketplace.dynamodb.table import Table
from marketplace.entitlements.source import EntitlementSource, MarketplaceEntitlements
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform import clients
from marketplace.platform.clock import Clock, epoch, utc_now
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Status
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.waiting import waits

SECONDS_BETWEEN_QUESTIONS = 0.1
"""GetEntitlements allows 20 calls a second in an account; the running application needs its share of them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A customer, the status of their subscription if it is known already, and what AWS says of them."""

    customer: Customer
    status: Status | None
    answer: AwsAnswer

    def __str__(self) -> str:
        known = "new" if self.status is None else f"known, {self.status}"
        who = self.customer.subscription
        return f"line {self.customer.line}: {who.id} ({known}): {self.answer}"


class Import:
    """The use case."""

    def __init__(self, store: SubscriptionStore, source: EntitlementSource, clock: Clock) -> None:
        self._store = store
        self._source = source
        self._clock = clock

    def look(self, customer: Customer) -> Found:
        """What is known of the customer, here and at AWS. Writes nothing. Raises AwsError."""
        stored = self._store.read(customer.identity.subscription_id)
        now = epoch(self._clock())
        status = None if stored is None else stored.subscription.status_at(now)
        return Found(customer, status, asked(self._source, customer.subscription, now))

    def write(self, found: Found, queue: Rechecks) -> None:
        """Stores the customer as a pending subscription, unless there is one, and requests the recheck of one that is
        pending. Raises AwsError: write it again."""
        subscription, now = found.customer.subscription, epoch(self._clock())
        values = {
            "id": subscription.id,
            "integration": subscription.integration,
            "product_code": subscription.product_code,
            "license_arn": subscription.license_arn,
            "customer_identifier": subscription.customer_identifier,
            "account_id": subscription.account_id,
            "status": "pending",
            "imported_at": now,
            **waits("registration", now),
        }
        if found.status is None:
            # One that was stored since it was looked for stays as it is.
            self._store.write(subscription.id, read=None, changes=values, defaults={})
        if found.status in {None, "pending"}:
            queue.look_again(subscription.id, recheck.REGISTERED)


def main(arguments: Sequence[str], show: Callable[[str], object] = sys.stdout.write) -> int:
    """The command in the module's docstring. Returns the exit status: 1 when customers were left out, 2 when the file
    can't be used or AWS did not answer, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m marketplace.commands.import_customers", description=__doc__)
    parser.add_argument("--table", required=True, help="the subscriptions table")
    parser.add_argument("--file", required=True, help="the customers, comma-separated")
    parser.add_argument("--product-codes", required=True, help="the deployment's parameter ProductCodes")
    parser.add_argument("--activate", action="store_true", help="activate every customer of the file")
    parser.add_argument("--reason", help="with --activate: why they are known to be active; it is kept")
    parser.add_argument("--queue-url", help="the URL of the notification queue")
    parser.add_argument("--write", action="store_true", help="import them")
    add_seller_role(parser)
    given = parser.parse_args(arguments)
    if given.activate != (given.reason is not None):
        parser.error("--activate needs --reason, and --reason needs --activate")
    require_queue_and_reason(parser, given)
    return in_sentences(lambda: _run(given, show), show)


def _run(given: argparse.Namespace, show: Callable[[str], object]) -> int:
    customers = _read(given.file, given.product_codes.split(","))
    store = SubscriptionStore(Table(clients.dynamodb(), given.table))
    use_case = Import(store, MarketplaceEntitlements(clients.entitlement(given_seller_role(given))), utc_now)
    queue = Requests(clients.sqs(), given.queue_url) if given.write else None
    activation = Activation(store, utc_now, queue)
    counts: Counter[str] = Counter()
    for customer in customers:
        found = use_case.look(customer)
        show(f"{found}\n")
        if found.answer.refusal is not None:
            counts["left out"] += 1
        elif queue is None:
            counts["new" if found.status is None else "known"] += 1
        else:
            use_case.write(found, queue)
            counts["imported" if found.status is None else "known"] += 1
            if given.activate:
                counts["activated"] += _activate(activation, customer, given.reason.strip(), show)
        time.sleep(SECONDS_BETWEEN_QUESTIONS)
    show(f"{len(customers)} customers: {', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}\n")
    if queue is None:
        show("nothing is written without --write\n")
    return int(counts["left out"] > 0)


def _activate(activation: Activation, customer: Customer, reason: str, show: Callable[[str], object]) -> bool:
    try:
        return activation.write(customer.identity.subscription_id, reason)
    except CommandRefusedError as refusal:
        show(f"line {customer.line}: not activated: {refusal}\n")
        return False


def _read(file: str, product_codes: Sequence[str]) -> list[Customer]:
    try:
        return customers_of(Path(file).read_bytes(), product_codes)
    except OSError as error:
        raise CommandRefusedError(f"the file can't be read: {error}") from error
    except CustomerFileError as error:
        raise CommandRefusedError(f"nothing is imported from {file}:\n{error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
