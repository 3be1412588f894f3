"""What AWS's events say about billing adjustments: the correction comes to its end, and the seller is told.

A request that no correction has was made elsewhere, such as in the AWS Marketplace Management Portal; or its correction
is still prepared, because whoever asked for it died before the request's id was stored. The command goes on with that.
"""

from collections.abc import Iterable

from marketplace.corrections.store import CorrectionStore
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction
from marketplace.platform.clock import EpochSeconds, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions.seller_events import Kind, SellerEvent, stable_id


class AdjustmentDecisions:
    """Applies AWS's decisions. Can be repeated; raises AwsError."""

    def __init__(self, usage: Table) -> None:
        self._store = CorrectionStore(usage)

    def apply(
        self, subscription_ids: Iterable[str], request_id: str, *, completed: bool, message: str, at: EpochSeconds
    ) -> list[SellerEvent]:
        """The events to be published about the corrections, of these subscriptions, that asked for the request. A
        correction that the command has followed to its end is told of as well."""
        found = (one for name in subscription_ids for one in self._store.of(name) if one.request_id == request_id)
        return [_event(self._decided(one, message, at, completed=completed)) for one in found]

    def _decided(self, correction: Correction, message: str, at: EpochSeconds, *, completed: bool) -> Correction:
        if correction.state == "requested":
            if completed:
                self._store.completed(correction, at)
            else:
                self._store.refused(correction, message, at)
            correction = self._store.read(correction) or correction
        if correction.is_open:
            raise ThrottledError("CorrectionInUse", "others kept changing the same correction")
        return correction


def _event(correction: Correction) -> SellerEvent:
    """What the seller is told, with the same id however often; another attempt has another."""
    kind: Kind = "Correction Completed" if correction.state == "completed" else "Correction Refused"
    detail = {
        "subscription_id": keys.subscription_id_of(correction.key.pk),
        "dimension": correction.dimension,
        "hour": iso(correction.hour),
        "quantity": correction.units,
        "amount": correction.amount,
        "currency": correction.currency,
        "agreement_id": correction.agreement_id,
        "invoice_id": correction.invoice_id,
        "record_id": correction.record_id,
        "reference": correction.reference,
    }
    if kind == "Correction Refused":
        detail["message"] = correction.message
    event_id = stable_id(kind, *correction.key, correction.attempt)
    return SellerEvent(kind, event_id, correction.ended_at or correction.prepared_at, detail)
