"""The wire: AWS JSON 1.0 and 1.1 by X-Amz-Target, answers, errors, and calls that get no answer.

Source: service models of meteringmarketplace, marketplace-entitlement, marketplace-agreement and cloudtrail (botocore):
target prefix, JSON version, `__type` errors, HTTP status per exception.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from marketplace_emulator.errors import ServiceError, serialization

METERING = "AWSMPMeteringService"
ENTITLEMENT = "AWSMPEntitlementService"
AGREEMENT = "AWSMPCommerceService_v20200301"
CLOUDTRAIL = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"

TARGETS = {
    f"{METERING}.ResolveCustomer": "ResolveCustomer",
    f"{METERING}.BatchMeterUsage": "BatchMeterUsage",
    f"{ENTITLEMENT}.GetEntitlements": "GetEntitlements",
    f"{AGREEMENT}.SearchAgreements": "SearchAgreements",
    f"{AGREEMENT}.DescribeAgreement": "DescribeAgreement",
    f"{AGREEMENT}.GetAgreementTerms": "GetAgreementTerms",
    f"{AGREEMENT}.GetAgreementEntitlements": "GetAgreementEntitlements",
    f"{AGREEMENT}.ListAgreementInvoiceLineItems": "ListAgreementInvoiceLineItems",
    f"{AGREEMENT}.BatchCreateBillingAdjustmentRequest": "BatchCreateBillingAdjustmentRequest",
    f"{AGREEMENT}.GetBillingAdjustmentRequest": "GetBillingAdjustmentRequest",
    f"{AGREEMENT}.ListBillingAdjustmentRequests": "ListBillingAdjustmentRequests",
    f"{CLOUDTRAIL}.LookupEvents": "LookupEvents",
}
OPERATIONS = tuple(TARGETS.values())
AGREEMENT_OPERATIONS = tuple(name for target, name in TARGETS.items() if target.startswith(AGREEMENT))

_SERVICES = {
    METERING: ("metering-marketplace", "aws-marketplace"),
    ENTITLEMENT: ("entitlement-marketplace", "aws-marketplace"),
    AGREEMENT: ("agreement-marketplace", "aws-marketplace"),
    CLOUDTRAIL: ("cloudtrail", "cloudtrail"),
}
"""The name of a service in the events of CloudTrail, and in a signature."""
EVENT_SOURCES = {name: f"{_SERVICES[target.rpartition('.')[0]][0]}.amazonaws.com" for target, name in TARGETS.items()}


def signing_name(target: str) -> str:
    """Return the service that a call of this target is signed for."""
    return _SERVICES.get(target.rpartition(".")[0], ("", "aws-marketplace"))[1]


_HEADERS = {
    "1.0": {"Content-Type": "application/x-amz-json-1.0"},
    "1.1": {"Content-Type": "application/x-amz-json-1.1"},
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    delay_seconds: float = field(default=0.0, kw_only=True)
    truncated: bool = field(default=False, kw_only=True)

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error code; empty if the call succeeded."""
        return "" if self.status < 400 else self.headers.get("x-amzn-errortype", str(self.status))


@dataclass(frozen=True, slots=True)
class Drop:
    """No answer. The connection closes at once (`closed`) or after `seconds` without data (`timeout`).

    `accepted` says whether the call was carried out before the answer was lost.
    """

    accepted: bool
    kind: Literal["closed", "timeout"] = "closed"
    seconds: float = 0.0


type Answer = Reply | Drop


def json_version(target: str) -> str:
    """Return the JSON version of a target: 1.0 for the agreement service, 1.1 for the others."""
    return "1.0" if target.startswith(AGREEMENT) else "1.1"


def internal_error(target: str) -> str:
    """Return the code with which a target's service answers an error of its own."""
    return "InternalServerException" if target.startswith(AGREEMENT) else "InternalServiceErrorException"


def success(target: str, request_id: str, body: dict[str, Any]) -> Reply:
    """Return a reply with status 200 and a JSON body."""
    headers = {**_HEADERS[json_version(target)], "x-amzn-RequestId": request_id}
    return Reply(200, headers, json.dumps(body, separators=(",", ":")).encode())


def failure(target: str, request_id: str, error: ServiceError) -> Reply:
    """Return an AWS error: `__type` and `message` in the body, and the code in x-amzn-errortype."""
    headers = {
        **_HEADERS[json_version(target)],
        "x-amzn-RequestId": request_id,
        "x-amzn-errortype": error.code,
    }
    body = {"__type": error.code, "message": error.message, **error.members}
    return Reply(error.status, headers, json.dumps(body).encode())


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request. Raises ServiceError (SerializationException)."""
    try:
        data = json.loads(body or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise serialization("the body is not JSON") from None
    if not isinstance(data, dict):
        raise serialization("the body is not a JSON object")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
