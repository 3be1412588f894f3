"""A conflict resolved with numbers: another sender has metered the hour, and it is said how much AWS has of it.

    AWS has less than was used    the missing units are recorded once more, as usage of a later hour, under an id that
                                  follows from the metering record
    AWS has more than was used    the excess waits for a billing adjustment (marketplace.ledger.correction)

The record stays a `conflict`: what AWS bills of the hour was sent by another sender. Attributes:

    aws_quantity   what AWS bills of the hour; once it is said, it stays
    resolved_by    who said so; `settled_at` is when
    carried_to     the hour that took the missing units; without it they are not known to be recorded yet
"""

import hashlib

from marketplace.dynamodb.update import Update
from marketplace.ledger import due_time
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import MINUTE, EpochSeconds

RUN_MAY_LAST = 15 * MINUTE
"""How long a metering run may still write what it was answered (Lambda quotas: timeout)."""


def is_resolved(record: MeteringRecord) -> bool:
    """Whether somebody has said what AWS has of the hour."""
    return record.state == "conflict" and record.aws_quantity is not None


def missing(record: MeteringRecord) -> int:
    """How many units of a resolved conflict AWS bills nowhere else."""
    return max(0, record.quantity - record.billed) if is_resolved(record) else 0


def excess(record: MeteringRecord) -> int:
    """How many units AWS bills of a resolved conflict that were not used."""
    return max(0, record.billed - record.quantity) if is_resolved(record) else 0


def to_carry(record: MeteringRecord) -> int:
    """How many of the missing units are not known to be recorded in a later hour."""
    return missing(record) if record.carried_to is None else 0


def to_credit(record: MeteringRecord) -> int:
    """How much of the excess no billing adjustment is asked for."""
    return max(0, excess(record) - record.corrected)


def is_done(record: MeteringRecord) -> bool:
    """Whether nothing is left to be done about a conflict."""
    return is_resolved(record) and not to_carry(record) and not to_credit(record)


def carrying_id(record: MeteringRecord) -> str:
    """The id of the usage record that carries the missing units. It follows from the metering record alone, so whoever
    carries them, and however often, records them once."""
    return f"conflict-{hashlib.sha256(chr(0).join(record.key).encode()).hexdigest()[:40]}"


def resolution(record: MeteringRecord, aws_quantity: int, caller: str, now: EpochSeconds) -> Update:
    """What AWS has of the hour, unless it is known already, or the record is on its way to the archive. What was told
    of the conflict leaves the index of what is in trouble; what was not is told all the same."""
    told = record.due_at is not None and due_time.is_told(record.due_at)
    return Update(
        set={"aws_quantity": aws_quantity, "resolved_by": caller, "settled_at": now},
        remove=("due_shard", "due_at") if told else (),
        condition="#state = :conflict AND #seal = :seen_seal AND attribute_not_exists(#aws_quantity) "
        "AND attribute_not_exists(#expires_at)",
        given={"conflict": "conflict", "seen_seal": record.seal},
    )


def carried(record: MeteringRecord, hour: EpochSeconds) -> Update:
    """The missing units are recorded in this hour."""
    return Update(
        set={"carried_to": hour},
        condition="#state = :conflict AND #aws_quantity = :seen_quantity",
        given={"conflict": "conflict", "seen_quantity": record.billed},
    )
