"""What arrives on the notification queue and on the read-back queue, as typed values.

Five shapes come in as the body of an SQS message: an EventBridge event of AWS Marketplace, an SNS envelope around a
legacy message, that legacy message alone (raw delivery), the application's own requests, and the findings of
reconciliation. A JSON object of any other kind is a notification of kind `unknown`: kept and counted, never dropped.

Sources: Seller Guide: "EventBridge events for SaaS" (detail-types, fields), "Amazon SNS notifications for SaaS
products" (actions, fields); SNS Developer Guide: message JSON format (the envelope).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity

SOURCE = "aws.agreement-marketplace"
FINDING = "marketplace_finding"

type Kind = Literal[
    "agreement_created",
    "agreement_amended",
    "agreement_ended",
    "license_updated",
    "license_deprovisioned",
    "subscribe_success",
    "subscribe_fail",
    "unsubscribe_pending",
    "unsubscribe_success",
    "entitlement_updated",
    "advisory_issued",
    "noted",  # a type that AWS documents and that changes nothing here
    "unknown",
]

type FindingKind = Literal["license_updated", "license_deprovisioned", "subscribe_fail"]

# Detail-types without the role: of one event AWS sends the form for the seller's role, "- Proposer" in a direct sale
# and "- Manufacturer" in one through a channel partner (Seller Guide: EventBridge events for SaaS).
_DETAIL_TYPES: dict[str, Kind] = {
    "Purchase Agreement Created": "agreement_created",
    "Purchase Agreement Amended": "agreement_amended",
    "Purchase Agreement Ended": "agreement_ended",
    "License Updated": "license_updated",
    "License Deprovisioned": "license_deprovisioned",
    "Purchase Agreement Advisory Issued": "advisory_issued",
    "Purchase Agreement Advisory Resolved": "noted",
    "Purchase Agreement Ending": "noted",
    "Purchase Agreement Renewal Terms Finalized": "noted",
    "Purchase Agreement Renewal Upcoming": "noted",
    "Agreement Cancellation Request Pending Approval": "noted",
    "Agreement Cancellation Request Approved": "noted",
    "Agreement Cancellation Request Rejected": "noted",
    "Agreement Cancellation Request Cancelled": "noted",
    "Agreement Cancellation Request Validation Failed": "noted",
    "Purchase Agreement Billing Adjustment Completed": "noted",
    "Purchase Agreement Billing Adjustment Failed": "noted",
    "Spend Threshold Reached": "noted",
    "Spend Threshold Vet Succeeded": "noted",
    "Spend Threshold Vet Failed": "noted",
}
_ACTIONS: dict[str, Kind] = {
    "subscribe-success": "subscribe_success",
    "subscribe-fail": "subscribe_fail",
    "unsubscribe-pending": "unsubscribe_pending",
    "unsubscribe-success": "unsubscribe_success",
    "entitlement-updated": "entitlement_updated",
}
_LICENSE_KINDS = frozenset({"license_updated", "license_deprovisioned"})
_AGREEMENT_KINDS = frozenset({"agreement_created", "agreement_amended", "agreement_ended"})
_ROLE = re.compile(r"\s+-\s+(?:Manufacturer|Proposer)\s*$")


class MalformedMessageError(ValueError):
    """A message whose body is no JSON object, or an incomplete request of the application's own. Handling it again
    can't help; a person has to look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage:
    """An SQS message: its body, and what orders and names the few bodies that have no time and id of their own."""

    message_id: str
    body: str
    sent_at_ms: int

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "QueueMessage":
        """From a record of Lambda's SQS event."""
        sent_at = record.get("attributes", {}).get("SentTimestamp", "0")
        return cls(message_id=str(record["messageId"]), body=str(record["body"]), sent_at_ms=int(sent_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One event that AWS Marketplace reported.

    `id` is the same in every delivery of it, `at_ms` is when it happened (milliseconds since the epoch); `title` is
    AWS's own name for it, without the role. A field that AWS didn't fill is None. `message` is the message as received.
    """

    kind: Kind
    id: str
    at_ms: int
    title: str
    message: QueueMessage
    license_arn: str | None = None
    agreement_id: str | None = None
    agreement_status: str | None = None
    intent: str | None = None
    previous_agreement_id: str | None = None
    starts_at_ms: int | None = None
    product_code: str | None = None
    customer_identifier: str | None = None
    account_id: str | None = None
    offer_id: str | None = None
    free_trial: bool | None = None
    advisory: Mapping[str, Any] | None = None

    @property
    def time(self) -> str:
        """`at_ms` as text of fixed width, so that texts sort as times do."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"

    @property
    def identity(self) -> Identity | None:
        """The subscription that the notification names. Agreement events name none; they are joined to theirs."""
        if self.license_arn is not None and self.product_code is not None:
            return LicenseIdentity(self.license_arn)
        if self.customer_identifier is not None and self.product_code is not None:
            return LegacyIdentity(self.product_code, self.customer_identifier)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """A request to recheck a subscription (Requests.look_again)."""

    subscription_id: str
    reason: str
    since: int | None = None
    agreement_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """A request to read a subscription's entitlements from AWS (LifecycleRequests.read_back). `tries`: how often it was
    postponed because AWS gave no answer; `at`: it waits for this moment."""

    subscription_id: str
    attempt: int | None = None
    at: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FindLicenses:
    """A request to ask AWS for the licences of an ended agreement. `tries`: as in ReadBack."""

    agreement_id: str
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """A request to compare with the agreement API: one subscription, or all. `status` and `after` say where a run over
    all goes on. `tries`: as in ReadBack."""

    subscription_id: str | None = None
    status: str | None = None
    after: str | None = None
    tries: int = 0


type Question = ReadBack | FindLicenses | Reconcile
"""A request that can't be done without an answer of AWS Marketplace."""


def parsed(message: QueueMessage) -> Notification | LookAgain | Question:
    """What the message says. Raises MalformedMessageError."""
    content = _json_object(message.body)
    if recheck.REQUEST in content:
        return _request(content)
    if FINDING in content:
        return _finding(content, message)
    if content.get("Type") == "Notification" and isinstance(content.get("Message"), str):
        return _from_envelope(content, message)
    return _notification(content, message, message.message_id, message.sent_at_ms)


def _from_envelope(envelope: Mapping[str, Any], message: QueueMessage) -> Notification:
    content = _json_object(envelope["Message"])
    at_ms = _milliseconds(envelope.get("Timestamp"))
    event_id = _text(envelope.get("MessageId")) or message.message_id
    return _notification(content, message, event_id, message.sent_at_ms if at_ms is None else at_ms)


def _notification(content: Mapping[str, Any], message: QueueMessage, event_id: str, at_ms: int) -> Notification:
    if "detail-type" in content and "source" in content:
        return _from_event(content, message, event_id, at_ms)
    action = _text(content.get("action"))
    known = _ACTIONS.get(action or "")
    customer, product = _text(content.get("customer-identifier")), _text(content.get("product-code"))
    if known is None or customer is None or product is None:
        title = action or _text(content.get("Type")) or "message without a type"
        return Notification(kind="unknown", id=event_id, at_ms=at_ms, title=title, message=message)
    trial = _text(content.get("isFreeTrialTermPresent"))
    return Notification(
        kind=known,
        id=event_id,
        at_ms=at_ms,
        title=action or known,
        message=message,
        customer_identifier=customer,
        product_code=product,
        offer_id=_text(content.get("offer-identifier")),
        free_trial=None if trial is None else trial.lower() == "true",
    )


def _from_event(event: Mapping[str, Any], message: QueueMessage, event_id: str, at_ms: int) -> Notification:
    title = _ROLE.sub("", str(event["detail-type"]))
    detail = _mapping(event.get("detail"))
    agreement, license_, product = (_mapping(detail.get(part)) for part in ("agreement", "license", "product"))
    kind = _DETAIL_TYPES.get(title, "unknown") if event["source"] == SOURCE else "unknown"
    license_arn, agreement_id = _text(license_.get("arn")), _text(agreement.get("id"))
    product_code = _text(product.get("code"))
    if kind in _LICENSE_KINDS and not (license_arn and product_code):
        kind = "unknown"
    if kind in _AGREEMENT_KINDS and not agreement_id:
        kind = "unknown"
    happened_at = _milliseconds(event.get("time"))
    return Notification(
        kind=kind,
        id=_text(event.get("id")) or event_id,
        at_ms=at_ms if happened_at is None else happened_at,
        title=title,
        message=message,
        license_arn=license_arn,
        agreement_id=agreement_id,
        agreement_status=_text(agreement.get("status")),
        intent=_text(agreement.get("intent")),
        previous_agreement_id=_text(agreement.get("previousAgreementId")),
        starts_at_ms=_milliseconds(agreement.get("startTime")),
        product_code=product_code,
        account_id=_text(_mapping(detail.get("acceptor")).get("accountId")),
        offer_id=_text(_mapping(detail.get("offer")).get("id")),
        advisory=_mapping(detail.get("advisory")) if kind == "advisory_issued" else None,
    )


def finding(
    kind: FindingKind, event_id: str, at: int, *, license_arn: str, product_code: str, agreement_id: str
) -> Notification:
    """A difference that reconciliation found, as a notification. at: when it was found, in seconds since the epoch."""
    content = {
        FINDING: kind,
        "id": event_id,
        "at": at,
        "license_arn": license_arn,
        "product_code": product_code,
        "agreement_id": agreement_id,
    }
    return _finding(content, QueueMessage(message_id=event_id, body=json.dumps(content), sent_at_ms=at * 1000))


def _finding(content: Mapping[str, Any], message: QueueMessage) -> Notification:
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(FindingKind.__value__)}
    return Notification(
        kind=kinds.get(str(content[FINDING]), "unknown"),
        id=str(content.get("id")),
        at_ms=int(content.get("at", 0)) * 1000,
        title="Reconciliation",
        message=message,
        license_arn=_text(content.get("license_arn")),
        product_code=_text(content.get("product_code")),
        agreement_id=_text(content.get("agreement_id")),
    )


def _request(content: Mapping[str, Any]) -> LookAgain | Question:
    subscription_id, agreement_id = _text(content.get("subscription_id")), _text(content.get("agreement_id"))
    tries = _whole(content.get("tries")) or 0
    match content[recheck.REQUEST]:
        case recheck.LOOK_AGAIN if subscription_id is not None:
            return LookAgain(
                subscription_id=subscription_id,
                reason=_text(content.get("reason")) or "",
                since=_whole(content.get("since")),
                agreement_id=agreement_id,
            )
        case recheck.READ_BACK if subscription_id is not None:
            attempt, at = _whole(content.get("attempt")), _whole(content.get("at"))
            return ReadBack(subscription_id=subscription_id, attempt=attempt, at=at, tries=tries)
        case recheck.FIND_LICENSES if agreement_id is not None:
            return FindLicenses(agreement_id=agreement_id, tries=tries)
        case recheck.RECONCILE:
            status, after = _text(content.get("status")), _text(content.get("after"))
            return Reconcile(subscription_id=subscription_id, status=status, after=after, tries=tries)
    raise MalformedMessageError(
        f"the request {content[recheck.REQUEST]!r} is not one of ours, or lacks its subscription"
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise MalformedMessageError("the body is not JSON") from error
    if not isinstance(content, dict):
        raise MalformedMessageError("the body is not a JSON object")
    return content


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _milliseconds(value: object) -> int | None:
    """Milliseconds since the epoch from ISO 8601 text. An agreement without an end runs to the year 9999."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since_epoch = aware - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError):
        return None
    return since_epoch.days * 86_400_000 + since_epoch.seconds * 1000 + since_epoch.microseconds // 1000
