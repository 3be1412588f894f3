"""Correcting usage that AWS has accepted: a billing adjustment is prepared, requested and followed to its end.

    1. put CORRECTION#<hour>#<dimension>#...   prepared, if there is none or AWS refused it before; and
       update HOUR#<hour>#<dimension>          so many of its units are corrected, while that is no more than it has
    2. BatchCreateBillingAdjustmentRequest     with a client token that follows from the correction's key
    3. update CORRECTION#...                   requested, with AWS's id
    4. GetBillingAdjustmentRequest             until it is completed or refused; or AWS's event says it
                                               (marketplace.corrections.decisions)

The first is one transaction, made before AWS is asked. Whoever dies afterwards leaves a prepared correction, and asking
again has the same token, of which AWS makes one request. What AWS refuses gives the hour its units back, in the
transaction that stores the refusal.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from marketplace.archive.content import EXPIRY
from marketplace.corrections.billing_api import Billing, Invoice, NotCreated
from marketplace.corrections.store import CorrectionStore
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table
from marketplace.ledger.conflict import excess, is_resolved
from marketplace.ledger.correction import Correction, amount_of, correction_key
from marketplace.ledger.deadlines import month_of
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import Clock, EpochSeconds, epoch, iso
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions.model import Subscription

_ATTEMPTS = 5
REASONS = (
    "INCORRECT_METERING",
    "INCORRECT_TERMS_ACCEPTED",
    "TEST_ENVIRONMENT_CHARGES",
    "ALTERNATIVE_PROCUREMENT_CHANNEL",
    "UNINTENDED_RENEWAL",
    "BUYER_DISSATISFACTION",
    "OTHER",
)
"""botocore model, BillingAdjustmentReasonCode."""


class CorrectionRefusedError(Exception):
    """The correction can't be made; the text says why, for the operator."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be corrected: a usage record by its id, or units of an hour and dimension with a `reference` of the
    operator's. Without `units`, all that the usage record has in the hour, or what AWS has too much of a resolved
    conflict. `price`: of one unit, in the currency of the invoice."""

    price: Decimal
    record_id: str | None = None
    hour: EpochSeconds | None = None
    dimension: str | None = None
    units: int | None = None
    reference: str | None = None
    agreement_id: str | None = None
    reason: str = "INCORRECT_METERING"
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A correction that is not stored yet, the hour that it is of, and what of the invoice is left. `refused`: the
    earlier attempt that it replaces."""

    correction: Correction
    hour: MeteringRecord
    invoice: Invoice
    refused: Correction | None = None


class Corrections:
    """The use case. Methods raise CorrectionRefusedError, and AwsError when AWS gave no answer; each may be repeated
    then."""

    def __init__(self, usage: Table, billing: Billing, clock: Clock) -> None:
        self._usage = usage
        self._store = CorrectionStore(usage)
        self._billing = billing
        self._clock = clock

    def preview(self, subscription: Subscription, wanted: Wanted, caller: str) -> Preview | Correction:
        """The correction as it would be requested, or the one that exists already."""
        hour, units, tags = self._target(subscription, wanted)
        if hour.state not in {"metered", "conflict"}:
            raise CorrectionRefusedError(f"the hour is {hour.state}: AWS Marketplace bills nothing of it")
        owner = hour.subscription_id
        key = correction_key(owner, hour.hour, hour.dimension, wanted.record_id, wanted.reference)
        item = self._usage.get(key)
        before = None if item is None else Correction.from_item(item)
        if before is not None and before.state != "refused":
            return before
        room = hour.billed - hour.corrected
        if not 0 < units <= room:
            raise CorrectionRefusedError(f"{units} units can't be corrected: {room} of {hour.billed} are left")
        amount = amount_of(units, wanted.price)
        if wanted.price <= 0 or -int(Decimal(amount).as_tuple().exponent) > 8:
            raise CorrectionRefusedError("the price must be more than 0 and have at most eight decimal places")
        if wanted.reason not in REASONS:
            raise CorrectionRefusedError(f"the reason must be one of {', '.join(REASONS)}")
        invoice = self._invoice(subscription, wanted, hour.hour)
        if Decimal(amount) > invoice.left:
            raise CorrectionRefusedError(
                f"{amount} {invoice.currency} is more than the {invoice.left} that can be given back of invoice "
                f"{invoice.id}"
            )
        correction = Correction(
            key=key,
            dimension=hour.dimension,
            hour=hour.hour,
            units=units,
            price=format(wanted.price.normalize(), "f"),
            amount=amount,
            currency=invoice.currency,
            reason=wanted.reason,
            agreement_id=invoice.agreement_id,
            invoice_id=invoice.id,
            prepared_at=epoch(self._clock()),
            prepared_by=caller,
            record_id=wanted.record_id,
            tags=tags if hour.state == "metered" else None,
            reference=wanted.reference,
            description=wanted.description,
            attempt=1 if before is None else before.attempt + 1,
        )
        return Preview(correction, hour, invoice, before)

    def request(self, preview: Preview) -> Correction:
        """Stores the correction and asks AWS for it."""
        wanted, refused = preview.correction, preview.refused
        condition, given = wanted.replaces(refused)
        stored = self._usage.write_together(
            [
                self._usage.put_action(wanted.to_item(), condition, given),
                self._usage.update_action(preview.hour.key, preview.hour.correction(wanted.units)),
            ]
        )
        if stored is not None:
            now = self._store.read(wanted)
            if now is None or now.content != wanted.content or now.attempt != wanted.attempt:
                raise CorrectionRefusedError("the hour was corrected by somebody else meanwhile; look again")
        return self.follow(wanted)

    def follow(self, correction: Correction) -> Correction:
        """Takes a correction as far as AWS is: a prepared one is requested, a requested one is looked up."""
        for _ in range(_ATTEMPTS):
            now = self._store.read(correction)
            if now is None:
                raise CorrectionRefusedError("there is no such correction")
            moved = self._step(now)
            if moved is None:
                return now
            correction = moved
        raise ThrottledError("CorrectionInUse", "others kept changing the same correction")

    def _step(self, now: Correction) -> Correction | None:
        """The correction one step further, as it was told; None when it has come to its end, or waits for AWS."""
        if now.state == "prepared":
            answer = self._billing.create(now)
            if isinstance(answer, NotCreated):
                return self._store.refused(now, answer.message, epoch(self._clock()))
            return self._store.requested(now, answer.request_id)
        if now.state != "requested" or now.request_id is None:
            return None
        status = self._billing.status(now.agreement_id, now.request_id)
        if status.status == "COMPLETED":
            return self._store.completed(now, epoch(self._clock()))
        failed = status.status == "VALIDATION_FAILED"
        return self._store.refused(now, status.message, epoch(self._clock())) if failed else None

    def _target(
        self, subscription: Subscription, wanted: Wanted
    ) -> tuple[MeteringRecord, int, Mapping[str, str] | None]:
        """The metering record, how many of its units are to be corrected, and which tags they have in it."""
        if wanted.record_id is None:
            if wanted.hour is None or wanted.dimension is None or not wanted.reference:
                raise CorrectionRefusedError("name a usage record, or an hour, a dimension, units and a reference")
            hour = self._hour(subscription.id, wanted.hour, wanted.dimension)
            units = excess(hour) or None if wanted.units is None else wanted.units
            if units is None:
                raise CorrectionRefusedError("say how many units of the hour are too many")
            return hour, units, None
        item = self._usage.get(keys.usage_record(subscription.id, wanted.record_id))
        if item is None:
            raise CorrectionRefusedError(f"no usage is recorded under the id {wanted.record_id}")
        record = from_item(item)
        if "voided_at" in record:
            raise CorrectionRefusedError(f"{wanted.record_id} is voided: nothing of it is billed")
        metered = record["quantity"] - record.get("included", 0)
        units = metered if wanted.units is None else wanted.units
        if not 0 < units <= metered:
            raise CorrectionRefusedError(f"{wanted.record_id} has {metered} metered units; {units} can't be corrected")
        tags = None if record.get("untagged") else record.get("tags")
        return self._hour(record.get("billed_to", subscription.id), record["hour"], record["dimension"]), units, tags

    def _hour(self, subscription_id: str, hour: EpochSeconds, dimension: str) -> MeteringRecord:
        item = self._usage.get(keys.metering_record(subscription_id, hour, dimension))
        if item is None:
            raise CorrectionRefusedError(f"there is no metering record of {dimension} at {iso(hour)}")
        if EXPIRY in item:
            raise CorrectionRefusedError(f"{dimension} at {iso(hour)} is archived: ask AWS Marketplace's support")
        record = MeteringRecord.from_item(item)
        if record.state == "conflict" and not is_resolved(record):
            raise CorrectionRefusedError("resolve the conflict first: it is not known what AWS Marketplace bills of it")
        return record

    def _invoice(self, subscription: Subscription, wanted: Wanted, hour: EpochSeconds) -> Invoice:
        """The one invoice that the hour is on."""
        agreements = [wanted.agreement_id] if wanted.agreement_id else subscription.agreement_ids
        found = self._issued(agreements, hour)
        year, month = month_of(hour)
        if not found:
            raise CorrectionRefusedError(f"AWS Marketplace has issued no invoice for {year}-{month:02d} yet")
        if len(found) > 1:
            listed = ", ".join(f"{one.id} of {one.agreement_id}" for one in found)
            raise CorrectionRefusedError(f"name the agreement: {year}-{month:02d} is on several invoices, {listed}")
        return found[0]

    def _issued(self, agreements: Iterable[str] | Sequence[str], hour: EpochSeconds) -> list[Invoice]:
        year, month = month_of(hour)
        return [one for agreement in agreements for one in self._billing.invoices(agreement, year, month)]
