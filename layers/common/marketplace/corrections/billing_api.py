"""Billing adjustments and invoices of AWS Marketplace's agreement API.

Source: botocore model of marketplace-agreement: ListAgreementInvoiceLineItems, BatchCreateBillingAdjustmentRequest,
GetBillingAdjustmentRequest.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from marketplace.ledger.correction import Correction
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.errors import NoAnswerError, RefusedError
from marketplace.platform.pages import pages

if TYPE_CHECKING:
    from mypy_boto3_marketplace_agreement import AgreementServiceClient

_REFUSED = frozenset({"VALIDATION_EXCEPTION", "RESOURCE_NOT_FOUND_EXCEPTION"})
"""Errors of an entry that say that AWS has made no request of it."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of an agreement, and how much of it can still be given back."""

    agreement_id: str
    id: str
    left: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Created:
    """AWS has made the request."""

    request_id: str


@dataclass(frozen=True, slots=True)
class NotCreated:
    """AWS has made no request, for this reason."""

    message: str


@dataclass(frozen=True, slots=True)
class Status:
    """How far a request is: the model's status, and what AWS says of one that failed."""

    status: Literal["PENDING", "VALIDATION_FAILED", "COMPLETED"]
    message: str = ""


class Billing(Protocol):
    """Asks AWS Marketplace about invoices and for adjustments. Every method raises AwsError."""

    def invoices(self, agreement_id: str, year: int, month: int) -> list[Invoice]: ...

    def create(self, correction: Correction) -> Created | NotCreated: ...

    def status(self, agreement_id: str, request_id: str) -> Status: ...


class BillingApi:
    """The agreement API."""

    def __init__(self, client: "AgreementServiceClient") -> None:
        self._client = client

    def invoices(self, agreement_id: str, year: int, month: int) -> list[Invoice]:
        """The invoices of an agreement for a month; none before AWS has issued one."""
        found = pages(
            self._client.list_agreement_invoice_line_items,
            "nextToken",
            agreementId=agreement_id,
            groupBy="INVOICE_ID",
            invoiceType="INVOICE",
            invoiceBillingPeriod={"month": month, "year": year},
        )
        return [
            Invoice(
                agreement_id,
                line["invoiceId"],
                Decimal(line["pricingCurrencyAmount"]["maxAdjustmentAmount"]),
                line["pricingCurrencyAmount"]["currencyCode"],
            )
            for page in found
            for line in page["agreementInvoiceLineItemGroupSummaries"]
        ]

    def create(self, correction: Correction) -> Created | NotCreated:
        """Asks for the adjustment; the same client token again is the same request. Raises RefusedError when AWS knows
        the token with other content, which leaves open whether it has made a request."""
        entry: Any = {
            "agreementId": correction.agreement_id,
            "originalInvoiceId": correction.invoice_id,
            "adjustmentAmount": correction.amount,
            "currencyCode": correction.currency,
            "adjustmentReasonCode": correction.reason,
            "clientToken": correction.client_token,
        }
        if correction.description is not None:
            entry["description"] = correction.description
        with classified_errors():
            answer = self._client.batch_create_billing_adjustment_request(billingAdjustmentRequestEntries=[entry])
        for item in answer["items"]:
            return Created(item["billingAdjustmentRequestId"])
        for error in answer["errors"]:
            if error["code"] in _REFUSED:
                return NotCreated(error["message"])
            if error["code"] != "INTERNAL_FAILURE":
                raise RefusedError(error["code"], error["message"])
        raise NoAnswerError("NoAdjustment", "AWS Marketplace did not say what became of the billing adjustment request")

    def status(self, agreement_id: str, request_id: str) -> Status:
        with classified_errors():
            answer = self._client.get_billing_adjustment_request(
                agreementId=agreement_id, billingAdjustmentRequestId=request_id
            )
        return Status(answer["status"], answer.get("statusMessage", ""))
