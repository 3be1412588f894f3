"""The OpenAPI 3.1 document of the seller's API, made from the routes and the pydantic models.

A route needs an entry in WORDS, which names the models of its answer; tools/openapi_document.py does the rest.

    python -m tools.openapi > docs/openapi.json

Nothing on Lambda imports this module.
"""

import json
import sys
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from marketplace.entitlements.rules import Reason, ValueType
from marketplace.ledger.record import State
from marketplace.registration.claim_history import Action, Via
from marketplace.seller_api import problems
from marketplace.subscriptions.identity import Integration
from marketplace.subscriptions.model import Status
from marketplace.usage.report import NamedRecord, UsageReport
from marketplace.usage.void import MAX_VOIDED
from tools.openapi_document import Answer, Words, assembled
from tools.openapi_statements import UsageStatement

_TIME = Field(description="ISO 8601 in UTC", examples=["2026-11-22T14:00:00Z"])
_OPTIONAL_TIME = Field(default=None, description="ISO 8601 in UTC", examples=["2026-11-22T14:00:00Z"])


class Entitlement(Answer):
    """What AWS grants in one dimension. A value of type double is its decimal text."""

    dimension: str
    value_type: ValueType
    value: int | bool | str
    expires_at: str | None = _OPTIONAL_TIME


class Contact(Answer):
    """What the buyer typed on the landing page; what was left empty is absent."""

    email: str
    company: str = ""
    name: str = ""
    phone: str = ""


class EnteredContact(Contact):
    """A contact, and when it was entered."""

    entered_at: str = _TIME


class Subscription(Answer):
    """One licence (or, in a legacy product, one customer) as of now. `access`: the buyer may use the product."""

    subscription_id: str
    status: Status
    access: bool
    tenant_id: str | None
    product_code: str
    integration: Integration
    license_arn: str | None
    customer_identifier: str | None
    account_id: str | None
    agreement_ids: list[str]
    offer_id: str | None
    free_trial: bool | None
    free_trial_ends_at: str | None = _OPTIONAL_TIME
    claimed_at: str | None = _OPTIONAL_TIME
    claim_revision: int = Field(description="How often the claim has changed; a release and a transfer name it")
    registered_at: str | None = _OPTIONAL_TIME
    activated_at: str | None = _OPTIONAL_TIME
    closing_deadline: str | None = Field(
        default=None, description="When AWS stops taking usage of a subscription that is closing or has ended"
    )


class SubscriptionDetails(Subscription):
    """A subscription with its entitlements as last read from AWS and its contacts."""

    entitlements: list[Entitlement]
    entitlements_synced_at: str | None = _OPTIONAL_TIME
    contact: Contact | None = Field(description="The contact that was entered last")
    contacts: list[EnteredContact] = Field(description="Every contact that was entered, the oldest first")
    proposed_tenant_id: str | None = Field(
        description="The tenant of the subscription that this one continues, while nobody has claimed this one. It is "
        "never claimed by itself"
    )


class ClaimChange(Answer):
    """One change of a claim. `via`: what the request named, a registration code or the id of the subscription."""

    claim_revision: int = Field(description="The subscription's claim_revision after the change")
    action: Action
    tenant_id: str | None = Field(description="Whose the subscription is from then on")
    previous_tenant_id: str | None
    at: str = _TIME
    caller: str = Field(description="The ARN of the principal that signed the request")
    via: Via
    reason: str | None


class ClaimChangeList(Answer):
    """A page, the newest change first."""

    subscription_id: str
    changes: list[ClaimChange]
    cursor: str | None


class SubscriptionList(Answer):
    """A page; it may be short, or empty, and still have a cursor, with which the next one is asked for."""

    subscriptions: list[Subscription]
    cursor: str | None


class EntitlementList(Answer):
    """All that AWS grants. `stale`: older than it should be, because AWS could not be asked now."""

    subscription_id: str
    status: Status
    entitlements: list[Entitlement]
    synced_at: str | None = _OPTIONAL_TIME
    stale: bool


class AccessDecision(Answer):
    """Whether the buyer may use the dimension, or that much of it. Never allowed when in doubt."""

    allowed: bool
    reason: Reason
    stale: bool
    status: Status | None
    entitlement: Entitlement | None
    synced_at: str | None = _OPTIONAL_TIME


class UsageResult(Answer):
    """What became of one record. A rejected one says whether sending it again, with the same id, can help."""

    id: str | None
    status: Literal["recorded", "duplicate", "conflict", "voided", "rejected"]
    hour: str | None = Field(default=None, description="The hour it was booked to")
    own_hour: str | None = Field(default=None, description="The hour that it is of, when that is another one")
    month_shifted: bool = Field(default=False, description="No hour of its own billing month could take it")
    untagged: bool = Field(default=False, description="The hour had no room for its tags; the quantity counts")
    included: int | None = Field(
        default=None, description="In an overage dimension: how much of the quantity the contract includes"
    )
    overage: int | None = Field(
        default=None, description="In an overage dimension: the rest of the quantity, and all of it that is metered"
    )
    reason: str | None = None
    message: str | None = None
    retryable: bool | None = None


class UsageResults(Answer):
    """One result per record, in order."""

    results: list[UsageResult]


class VoidResult(Answer):
    """What became of one record. `voided`: nothing of it is counted any more, now or since an earlier request."""

    id: str | None
    status: Literal["voided", "rejected"]
    hour: str | None = Field(default=None, description="The hour it was booked to")
    reason: str
    message: str
    retryable: bool = Field(description="Whether the same request again can help")


class VoidResults(Answer):
    """One result per record, in order."""

    results: list[VoidResult]


class MeteringRecord(Answer):
    """What is or was sent to AWS for one hour and dimension, and how that ended."""

    hour: str = _TIME
    dimension: str
    quantity: int
    records: int = Field(description="How many usage records it sums up")
    state: str = Field(examples=list(get_args(State.__value__)))
    sealed: bool = Field(description="It can't change any more")
    timestamp: str = Field(description="The Timestamp that AWS is told")
    in_doubt: bool = Field(default=False, description="It was sent and no answer is known yet")
    metering_record_id: str | None = None
    reason: str | None = None
    approval: Literal["awaited", "approved", "refused"] | None = Field(
        default=None, description="Of usage that was unusual: what is decided about it"
    )
    approval_ends_at: str | None = Field(default=None, description="Until when it awaits approval")
    tag_sets: int | None = None
    untagged_records: int | None = None
    corrected: int | None = Field(default=None, description="Units for which a billing adjustment is under way or made")
    aws_quantity: int | None = Field(
        default=None, description="Of a conflict that was resolved: what AWS Marketplace bills of the hour"
    )
    resolved_by: str | None = Field(default=None, description="Who resolved the conflict, at settled_at")
    carried_to: str | None = Field(
        default=None, description="The hour that took what AWS Marketplace has too little of a conflict"
    )
    due_at: str | None = None
    refuse_at: str | None = Field(default=None, description="When AWS stops taking it")
    settled_at: str | None = None


class MeteringRecordList(Answer):
    """A page, oldest hour first; it may be short, or empty, and still have a cursor."""

    subscription_id: str
    metering_records: list[MeteringRecord]
    cursor: str | None


class UsageDecided(Answer):
    """The metering records that the request was about."""

    subscription_id: str
    decided: list[MeteringRecord] = Field(description="They carry this decision, and the next metering run acts on it")
    undecided: list[MeteringRecord] = Field(description="The decision came too late for them")
    more: bool = Field(description="There are others: send the same request again")


class UsageRetried(Answer):
    """`due_again` go with the next metering run, within a quarter of an hour. `too_late` are left as they are."""

    subscription_id: str
    due_again: list[MeteringRecord]
    too_late: list[MeteringRecord] = Field(description="AWS takes no more usage of their hour")
    more: bool = Field(description="There are others; repeat the request")


class ReportedUsage(Answer):
    """A usage record as it was reported."""

    id: str
    dimension: str
    quantity: int
    tags: dict[str, str]
    own_hour: str = _TIME
    recorded_at: str = _TIME
    untagged: bool = False
    voided_at: str | None = _OPTIONAL_TIME
    voided_by: str | None = Field(default=None, description="The ARN of the principal that had it voided")


class ContractSplit(Answer):
    """What of a usage record the contract includes."""

    included: int
    overage: int = Field(description="What is metered: quantity minus included")
    included_dimension: str = Field(description="The dimension whose entitlement was used up first")
    limit: int = Field(description="How much of it the contract included in this term, as it was counted")
    term_end: str | None = Field(description="When the billing term ends; null when the entitlement has no date")
    correction_due: int | None = Field(
        default=None,
        description="Metered units that the contract includes too, as AWS showed once the hour was sealed",
    )
    explanation: str


class CorrectionMade(Answer):
    """A billing adjustment of AWS Marketplace for units that were metered by mistake."""

    state: Literal["prepared", "requested", "completed", "refused"]
    hour: str = _TIME
    units: int
    price: str = Field(description="Of one unit")
    amount: str = Field(description="What the buyer gets back")
    currency: str
    reason: str = Field(description="AWS Marketplace's reason code", examples=["INCORRECT_METERING"])
    description: str | None = None
    agreement_id: str
    invoice_id: str
    record_id: str | None = Field(default=None, description="The usage record that was reported wrong")
    reference: str | None = None
    request_id: str | None = Field(default=None, description="AWS Marketplace's id of the billing adjustment request")
    message: str | None = None
    prepared_at: str = _TIME
    prepared_by: str
    ended_at: str | None = _OPTIONAL_TIME


class UsageProof(Answer):
    """Where a usage record went: the record, the hour it was booked to, and the metering record of that hour. A record
    that its contract includes whole has no metering record; `contract` says why. Neither has one that was voided."""

    subscription_id: str
    billed_to: str = Field(description="The subscription that is billed: across a migration the other one")
    record: ReportedUsage
    hour: str = _TIME
    metering_record: MeteringRecord | None
    contract: ContractSplit | None = Field(default=None, description="In an overage dimension only")
    corrections: list[CorrectionMade] | None = Field(
        default=None, description="Billing adjustments for this record, and for its hour as a whole"
    )


class UsageRequest(BaseModel, extra="forbid"):
    """1 to 500 usage records, each answered by itself."""

    records: list[UsageReport] = Field(min_length=1, max_length=500)


class VoidRequest(BaseModel, extra="forbid"):
    """1 to 100 usage records by their names, each answered by itself."""

    records: list[NamedRecord] = Field(min_length=1, max_length=MAX_VOIDED)


WORDS: dict[str, Words] = {
    "claimRegistration": Words(
        "Claim a registration for a tenant",
        SubscriptionDetails,
        (problems.CLAIM_UNKNOWN, problems.CLAIMED_ELSEWHERE, problems.ACCOUNT_LINKED_ELSEWHERE),
        description="Repeating it is safe while the code lives, which is an hour.",
    ),
    "showRegistration": Words(
        "Read what a registration code would claim",
        SubscriptionDetails,
        (problems.CLAIM_UNKNOWN,),
        description="For the page that names the product and the account before the user confirms. It claims nothing.",
    ),
    "claimSubscription": Words(
        "Claim a subscription for a tenant without a registration code",
        SubscriptionDetails,
        (problems.CLAIMED_ELSEWHERE, problems.ACCOUNT_LINKED_ELSEWHERE, problems.CLAIM_CHANGED),
        description="For a decision of the seller's own, never for a subscription id that a browser sent: the id is no "
        "secret. Without `claim_revision` it claims only what was never claimed.",
    ),
    "releaseClaim": Words(
        "Take a subscription away from its tenant",
        SubscriptionDetails,
        (problems.CLAIM_CHANGED,),
        description="Registration codes from before the release claim nothing any more. The subscription, its usage "
        "and its bill stay as they are. The same request repeated is answered in the same way and changes nothing.",
    ),
    "transferClaim": Words(
        "Give a subscription of one tenant to another",
        SubscriptionDetails,
        (problems.CLAIM_CHANGED, problems.CLAIMED_ELSEWHERE, problems.ACCOUNT_LINKED_ELSEWHERE),
        description="The same request repeated is answered in the same way and changes nothing.",
    ),
    "listClaims": Words("List the changes of a subscription's claim", ClaimChangeList),
    "listSubscriptions": Words("Find subscriptions by tenant, account or status", SubscriptionList),
    "getSubscription": Words("Read a subscription", SubscriptionDetails),
    "getEntitlements": Words(
        "List entitlements, or check access to a dimension",
        (EntitlementList, AccessDecision),
        description="With `dimension` the answer is an AccessDecision, without it an EntitlementList.",
    ),
    "recordUsage": Words(
        "Record usage",
        UsageResults,
        body=UsageRequest,
        description="A record that is wrong is rejected by itself; the others go through.",
    ),
    "voidUsage": Words(
        "Take recorded usage back",
        VoidResults,
        body=VoidRequest,
        description="Exactly, by id, while the record's hour is not sealed; afterwards AWS Marketplace may have it, "
        "and only a billing adjustment corrects it. Repeating it is safe. The id can't be used again.",
    ),
    "listUsage": Words("List metering records by hour and dimension", MeteringRecordList),
    "getStatement": Words(
        "Read a month's usage by day, dimension and tag set",
        UsageStatement,
        description="What a buyer may be shown of their usage. Pages are by day: a day with many tag sets may go on on "
        "the next page.",
    ),
    "retryUsage": Words(
        "Have refused usage sent again",
        UsageRetried,
        (problems.PARAMETER_INVALID, problems.NOT_METERED),
        description="Makes metering records due again that are `rejected` (once you have mended what AWS refused them "
        "for, by publishing the dimension, say) or `held`. They are sent as they are; nothing is counted twice. What "
        "you have refused to approve stays as it is.",
    ),
    "decideUsage": Words(
        "Approve or refuse unusual usage",
        UsageDecided,
        (problems.PARAMETER_INVALID, problems.NOT_METERED),
        description="Decides about metering records that are `awaiting_approval`, of a dimension, of an hour or all. "
        "The next metering run sends what is approved, and makes `unbillable` what is refused. With `dimension` and "
        "`hour` a decision can be changed: until that run, and from refused to approved until AWS takes the hour no "
        "more. Without them it is about what nobody has decided. Repeating it is safe.",
    ),
    "proveUsage": Words(
        "Prove where a usage record went",
        UsageProof,
        (problems.RECORD_UNKNOWN,),
        description="Percent-encode the record id; encode one that holds ? or # twice.",
    ),
}


def document() -> dict[str, Any]:
    """The whole document as plain JSON values."""
    return assembled(WORDS)


def as_text() -> str:
    """The document as docs/openapi.json holds it."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
