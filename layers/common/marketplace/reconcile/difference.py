"""A difference between our ledger and what AWS shows, with what it is worth; and that somebody has accepted it."""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from marketplace.platform.clock import iso
from marketplace.reconcile.evidence import Quantity

type Kind = Literal[
    "only_ours",
    "only_theirs",
    "other_quantity",
    "other_hour",
    "other_identity",
    "sent_by_someone_else",
    "unproven",
]
"""only_ours: we hold it as metered, or leave it to another meter, and AWS does not show it. only_theirs: AWS shows it
as accepted, we do not hold it as metered. other_quantity: AWS has another quantity of the hour. other_hour,
other_identity: AWS has it at another hour or of another buyer. sent_by_someone_else: a role that is not ours has sent
it. unproven: AWS left out the event that would show it."""

KINDS: tuple[Kind, ...] = get_args(Kind.__value__)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """That a difference, by its id, is known and why it stays."""

    difference_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`ours` is what we have recorded, in the state `our_state`; `theirs` what AWS shows; None where a side has
    nothing. `units` is how much more AWS bills than we hold as metered, `money` what that is worth at the price given.

    `payer`, `dimension` and `period` (seconds since the epoch) are ours; `their_payer` and `their_period` are set where
    AWS has others.
    """

    kind: Kind
    payer: str
    dimension: str
    period: int
    ours: Quantity | None = None
    theirs: Quantity | None = None
    units: Quantity = 0
    money: Decimal | None = None
    our_state: str = ""
    their_payer: str | None = None
    their_period: int | None = None
    references: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    accepted: str | None = None

    @property
    def id(self) -> str:
        """The same difference has the same id whenever it is found again; one with other numbers is another."""
        parts = (self.kind, self.payer, self.dimension, self.period, self.ours, self.theirs)
        told = "\0".join(
            str(part) for part in (*parts, self.their_payer, self.their_period, *self.senders, *self.references)
        )
        return "dif-" + hashlib.sha256(told.encode()).hexdigest()[:24]

    def as_json(self) -> dict[str, Any]:
        """The difference as plain JSON values; what is not known is left out."""
        shown: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "payer": self.payer,
            "dimension": self.dimension,
            "period": iso(self.period),
            "ours": self.ours,
            "theirs": self.theirs,
            "units": self.units,
            "money": None if self.money is None else str(self.money),
            "our_state": self.our_state or None,
            "their_payer": self.their_payer,
            "their_period": None if self.their_period is None else iso(self.their_period),
            "metering_record_ids": list(self.references) or None,
            "senders": list(self.senders) or None,
            "accepted": self.accepted,
        }
        return {name: value for name, value in shown.items() if value is not None or name in ("ours", "theirs")}
