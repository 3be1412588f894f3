"""Corrections in the usage table: reading them, and moving them to the state that AWS has told."""

from dataclasses import replace

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction, Standing
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import EpochSeconds


class CorrectionStore:
    """The usage table as corrections see it. Methods raise AwsError. A move is made on condition that the correction
    is as it was read; what is returned is the correction as it was told, whoever was first."""

    def __init__(self, usage: Table) -> None:
        self._usage = usage

    def read(self, correction: Correction) -> Correction | None:
        item = self._usage.get(correction.key)
        return None if item is None else Correction.from_item(item)

    def of(self, subscription_id: str) -> list[Correction]:
        """The corrections of a subscription, in the order of their hours."""
        found = self._usage.items_under(keys.subscription_pk(subscription_id), keys.CORRECTION_PREFIX)
        return [Correction.from_item(item) for item in found]

    def requested(self, now: Correction, request_id: str) -> Correction:
        """AWS has the request."""
        return self._move(now, "requested", request_id=request_id)

    def completed(self, now: Correction, at: EpochSeconds) -> Correction:
        """AWS has adjusted the invoice."""
        return self._move(now, "completed", ended_at=at)

    def refused(self, now: Correction, message: str, at: EpochSeconds) -> Correction:
        """AWS made no adjustment: the hour has its units again."""
        hour = keys.metering_record(keys.subscription_id_of(now.key.pk), now.hour, now.dimension)
        values = {"message": message or "AWS Marketplace gave no reason", "ended_at": at}
        self._usage.write_together(
            [
                self._usage.update_action(now.key, now.moved("refused", **values)),
                self._usage.update_action(hour, MeteringRecord.correction_undone(now.units)),
            ]
        )
        return replace(now, state="refused", **values)  # type: ignore[arg-type]

    def _move(self, now: Correction, state: Standing, **values: object) -> Correction:
        self._usage.update_if(now.key, now.moved(state, **values))
        return replace(now, state=state, **values)  # type: ignore[arg-type]
