"""The one place where boto3 clients are made: regions, timeouts and retries are decided here."""

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_marketplace_agreement import AgreementServiceClient
    from mypy_boto3_marketplace_entitlement import MarketplaceEntitlementServiceClient
    from mypy_boto3_meteringmarketplace import MarketplaceMeteringClient
    from mypy_boto3_sqs import SQSClient

MARKETPLACE_REGION = "us-east-1"
"""GetEntitlements and the agreement API exist here only (Seller Guide: checking entitlements; botocore endpoints);
boto3 would build a host name for any other region."""


def dynamodb() -> "DynamoDBClient":
    """The SDK's check of every attribute against the service model is off: it costs a third of the CPU of a metering
    run (docs/performance.md), and requests are made by a few modules whose tests run with the check on."""
    return boto3.client(
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
    return boto3.client("sqs", config=_patient())


def events() -> "EventBridgeClient":
    return boto3.client("events", config=_patient())


def metering_without_retries(region: str, connections: int = 8) -> "MarketplaceMeteringClient":
    """For BatchMeterUsage: the SDK's own retries are off, so that every attempt is ours to see and to account for."""
    return boto3.client(
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


def metering_for_registration(region: str = MARKETPLACE_REGION) -> "MarketplaceMeteringClient":
    """For ResolveCustomer: a buyer waits for the answer, so it tries briefly. Repeating it is safe: the same token
    gives the same answer (Seller Guide: saas-product-customer-setup)."""
    return boto3.client(
        "meteringmarketplace",
        region_name=region,
        config=Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 2}),
    )


def cloudtrail(region: str) -> Any:
    """For LookupEvents in the region that usage is sent to. Its caller paces and repeats the calls."""
    make: Any = boto3.client
    return make(
        "cloudtrail",
        region_name=region,
        config=Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3}),
    )


def entitlement() -> "MarketplaceEntitlementServiceClient":
    return boto3.client("marketplace-entitlement", region_name=MARKETPLACE_REGION, config=_patient())


def entitlement_while_waiting() -> "MarketplaceEntitlementServiceClient":
    """For GetEntitlements while the seller's application waits for an answer: it tries for seven seconds at most."""
    return boto3.client(
        "marketplace-entitlement",
        region_name=MARKETPLACE_REGION,
        config=Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}),
    )


def agreement() -> "AgreementServiceClient":
    return boto3.client("marketplace-agreement", region_name=MARKETPLACE_REGION, config=_patient())


def agreement_while_waiting() -> "AgreementServiceClient":
    """For DescribeAgreement while the seller's application waits for a claim, which is made without its answer too: it
    tries once."""
    return boto3.client(
        "marketplace-agreement",
        region_name=MARKETPLACE_REGION,
        config=Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1}),
    )


def _patient() -> Config:
    return Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
