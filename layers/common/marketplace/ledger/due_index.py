"""The `due` index: which metering records a run finds, and what it does with each.

The index holds a record while it is unsettled, and its query is for `due_at` up to now. What `due_at` means stands in
marketplace.ledger.due_time. Every run finds all records in trouble, for gauges that last as long as the trouble.
"""

import sys
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, cast

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.update import Update
from marketplace.ledger import due_time
from marketplace.ledger.deadlines import approval_ends_at, window_closes_at
from marketplace.ledger.record import SENDABLE, Approval, Group, RecordChange, State
from marketplace.ledger.seal import in_doubt
from marketplace.ledger.selections import Selection
from marketplace.platform.clock import EpochSeconds, epoch

type Step = Literal["send", "tell", "wait", "write off", "forget"]
"""What a metering run does with an entry of the `due` index. tell: its state is decided and not told yet. wait: it is
told, and its next step is to come. write off: AWS's window has closed for what it rejected. forget: it leaves the
index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a metering run has decided about a record and is to tell: the `state` that was written at `decided_at` with
    `seal`, and why. `closes_at` is when AWS's window has certainly closed."""

    key: Key
    state: State
    seal: str
    quantity: int
    refuse_at: EpochSeconds
    decided_at: EpochSeconds
    reason: str
    closes_at: EpochSeconds
    approval: Approval | None = None

    def change(self) -> RecordChange:
        """What is written to the record."""
        return RecordChange(
            state=self.state,
            reason=self.reason,
            seal=self.seal,
            due_at=due_time.of_decision(self.decided_at),
            settled_at=None if self.state in SENDABLE else self.decided_at,
            approval=self.approval,
        )

    @property
    def approval_ends_at(self) -> EpochSeconds:
        """Until when the record waits for approval."""
        return approval_ends_at(_hour_of(self.key), self.refuse_at)

    def then(self, state: State, reason: str, now: EpochSeconds) -> "Decision":
        """The decision that follows this one."""
        return replace(self, state=state, reason=reason, decided_at=now)

    def told(self, next_step: EpochSeconds) -> Update:
        """The change once it is told, unless the record or its deadline has moved meanwhile: then it is told again."""
        seen = {
            "state": self.state,
            "seal": self.seal,
            "due_at": due_time.of_decision(self.decided_at),
            "refuse_at": self.refuse_at,
            **({} if self.approval is None else {"approval": self.approval}),
        }
        condition = " AND ".join(f"#{name} = :seen_{name}" for name in seen)
        given = {f"seen_{name}": value for name, value in seen.items()}
        return Update(set={"due_at": due_time.of_next_step(next_step)}, condition=condition, given=given)


@dataclass(frozen=True, slots=True)
class DueEntry:
    """What the `due` index knows of an unsettled metering record."""

    key: Key
    seal: str
    state: str
    refuse_at: EpochSeconds
    quantity: int
    product_code: str
    licensed: bool
    due_at: EpochSeconds

    @property
    def group(self) -> Group:
        return ("license" if self.licensed else "legacy", self.product_code)

    @property
    def hour(self) -> EpochSeconds:
        return _hour_of(self.key)

    @property
    def moment(self) -> EpochSeconds:
        """When the record is sent, was decided, or has its next step."""
        return due_time.moment_of(self.state, self.due_at)

    def step(self, now: EpochSeconds) -> Step:
        """What is to be done with the record now."""
        if self.state == "open":
            return "send"
        if not due_time.is_told(self.due_at):
            return "tell"
        if self.moment > now:
            return "wait"
        return "send" if self.state in SENDABLE else "write off" if self.state == "rejected" else "forget"

    def is_in_shadow(self, starts_at: int) -> bool:
        """Whether it is usage of an hour before metering starts, and AWS can't know it from here."""
        return self.state == "open" and not in_doubt(self.seal) and self.hour < starts_at

    def waits_for_another_region(self, region: str) -> bool:
        """Whether an attempt in another region than this one is in doubt: AWS removes duplicates within a region only,
        so the record must not be sent here."""
        _, at, there = self.seal.rpartition("@")
        return bool(at) and there != region and in_doubt(self.seal)

    def overdue(self, now: EpochSeconds) -> int:
        """For how many seconds the next step has been waiting."""
        return max(0, now - self.moment)

    def decision(self, item: Item) -> "Decision | None":
        """What is to be told of the record, stored as this item; None when it has moved on since the index was read."""
        values = from_item(item)
        if any(values.get(name) != getattr(self, name) for name in ("state", "seal", "due_at", "refuse_at")):
            return None
        timestamp = values.get("timestamp")
        return Decision(
            key=self.key,
            state=cast("State", self.state),
            seal=self.seal,
            quantity=self.quantity,
            refuse_at=self.refuse_at,
            decided_at=self.moment,
            reason=str(values.get("reason", "")),
            closes_at=window_closes_at(EpochSeconds(timestamp) if isinstance(timestamp, int) else self.hour),
            approval=values.get("approval"),
        )

    @classmethod
    def from_item(cls, item: Any) -> "DueEntry | Unreadable":
        key = Key(item["pk"]["S"], item["sk"]["S"])
        try:
            return cls(
                key=key,
                seal=item["seal"]["S"],
                state=sys.intern(item["state"]["S"]),
                refuse_at=EpochSeconds(int(item["refuse_at"]["N"])),
                quantity=int(item["quantity"]["N"]),
                product_code=sys.intern(item["product_code"]["S"]),
                licensed="license_arn" in item,
                due_at=EpochSeconds(int(item["due_at"]["N"])),
            )
        except (KeyError, ValueError):
            return Unreadable(key)

    def sealing(self, token: str) -> tuple[str, str, str, str, str]:
        """The parameters of SEALING that put the token in place of the seal this entry was seen with."""
        return token, self.key.pk, self.key.sk, self.seal, self.state


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item in the `due` index that lacks what a metering record has: nothing of ours writes such a one. It waits
    for a person, and nothing else waits for it."""

    key: Key


def _hour_of(key: Key) -> EpochSeconds:
    return epoch(datetime.fromisoformat(keys.hour_and_dimension(key.sk)[0]))


SEALING = 'SET seal=? WHERE pk=? AND sk=? AND seal=? AND "state"=?'
"""PartiQL clauses that seal a record; DueEntry.sealing gives the parameters. The state is compared because a record
that is decided while an attempt is in doubt keeps the seal of that attempt; `state` is a reserved word."""


def is_sealed_for_sending(item: Item, token: str) -> bool:
    """Whether a stored record, valid or not, carries the token and waits to be sent."""
    return item["seal"]["S"] == token and item["state"]["S"] in SENDABLE and "due_shard" in item


def due_in(shard: str, now: EpochSeconds) -> Selection:
    """The key condition of the `due` index for what is due in a shard, and for all that is in trouble."""
    return Selection("#due_shard = :shard AND #due_at <= :now", {"shard": shard, "now": now})


def unsettled_in(shard: str) -> Selection:
    """The key condition of the `due` index for everything in a shard: what is due, what is in trouble, and what is due
    later."""
    return Selection("#due_shard = :shard", {"shard": shard})
