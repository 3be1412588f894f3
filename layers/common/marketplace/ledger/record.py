"""The metering record: one subscription's usage of one dimension in one hour, as the usage table holds it.

The names of its attributes stand in this module, in marketplace.ledger.due_index and marketplace.ledger.selections
alone. Whoever changes a record gets the change from here:

    recording usage                   MeteringRecord.new(...).addition(...)
    the seller's decision             MeteringRecord.decided
    a metering run                    DueEntry.sealing, RecordChange, Decision, MeteringRecord.as_metered
    a closing, a return to life       MeteringRecord.rescheduled
    the seller's retry                MeteringRecord.made_due
    a zero for an hour without usage  MeteringRecord.new(...).to_item()
    resolving a conflict              marketplace.ledger.conflict

`seal` says who may change the record, and whether AWS may know it already (marketplace.ledger.seal).
`due_at` places the record in the `due` index; marketplace.ledger.due_time says how.
"""

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, Protocol, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.update import Update
from marketplace.ledger import due_time
from marketplace.ledger.deadlines import approval_ends_at
from marketplace.ledger.seal import UNSEALED, in_doubt
from marketplace.platform.clock import EpochSeconds, iso

type State = Literal["open", "metered", "held", "rejected", "conflict", "unbillable", "awaiting_approval", "shadow"]
"""open: waits to be metered. metered: AWS has it. held: AWS said CustomerNotSubscribed or InvalidLicense; due again on
activation. awaiting_approval: unusual usage that was not sent; the seller decides, or its deadline does. rejected: AWS
refused the record itself. conflict: another sender took the hour. unbillable: AWS takes it no more, or the seller has
refused it. shadow: of an hour before metering starts, which another meter bills; it stays unsealed and takes usage of
that time."""

type Approval = Literal["awaited", "approved", "refused"]
"""Of a record that was unusual: what is decided about it. It is not judged again, and while it is refused, nothing but
an approval makes it due."""

SENDABLE = frozenset({"open", "held", "awaiting_approval"})
"""The states in which a record waits to be sent."""

SAVABLE = frozenset({"open", "held", "rejected", "awaiting_approval"})
"""The states from which a record can still be billed."""

FINAL = frozenset({"metered", "conflict", "unbillable", "shadow"})
"""The states that stay, once they are told and AWS's window has closed."""

type ExpiringRow = tuple[int, str, str, str, int, int]

EXPIRING = "SET expires_at=? WHERE pk=? AND sk=? AND seal=? AND quantity=? AND settled_at=?"
"""PartiQL clauses that have DynamoDB remove a final record, unless it was changed: whatever changes one makes it due,
which removes the time at which it was settled. MeteringRecord.expiring gives the parameters."""

MAX_QUANTITY = 2_147_483_647
"""BatchMeterUsage takes 0 to 2147483647 (botocore model, UsageQuantity)."""

MAX_TAG_SETS = 2500
"""botocore model, UsageAllocations."""

MAX_ALLOCATION_BYTES = 900_000
"""What the allocations of one record may take, so that every record fits a request alone."""

type Group = tuple[str, str]
"""What may go into one call: the integration and the product (one product per call; ProductCode and LicenseArn never
together, botocore model: duplicate billing)."""


class InvalidRecordError(ValueError):
    """A stored metering record lacks an attribute that every one has, or holds a number in another form; the text
    names the attribute."""


class Payer(Protocol):
    """What a metering record keeps of the subscription that pays for it."""

    @property
    def id(self) -> str: ...
    @property
    def product_code(self) -> str: ...
    @property
    def license_arn(self) -> str | None: ...
    @property
    def customer_identifier(self) -> str | None: ...
    @property
    def account_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a change of the subscription changes in an unsettled record: whether it is held, when it is due, and when
    AWS refuses it."""

    state: State
    due_at: EpochSeconds
    refuse_at: EpochSeconds


@dataclass(frozen=True, slots=True)
class Addition:
    """What one transaction adds to a record. `tagged_quantity` is what goes to allocations; `tag_sets`, `tag_bytes` and
    `tag_keys` count what is new in it;
    `seen_tag_sets` is how many tag sets the record had when that was decided."""

    quantity: int
    records: int
    untagged_records: int = 0
    tagged_quantity: int = 0
    tag_sets: int = 0
    tag_bytes: int = 0
    tag_keys: frozenset[str] = frozenset()
    seen_tag_sets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteringRecord:
    """A metering record. Each field but the key is the attribute of its name.

    `quantity` is what `records` usage records sum to. `timestamp` is the Timestamp that AWS is sent, `refuse_at` when
    AWS takes the hour no more. `due_shard` and `due_at` place an unsettled record in the `due` index and are None
    once it is settled at `settled_at`; `reason` says why it was not simply metered. `tag_sets` of its allocations
    exist, with the tag keys `tag_keys` and at most `tag_bytes` bytes of JSON; they sum to `tagged_quantity`, or more if
    some were booked by a version that did not count it. The tags of `untagged_records` found no room. `tags_refused` is
    AWS's error code for the allocations: from then on the record is sent without them. For `corrected` of its units a
    billing adjustment is under way or made (marketplace.ledger.correction). `approval` is None for a record that never
    was unusual. The last three are of a conflict that was resolved (marketplace.ledger.conflict).
    """

    key: Key
    dimension: str
    hour: EpochSeconds
    quantity: int
    state: State
    seal: str
    timestamp: EpochSeconds
    refuse_at: EpochSeconds
    product_code: str
    records: int = 0
    license_arn: str | None = None
    customer_identifier: str | None = None
    account_id: str | None = None
    due_shard: str | None = None
    due_at: EpochSeconds | None = None
    tag_sets: int = 0
    tag_bytes: int = 0
    tag_keys: frozenset[str] = frozenset()
    tagged_quantity: int | None = None
    untagged_records: int = 0
    reason: str | None = None
    settled_at: EpochSeconds | None = None
    metering_record_id: str | None = None
    tags_refused: str | None = None
    corrected: int = 0
    approval: Approval | None = None
    aws_quantity: int | None = None
    resolved_by: str | None = None
    carried_to: EpochSeconds | None = None

    @classmethod
    def new(
        cls,
        payer: Payer,
        hour: EpochSeconds,
        dimension: str,
        *,
        timestamp: EpochSeconds,
        due_at: EpochSeconds,
        refuse_at: EpochSeconds,
    ) -> Self:
        """The record of an hour before any usage is in it."""
        licensed = bool(payer.license_arn)
        return cls(
            key=keys.metering_record(payer.id, hour, dimension),
            dimension=dimension,
            hour=hour,
            quantity=0,
            state="open",
            seal=UNSEALED,
            timestamp=timestamp,
            refuse_at=refuse_at,
            product_code=payer.product_code,
            license_arn=payer.license_arn,
            customer_identifier=None if licensed else payer.customer_identifier,
            account_id=payer.account_id if licensed else None,
            due_shard=keys.due_shard(payer.id),
            due_at=due_at,
        )

    @classmethod
    def from_item(cls, item: Item) -> Self:
        """Raises InvalidRecordError."""
        values = from_item(item)
        given = {name: values[name] for name in _ATTRIBUTES if name in values}
        wrong = _REQUIRED - given.keys() or [name for name in _NUMBERS if type(given.get(name, 0)) is not int]
        if wrong:
            raise InvalidRecordError(f"{', '.join(sorted(wrong))}: missing, or no number")
        if "tag_keys" in given:
            given["tag_keys"] = frozenset(given["tag_keys"])
        return cls(key=Key(values["pk"], values["sk"]), **given)

    def to_item(self) -> Item:
        """The whole record in DynamoDB's attribute-value form; what is None, empty or no count at all is left out."""
        return to_item(self._stored())

    def _stored(self) -> dict[str, Any]:
        return {**self.key._asdict(), **self._values(), "quantity": self.quantity, "records": self.records}

    def _values(self) -> dict[str, Any]:
        return {name: value for name in _ATTRIBUTES if (value := getattr(self, name))}

    @property
    def subscription_id(self) -> str:
        return keys.subscription_id_of(self.key.pk)

    @property
    def schedule(self) -> Schedule:
        """Raises ValueError for a record that is settled."""
        if self.due_at is None:
            raise ValueError("a settled record is not due")
        return Schedule(self.state, self.due_at, self.refuse_at)

    def in_shadow(self, now: EpochSeconds) -> "MeteringRecord":
        """The record as it is created for an hour that another meter bills: it is settled, and never due."""
        return replace(self, state="shadow", due_shard=None, due_at=None, settled_at=now)

    def addition(self, added: Addition, *, moves_deadlines: bool) -> Update:
        """Adds usage to the hour while it is unsealed and the sum is one that AWS takes, and creates it as this record
        says where it does not exist. `moves_deadlines`: its times replace those of an existing record. What is
        billed here is not added to an hour in shadow, from which it would not be sent; the other way round, the hour is
        in shadow from then on."""
        adds = {name: value for name in _ADDED if (value := getattr(added, name)) or name == "quantity"}
        has_room = "#seal = :unsealed AND #quantity <= :room"
        given: dict[str, Any] = {"unsealed": UNSEALED, "room": MAX_QUANTITY - added.quantity}
        if self.state != "shadow":
            has_room += " AND #state <> :shadow"
            given["shadow"] = "shadow"
        condition = f"attribute_not_exists(pk) OR ({has_room})"
        if added.tag_sets:
            # Whether a tag set has room depends on the sets that are there: creating one needs them to be unchanged.
            # A count of 0 is left where the only set was taken out again.
            unchanged = "#tag_sets = :seen_tag_sets"
            if not added.seen_tag_sets:
                unchanged = f"attribute_not_exists(#tag_sets) OR {unchanged}"
            condition = f"({condition}) AND (attribute_not_exists(pk) OR {unchanged})"
            given["seen_tag_sets"] = added.seen_tag_sets
        kept = self._values()
        moved: dict[str, Any] = {"due_at": self.due_at, "refuse_at": self.refuse_at} if moves_deadlines else {}
        if self.state == "shadow":
            moved = {"state": self.state, "settled_at": self.settled_at}
        kept = {name: value for name, value in kept.items() if name not in moved}
        remove = _DUE_KEYS if self.state == "shadow" else ()
        return Update(set=moved, keep=kept, add=adds, remove=remove, condition=condition, given=given)

    @staticmethod
    def reduction(taken: Addition) -> Update:
        """Takes usage out of the hour again while it is unsealed and something is left in it. The counts of `taken`
        are of what leaves it whole."""
        adds = {name: -value for name in _ADDED if isinstance(value := getattr(taken, name), int) and value}
        condition = "#seal = :unsealed AND (#quantity > :taken OR #records > :leaving)"
        given = {"unsealed": UNSEALED, "taken": taken.quantity, "leaving": taken.records}
        return Update(add=adds, condition=condition, given=given)

    @staticmethod
    def removal(quantity: int, records: int) -> tuple[str, dict[str, Any]]:
        """The condition, with its values, on which the record may be deleted: it is unsealed and holds this and no
        more."""
        condition = "#seal = :unsealed AND #quantity = :taken AND #records = :leaving"
        return condition, {"unsealed": UNSEALED, "taken": quantity, "leaving": records}

    @property
    def billed(self) -> int:
        """How many units AWS bills of the hour, as far as is known."""
        return self.quantity if self.state == "metered" else self.aws_quantity or 0

    def correction(self, units: int) -> Update:
        """So many of its units are corrected by a billing adjustment, while it has them, AWS bills it, and it does not
        move to the archive."""
        room = "(attribute_not_exists(#corrected) OR #corrected <= :room)"
        condition = f"#state = :seen_state AND {room} AND attribute_not_exists(#expires_at)"
        given = {"seen_state": self.state, "room": self.billed - units}
        return Update(add={"corrected": units}, condition=condition, given=given)

    @staticmethod
    def correction_undone(units: int) -> Update:
        """AWS made no adjustment for these units."""
        return Update(add={"corrected": -units}, condition="#corrected >= :units", given={"units": units})

    def as_metered(self, now: EpochSeconds, metering_record_id: str | None) -> Item:
        """The item once AWS has accepted the record: out of the index, with AWS's id for it."""
        settled = {**self._stored(), "state": "metered", "reason": None, "settled_at": now}
        if metering_record_id:
            settled["metering_record_id"] = metering_record_id
        return to_item({name: value for name, value in settled.items() if name not in _DUE_KEYS})

    def with_refusal_at(self, refuse_at: EpochSeconds, now: EpochSeconds) -> Schedule:
        """The schedule of a record that is not open and whose deadline moves. The next step of a held one follows from
        the deadline, so it is told again; that of one that awaits approval does too, and that of a rejected one does
        not."""
        due_at = self.schedule.due_at
        if self.state == "held" and refuse_at != self.refuse_at:
            due_at = due_time.of_decision(now)
        if self.state == "awaiting_approval" and self.approval == "awaited" and due_time.is_told(due_at):
            due_at = due_time.of_next_step(approval_ends_at(self.hour, refuse_at))
        return Schedule(self.state, due_at, refuse_at)

    def rescheduled(self, schedule: Schedule) -> Update | None:
        """The change to this schedule, unless the record was settled or the seller has decided about it meanwhile; None
        when it has it already."""
        wanted = {
            name: value
            for name in Schedule.__slots__
            if (value := getattr(schedule, name)) != getattr(self, name)
        }  # fmt: skip
        if not wanted:
            return None
        condition = "attribute_exists(#due_shard) AND #state = :seen_state"
        given: dict[str, Any] = {"seen_state": self.state}
        if self.approval is not None:
            condition += " AND #approval = :seen_approval"
            given["seen_approval"] = self.approval
        return Update(set=wanted, condition=condition, given=given)

    def made_due(self, now: EpochSeconds, refuse_at: EpochSeconds) -> tuple[Update, "MeteringRecord"]:
        """The change that makes a refused record due, unless another writer got further, and the record after it. The
        seal stays, and with it whether an earlier attempt is in doubt."""
        shard = keys.due_shard(self.subscription_id)
        approval: dict[str, Any] = {} if self.approval is None else {"approval": "approved"}
        update = Update(
            set={"state": "open", "due_shard": shard, "due_at": now, "refuse_at": refuse_at, **approval},
            remove=("reason", "settled_at"),
            condition="#state = :seen_state AND #seal = :seen_seal",
            given={"seen_state": self.state, "seen_seal": self.seal},
        )
        after = replace(
            self,
            state="open",
            due_shard=shard,
            due_at=now,
            refuse_at=refuse_at,
            reason=None,
            settled_at=None,
            **approval,
        )
        return update, after

    @property
    def is_final(self) -> bool:
        """Whether nothing changes the record any more by itself: its state is final and told, and AWS's window for it
        has closed, or AWS has accepted it."""
        return self.state in FINAL and self.settled_at is not None and self.due_at is None

    def expiring(self, expires_at: int) -> "ExpiringRow":
        """The parameters of EXPIRING for a record that is final."""
        return expires_at, self.key.pk, self.key.sk, self.seal, self.quantity, self.settled_at or 0

    def decided(self, approval: Approval, now: EpochSeconds) -> tuple[Update, "MeteringRecord"]:
        """What the seller decides about a record that awaits approval, unless another writer got further, and the
        record after it. The next run carries it out; what is not told yet is told first."""
        due_at = due_time.of_next_step(now) if due_time.is_told(self.schedule.due_at) else self.schedule.due_at
        update = Update(
            set={"approval": approval, "due_at": due_at},
            condition="#state = :seen_state AND #seal = :seen_seal AND #due_at = :seen_due_at",
            given={"seen_state": self.state, "seen_seal": self.seal, "seen_due_at": self.due_at},
        )
        return update, replace(self, approval=approval, due_at=due_at)

    def described(self) -> dict[str, Any]:
        """The record as the API shows it."""
        shown: dict[str, Any] = {
            "hour": iso(self.hour),
            "dimension": self.dimension,
            "quantity": self.quantity,
            "records": self.records,
            "state": self.state,
            "sealed": self.seal != UNSEALED,
            "timestamp": iso(self.timestamp),
        }
        if self.state != "metered" and in_doubt(self.seal):
            shown["in_doubt"] = True
        for name in _SHOWN:
            if value := getattr(self, name):
                shown[name] = value
        for name in ("aws_quantity", "resolved_by"):
            if (value := getattr(self, name)) is not None:
                shown[name] = value
        if self.carried_to is not None:
            shown["carried_to"] = iso(self.carried_to)
        if self.due_at is not None and self.state in SENDABLE:
            shown["due_at"] = iso(due_time.moment_of(self.state, self.due_at))
        if self.due_at is not None and self.state in SAVABLE:
            shown["refuse_at"] = iso(self.refuse_at)
        if self.state == "awaiting_approval":
            shown["approval_ends_at"] = iso(approval_ends_at(self.hour, self.refuse_at))
        if self.settled_at is not None:
            shown["settled_at"] = iso(self.settled_at)
        return shown


_ATTRIBUTES = tuple(field.name for field in fields(MeteringRecord) if field.name != "key")
_REQUIRED = frozenset(field.name for field in fields(MeteringRecord) if field.default is MISSING) - {"key"}
_NUMBERS = tuple(
    field.name for field in fields(MeteringRecord) if field.type in (int, int | None, EpochSeconds, EpochSeconds | None)
)
_ADDED = ("quantity", "records", "untagged_records", "tagged_quantity", "tag_sets", "tag_bytes", "tag_keys")
_SHOWN = ("metering_record_id", "reason", "tag_sets", "untagged_records", "tags_refused", "corrected", "approval")
"""Attributes that the API shows where a record has them."""

_DUE_KEYS = ("due_shard", "due_at")
"""The keys of the `due` index: a record without them is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChange:
    """What a metering run writes to a record that carries its seal; None leaves an attribute as it is."""

    state: State | None = None
    reason: str | None = None
    seal: str | None = None
    due_at: EpochSeconds | None = None
    settled_at: EpochSeconds | None = None
    metering_record_id: str | None = None
    tags_refused: str | None = None
    approval: Approval | None = None

    def update(
        self, seal: str, *, seen_state: str | None = None, seen_approval: str | None = None, settled: bool = False
    ) -> Update:
        """The change on the condition that the record still carries `seal`, and what was seen of it if that is given.
        `settled` takes it out of the index."""
        values = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        given: dict[str, Any] = {"seen_seal": seal}
        condition = "#seal = :seen_seal"
        for name, seen in (("state", seen_state), ("approval", seen_approval)):
            if seen is not None:
                condition += f" AND #{name} = :seen_{name}"
                given[f"seen_{name}"] = seen
        return Update(set=values, remove=_DUE_KEYS if settled else (), condition=condition, given=given)


def is_metering_record(item: Item) -> bool:
    """Whether an item of an hour is its metering record."""
    return "seal" in item


def why_not_added(item: Item | None, quantity: int, *, shadow: bool = False) -> Literal["sealed", "full", "changed"]:
    """Why a stored record, valid or not, took no addition of this quantity; `changed`: it would take it now."""
    if item is None or item["seal"]["S"] != UNSEALED or (item["state"]["S"] == "shadow" and not shadow):
        return "sealed"
    return "full" if int(item["quantity"]["N"]) + quantity > MAX_QUANTITY else "changed"
