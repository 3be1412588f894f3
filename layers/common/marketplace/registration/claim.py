"""Claiming: the seller's application takes a registered subscription for one of its tenants.

A subscription has one tenant for good. A buyer's AWS account has one too, unless the seller says that tenants share it;
a further licence of the same account goes to the same tenant. Both rules are conditions of the one transaction that
claims, so they hold however many claim at once.
"""

import re
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_item
from marketplace.dynamodb.table import Table, Update
from marketplace.dynamodb.transactions import Write
from marketplace.platform.clock import Clock, epoch
from marketplace.registration.codes import RegistrationCodes
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id

_TENANT = re.compile(r"\S(.*\S)?")

_NO_OTHER_TENANT = "attribute_exists(pk) AND (attribute_not_exists(tenant_id) OR tenant_id = :tenant_id)"
_ACCOUNT_NOT_LINKED_ELSEWHERE = "attribute_not_exists(tenants) OR contains(tenants, :tenant)"


def _printable(text: str) -> str:
    if not text.isprintable() or not _TENANT.fullmatch(text):
        raise ValueError("must be printable characters without a space at either end")
    return text


type TenantId = Annotated[
    str,
    Field(min_length=1, max_length=128, strict=True, description="Printable characters without a space at either end."),
    AfterValidator(_printable),
]


class Claim(BaseModel, frozen=True, extra="forbid"):
    """What the seller's application asks for. `share_account`: other tenants may belong to the same AWS account."""

    tenant_id: TenantId
    share_account: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """The subscription is the tenant's, as of this claim or an earlier one."""

    subscription_id: str


class UnknownRegistrationError(Exception):
    """The code is unknown or has expired."""


class ClaimedByAnotherTenantError(Exception):
    """The subscription is another tenant's."""

    def __init__(self, subscription_id: str) -> None:
        super().__init__(subscription_id)
        self.subscription_id = subscription_id


class AccountLinkedToAnotherTenantError(Exception):
    """The buyer's account is linked to `tenants`, and sharing it was not allowed."""

    def __init__(self, subscription_id: str, tenants: tuple[str, ...]) -> None:
        super().__init__(subscription_id)
        self.subscription_id = subscription_id
        self.tenants = tenants


class Claims:
    """The use case: one transaction per claim."""

    def __init__(self, *, table: Table, codes: RegistrationCodes, queue: Requests, clock: Clock) -> None:
        self._table = table
        self._codes = codes
        self._queue = queue
        self._clock = clock
        self._subscriptions = SubscriptionReader(table)

    def claim(self, code: str, claim: Claim) -> Claimed:
        """Claims the subscription that the code opens; repeating it is safe as long as the code lives.

        Raises UnknownRegistrationError, ClaimedByAnotherTenantError, AccountLinkedToAnotherTenantError, and AwsError,
        after which the claim may or may not have been made: repeat it.
        """
        subscription_id = self._codes.subscription_of(code)
        subscription = self._subscriptions.get_many([subscription_id]).get(subscription_id) if subscription_id else None
        if subscription is None:
            raise UnknownRegistrationError
        if subscription.tenant_id is None:
            self._write(subscription, claim)
        elif subscription.tenant_id != claim.tenant_id:
            raise ClaimedByAnotherTenantError(subscription.id)
        # A repetition requests it too: the first claim may have crashed between its transaction and this.
        self._queue.look_again(subscription.id, recheck.CLAIMED)
        return Claimed(subscription.id)

    def _write(self, subscription: Subscription, claim: Claim) -> None:
        refusal = self._table.write_together(self._writes(subscription, claim, epoch(self._clock())))
        if refusal is None:
            return
        if refusal.index == 0:
            raise ClaimedByAnotherTenantError(subscription.id)
        raise AccountLinkedToAnotherTenantError(subscription.id, tuple(sorted(refusal.found.get("tenants", ()))))

    def _writes(self, subscription: Subscription, claim: Claim, now: int) -> list[Write]:
        tenant_link = {
            **keys.tenant_subscription(claim.tenant_id, subscription.id)._asdict(),
            "tenant_id": claim.tenant_id,
            "subscription_id": subscription.id,
        }
        take = Update(
            set={"tenant_id": claim.tenant_id},
            keep={"claimed_at": now},
            add={"version": 1},
            condition=_NO_OTHER_TENANT,
        )
        writes = [
            self._table.update_action(keys.subscription(subscription.id), take),
            self._table.put_action(to_item(tenant_link)),
            self._table.put_action(outbox_item(subscription.id, _completed(subscription, claim, now))),
        ]
        buyer = subscription.account_id or subscription.customer_identifier
        if buyer:
            writes.append(self._account_link(buyer, claim))
        return writes

    def _account_link(self, buyer: str, claim: Claim) -> Write:
        link = Update(add={"tenants": frozenset({claim.tenant_id})})
        if not claim.share_account:
            link = replace(link, condition=_ACCOUNT_NOT_LINKED_ELSEWHERE, given={"tenant": claim.tenant_id})
        return self._table.update_action(keys.account_tenants(buyer), link, tell=not claim.share_account)


def _completed(subscription: Subscription, claim: Claim, now: int) -> SellerEvent:
    detail = {
        "subscription_id": subscription.id,
        "tenant_id": claim.tenant_id,
        "product_code": subscription.product_code,
    }
    return SellerEvent(
        "Registration Completed", stable_id("Registration Completed", subscription.id, claim.tenant_id), now, detail
    )
