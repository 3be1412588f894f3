"""A buyer's registration: AWS Marketplace's token becomes a stored subscription and a one-time code.

One transaction writes the subscription, the join to its agreement, the code and the event for the seller; then a
recheck of the subscription is requested. All of it may be repeated: the same token gives the same subscription and a
fresh code, and what a crash left undone is done by the buyer's next attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_item
from marketplace.dynamodb.table import Table, Update
from marketplace.dynamodb.transactions import Write
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import InvalidParameterError, InvalidTokenError, NoAnswerError
from marketplace.registration.codes import Opened, code_item
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id
from marketplace.subscriptions.waiting import AWAITED_UNTIL, waits

if TYPE_CHECKING:
    from mypy_boto3_meteringmarketplace import MarketplaceMeteringClient

_MALFORMED = {"ParamValidationError", "ValidationException"}


class ProductNotOfferedError(Exception):
    """The token is genuine but for a product that this deployment doesn't sell."""


@dataclass(frozen=True, slots=True)
class ResolvedCustomer:
    """What AWS Marketplace says about the bearer of a registration token."""

    identity: Identity
    product_code: str
    account_id: str | None
    customer_identifier: str | None
    agreement_id: str | None

    @property
    def values(self) -> dict[str, str]:
        """The attributes that are stored of the buyer and sent to the seller. None comes from the browser."""
        known = {
            "integration": "license" if isinstance(self.identity, LicenseIdentity) else "legacy",
            "product_code": self.product_code,
            "license_arn": self.identity.license_arn if isinstance(self.identity, LicenseIdentity) else None,
            "customer_identifier": self.customer_identifier,
            "account_id": self.account_id,
        }
        return {name: value for name, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration that is stored; `code` opens it for an hour."""

    code: str
    subscription_id: str


class Resolver(Protocol):
    """Asks AWS Marketplace who the bearer of a token is."""

    def resolve(self, token: str) -> ResolvedCustomer: ...


class MarketplaceResolver:
    """ResolveCustomer."""

    def __init__(self, client: "MarketplaceMeteringClient") -> None:
        self._client = client

    def resolve(self, token: str) -> ResolvedCustomer:
        """A new integration's answer carries LicenseArn and no CustomerIdentifier, a legacy one the reverse; for a
        product that was moved over it may carry both, and the licence decides (botocore model, ResolveCustomerResult).

        Raises ExpiredTokenError or InvalidTokenError, which the buyer can act on, or another AwsError.
        """
        try:
            with classified_errors():
                answer: dict[str, Any] = dict(self._client.resolve_customer(RegistrationToken=token))
        except InvalidParameterError as error:
            if error.code in _MALFORMED:
                raise InvalidTokenError(error.code) from error  # the token is the only parameter
            raise
        product_code, license_arn = answer.get("ProductCode"), answer.get("LicenseArn")
        customer_identifier = answer.get("CustomerIdentifier")
        identity: Identity
        if product_code and license_arn:
            identity = LicenseIdentity(license_arn)
        elif product_code and customer_identifier:
            identity = LegacyIdentity(product_code, customer_identifier)
        else:
            raise NoAnswerError("IncompleteAnswer", "ResolveCustomer named no product or no buyer")
        return ResolvedCustomer(
            identity=identity,
            product_code=product_code,
            account_id=answer.get("CustomerAWSAccountId"),
            customer_identifier=customer_identifier,
            agreement_id=(answer.get("Metadata") or {}).get("AgreementId"),
        )


class Registration:
    """The use case. `new_code` returns an unguessable, URL-safe text."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        table: Table,
        queue: Requests,
        product_codes: frozenset[str],
        clock: Clock,
        new_code: Callable[[], str],
    ) -> None:
        self._resolver = resolver
        self._table = table
        self._queue = queue
        self._product_codes = product_codes
        self._clock = clock
        self._new_code = new_code

    def register(self, token: str) -> Registered:
        """Resolves the token and stores who its bearer is, with three calls to AWS.

        Raises ExpiredTokenError, InvalidTokenError, ProductNotOfferedError, or another AwsError, after which the buyer
        may try again with the same token.
        """
        customer = self._resolver.resolve(token)
        if customer.product_code not in self._product_codes:
            raise ProductNotOfferedError
        subscription_id = customer.identity.subscription_id
        code, now = self._new_code(), epoch(self._clock())
        self._table.write_together(self._writes(customer, code, now))
        self._queue.look_again(subscription_id, recheck.REGISTERED, agreement_id=customer.agreement_id)
        return Registered(code, subscription_id)

    def _writes(self, customer: ResolvedCustomer, code: str, now: int) -> list[Write]:
        subscription_id = customer.identity.subscription_id
        event = SellerEvent(
            "Registration Resolved",
            stable_id("Registration Resolved", subscription_id, customer.agreement_id or ""),
            now,
            {"subscription_id": subscription_id, **customer.values, "agreement_id": customer.agreement_id},
        )
        writes = [
            self._table.update_action(keys.subscription(subscription_id), _subscription(customer, now)),
            self._table.put_action(code_item(code, Opened(subscription_id, customer.product_code), now)),
            self._table.put_action(outbox_item(subscription_id, event)),
        ]
        if customer.agreement_id:
            join = keys.agreement_subscription(customer.agreement_id, subscription_id)
            writes.append(self._table.put_action(to_item({**join._asdict(), "subscription_id": subscription_id})))
        return writes


def _subscription(customer: ResolvedCustomer, now: int) -> Update:
    """Who the buyer is, as AWS says now. The tenant and what the lifecycle has written stay as they are.

    It is marked as waiting whatever its status, which is not read first: the recheck that the registration asks for
    removes the mark of one that is not pending. Whoever registers again waits anew, whatever an operator expected.

    An agreement must not be listed twice, and the list is not read first. So only the first agreement is written here;
    a later one reaches the list through its join item, at the recheck that the registration asks for.
    """
    agreements = [customer.agreement_id] if customer.agreement_id else None
    return Update(
        set={"id": customer.identity.subscription_id, AWAITED_UNTIL: None, **customer.values},
        keep={"status": "pending", "registered_at": now, "agreement_ids": agreements, **waits("registration", now)},
        add={"version": 1},
    )
