"""What people have changed about a subscription's usage, and what AWS has decided about their corrections."""

from collections.abc import Iterator
from dataclasses import dataclass

from marketplace.corrections.store import CorrectionStore
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.change import UsageChange
from marketplace.ledger.correction import Correction
from marketplace.platform.clock import EpochSeconds, iso


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of a timeline. `by`: who has done it; empty for what AWS has decided."""

    at: EpochSeconds
    what: str
    detail: str
    by: str = ""


def usage_history(usage: Table, subscription_id: str) -> Iterator[Told]:
    """Usage records that were voided, conflicts that were resolved, unusual usage that was approved or refused, and
    billing adjustments: when each was prepared, and when AWS has decided. Raises AwsError."""
    for item in usage.items_under(keys.subscription_pk(subscription_id), keys.CHANGE_PREFIX):
        change = UsageChange.from_item(item)
        yield Told(change.at, change.what, change.described(), change.by)
    for correction in CorrectionStore(usage).of(subscription_id):
        yield from _of_correction(correction)


def _of_correction(one: Correction) -> Iterator[Told]:
    said = f"{one.units:,} {one.dimension} of {iso(one.hour)}, {one.amount} {one.currency}"
    yield Told(one.prepared_at, "correction prepared", said, one.prepared_by)
    if one.ended_at is not None:
        why = f", {one.message}" if one.message else ""
        yield Told(one.ended_at, f"correction {one.state}", f"{said}{why}")
