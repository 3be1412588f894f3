"""What arrives on the notification queue and on the read-back queue, as typed values.

Five kinds of content come in as the body of an SQS message: an EventBridge event of AWS Marketplace, a legacy message
of SNS, either of them in an SNS envelope or alone (raw delivery), the application's own requests, and the findings of
reconciliation. In which shapes their members may come is marketplace.lifecycle.members' matter. A JSON object of any
other kind is a notification of kind `unknown`: kept and counted, never dropped. So is the `detail` of an event without
its event: of License Updated and License Deprovisioned, it has the same members.

Sources: Seller Guide: "EventBridge events for SaaS" (detail-types, fields), "Amazon SNS notifications for SaaS
products" (actions, fields), its edition before them (CustomerIdentifier, ProductCode); Buyer Guide: agreement events in
EventBridge (the role Acceptor); SNS Developer Guide: message JSON format (the envelope).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from marketplace.lifecycle.members import Members
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Subscription

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
    "adjustment_completed",
    "adjustment_failed",
    "noted",  # a type that AWS documents and that changes nothing here
    "own_purchase",  # of an agreement in which the seller's account is the buyer: no sale, whatever it says
    "unknown",
]

type FindingKind = Literal["license_updated", "license_deprovisioned", "subscribe_fail", "subscribe_success"]

# Detail-types without the role: of one event AWS sends the form for the seller's role, "- Proposer" in a direct sale
# and "- Manufacturer" in one through a channel partner (Seller Guide: EventBridge events for SaaS). The form for the
# buyer's role, "- Acceptor", says that the seller's account has bought something: see `own_purchase`.
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
    "Purchase Agreement Billing Adjustment Completed": "adjustment_completed",
    "Purchase Agreement Billing Adjustment Failed": "adjustment_failed",
    "Spend Threshold Reached": "noted",
    "Spend Threshold Vet Succeeded": "noted",
    "Spend Threshold Vet Failed": "noted",
}
_DETAIL_TYPES_BY_WORDS = {title.lower(): kind for title, kind in _DETAIL_TYPES.items()}
_ACTIONS: dict[str, Kind] = {
    "subscribe-success": "subscribe_success",
    "subscribe-fail": "subscribe_fail",
    "unsubscribe-pending": "unsubscribe_pending",
    "unsubscribe-success": "unsubscribe_success",
    "entitlement-updated": "entitlement_updated",
}
_LICENSE_KINDS = frozenset({"license_updated", "license_deprovisioned"})
_AGREEMENT_KINDS = frozenset({"agreement_created", "agreement_amended", "agreement_ended"})
_BUYING = "acceptor"
_ROLE = re.compile(rf"\s*-\s*(manufacturer|proposer|{_BUYING})$", re.IGNORECASE)
_ENVELOPES = 3
"""How many SNS envelopes are opened, one inside another."""


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
    adjustment_id: str | None = None
    adjustment_message: str | None = None

    @property
    def time(self) -> str:
        """`at_ms` as text of fixed width, so that texts sort as times do."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"

    @property
    def identity(self) -> Identity | None:
        """The subscription that the notification names. Agreement events name none; they are joined to theirs."""
        if self.license_arn is not None:
            return LicenseIdentity(self.license_arn)
        if self.customer_identifier is not None and self.product_code is not None:
            return LegacyIdentity(self.product_code, self.customer_identifier)
        return None

    def may_concern(self, subscription_id: str) -> bool:
        """Whether it doesn't name another subscription than this one."""
        return self.identity is None or self.identity.subscription_id == subscription_id


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
    """A request to ask AWS for the licences of an ended agreement, for the `last` time or not. `tries`: as in
    ReadBack."""

    agreement_id: str
    last: bool = False
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """A request to compare with the agreement API: one subscription, or all. `status` and `after` say where a run over
    all goes on. `tries`: as in ReadBack."""

    subscription_id: str | None = None
    status: str | None = None
    after: str | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class MeasureWaiting:
    """A request to publish how long the oldest item of each kind has waited (marketplace.subscriptions.waiting)."""


type Question = ReadBack | FindLicenses | Reconcile
"""A request that can't be done without an answer of AWS Marketplace."""


def parsed(message: QueueMessage) -> Notification | LookAgain | MeasureWaiting | Question:
    """What the message says. Raises MalformedMessageError."""
    content = _members(message.body)
    if recheck.REQUEST in content.kept:
        return _request(content.kept)
    if FINDING in content.kept:
        return _finding(content.kept, message)
    event_id, at_ms = message.message_id, message.sent_at_ms
    for _ in range(_ENVELOPES):
        if not _is_envelope(content):
            break
        event_id = content.text("MessageId") or event_id
        timed = content.milliseconds("Timestamp")
        at_ms = at_ms if timed is None else timed
        content = _members(content.value("Message"))
    if content.text("detail-type") is not None:
        return _from_event(content, message, event_id, at_ms)
    return _from_action(content, message, event_id, at_ms)


def _is_envelope(content: Members) -> bool:
    kind = content.text("Type")
    return "Message" in content and (kind == "Notification" if kind is not None else "TopicArn" in content)


def _from_action(content: Members, message: QueueMessage, event_id: str, at_ms: int) -> Notification:
    """The legacy message of SNS."""
    action = content.text("action")
    known = _ACTIONS.get((action or "").lower().replace("_", "-"))
    customer, product = content.text("customer-identifier"), content.text("product-code")
    if known is None or customer is None or product is None:
        return Notification(kind="unknown", id=event_id, at_ms=at_ms, title=_title_of(content), message=message)
    return Notification(
        kind=known,
        id=event_id,
        at_ms=at_ms,
        title=action or known,
        message=message,
        customer_identifier=customer,
        product_code=product,
        offer_id=content.text("offer-identifier"),
        free_trial=content.flag("isFreeTrialTermPresent"),
    )


def _title_of(content: Members) -> str:
    """What to call a message that names no type."""
    if "agreement" in content or "license" in content:
        return "the detail of an event without its event"
    return content.text("action") or content.text("Type") or "message without a type"


def _from_event(event: Members, message: QueueMessage, event_id: str, at_ms: int) -> Notification:
    given_title = event.text("detail-type") or ""
    role = _ROLE.search(given_title)
    title = given_title if role is None else given_title[: role.start()]
    detail = event.object("detail")
    agreement, license_ = detail.part("agreement", "id"), detail.part("license", "arn")
    adjustment = detail.part("billingAdjustmentRequest", "id")
    acceptor = detail.part("acceptor", "accountId").account("accountId")
    license_arn, agreement_id = license_.license_arn("arn"), agreement.agreement_id("id")
    kind = _DETAIL_TYPES_BY_WORDS.get(" ".join(title.lower().split()), "unknown")
    if not _is_of_aws(event):
        kind = "unknown"
    if (kind in _LICENSE_KINDS and not license_arn) or (kind in _AGREEMENT_KINDS and not agreement_id):
        kind = "unknown"
    if _is_of_aws(event) and _is_own_purchase(event, role, acceptor):
        kind = "own_purchase"
    happened_at = event.milliseconds("time")
    return Notification(
        kind=kind,
        id=event.text("id") or event_id,
        at_ms=at_ms if happened_at is None else happened_at,
        title=title,
        message=message,
        license_arn=license_arn,
        agreement_id=agreement_id,
        agreement_status=_upper(agreement.text("status")),
        intent=_upper(agreement.text("intent")),
        previous_agreement_id=agreement.text("previousAgreementId"),
        starts_at_ms=agreement.milliseconds("startTime"),
        product_code=detail.object("product").text("code"),
        account_id=acceptor,
        offer_id=detail.part("offer", "id").text("id"),
        advisory=detail.object("advisory").kept if kind == "advisory_issued" else None,
        adjustment_id=adjustment.text("id"),
        adjustment_message=adjustment.text("statusMessage"),
    )


def _is_of_aws(event: Members) -> bool:
    """EventBridge delivers no event without a source, so where there is none, it was taken out on the way."""
    return event.text("source") in {None, SOURCE}


def _is_own_purchase(event: Members, role: re.Match[str] | None, acceptor: str | None) -> bool:
    """Whether the account that the event was sent to is the buyer. Its role says so; without one, that account accepted
    the agreement and somebody else proposed it. A licence of a product of ours that our own account buys comes with
    the roles of a sale."""
    if role is not None:
        return role.group(1).lower() == _BUYING
    proposer = event.object("detail").part("proposer", "accountId").account("accountId")
    is_sale_or_unclear = acceptor is None or proposer is None or proposer == acceptor
    is_license = "license" in event.object("detail")
    return not is_sale_or_unclear and not is_license and acceptor == event.account("account")


def finding(
    kind: FindingKind,
    event_id: str,
    at: int,
    subscription: Subscription,
    *,
    agreement_id: str | None = None,
    reason: str | None = None,
) -> Notification:
    """What no notification has said of a subscription, as a notification. at: when it was found, in seconds since the
    epoch. reason: why an operator says so; it is kept with the notification."""
    content = {
        FINDING: kind,
        "id": event_id,
        "at": at,
        "license_arn": subscription.license_arn,
        "customer_identifier": subscription.customer_identifier if subscription.license_arn is None else None,
        "product_code": subscription.product_code,
        "agreement_id": agreement_id,
        "reason": reason,
    }
    body = json.dumps({name: value for name, value in content.items() if value is not None})
    return _finding(json.loads(body), QueueMessage(message_id=event_id, body=body, sent_at_ms=at * 1000))


def _finding(content: Mapping[str, Any], message: QueueMessage) -> Notification:
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(FindingKind.__value__)}
    return Notification(
        kind=kinds.get(str(content[FINDING]), "unknown"),
        id=str(content.get("id")),
        at_ms=int(content.get("at", 0)) * 1000,
        title="Operator" if "reason" in content else "Reconciliation",
        message=message,
        license_arn=_text(content.get("license_arn")),
        product_code=_text(content.get("product_code")),
        customer_identifier=_text(content.get("customer_identifier")),
        agreement_id=_text(content.get("agreement_id")),
    )


def _request(content: Mapping[str, Any]) -> LookAgain | MeasureWaiting | Question:
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
            return FindLicenses(agreement_id=agreement_id, last=content.get("last") is True, tries=tries)
        case recheck.MEASURE_WAITING:
            return MeasureWaiting()
        case recheck.RECONCILE:
            status, after = _text(content.get("status")), _text(content.get("after"))
            return Reconcile(subscription_id=subscription_id, status=status, after=after, tries=tries)
    raise MalformedMessageError(
        f"the request {content[recheck.REQUEST]!r} is not one of ours, or lacks its subscription"
    )


def _members(value: object) -> Members:
    """The members of a body, or of what is inside an envelope."""
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("the body is not JSON") from error
    found = Members.of(content)
    if found is None:
        raise MalformedMessageError("the body is not a JSON object")
    return found


def _upper(text: str | None) -> str | None:
    return None if text is None else text.upper()


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
