"""The messages AWS Marketplace sends: EventBridge events and legacy SNS notifications, in their real shapes.

Sources: EventBridge events captured on 2026-08-20; Seller Guide "notifications-eventbridge",
"saas-eventbridge-integration" (role suffixes) and "saas-notification" (SNS bodies).
"""

import json
from typing import Any

from marketplace_emulator.clock import iso_millis, iso_seconds
from marketplace_emulator.ids import SNS_OWNER, Ids
from marketplace_emulator.model import Agreement, Purchase
from marketplace_emulator.outbox import Notification, Outbox
from marketplace_emulator.settings import Settings

SOURCE = "aws.agreement-marketplace"
NO_END = "9999-01-01T00:00:00Z"


class Announcer:
    """Turns what happened to a purchase into the messages a seller receives about it."""

    def __init__(self, settings: Settings, ids: Ids, outbox: Outbox) -> None:
        self._settings = settings
        self._ids = ids
        self._outbox = outbox

    # -- what happened ------------------------------------------------------------------------------------

    def agreement_created(self, purchase: Purchase, agreement: Agreement, now: float) -> None:
        """New, renewed or replaced agreement. It names no licence; PAYG agreements end in the year 9999."""
        facts = _terms(agreement, agreement.intent)
        detail = self._detail(facts, agreement)
        detail["offer"] = {"id": agreement.offer_id}
        if agreement.intent == "RENEW":
            facts["previousAgreementId"] = agreement.previous_id
            detail["product"] = {"id": purchase.product.id, "title": purchase.product.title}
            detail["proposer"]["name"] = "Acme Software"
        else:
            detail["resaleAuthorization"] = {"id": agreement.resale_authorization}
        self._agreement_event(purchase, agreement, "Created", detail, now)
        if purchase.is_legacy and agreement.intent != "NEW" and purchase.provisioned_at is not None:
            self._sns_subscribed(purchase, now)

    def agreement_amended(self, purchase: Purchase, agreement: Agreement, now: float) -> None:
        """Terms of the running agreement changed."""
        facts = _terms(agreement, "AMEND") | {
            "autoRenewalEnabled": agreement.auto_renew,
            "renewalSummary": {"lockoutStartTime": None, "disabledBy": None if agreement.auto_renew else "ACCEPTOR"},
        }
        detail = self._detail(facts, agreement)
        detail["offer"] = {"id": agreement.offer_id}
        detail["product"] = {"id": purchase.product.id, "title": purchase.product.title}
        detail["resaleAuthorization"] = {"id": agreement.resale_authorization}
        self._agreement_event(purchase, agreement, "Amended", detail, now)

    def agreement_ended(self, purchase: Purchase, agreement: Agreement, now: float, *, final: bool = False) -> None:
        """Cancelled, expired, terminated, renewed or replaced; without `offer`, as captured.

        `final` tells the end of the subscription from an agreement that was succeeded by another.
        """
        detail = self._status(agreement)
        detail["resaleAuthorization"] = {"id": agreement.resale_authorization}
        self._agreement_event(purchase, agreement, "Ended", detail, now)
        if purchase.is_legacy and final:
            self._sns(purchase, "unsubscribe-pending", now)
            if purchase.product.has_contract:
                self._sns(purchase, "entitlement-updated", now)

    def license_updated(self, purchase: Purchase, now: float, *, first: bool) -> None:
        """Entitlements were granted or changed; the one event that names agreement and licence."""
        self._license_event(purchase, "License Updated - Manufacturer", now)
        if purchase.is_legacy:
            if first:
                self._sns_subscribed(purchase, now)
            if purchase.product.has_contract:
                self._sns(purchase, "entitlement-updated", now)

    def license_deprovisioned(self, purchase: Purchase, now: float) -> None:
        """The licence is gone."""
        self._license_event(purchase, "License Deprovisioned - Manufacturer", now)
        if purchase.is_legacy:
            self._sns(purchase, "unsubscribe-success", now)

    def subscription_failed(self, purchase: Purchase, now: float) -> None:
        """Payment failed before the licence was issued. EventBridge has no event for it; SNS has one."""
        if purchase.is_legacy:
            self._sns(purchase, "subscribe-fail", now, **{"offer-identifier": purchase.agreement.offer_id})

    def cancellation_request(self, purchase: Purchase, outcome: str, now: float) -> None:
        """`Agreement Cancellation Request …`: the seller asked to end the agreement."""
        detail = self._status(purchase.agreement)
        detail["agreementCancellationRequest"] = {
            "id": purchase.cancellation_request,
            "status": outcome.upper().replace(" ", "_"),
        }
        self._event(purchase, f"Agreement Cancellation Request {outcome} - Proposer", detail, now)

    def billing_adjustment(
        self,
        purchase: Purchase,
        agreement: Agreement,
        request: dict[str, Any],
        invoice_id: str,
        now: float,
        *,
        completed: bool,
    ) -> None:
        """`Purchase Agreement Billing Adjustment Completed|Failed`, in the shape of the Seller Guide's example."""
        detail = {
            "requestId": self._ids.uuid(),
            "catalog": "AWSMarketplace",
            "agreement": {"id": agreement.id},
            "billingAdjustmentRequest": request,
            "invoice": {"originalInvoiceId": invoice_id},
        }
        name = f"Purchase Agreement Billing Adjustment {'Completed' if completed else 'Failed'} - Proposer"
        self._outbox.emit("eventbridge", name, self._envelope(name, "", detail, now), purchase.id, now)

    def advisory(self, purchase: Purchase, outcome: str, reason: str, now: float) -> None:
        """`Purchase Agreement Advisory Issued|Resolved`: account closed, compromised, abuse or fraud."""
        detail = self._status(purchase.agreement)
        detail["advisory"] = {"reason": reason}
        detail["product"] = {"id": purchase.product.id, "code": purchase.product.code}
        self._event(purchase, f"Purchase Agreement Advisory {outcome} - Manufacturer", detail, now)

    def custom(
        self, purchase: Purchase | None, detail_type: str, detail: dict[str, Any] | None, now: float
    ) -> Notification:
        """Any detail-type at all, with the agreement's usual members under `detail` if none is given."""
        if detail is None:
            detail = (
                self._status(purchase.agreement)
                if purchase
                else {"requestId": self._ids.uuid(), "catalog": "AWSMarketplace"}
            )
        body = self._envelope(detail_type, purchase.agreement_id if purchase else "", detail, now)
        return self._outbox.emit("eventbridge", detail_type, body, purchase.id if purchase else "", now)

    def custom_sns(self, purchase: Purchase, action: str, members: dict[str, str], now: float) -> Notification:
        """Any SNS action at all for a legacy purchase."""
        return self._sns(purchase, action, now, **members)

    # -- EventBridge --------------------------------------------------------------------------------------

    def _detail(self, agreement_facts: dict[str, Any], agreement: Agreement) -> dict[str, Any]:
        return {
            "requestId": self._ids.uuid(),
            "catalog": "AWSMarketplace",
            "agreement": agreement_facts,
            "acceptor": {"accountId": agreement.account_id},
            "proposer": {"accountId": agreement.proposer_id},
        }

    def _status(self, agreement: Agreement) -> dict[str, Any]:
        return self._detail({"id": agreement.id, "status": agreement.status}, agreement)

    def _agreement_event(
        self, purchase: Purchase, agreement: Agreement, what: str, detail: dict[str, Any], now: float
    ) -> None:
        """Direct sales arrive only as "- Proposer", resold ones only as "- Manufacturer"."""
        role = "Manufacturer" if agreement.resale_authorization else "Proposer"
        self._event(purchase, f"Purchase Agreement {what} - {role}", detail, now, agreement.id)

    def _license_event(self, purchase: Purchase, detail_type: str, now: float) -> None:
        agreement = purchase.agreement
        detail = {
            "requestId": self._ids.uuid(),
            "catalog": "AWSMarketplace",
            "agreement": {"id": agreement.id},
            "license": {"arn": self._license_arn(purchase)},
            "product": {"id": purchase.product.id, "code": purchase.product.code},
            "acceptor": {"accountId": agreement.account_id},
            "proposer": {"accountId": agreement.proposer_id},
            "offer": {"id": agreement.offer_id},
        }
        self._event(purchase, detail_type, detail, now)

    def _license_arn(self, purchase: Purchase) -> str:
        if self._settings.event_license_form == "arn":
            return purchase.license_arn
        return f"aws:license-manager:us-east-1:123456789012:{purchase.license_id}"

    def _event(
        self, purchase: Purchase, detail_type: str, detail: dict[str, Any], now: float, agreement_id: str = ""
    ) -> None:
        if purchase.is_legacy and not self._settings.eventbridge_for_legacy:
            return
        body = self._envelope(detail_type, agreement_id or purchase.agreement_id, detail, now)
        self._outbox.emit("eventbridge", detail_type, body, purchase.id, now)

    def _envelope(self, detail_type: str, agreement_id: str, detail: dict[str, Any], now: float) -> dict[str, Any]:
        resources = [f"arn:aws:aws-marketplace::aws:agreement:{agreement_id}"] if agreement_id else []
        return {
            "version": "0",
            "id": self._ids.uuid(),
            "detail-type": detail_type,
            "source": SOURCE,
            "account": self._settings.seller_account,
            "time": iso_seconds(now),
            "region": "us-east-1",
            "resources": resources,
            "detail": detail,
        }

    # -- SNS ----------------------------------------------------------------------------------------------

    def _sns_subscribed(self, purchase: Purchase, now: float) -> None:
        self._sns(purchase, "subscribe-success", now, **{"offer-identifier": purchase.agreement.offer_id})

    def _sns(self, purchase: Purchase, action: str, now: float, /, **members: str) -> Notification:
        """The documented bodies; `isFreeTrialTermPresent` is text, and no body names account or agreement."""
        message: dict[str, str] = {
            "action": action,
            "customer-identifier": purchase.customer_identifier,
            "product-code": purchase.product.code,
            **members,
        }
        topic = "aws-mp-subscription-notification"
        if action == "entitlement-updated":
            topic = "aws-mp-entitlement-notification"
        else:
            message["isFreeTrialTermPresent"] = "true" if purchase.free_trial_until is not None else "false"
        topic_arn = f"arn:aws:sns:us-east-1:{SNS_OWNER}:{topic}-{purchase.product.code}"
        body = {
            "Type": "Notification",
            "MessageId": self._ids.uuid(),
            "TopicArn": topic_arn,
            "Message": json.dumps(message),
            "Timestamp": iso_millis(now),
            "SignatureVersion": "1",
            "Signature": "c2lnbmF0dXJlIG9mIHRoZSBlbXVsYXRvcg==",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-emulator.pem",
            "UnsubscribeURL": f"https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={topic_arn}:emulator",
        }
        return self._outbox.emit("sns", action, body, purchase.id, now)


def _terms(agreement: Agreement, intent: str) -> dict[str, Any]:
    return {
        "id": agreement.id,
        "intent": intent,
        "status": agreement.status,
        "acceptanceTime": iso_millis(agreement.accepted_at),
        "startTime": iso_millis(agreement.starts_at),
        "endTime": iso_seconds(agreement.ends_at) if agreement.ends_at is not None else NO_END,
    }
