"""The data of a purchase: what the buyer bought and the agreements behind it. Rules are in purchases.py."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from marketplace_emulator.agenda import Task
from marketplace_emulator.catalog import Product
from marketplace_emulator.ids import license_id

type Value = int | float | bool | str
type Entitlements = dict[str, Value]
State = Literal["scheduled", "pending", "active", "closing", "ended", "failed"]


@dataclass(slots=True)
class Agreement:
    """One agreement; a renewal or replacement makes a new one for the same purchase."""

    id: str
    purchase_id: str
    product_id: str
    account_id: str
    proposer_id: str
    offer_id: str
    intent: str
    status: str
    accepted_at: float
    starts_at: float
    ends_at: float | None
    updated_at: float
    license_arn: str
    initial_id: str
    previous_id: str | None = None
    auto_renew: bool = False
    free_trial_until: float | None = None
    resale_authorization: str | None = None
    entitlements: Entitlements = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grant:
    """What GetEntitlements answers for a purchase from a moment on, in seconds since the epoch."""

    at: float
    agreement_id: str
    ends_at: float | None
    entitlements: Entitlements


@dataclass(slots=True)
class Purchase:
    """One thing a buyer bought: a licence (or legacy subscription) and the chain of agreements behind it."""

    id: str
    product: Product
    account_id: str
    license_arn: str
    customer_identifier: str
    agreements: list[Agreement]
    entitlements: Entitlements
    provisioned_at: float | None = None
    provisioned_agreement_id: str = ""
    ended_at: float | None = None
    deprovisioned_at: float | None = None
    failed_reason: str = ""
    registered_at: float | None = None
    free_trial_until: float | None = None
    cancellation_request: str = ""
    license_task: Task | None = None
    ending_tasks: list[Task] = field(default_factory=list)
    approval_task: Task | None = None
    grants: list[Grant] = field(default_factory=list)

    def note_grant(self, now: float) -> None:
        """Remember what is granted from now on."""
        agreement = self.agreement
        self.grants.append(Grant(now, agreement.id, agreement.ends_at, dict(self.entitlements)))

    @property
    def license_id(self) -> str:
        """The trailing `l-…` of the licence ARN."""
        return license_id(self.license_arn) or self.license_arn

    @property
    def product_code(self) -> str:
        """The code of the product bought."""
        return self.product.code

    @property
    def is_legacy(self) -> bool:
        """Whether the buyer is identified by CustomerIdentifier."""
        return self.product.integration == "legacy"

    @property
    def agreement(self) -> Agreement:
        """The agreement in force, or the last one."""
        return self.agreements[-1]

    @property
    def agreement_id(self) -> str:
        """The id of the agreement in force."""
        return self.agreements[-1].id

    @property
    def auto_renew(self) -> bool:
        """Whether the agreement in force renews itself at its end."""
        return self.agreements[-1].auto_renew

    def unit_price(self, dimension: str, moment: float) -> Decimal:
        """The price of one unit at `moment`, in seconds since the epoch. Usage in a free trial costs nothing."""
        if self.free_trial_until is not None and moment < self.free_trial_until:
            return Decimal(0)
        return self.product.dimensions[dimension].price
