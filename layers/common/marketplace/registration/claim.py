"""Claims: the seller's application takes a subscription for one of its tenants, and can undo that.

A subscription has one tenant at a time. A claim names the registration code that its buyer brought, or the id of a
subscription. A release takes the tenant away, a transfer puts another in its place; both name the claim that they are
about by its revision, so that no late or repeated request changes a claim that was made after it. Codes from before a
release claim nothing any more.

The subscriptions of a customer who was moved from the legacy integration are one contract: both have the same tenant,
or one of them has none.

A change is one transaction, on the condition that everything is as it was read; otherwise it is read and decided anew.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_item
from marketplace.dynamodb.table import Table, Update
from marketplace.dynamodb.transactions import Write
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import ThrottledError
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError, AccountLinks
from marketplace.registration.claim_history import Action, ChangePage, ClaimChange, ClaimHistory, Via
from marketplace.registration.codes import Opened, RegistrationCodes
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader, as_read
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import Kind, SellerEvent, outbox_item, stable_id

_TENANT = re.compile(r"\S(.*\S)?")
_ROUNDS = 10
_EVENT_OF_ACTION: Mapping[Action, Kind] = {
    "claimed": "Registration Completed",
    "released": "Claim Released",
    "transferred": "Claim Transferred",
}


def _printable(text: str) -> str:
    if not text.isprintable() or not _TENANT.fullmatch(text):
        raise ValueError("must be printable characters without a space at either end")
    return text


def _composed(text: str) -> str:
    """A tenant that is given something for the first time has one spelling. Unicode has two for many letters, which
    look alike and are equal to a person: NFC is the one that browsers and databases use."""
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("must be in Unicode's form NFC")
    return text


type TenantId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        strict=True,
        description="Printable characters without a space at either end; a new one in Unicode's form NFC.",
    ),
    AfterValidator(_printable),
]
type ChangeReason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        strict=True,
        description="Why; kept in the audit trail and told in the event. Printable characters without a space at "
        "either end.",
    ),
    AfterValidator(_printable),
]
type ClaimRevision = Annotated[
    int, Field(ge=0, lt=10**8, strict=True, description="`claim_revision` of the subscription as you know it.")
]
type ShareAccount = Annotated[bool, Field(strict=True, description="Other tenants may belong to the same AWS account.")]


class Claim(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """What the seller's application asks for. `share_account`: other tenants may belong to the same AWS account."""

    tenant_id: TenantId
    share_account: ShareAccount = False

    _new = field_validator("tenant_id")(_composed)


class SubscriptionClaim(Claim, frozen=True):
    """A claim without a registration code. It takes a subscription that was never claimed; after a release it names
    the claim_revision."""

    claim_revision: ClaimRevision = 0
    reason: ChangeReason | None = None


class Release(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """`tenant_id`: whose the subscription is now, and is no longer to be."""

    tenant_id: TenantId
    claim_revision: ClaimRevision
    reason: ChangeReason


class Transfer(Release, frozen=True):
    """`tenant_id`: whose the subscription is now; `to_tenant_id`: whose it is to be, another one."""

    to_tenant_id: TenantId
    share_account: ShareAccount = False

    _new = field_validator("to_tenant_id")(_composed)

    @model_validator(mode="after")
    def _to_another(self) -> Self:
        if self.to_tenant_id == self.tenant_id:
            raise ValueError("to_tenant_id must be another tenant than tenant_id")
        return self


@dataclass(frozen=True, slots=True)
class Claimed:
    """The subscription is the tenant's, as of this claim or an earlier one."""

    subscription_id: str


class UnknownRegistrationError(Exception):
    """The code is unknown, has expired, or was given out before the subscription was released."""


class NotSubscribedError(Exception):
    """There is no such subscription."""


class ClaimedByAnotherTenantError(Exception):
    """The subscription, or the other one of the same contract, is another tenant's."""

    def __init__(self, subscription_id: str) -> None:
        super().__init__(subscription_id)
        self.subscription_id = subscription_id


class ClaimChangedError(Exception):
    """The claim is not, or no longer, as the request says. `tenant_id` and `claim_revision`: as it is now."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__(subscription.id)
        self.subscription_id = subscription.id
        self.tenant_id = subscription.tenant_id
        self.claim_revision = subscription.claim_revision


type _Decision = Callable[[Subscription], ClaimChange | None]
"""The change of the claim that a request makes, None when it is made already. Raises one of the errors above."""


class Claims:
    """The use cases. `caller` is the ARN of the principal that asks. Every method may be repeated, and raises AwsError
    when the change may or may not have been made."""

    def __init__(self, *, table: Table, codes: RegistrationCodes, queue: Requests, clock: Clock) -> None:
        self._table = table
        self._codes = codes
        self._queue = queue
        self._clock = clock
        self._subscriptions = SubscriptionReader(table)
        self._accounts = AccountLinks(table)
        self._history = ClaimHistory(table)

    def subscription_of(self, code: str) -> str:
        """The id of the subscription that the code may claim, or has claimed. Raises UnknownRegistrationError."""
        opened = self._codes.opened_by(code)
        subscription = None if opened is None else self._read(opened.subscription_id)
        if opened is None or subscription is None or _is_spent(opened, subscription):
            raise UnknownRegistrationError
        return subscription.id

    def claim(self, code: str, claim: Claim, caller: str) -> Claimed:
        """Claims the subscription that the code opens.

        Raises UnknownRegistrationError, ClaimedByAnotherTenantError, AccountLinkedToAnotherTenantError.
        """
        opened = self._codes.opened_by(code)
        if opened is None:
            raise UnknownRegistrationError

        def decided(subscription: Subscription) -> ClaimChange | None:
            if _is_spent(opened, subscription):
                raise UnknownRegistrationError
            if subscription.tenant_id == claim.tenant_id:
                return None
            if subscription.tenant_id is not None:
                raise ClaimedByAnotherTenantError(subscription.id)
            return self._change(subscription, "claimed", claim.tenant_id, caller, via="registration")

        try:
            self._carry_out(opened.subscription_id, decided, share_account=claim.share_account)
        except NotSubscribedError as error:
            raise UnknownRegistrationError from error
        return Claimed(opened.subscription_id)

    def claim_subscription(self, subscription_id: str, claim: SubscriptionClaim, caller: str) -> None:
        """Claims a subscription by its id.

        Raises NotSubscribedError, ClaimedByAnotherTenantError, AccountLinkedToAnotherTenantError, and ClaimChangedError
        when the subscription was released since that revision.
        """

        def decided(subscription: Subscription) -> ClaimChange | None:
            if subscription.tenant_id == claim.tenant_id:
                return None
            if subscription.tenant_id is not None:
                raise ClaimedByAnotherTenantError(subscription.id)
            if subscription.claim_revision != claim.claim_revision:
                raise ClaimChangedError(subscription)
            return self._change(subscription, "claimed", claim.tenant_id, caller, reason=claim.reason)

        self._carry_out(subscription_id, decided, share_account=claim.share_account)

    def release(self, subscription_id: str, release: Release, caller: str) -> None:
        """Takes the subscription away from its tenant; nobody has it then.

        Raises NotSubscribedError, and ClaimChangedError when the tenant or the revision is another one.
        """

        def decided(subscription: Subscription) -> ClaimChange | None:
            change = self._change(subscription, "released", None, caller, reason=release.reason)
            return self._unless_done(subscription, change, release)

        self._carry_out(subscription_id, decided)

    def transfer(self, subscription_id: str, transfer: Transfer, caller: str) -> None:
        """Takes the subscription from its tenant and gives it to another one.

        Raises NotSubscribedError, AccountLinkedToAnotherTenantError, ClaimChangedError as `release` does, and
        ClaimedByAnotherTenantError when the other subscription of the contract belongs to a third tenant.
        """

        def decided(subscription: Subscription) -> ClaimChange | None:
            change = self._change(subscription, "transferred", transfer.to_tenant_id, caller, reason=transfer.reason)
            return self._unless_done(subscription, change, transfer)

        self._carry_out(subscription_id, decided, share_account=transfer.share_account)

    def changes(self, subscription_id: str, *, cursor: str | None, limit: int) -> ChangePage:
        """The audit trail of a subscription's claim, the newest change first. Raises InvalidCursorError."""
        return self._history.page(subscription_id, cursor=cursor, limit=limit)

    def _change(
        self,
        subscription: Subscription,
        action: Action,
        tenant_id: str | None,
        caller: str,
        *,
        via: Via = "subscription",
        reason: str | None = None,
    ) -> ClaimChange:
        return ClaimChange(
            revision=subscription.claim_revision + 1,
            action=action,
            tenant_id=tenant_id,
            previous_tenant_id=subscription.tenant_id,
            at=epoch(self._clock()),
            caller=caller,
            via=via,
            reason=reason,
        )

    def _unless_done(self, subscription: Subscription, change: ClaimChange, request: Release) -> ClaimChange | None:
        """The change, if the claim is the one that the request names; None if the request was carried out before."""
        if (subscription.tenant_id, subscription.claim_revision) == (request.tenant_id, request.claim_revision):
            return change
        done = self._history.get(subscription.id, request.claim_revision + 1)
        asked = (change.action, request.tenant_id, change.tenant_id)
        if done is None or (done.action, done.previous_tenant_id, done.tenant_id) != asked:
            raise ClaimChangedError(subscription)
        return None

    def _carry_out(self, subscription_id: str, decided: _Decision, *, share_account: bool = False) -> None:
        for _ in range(_ROUNDS):
            subscription = self._read(subscription_id)
            if subscription is None:
                raise NotSubscribedError
            change = decided(subscription)
            other = self._other_of_contract(subscription)
            try:
                made = change is None or self._write(subscription, other, change, share_account=share_account)
            except AccountLinkedToAnotherTenantError:
                if self._read(subscription_id) == subscription:
                    raise
                continue  # the account was linked by a claim of this subscription, which is to be answered then
            if made:
                # A repetition requests it too: the first request may have crashed between its transaction and this.
                for one in filter(None, (subscription, other)):
                    self._queue.look_again(one.id, recheck.CLAIMED)
                return
        raise ThrottledError("SubscriptionInUse", "others kept changing it at the same time")

    def _read(self, subscription_id: str) -> Subscription | None:
        return self._subscriptions.get_many([subscription_id]).get(subscription_id)

    def _other_of_contract(self, subscription: Subscription) -> Subscription | None:
        other_id = subscription.migrated_to or subscription.migrated_from
        return None if other_id is None else self._read(other_id)

    def _write(
        self, subscription: Subscription, other: Subscription | None, change: ClaimChange, *, share_account: bool
    ) -> bool:
        """Makes the change, of both subscriptions of a contract if both are the tenant's. False when one of them is no
        longer as it was read."""
        moved, writes = {subscription.id: subscription}, []
        if other is not None and other.tenant_id is not None:
            if other.tenant_id == change.previous_tenant_id:
                moved[other.id] = other
            elif change.tenant_id not in {None, other.tenant_id}:
                raise ClaimedByAnotherTenantError(subscription.id)
        if other is not None and other.id not in moved:
            writes.append(self._beside(other, change))
        writes += self._accounts.writes(
            list(moved.values()),
            leaving=change.previous_tenant_id,
            joining=change.tenant_id,
            share_account=share_account,
        )
        for one in moved.values():
            writes += self._moving(one, replace(change, revision=one.claim_revision + 1))
        return self._table.write_together(writes) is None

    def _beside(self, other: Subscription, change: ClaimChange) -> Write:
        """What a change writes of the other subscription of the contract, which does not take part in it: it must be as
        it was read, and after a release its older codes claim nothing either."""
        key, unchanged = keys.subscription(other.id), as_read(other)
        if change.action == "released":
            return self._table.update_action(
                key, Update(set={"released_at": change.at}, add={"version": 1}, **unchanged)
            )
        return self._table.check_action(key, unchanged["condition"], unchanged.get("given", {}))

    def _moving(self, subscription: Subscription, change: ClaimChange) -> list[Write]:
        """What a change writes of one subscription: its tenant, the links, the audit trail and the event."""
        after: dict[str, Any] = {"tenant_id": change.tenant_id, "claim_revision": change.revision}
        after["claimed_at"] = None if change.tenant_id is None else change.at
        if change.tenant_id is None:
            after["released_at"] = change.at
        update = Update(set=after, add={"version": 1}, **as_read(subscription))
        writes = [
            self._table.update_action(keys.subscription(subscription.id), update),
            self._history.writing(subscription.id, change),
            self._table.put_action(outbox_item(subscription.id, _event(subscription, change))),
        ]
        if change.previous_tenant_id is not None:
            writes.append(
                self._table.delete_action(keys.tenant_subscription(change.previous_tenant_id, subscription.id))
            )
        if change.tenant_id is not None:
            link = keys.tenant_subscription(change.tenant_id, subscription.id)._asdict()
            values = {**link, "tenant_id": change.tenant_id, "subscription_id": subscription.id}
            writes.append(self._table.put_action(to_item(values)))
        return writes


def _is_spent(opened: Opened, subscription: Subscription) -> bool:
    """Whether the subscription was released after the code was given out. Whoever holds an older code, or has sent it
    to somebody, is not to undo the release."""
    return subscription.released_at is not None and opened.created_at <= subscription.released_at


def _event(subscription: Subscription, change: ClaimChange) -> SellerEvent:
    kind = _EVENT_OF_ACTION[change.action]
    detail: dict[str, Any] = {
        "subscription_id": subscription.id,
        "tenant_id": change.tenant_id,
        "product_code": subscription.product_code,
        "claim_revision": change.revision,
    }
    if change.action != "claimed":
        detail |= {"previous_tenant_id": change.previous_tenant_id, "reason": change.reason}
    return SellerEvent(kind, stable_id(kind, subscription.id, change.revision), change.at, detail)
