"""Every operation of the seller API as a typed call, and the types of its bodies.

Written by tools/python_operations.py from the API's document. The functions encode the values that they put into a path
or query.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from marketplace_saas_client.calls import Call, target

Action = Literal["claimed", "released", "transferred"]


ChangeReason = str


Choice = Literal["approve", "refuse"]


ClaimRevision = int


Integration = Literal["license", "legacy"]


Moment = str


Reason = Literal[
    "entitled",
    "in_grace",
    "not_entitled",
    "quantity_exceeded",
    "quantity_not_comparable",
    "expired",
    "entitlements_pending",
    "entitlements_unavailable",
    "entitlements_too_old",
    "unknown_subscription",
    "subscription_pending",
    "subscription_closing",
    "subscription_ended",
    "subscription_failed",
]


ShareAccount = bool


Status = Literal["pending", "active", "closing", "ended", "failed"]


TenantId = str


ValueType = Literal["integer", "double", "boolean", "string"]


Via = Literal["registration", "subscription"]


class AccessDecision(TypedDict):
    """Whether the buyer may use the dimension, or that much of it. Never allowed when in doubt."""

    allowed: bool
    reason: Reason
    stale: bool
    status: Status | None
    entitlement: Entitlement | None
    synced_at: NotRequired[str | None]


class ApprovalBody(TypedDict):
    """What is decided about unusual usage: all of it that awaits approval, or of one dimension or hour."""

    decision: Choice
    dimension: NotRequired[str | None]
    hour: NotRequired[Moment | None]


class Claim(TypedDict):
    """What the seller's application asks for. `share_account`: other tenants may belong to the same AWS account."""

    tenant_id: TenantId
    share_account: NotRequired[ShareAccount]


class ClaimChange(TypedDict):
    """One change of a claim. `via`: what the request named, a registration code or the id of the subscription."""

    claim_revision: int
    action: Action
    tenant_id: str | None
    previous_tenant_id: str | None
    at: str
    caller: str
    via: Via
    reason: str | None


class ClaimChangeList(TypedDict):
    """A page, the newest change first."""

    subscription_id: str
    changes: list[ClaimChange]
    cursor: str | None


class Contact(TypedDict):
    """What the buyer typed on the landing page; what was left empty is absent."""

    email: str
    company: NotRequired[str]
    name: NotRequired[str]
    phone: NotRequired[str]


class ContractSplit(TypedDict):
    """What of a usage record the contract includes."""

    included: int
    overage: int
    included_dimension: str
    limit: int
    term_end: str | None
    correction_due: NotRequired[int | None]
    explanation: str


class CorrectionMade(TypedDict):
    """A billing adjustment of AWS Marketplace for units that were metered by mistake."""

    state: Literal["prepared", "requested", "completed", "refused"]
    hour: str
    units: int
    price: str
    amount: str
    currency: str
    reason: str
    description: NotRequired[str | None]
    agreement_id: str
    invoice_id: str
    record_id: NotRequired[str | None]
    reference: NotRequired[str | None]
    request_id: NotRequired[str | None]
    message: NotRequired[str | None]
    prepared_at: str
    prepared_by: str
    ended_at: NotRequired[str | None]


class EnteredContact(TypedDict):
    """A contact, and when it was entered."""

    email: str
    company: NotRequired[str]
    name: NotRequired[str]
    phone: NotRequired[str]
    entered_at: str


class Entitlement(TypedDict):
    """What AWS grants in one dimension. A value of type double is its decimal text."""

    dimension: str
    value_type: ValueType
    value: int | bool | str
    expires_at: NotRequired[str | None]


class EntitlementList(TypedDict):
    """All that AWS grants. `stale`: older than it should be, because AWS could not be asked now."""

    subscription_id: str
    status: Status
    entitlements: list[Entitlement]
    synced_at: NotRequired[str | None]
    stale: bool


class Error(TypedDict):
    """Error"""

    error: ErrorBody


class ErrorBody(TypedDict):
    """`code` is for programs and stable; `message` says what to do."""

    code: str
    message: str


class GatewayError(TypedDict):
    """API Gateway's own answer, given before the application is reached."""

    message: str


class MeteringRecord(TypedDict):
    """What is or was sent to AWS for one hour and dimension, and how that ended."""

    hour: str
    dimension: str
    quantity: int
    records: int
    state: str
    sealed: bool
    timestamp: str
    in_doubt: NotRequired[bool]
    metering_record_id: NotRequired[str | None]
    reason: NotRequired[str | None]
    approval: NotRequired[Literal["awaited", "approved", "refused"] | None]
    approval_ends_at: NotRequired[str | None]
    tag_sets: NotRequired[int | None]
    untagged_records: NotRequired[int | None]
    corrected: NotRequired[int | None]
    aws_quantity: NotRequired[int | None]
    resolved_by: NotRequired[str | None]
    carried_to: NotRequired[str | None]
    due_at: NotRequired[str | None]
    refuse_at: NotRequired[str | None]
    settled_at: NotRequired[str | None]


class MeteringRecordList(TypedDict):
    """A page, oldest hour first; it may be short, or empty, and still have a cursor."""

    subscription_id: str
    metering_records: list[MeteringRecord]
    cursor: str | None


class NamedRecord(TypedDict):
    """A usage record by its name: the seller's own `id`, and exactly one of `subscription_id` and `license_arn`."""

    id: str
    subscription_id: NotRequired[str | None]
    license_arn: NotRequired[str | None]


class Release(TypedDict):
    """`tenant_id`: whose the subscription is now, and is no longer to be."""

    tenant_id: TenantId
    claim_revision: ClaimRevision
    reason: ChangeReason


class ReportedUsage(TypedDict):
    """A usage record as it was reported."""

    id: str
    dimension: str
    quantity: int
    tags: dict[str, str]
    own_hour: str
    recorded_at: str
    untagged: NotRequired[bool]
    voided_at: NotRequired[str | None]
    voided_by: NotRequired[str | None]


class RetryBody(TypedDict):
    """Which refused usage is to be sent again; all of it without a dimension."""

    dimension: NotRequired[str | None]


class StatementCorrection(TypedDict):
    """How many units more, or less, a line has now than when its day was closed."""

    recorded: int
    included: int
    metered: int
    refused: int
    open: int
    credit: int
    adjusted: int
    shadow: int
    dimension: str
    tags: dict[str, str]
    day: str


class StatementDay(TypedDict):
    """A day in UTC. A closed one has the same lines for good. `totals` are of the whole day, also where the page
    has some of its lines.
    """

    day: str
    closed: bool
    lines: list[StatementLine]
    totals: list[StatementTotal]
    corrections: list[StatementCorrection]


class StatementLine(TypedDict):
    """The units of one dimension and tag set of a day."""

    recorded: int
    included: int
    metered: int
    refused: int
    open: int
    credit: int
    adjusted: int
    shadow: int
    dimension: str
    tags: dict[str, str]


class StatementTotal(TypedDict):
    """The units of one dimension of a day."""

    recorded: int
    included: int
    metered: int
    refused: int
    open: int
    credit: int
    adjusted: int
    shadow: int
    dimension: str


class Subscription(TypedDict):
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
    free_trial_ends_at: NotRequired[str | None]
    claimed_at: NotRequired[str | None]
    claim_revision: int
    registered_at: NotRequired[str | None]
    activated_at: NotRequired[str | None]
    closing_deadline: NotRequired[str | None]


class SubscriptionClaim(TypedDict):
    """A claim without a registration code. It takes a subscription that was never claimed; after a release it
    names the claim_revision.
    """

    tenant_id: TenantId
    share_account: NotRequired[ShareAccount]
    claim_revision: NotRequired[ClaimRevision]
    reason: NotRequired[ChangeReason | None]


class SubscriptionDetails(TypedDict):
    """A subscription with its entitlements as last read from AWS and its contacts."""

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
    free_trial_ends_at: NotRequired[str | None]
    claimed_at: NotRequired[str | None]
    claim_revision: int
    registered_at: NotRequired[str | None]
    activated_at: NotRequired[str | None]
    closing_deadline: NotRequired[str | None]
    entitlements: list[Entitlement]
    entitlements_synced_at: NotRequired[str | None]
    contact: Contact | None
    contacts: list[EnteredContact]
    proposed_tenant_id: str | None


class SubscriptionList(TypedDict):
    """A page; it may be short, or empty, and still have a cursor, with which the next one is asked for."""

    subscriptions: list[Subscription]
    cursor: str | None


class Transfer(TypedDict):
    """`tenant_id`: whose the subscription is now; `to_tenant_id`: whose it is to be, another one."""

    tenant_id: TenantId
    claim_revision: ClaimRevision
    reason: ChangeReason
    to_tenant_id: TenantId
    share_account: NotRequired[ShareAccount]


class UsageDecided(TypedDict):
    """The metering records that the request was about."""

    subscription_id: str
    decided: list[MeteringRecord]
    undecided: list[MeteringRecord]
    more: bool


class UsageProof(TypedDict):
    """Where a usage record went: the record, the hour it was booked to, and the metering record of that hour. A
    record that its contract includes whole has no metering record; `contract` says why. Neither has one that was
    voided.
    """

    subscription_id: str
    billed_to: str
    record: ReportedUsage
    hour: str
    metering_record: MeteringRecord | None
    contract: NotRequired[ContractSplit | None]
    corrections: NotRequired[list[CorrectionMade] | None]


class UsageReport(TypedDict):
    """One usage record as the seller's application reports it.

    `id` is the seller's own and makes repeating safe. Exactly one of `subscription_id` and `license_arn` is
    given. Without `timestamp` the usage is of the moment it arrives.
    """

    id: str
    subscription_id: NotRequired[str | None]
    license_arn: NotRequired[str | None]
    dimension: str
    quantity: int
    timestamp: NotRequired[Moment | None]
    tags: NotRequired[dict[str, str] | None]


class UsageRequest(TypedDict):
    """1 to 500 usage records, each answered by itself."""

    records: list[UsageReport]


class UsageResult(TypedDict):
    """What became of one record. A rejected one says whether sending it again, with the same id, can help."""

    id: str | None
    status: Literal["recorded", "duplicate", "conflict", "voided", "rejected"]
    hour: NotRequired[str | None]
    own_hour: NotRequired[str | None]
    month_shifted: NotRequired[bool]
    untagged: NotRequired[bool]
    included: NotRequired[int | None]
    overage: NotRequired[int | None]
    reason: NotRequired[str | None]
    message: NotRequired[str | None]
    retryable: NotRequired[bool | None]


class UsageResults(TypedDict):
    """One result per record, in order."""

    results: list[UsageResult]


class UsageRetried(TypedDict):
    """`due_again` go with the next metering run, within a quarter of an hour. `too_late` are left as they are."""

    subscription_id: str
    due_again: list[MeteringRecord]
    too_late: list[MeteringRecord]
    more: bool


class UsageStatement(TypedDict):
    """A page, oldest day first. Days without usage are left out."""

    subscription_id: str
    month: str
    days: list[StatementDay]
    cursor: str | None


class VoidRequest(TypedDict):
    """1 to 100 usage records by their names, each answered by itself."""

    records: list[NamedRecord]


class VoidResult(TypedDict):
    """What became of one record. `voided`: nothing of it is counted any more, now or since an earlier request."""

    id: str | None
    status: Literal["voided", "rejected"]
    hour: NotRequired[str | None]
    reason: str
    message: str
    retryable: bool


class VoidResults(TypedDict):
    """One result per record, in order."""

    results: list[VoidResult]


def show_registration(code: str) -> Call[SubscriptionDetails]:
    """For the page that names the product and the account before the user confirms. It claims nothing."""
    return Call("GET", target("/registrations/", code))


def claim_registration(code: str, body: Claim) -> Call[SubscriptionDetails]:
    """Repeating it is safe while the code lives, which is an hour."""
    return Call("POST", target("/registrations/", code, "/claim"), body)


def claim_subscription(subscription_id: str, body: SubscriptionClaim) -> Call[SubscriptionDetails]:
    """For a decision of the seller's own, never for a subscription id that a browser sent: the id is no secret.
    Without `claim_revision` it claims only what was never claimed.
    """
    return Call("POST", target("/subscriptions/", subscription_id, "/claim"), body)


def release_claim(subscription_id: str, body: Release) -> Call[SubscriptionDetails]:
    """Registration codes from before the release claim nothing any more. The subscription, its usage and its bill
    stay as they are. The same request repeated is answered in the same way and changes nothing.
    """
    return Call("POST", target("/subscriptions/", subscription_id, "/claim/release"), body)


def transfer_claim(subscription_id: str, body: Transfer) -> Call[SubscriptionDetails]:
    """The same request repeated is answered in the same way and changes nothing."""
    return Call("POST", target("/subscriptions/", subscription_id, "/claim/transfer"), body)


def list_claims(subscription_id: str, *, limit: int | None = None, cursor: str | None = None) -> Call[ClaimChangeList]:
    """The changes of a claim, the newest first."""
    return Call("GET", target("/subscriptions/", subscription_id, "/claims", query={"limit": limit, "cursor": cursor}))


def list_subscriptions(
    *,
    tenant_id: str | None = None,
    account_id: str | None = None,
    status: Literal["pending", "active", "closing", "ended", "failed"] | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[SubscriptionList]:
    """Exactly one of `tenant_id`, `account_id` and `status` is given."""
    return Call(
        "GET",
        target(
            "/subscriptions",
            query={
                "tenant_id": tenant_id,
                "account_id": account_id,
                "status": status,
                "limit": limit,
                "cursor": cursor,
            },
        ),
    )


def get_subscription(subscription_id: str) -> Call[SubscriptionDetails]:
    """Read a subscription."""
    return Call("GET", target("/subscriptions/", subscription_id))


def get_entitlements(
    subscription_id: str, *, dimension: str | None = None, quantity: int | None = None
) -> Call[EntitlementList | AccessDecision]:
    """With `dimension` the answer is an AccessDecision, without it an EntitlementList. Without `dimension` all
    entitlements are listed; with it, access to the dimension is checked. `quantity` needs a `dimension`.
    """
    return Call(
        "GET",
        target(
            "/subscriptions/", subscription_id, "/entitlements", query={"dimension": dimension, "quantity": quantity}
        ),
    )


def record_usage(body: UsageRequest, *, validate: Literal["true", "false"] | None = None) -> Call[UsageResults]:
    """A record that is wrong is rejected by itself; the others go through. With `validate=true` every record is
    answered as it would be, and none is recorded.
    """
    return Call("POST", target("/usage", query={"validate": validate}), body)


def void_usage(body: VoidRequest) -> Call[VoidResults]:
    """Exactly, by id, while the record's hour is not sealed; afterwards AWS Marketplace may have it, and only a
    billing adjustment corrects it. Repeating it is safe. The id can't be used again.
    """
    return Call("POST", target("/usage/void"), body)


def list_usage(
    subscription_id: str,
    *,
    from_: str | None = None,
    to: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[MeteringRecordList]:
    """The hours that overlap the time from `from` to before `to`, which must be the later; the last day's when
    both are left out. Years are 2000 to 9000.
    """
    return Call(
        "GET",
        target(
            "/subscriptions/",
            subscription_id,
            "/usage",
            query={"from": from_, "to": to, "limit": limit, "cursor": cursor},
        ),
    )


def get_statement(
    subscription_id: str, *, month: str | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[UsageStatement]:
    """What a buyer may be shown of their usage. Pages are by day: a day with many tag sets may go on on the next
    page. A month in UTC. Days come whole or in parts, until `limit` lines are on the page.
    """
    return Call(
        "GET",
        target(
            "/subscriptions/", subscription_id, "/statement", query={"month": month, "limit": limit, "cursor": cursor}
        ),
    )


def retry_usage(subscription_id: str, body: RetryBody) -> Call[UsageRetried]:
    """Makes metering records due again that are `rejected` (once you have mended what AWS refused them for, by
    publishing the dimension, say) or `held`. They are sent as they are; nothing is counted twice. What you have
    refused to approve stays as it is.
    """
    return Call("POST", target("/subscriptions/", subscription_id, "/usage/retry"), body)


def decide_usage(subscription_id: str, body: ApprovalBody) -> Call[UsageDecided]:
    """Decides about metering records that are `awaiting_approval`, of a dimension, of an hour or all. The next
    metering run sends what is approved, and makes `unbillable` what is refused. With `dimension` and `hour` a
    decision can be changed: until that run, and from refused to approved until AWS takes the hour no more.
    Without them it is about what nobody has decided. Repeating it is safe.
    """
    return Call("POST", target("/subscriptions/", subscription_id, "/usage/approval"), body)


def prove_usage(subscription_id: str, record_id: str) -> Call[UsageProof]:
    """Percent-encode the record id; encode one that holds ? or # twice."""
    return Call("GET", target("/subscriptions/", subscription_id, "/usage/", record_id))
