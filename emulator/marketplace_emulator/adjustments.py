"""Billing adjustments of the agreement API: a seller asks that AWS gives a buyer money back for an invoice.

Sources: botocore model of marketplace-agreement (BatchCreateBillingAdjustmentRequest, GetBillingAdjustmentRequest,
ListBillingAdjustmentRequests, ListAgreementInvoiceLineItems); Seller Guide, "notifications-eventbridge" (Completed, and
Failed when the validation that follows the call fails). A request is PENDING for `adjustment_delay_seconds`, then
COMPLETED, or VALIDATION_FAILED where the agreement has no such invoice or less than the amount is left of it.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from marketplace_emulator.agenda import Agenda
from marketplace_emulator.agreements import page_of, the_agreement
from marketplace_emulator.clock import parse_time
from marketplace_emulator.errors import ServiceError, serialization, validation
from marketplace_emulator.events import Announcer
from marketplace_emulator.invoices import Invoice, invoice_id, invoices_of
from marketplace_emulator.ledger import Ledger
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

REASONS = (
    *("INCORRECT_TERMS_ACCEPTED", "INCORRECT_METERING", "TEST_ENVIRONMENT_CHARGES", "ALTERNATIVE_PROCUREMENT_CHANNEL"),
    *("UNINTENDED_RENEWAL", "BUYER_DISSATISFACTION", "OTHER"),
)
STATUSES = ("PENDING", "VALIDATION_FAILED", "COMPLETED")
CURRENCY = "USD"
_ID = re.compile(r"^ba-[a-zA-Z0-9]{1,61}\Z")
_TOKEN = re.compile(r"^[a-zA-Z0-9-]{1,64}\Z")
_AMOUNT = re.compile(r"^[0-9]*(\.[0-9]{0,8})?\Z")
_REQUIRED = ("agreementId", "originalInvoiceId", "adjustmentAmount", "currencyCode", "adjustmentReasonCode")


@dataclass(slots=True)
class Adjustment:
    """One billing adjustment request; moments are in seconds since the epoch."""

    id: str
    agreement_id: str
    invoice_id: str
    amount: str
    currency: str
    reason: str
    description: str | None
    client_token: str
    created_at: float
    updated_at: float
    status: str = "PENDING"
    message: str = ""

    @property
    def content(self) -> tuple[str | None, ...]:
        """What makes another request of one with the same client token."""
        return (self.agreement_id, self.invoice_id, self.amount, self.currency, self.reason, self.description)


class Adjustments:
    """The requests of one emulator, oldest first."""

    def __init__(self) -> None:
        self.requests: list[Adjustment] = []

    def of_agreement(self, agreement_id: str) -> list[Adjustment]:
        """The requests about one agreement."""
        return [one for one in self.requests if one.agreement_id == agreement_id]


class AdjustmentService:
    """Answers the operations on billing adjustments and invoices."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        ledger: Ledger,
        adjustments: Adjustments,
        announcer: Announcer,
        agenda: Agenda,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._ledger = ledger
        self._adjustments = adjustments
        self._announcer = announcer
        self._agenda = agenda

    def create(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """Each entry is created or refused for itself. The same client token again is the same request."""
        entries = request.get("billingAdjustmentRequestEntries")
        if entries is None:
            raise validation("billingAdjustmentRequestEntries is required", reason="OTHER")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise serialization("billingAdjustmentRequestEntries is not a list of objects")
        for entry in entries:
            _check_types(entry)
        items, errors = [], []
        for entry in entries:
            token = entry["clientToken"]
            try:
                items.append({"billingAdjustmentRequestId": self._create(entry, now).id, "clientToken": token})
            except ServiceError as error:
                errors.append({"code": error.code, "message": error.message, "clientToken": token})
        return {"items": items, "errors": errors}

    def get_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, whole."""
        agreement = the_agreement(self._registry, request)
        wanted = request.get("billingAdjustmentRequestId")
        if wanted is not None and not isinstance(wanted, str):
            raise serialization("billingAdjustmentRequestId is not a string")
        if wanted is None or not _ID.match(wanted):
            raise validation("billingAdjustmentRequestId does not fit its pattern", reason="OTHER")
        for one in self._adjustments.of_agreement(agreement.id):
            if one.id == wanted:
                described = _summary(one) | {"adjustmentReasonCode": one.reason, "statusMessage": one.message}
                del described["agreementType"], described["catalog"]
                return described | ({"description": one.description} if one.description is not None else {})
        message = f"There is no billing adjustment request {wanted}"
        raise ServiceError("ResourceNotFoundException", message, 404, resourceId=wanted)

    def list_requests(self, request: dict[str, Any]) -> dict[str, Any]:
        """The requests that all filters let through, oldest first."""
        filters = {name: request.get(name) for name in ("agreementId", "status", "catalog", "agreementType")}
        for name, value in filters.items():
            if value is not None and not isinstance(value, str):
                raise serialization(f"{name} is not a string")
        if filters["status"] not in (None, *STATUSES):
            raise validation(f"status is one of {', '.join(STATUSES)}", reason="OTHER")
        after, before = _time(request, "createdAfter"), _time(request, "createdBefore")
        found = [
            one
            for one in self._adjustments.requests
            if filters["agreementId"] in (None, one.agreement_id)
            and filters["status"] in (None, one.status)
            and filters["catalog"] in (None, "AWSMarketplace")
            and filters["agreementType"] in (None, "PurchaseAgreement")
            and (after is None or one.created_at > after)
            and (before is None or one.created_at < before)
        ]
        query = ["ListBillingAdjustmentRequests", filters, after, before]
        return page_of("items", [_summary(one) for one in found], request, query)

    def invoice_line_items(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """The invoices and credit memos of one agreement, oldest first."""
        agreement = the_agreement(self._registry, request)
        if request.get("groupBy") != "INVOICE_ID":
            raise validation("groupBy is INVOICE_ID", reason="OTHER")
        kind, wanted = request.get("invoiceType"), request.get("invoiceId")
        if kind not in (None, "INVOICE", "CREDIT_MEMO"):
            raise validation("invoiceType is INVOICE or CREDIT_MEMO", reason="OTHER")
        if wanted is not None and not isinstance(wanted, str):
            raise serialization("invoiceId is not a string")
        period = _period(request.get("invoiceBillingPeriod"))
        after, before = _time(request, "afterIssuedTime"), _time(request, "beforeIssuedTime")
        shown = [
            line
            for line in self._lines(agreement.id, now)
            if kind in (None, line["invoiceType"])
            and wanted in (None, line["invoiceId"])
            and period in (None, line["invoiceBillingPeriod"])
            and (after is None or line["issuedTime"] > after)
            and (before is None or line["issuedTime"] < before)
        ]
        query = ["ListAgreementInvoiceLineItems", agreement.id, kind, wanted, period, after, before]
        return page_of("agreementInvoiceLineItemGroupSummaries", shown, request, query)

    def _lines(self, agreement_id: str, now: float) -> list[dict[str, Any]]:
        invoices = invoices_of(self._registry.agreements[agreement_id], self._registry, self._ledger, now)
        months = {one.id: one.month for one in invoices}
        lines = [_line(one, self._left_of(one)) for one in invoices]
        for one in self._adjustments.of_agreement(agreement_id):
            if one.status == "COMPLETED":
                name = invoice_id(one.id, "memo")
                memo = Invoice(name, agreement_id, months[one.invoice_id], -Decimal(one.amount), one.updated_at)
                lines.append(_line(memo, Decimal(0)))
        return lines

    def _left_of(self, invoice: Invoice) -> Decimal:
        """What of an invoice can still be given back."""
        completed = (
            Decimal(one.amount)
            for one in self._adjustments.of_agreement(invoice.agreement_id)
            if one.invoice_id == invoice.id and one.status == "COMPLETED"
        )
        return invoice.amount - sum(completed, Decimal(0))

    def _create(self, entry: dict[str, Any], now: float) -> Adjustment:
        wrong = _wrong(entry)
        if wrong:
            raise ServiceError("VALIDATION_EXCEPTION", wrong)
        token = entry["clientToken"]
        made = Adjustment(
            id=f"ba-{hashlib.sha256(f'adjustment {token}'.encode()).hexdigest()[:13]}",
            agreement_id=entry["agreementId"],
            invoice_id=entry["originalInvoiceId"],
            amount=entry["adjustmentAmount"],
            currency=entry["currencyCode"],
            reason=entry["adjustmentReasonCode"],
            description=entry.get("description"),
            client_token=token,
            created_at=now,
            updated_at=now,
        )
        if made.agreement_id not in self._registry.agreements:
            raise ServiceError("RESOURCE_NOT_FOUND_EXCEPTION", f"There is no agreement {made.agreement_id}")
        for one in self._adjustments.requests:
            if one.client_token == token:
                if one.content != made.content:
                    raise ServiceError("CONFLICT_EXCEPTION", f"The client token {token} is of another request")
                return one
        self._adjustments.requests.append(made)
        self._agenda.at(now + self._settings.adjustment_delay_seconds, partial(self._validate, made))
        return made

    def _validate(self, made: Adjustment, now: float) -> None:
        """What happens to a pending request: it is completed, or it fails."""
        agreement = self._registry.agreements[made.agreement_id]
        invoices = {one.id: one for one in invoices_of(agreement, self._registry, self._ledger, now)}
        invoice = invoices.get(made.invoice_id)
        if invoice is None:
            made.message = f"The agreement has no invoice {made.invoice_id}"
        elif Decimal(made.amount) > self._left_of(invoice):
            made.message = f"At most {self._left_of(invoice)} {CURRENCY} of the invoice can be adjusted"
        made.status = "VALIDATION_FAILED" if made.message else "COMPLETED"
        made.updated_at = now
        self._announcer.billing_adjustment(
            self._registry.purchases[agreement.purchase_id],
            agreement,
            {
                "id": made.id,
                "adjustmentAmount": f"-{made.amount}",
                "currencyCode": made.currency,
                "adjustmentReasonCode": made.reason,
            },
            made.invoice_id,
            now,
            completed=not made.message,
        )


def _check_types(entry: dict[str, Any]) -> None:
    for name in (*_REQUIRED, "clientToken"):
        if name not in entry or entry[name] is None:
            raise validation(f"{name} is required in each entry", reason="OTHER")
    for name in (*_REQUIRED, "clientToken", "description"):
        if entry.get(name) is not None and not isinstance(entry[name], str):
            raise serialization(f"{name} is not a string")
    if not _TOKEN.match(entry["clientToken"]):
        raise validation("clientToken does not fit its pattern", reason="OTHER")


def _wrong(entry: dict[str, Any]) -> str:
    """What is wrong with one entry, or nothing."""
    amount = entry["adjustmentAmount"]
    checks: list[tuple[str, Callable[[], bool]]] = [
        ("adjustmentAmount is a positive decimal of up to 8 places", lambda: bool(_AMOUNT.match(amount))),
        ("adjustmentAmount is more than 0", lambda: amount.strip(".") != "" and Decimal(amount) > 0),
        (f"currencyCode is {CURRENCY}, as that of the offer", lambda: bool(entry["currencyCode"] == CURRENCY)),
        (f"adjustmentReasonCode is one of {', '.join(REASONS)}", lambda: entry["adjustmentReasonCode"] in REASONS),
        ("description has 1 to 500 characters", lambda: 1 <= len(entry.get("description") or "-") <= 500),
    ]
    return next((message for message, fits in checks if not fits()), "")


def _summary(one: Adjustment) -> dict[str, Any]:
    return {
        "billingAdjustmentRequestId": one.id,
        "originalInvoiceId": one.invoice_id,
        "adjustmentAmount": one.amount,
        "currencyCode": one.currency,
        "status": one.status,
        "agreementId": one.agreement_id,
        "createdAt": one.created_at,
        "updatedAt": one.updated_at,
        "agreementType": "PurchaseAgreement",
        "catalog": "AWSMarketplace",
    }


def _line(invoice: Invoice, left: Decimal) -> dict[str, Any]:
    """An invoice, or a credit memo, which is one of a negative amount."""
    amounts = {"amount": str(invoice.amount), "maxAdjustmentAmount": str(left), "currencyCode": CURRENCY}
    return {
        "agreementId": invoice.agreement_id,
        "invoiceId": invoice.id,
        "pricingCurrencyAmount": amounts,
        "invoiceBillingPeriod": {"month": int(invoice.month[5:]), "year": int(invoice.month[:4])},
        "issuedTime": invoice.issued_at,
        "invoiceType": "INVOICE" if invoice.amount > 0 else "CREDIT_MEMO",
        "invoicingEntity": {"legalName": "Amazon Web Services, Inc.", "branchName": "Amazon Web Services, Inc."},
    }


def _period(given: Any) -> dict[str, int] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise serialization("invoiceBillingPeriod is not an object")
    month, year = given.get("month"), given.get("year")
    if not (type(month) is int and 1 <= month <= 12 and type(year) is int and 2023 <= year <= 2050):
        raise validation("invoiceBillingPeriod has a month, 1 to 12, and a year, 2023 to 2050", reason="OTHER")
    return {"month": month, "year": year}


def _time(request: dict[str, Any], name: str) -> float | None:
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            raise serialization(f"{name} is not a time") from None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise serialization(f"{name} is not a time")
    return float(value)
