"""Billing adjustments and invoices of the agreement API, as stock boto3 sees them, and their events."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

PAYG = "ca2payasyougoproduct00000"


@pytest.fixture
def billed(emulator: Any) -> Any:
    """A purchase whose November is invoiced: 2,000 units of api_calls."""
    purchase = emulator.buy(PAYG)
    emulator.send(emulator.record(purchase, 2000, "api_calls"))
    emulator.clock.set("2026-12-03T00:00:00Z")
    return purchase


def invoices(agreement: Any, purchase: Any, **filters: Any) -> list[dict[str, Any]]:
    answer = agreement.list_agreement_invoice_line_items(
        agreementId=purchase.agreement_id, groupBy="INVOICE_ID", **filters
    )
    return list(answer["agreementInvoiceLineItemGroupSummaries"])


def entry(purchase: Any, invoice_id: str, request: str = "one", **changes: Any) -> dict[str, Any]:
    return {
        "agreementId": purchase.agreement_id,
        "originalInvoiceId": invoice_id,
        "adjustmentAmount": "0.50",
        "currencyCode": "USD",
        "adjustmentReasonCode": "INCORRECT_METERING",
        "clientToken": request,
        **changes,
    }


def create(agreement: Any, *entries: dict[str, Any]) -> Any:
    return agreement.batch_create_billing_adjustment_request(billingAdjustmentRequestEntries=list(entries))


def get(agreement: Any, purchase: Any, request_id: str) -> Any:
    return agreement.get_billing_adjustment_request(
        agreementId=purchase.agreement_id, billingAdjustmentRequestId=request_id
    )


def test_a_month_is_invoiced_on_the_third_of_the_next(emulator, billed, agreement):
    emulator.clock.set("2026-12-02T23:59:59Z", force=True)
    assert invoices(agreement, billed) == []
    emulator.clock.set("2026-12-03T00:00:00Z")
    (invoice,) = invoices(agreement, billed)
    amount = sum(line.amount for line in emulator.m.ledger.bill())
    assert float(invoice["pricingCurrencyAmount"]["amount"]) == float(amount) > 0
    assert invoice["invoiceBillingPeriod"] == {"month": 11, "year": 2026}
    assert invoices(agreement, billed, invoiceBillingPeriod={"month": 10, "year": 2026}) == []
    assert invoices(agreement, billed, invoiceType="CREDIT_MEMO") == []


def test_an_adjustment_is_pending_then_completed_and_told(emulator, billed, agreement):
    (invoice,) = invoices(agreement, billed)
    told = len(emulator.names())
    answer = create(agreement, entry(billed, invoice["invoiceId"], description="4 units too many"))
    request_id = answer["items"][0]["billingAdjustmentRequestId"]
    assert answer["errors"] == []
    assert get(agreement, billed, request_id)["status"] == "PENDING"
    emulator.clock.advance(60)
    found = get(agreement, billed, request_id)
    assert (found["status"], found["description"]) == ("COMPLETED", "4 units too many")
    (event,) = emulator.m.outbox.notifications(told)
    assert event.name == "Purchase Agreement Billing Adjustment Completed - Proposer"
    assert event.body["resources"] == []
    assert event.body["detail"] | {"requestId": ""} == {
        "requestId": "",
        "catalog": "AWSMarketplace",
        "agreement": {"id": billed.agreement_id},
        "billingAdjustmentRequest": {
            "id": request_id,
            "adjustmentAmount": "-0.50",
            "currencyCode": "USD",
            "adjustmentReasonCode": "INCORRECT_METERING",
        },
        "invoice": {"originalInvoiceId": invoice["invoiceId"]},
    }
    (memo,) = invoices(agreement, billed, invoiceType="CREDIT_MEMO")
    assert memo["pricingCurrencyAmount"]["amount"] == "-0.50"
    (left,) = invoices(agreement, billed, invoiceId=invoice["invoiceId"])
    given, rest = left["pricingCurrencyAmount"]["amount"], left["pricingCurrencyAmount"]["maxAdjustmentAmount"]
    assert float(given) - float(rest) == pytest.approx(0.5)


@pytest.mark.parametrize("changes", [{"adjustmentAmount": "10000.00"}, {"originalInvoiceId": "1234567890"}])
def test_an_adjustment_of_more_than_is_left_fails_and_is_told(emulator, billed, agreement, changes):
    (invoice,) = invoices(agreement, billed)
    answer = create(agreement, entry(billed, invoice["invoiceId"], **changes))
    emulator.clock.advance(60)
    found = get(agreement, billed, answer["items"][0]["billingAdjustmentRequestId"])
    assert found["status"] == "VALIDATION_FAILED"
    assert found["statusMessage"]
    assert emulator.names()[-1] == "Purchase Agreement Billing Adjustment Failed - Proposer"
    assert invoices(agreement, billed, invoiceType="CREDIT_MEMO") == []


def test_the_same_client_token_is_the_same_request_and_no_other(billed, agreement):
    (invoice,) = invoices(agreement, billed)
    first = create(agreement, entry(billed, invoice["invoiceId"]))["items"][0]
    again = create(agreement, entry(billed, invoice["invoiceId"]))["items"][0]
    other = create(agreement, entry(billed, invoice["invoiceId"], adjustmentAmount="0.51"))
    assert again == first
    assert (other["items"], other["errors"][0]["code"]) == ([], "CONFLICT_EXCEPTION")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agreementId": "agmt-unknown"}, "RESOURCE_NOT_FOUND_EXCEPTION"),
        ({"adjustmentAmount": "-1"}, "VALIDATION_EXCEPTION"),
        ({"adjustmentAmount": "0.00"}, "VALIDATION_EXCEPTION"),
        ({"adjustmentAmount": "."}, "VALIDATION_EXCEPTION"),
        ({"adjustmentAmount": "1.123456789"}, "VALIDATION_EXCEPTION"),
        ({"currencyCode": "EUR"}, "VALIDATION_EXCEPTION"),
        ({"adjustmentReasonCode": "NO_REASON"}, "VALIDATION_EXCEPTION"),
    ],
)
def test_each_entry_is_refused_for_itself(billed, agreement, changes, code):
    (invoice,) = invoices(agreement, billed)
    wrong = entry(billed, invoice["invoiceId"], "wrong", **changes)
    answer = create(agreement, wrong, entry(billed, invoice["invoiceId"], "right"))
    assert [(one["clientToken"], one["code"]) for one in answer["errors"]] == [("wrong", code)]
    assert [one["clientToken"] for one in answer["items"]] == ["right"]


def test_requests_are_listed_in_pages_and_by_status(emulator, billed, agreement):
    (invoice,) = invoices(agreement, billed)
    create(agreement, *(entry(billed, invoice["invoiceId"], f"t-{n}", adjustmentAmount="0.01") for n in range(5)))
    emulator.clock.advance(60)
    create(agreement, entry(billed, invoice["invoiceId"], "last"))

    def listed(**filters: Any) -> list[str]:
        pages = agreement.get_paginator("list_billing_adjustment_requests").paginate(maxResults=2, **filters)
        return [one["status"] for page in pages for one in page["items"]]

    assert listed() == ["COMPLETED"] * 5 + ["PENDING"]
    assert listed(status="PENDING", agreementId=billed.agreement_id) == ["PENDING"]
    assert listed(agreementId="agmt-other") == []
    assert listed(createdAfter=emulator.clock.now()) == []


def test_an_unknown_request_is_not_found(billed, agreement):
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        get(agreement, billed, "ba-unknown")
