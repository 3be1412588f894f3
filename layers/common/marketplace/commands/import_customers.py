"""Takes over customers that a seller has already: they subscribed before this deployment, so no notification of AWS
Marketplace about them will come, and they have no reason to register again.

The file (marketplace.commands.customer_file has its form) is checked as a whole; nothing is written if a line is wrong.
Then AWS is asked about each customer (GetEntitlements), and one that it refuses to answer for is left out. The others
become pending subscriptions, unless they are known. A customer whom AWS grants something is activated by the recheck
that this requests, and so is a licence that the agreement API shows as provisioned. Of a legacy customer without a
contract AWS says nothing: an operator may activate all customers of the file, with a reason that is kept. Importing a
file again changes nothing that is done.
"""

from dataclasses import dataclass

from marketplace.commands.activation import AwsAnswer, Rechecks, asked
from marketplace.commands.customer_file import Customer
from marketplace.entitlements.source import EntitlementSource
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform.clock import Clock, epoch
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Status
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
