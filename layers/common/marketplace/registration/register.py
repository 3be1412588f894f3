"""A buyer's registration: AWS Marketplace's token becomes a stored subscription and a one-time code.

One transaction writes the subscription, the join to its agreement, the code and the event for the seller; then the
notification queue is asked to look at the subscription. All of it may be repeated: the same token gives the same
subscription and a fresh code, and what a crash left undone is done by the buyer's next attempt.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import to_attribute, to_item
from marketplace.dynamodb.transactions import Write, write_together
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import InvalidParameterError, InvalidTokenError, NoAnswerError
from marketplace.registration.codes import code_item
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
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
        """What is stored of the buyer, and told to the seller; never what the browser said."""
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
    """The use case. `new_code` gives an unguessable, URL-safe text; `sleep` (seconds) and `jitter` (0 to 1) are what
    waiting for another writer is done with."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        client: "DynamoDBClient",
        table: str,
        queue: Requests,
        product_codes: frozenset[str],
        clock: Clock,
        new_code: Callable[[], str],
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._resolver = resolver
        self._client = client
        self._table = table
        self._queue = queue
        self._product_codes = product_codes
        self._clock = clock
        self._new_code = new_code
        self._sleep = sleep
        self._jitter = jitter

    def register(self, token: str) -> Registered:
        """Resolves the token and stores who its bearer is; three calls to AWS.

        Raises ExpiredTokenError, InvalidTokenError, ProductNotOfferedError, or another AwsError, after which the buyer
        may try again with the same token.
        """
        customer = self._resolver.resolve(token)
        if customer.product_code not in self._product_codes:
            raise ProductNotOfferedError
        subscription_id = customer.identity.subscription_id
        code = self._new_code()
        writes = self._writes(customer, subscription_id, code, epoch(self._clock()))
        write_together(self._client, writes, self._sleep, self._jitter)
        self._queue.look_again(subscription_id, recheck.REGISTERED, agreement_id=customer.agreement_id)
        return Registered(code, subscription_id)

    def _writes(self, customer: ResolvedCustomer, subscription_id: str, code: str, now: int) -> list[Write]:
        event = SellerEvent(
            "Registration Resolved",
            stable_id("Registration Resolved", subscription_id, customer.agreement_id or ""),
            now,
            {"subscription_id": subscription_id, **customer.values, "agreement_id": customer.agreement_id},
        )
        writes = [
            _subscription_update(self._table, customer, subscription_id, now),
            {"Put": {"TableName": self._table, "Item": code_item(code, subscription_id, now)}},
            {"Put": {"TableName": self._table, "Item": outbox_item(subscription_id, event)}},
        ]
        if customer.agreement_id:
            join = keys.agreement_subscription(customer.agreement_id, subscription_id)
            item = to_item({**join._asdict(), "subscription_id": subscription_id})
            writes.append({"Put": {"TableName": self._table, "Item": item}})
        return writes


def _subscription_update(table: str, customer: ResolvedCustomer, subscription_id: str, now: int) -> Write:
    """Who the buyer is, as AWS says now; the tenant and whatever the lifecycle has found out stay as they are.

    An agreement that is already listed may not be listed twice and is not read first, so only the first one is written
    here; a later one reaches the list through its join item when the subscription is looked at again.
    """
    identity = customer.values
    kept: dict[str, Any] = {"status": "pending", "registered_at": now}
    if customer.agreement_id:
        kept["agreement_ids"] = [customer.agreement_id]
    assignments = [f"#{name} = :{name}" for name in identity]
    assignments += [f"#{name} = if_not_exists(#{name}, :{name})" for name in kept]
    values = {"id": subscription_id, **identity, **kept}
    return {
        "Update": {
            "TableName": table,
            "Key": keys.subscription(subscription_id).item(),
            "UpdateExpression": f"SET #id = :id, {', '.join(assignments)} ADD version :one",
            "ExpressionAttributeNames": {f"#{name}": name for name in values},
            "ExpressionAttributeValues": {
                ":one": {"N": "1"},
                **{f":{name}": to_attribute(value) for name, value in values.items()},
            },
        }
    }
