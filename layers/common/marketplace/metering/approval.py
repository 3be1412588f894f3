"""Which records a metering run sends, as far as unusual usage awaits the seller's approval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import approval_ends_at
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import Approval, MeteringRecord
from marketplace.metering.anomaly import Oddity
from marketplace.metering.usual_usage import UsualUsage
from marketplace.platform.clock import EpochSeconds


@dataclass(frozen=True, slots=True)
class Approvals:
    """`usual` judges; without it no usage begins to await approval. `refuses`: usage that nobody has approved in time
    is not sent."""

    usual: UsualUsage | None = None
    refuses: bool = False

    def keys(self, entries: Sequence[DueEntry]) -> list[Key]:
        """What is to be read with these records to judge them."""
        return [] if self.usual is None else self.usual.wanted(entries)

    def releases(self, approval: Approval | None) -> bool:
        """Whether usage that has awaited approval is sent now that its wait is over."""
        return approval == "approved" or (approval != "refused" and not self.refuses)

    def sends(self, record: MeteringRecord) -> bool:
        """Whether a record that is due may be sent, by what is decided about it."""
        return record.state != "awaiting_approval" or self.releases(record.approval)

    def oddity(self, record: MeteringRecord, read: Mapping[Key, Item], now: EpochSeconds) -> Oddity | None:
        """For what a sealed record awaits approval, if it does: it is judged once, before it is first sent. Where there
        is no time to wait, unusual usage is sent; with `refuses` it awaits approval until the next run."""
        waits = self.refuses or now < approval_ends_at(record.hour, record.refuse_at)
        if self.usual is None or record.state != "open" or record.approval is not None or not waits:
            return None
        return self.usual.oddity(record, read)

    def learn(self, records: Sequence[MeteringRecord], read: Mapping[Key, Item]) -> None:
        """Keeps what is about to be sent as usual, but for what only its deadline has released. Raises AwsError."""
        if self.usual is not None:
            self.usual.learn([one for one in records if one.approval in {None, "approved"}], read)
