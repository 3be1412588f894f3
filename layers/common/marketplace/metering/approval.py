"""Unusual usage awaits the seller's approval: what a metering run does with a record before it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.ledger.deadlines import approval_ends_at
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import Approval, MeteringRecord
from marketplace.metering.outcomes import AwaitsApproval, Unbillable
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

    def outcome(
        self, record: MeteringRecord, read: Mapping[Key, Item], now: EpochSeconds
    ) -> AwaitsApproval | Unbillable | None:
        """What becomes of a sealed record that is not to be sent; None for one that is. Where there is no time to wait
        for approval, unusual usage is sent, or with `refuses` written off by the next run: after it was told."""
        if record.state == "awaiting_approval":
            if self.releases(record.approval):
                return None
            return Unbillable("refused_by_seller" if record.approval == "refused" else "not_approved")
        waits = self.refuses or now < approval_ends_at(record.hour, record.refuse_at)
        if self.usual is None or record.approval is not None or not waits:
            return None
        found = self.usual.oddity(record, read)
        return None if found is None else AwaitsApproval(found)

    def learn(self, records: Sequence[MeteringRecord], read: Mapping[Key, Item]) -> None:
        """Keeps what is about to be sent as usual, but for what only its deadline has released. Raises AwsError."""
        if self.usual is not None:
            self.usual.learn([one for one in records if one.approval in {None, "approved"}], read)
