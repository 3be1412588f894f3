"""The one place where AWS clients are made: regions, timeouts, retries and whose credentials are decided here.

They come from botocore's session. boto3's clients are the same objects; importing boto3 would also load s3transfer and
multiprocessing, which no function uses (docs/decisions, 0078). The clients of AWS Marketplace take the seller's role,
which they call with; without one they call as the function.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials

from marketplace.platform.seller_role import METHOD, SellerRole, credentials

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_marketplace_agreement import AgreementServiceClient
    from mypy_boto3_marketplace_entitlement import MarketplaceEntitlementServiceClient
    from mypy_boto3_meteringmarketplace import MarketplaceMeteringClient
    from mypy_boto3_sqs import SQSClient

    new_client = boto3.client
else:

    def new_client(service: str, **given: Any) -> Any:
        """A client with the options of boto3's `client`, whose types it has."""
        return session().create_client(service, **given)


@cache
def session() -> botocore.session.Session:
    """One session for all clients: it holds what they share, the data of AWS's endpoints and the credentials."""
    return botocore.session.get_session()


MARKETPLACE_REGION = "us-east-1"
"""GetEntitlements and the agreement API exist here only (Seller Guide: checking entitlements; botocore endpoints);
botocore would build a host name for any other region."""


def dynamodb() -> "DynamoDBClient":
    """The SDK's check of every attribute against the service model is off: it costs a third of the CPU of a metering
    run (docs/performance.md), and requests are made by a few modules whose tests run with the check on."""
    return new_client(
        "dynamodb",
        config=Config(
            parameter_validation=False,
            connect_timeout=2,
            read_timeout=5,
            retries={"mode": "standard", "total_max_attempts": 4},
            max_pool_connections=32,
            tcp_keepalive=True,
        ),
    )


def sqs() -> "SQSClient":
    return new_client("sqs", config=_patient())


def events() -> "EventBridgeClient":
    return new_client("events", config=_patient())


def sts() -> Any:
    """For AssumeRole, at the endpoint of the function's own region. A buyer may wait for it."""
    config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3})
    make: Any = new_client  # the stubs of this service are not among the project's
    return make("sts", config=config)


def metering_without_retries(
    region: str, connections: int = 8, seller: SellerRole | None = None
) -> "MarketplaceMeteringClient":
    """For BatchMeterUsage: the SDK's own retries are off, so that every attempt is ours to see and to account for."""
    client: MarketplaceMeteringClient = _client_of(seller)(
        "meteringmarketplace",
        region_name=region,
        config=Config(
            connect_timeout=3,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=connections,
            tcp_keepalive=True,
        ),
    )
    return client


def metering_for_registration(
    seller: SellerRole | None = None, region: str = MARKETPLACE_REGION
) -> "MarketplaceMeteringClient":
    """For ResolveCustomer: a buyer waits for the answer, so it tries briefly. Repeating it is safe: the same token
    gives the same answer (Seller Guide: saas-product-customer-setup)."""
    client: MarketplaceMeteringClient = _client_of(seller)(
        "meteringmarketplace",
        region_name=region,
        config=Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 2}),
    )
    return client


def cloudtrail(region: str) -> Any:
    """For LookupEvents in the region that usage is sent to. Its caller paces and repeats the calls."""
    make: Any = new_client  # the stubs of this service are not among the project's
    return make(
        "cloudtrail",
        region_name=region,
        config=Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3}),
    )


def s3() -> Any:
    """For the archive's bucket, which is in the function's own region."""
    make: Any = new_client  # the stubs of this service are not among the project's
    return make(
        "s3", config=Config(connect_timeout=2, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
    )


def entitlement(seller: SellerRole | None = None) -> "MarketplaceEntitlementServiceClient":
    client: MarketplaceEntitlementServiceClient = _client_of(seller)(
        "marketplace-entitlement", region_name=MARKETPLACE_REGION, config=_patient()
    )
    return client


def entitlement_while_waiting(seller: SellerRole | None = None) -> "MarketplaceEntitlementServiceClient":
    """For GetEntitlements while the seller's application waits for an answer: it tries for seven seconds at most."""
    client: MarketplaceEntitlementServiceClient = _client_of(seller)(
        "marketplace-entitlement",
        region_name=MARKETPLACE_REGION,
        config=Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}),
    )
    return client


def agreement(seller: SellerRole | None = None) -> "AgreementServiceClient":
    client: AgreementServiceClient = _client_of(seller)(
        "marketplace-agreement", region_name=MARKETPLACE_REGION, config=_patient()
    )
    return client


def agreement_while_waiting(seller: SellerRole | None = None) -> "AgreementServiceClient":
    """For DescribeAgreement while the seller's application waits for a claim, which is made without its answer too: it
    tries once."""
    client: AgreementServiceClient = _client_of(seller)(
        "marketplace-agreement",
        region_name=MARKETPLACE_REGION,
        config=Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1}),
    )
    return client


class _OfSeller(CredentialProvider):
    """Gives botocore the credentials of the seller's role."""

    METHOD = METHOD

    def __init__(self, role: SellerRole) -> None:
        super().__init__()
        self._role = role

    def load(self) -> Credentials:
        return credentials(self._role, sts())


@cache
def _session_of(seller: SellerRole) -> botocore.session.Session:
    """One session for all clients, so that they share credentials."""
    core = botocore.session.get_session()
    core.register_component("credential_provider", CredentialResolver([_OfSeller(seller)]))
    return core


def _client_of(seller: SellerRole | None) -> Any:
    """Makes clients that call as the seller's role, or as the function."""
    return new_client if seller is None else _session_of(seller).create_client


def _patient() -> Config:
    return Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
