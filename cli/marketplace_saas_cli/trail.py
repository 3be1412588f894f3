"""CloudTrail's record of BatchMeterUsage: who sent what, and what AWS answered, about a quarter of an hour later and
for 90 days (CloudTrail User Guide: event history)."""

from datetime import UTC, datetime
from typing import Any

from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, epoch, hour_of, iso
from marketplace.reconcile.cloudtrail import Event, entries_of, looked_up
from marketplace.reconcile.evidence import Gap, Quantity, UnreadableEvidenceError, our_payer
from marketplace_saas_cli.aws import REGION
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.session import Session

KEPT = 90 * DAY


def client(session: Session) -> Any:
    """CloudTrail where usage is sent: its event history is of one account and region. Raises NoAnswerError."""
    return session.seller.client("cloudtrail", session.stack.parameters.get("MeteringRegion") or REGION)


def answers_about(session: Session, record: MeteringRecord) -> list[dict[str, Any]]:
    """What AWS answered about a metering record, call by call, as CloudTrail shows it. Raises AwsError."""
    end = min(session.now, record.hour + DAY + 7 * HOUR) if record.settled_at is None else record.settled_at + HOUR
    found = []
    for event in looked_up(client(session), record.hour, max(end, record.hour + 1), sleep=session.sleep):
        for result in results_of(event):
            if _is_about(result, record):
                found.append(_shown(event, result))
    return found


def accepted_of(session: Session, record: MeteringRecord) -> int:
    """How many units AWS has accepted for the hour of a record, whoever sent them. Raises RefusedError when the event
    history can't say, and AwsError."""
    found: dict[str, Quantity] = {}
    gaps: list[Gap] = []
    try:
        if why := beyond(record, session.now):
            raise UnreadableEvidenceError(why)
        end = min(session.now, record.hour + DAY + 7 * HOUR)
        events = looked_up(client(session), record.hour, max(end, record.hour + 1), sleep=session.sleep)
        for number, entry in enumerate(entries_of(events, gaps)):
            if entry[:3] == (our_payer(record), record.dimension, record.hour):
                found[entry.reference or str(number)] = entry.quantity
        units = sum(found.values())
        if gaps:
            raise UnreadableEvidenceError("an event of CloudTrail does not show its records")
        if not found:
            raise UnreadableEvidenceError("CloudTrail shows no accepted usage of the hour")
        if units != int(units):
            raise UnreadableEvidenceError(f"AWS has {units} units, which are not whole")
    except UnreadableEvidenceError as error:
        raise RefusedError(f"{error}; say with --aws what AWS has") from error
    return int(units)


def results_of(event: Event) -> list[dict[str, Any]]:
    """The answers for the records of one call; none when the whole call was refused."""
    return list((event.get("responseElements") or {}).get("results") or [])


def _is_about(result: dict[str, Any], record: MeteringRecord) -> bool:
    accepted = result.get("meteringRecordId")
    if record.metering_record_id is not None:
        return bool(accepted == record.metering_record_id)
    usage = result.get("usageRecord") or {}
    payer = usage.get("licenseArn") or usage.get("customerIdentifier")
    same = usage.get("dimension") == record.dimension and payer in {record.license_arn, record.customer_identifier}
    return same and _hour_of(str(usage.get("timestamp", ""))) == record.hour


def _hour_of(text: str) -> int | None:
    """The hour of a time as CloudTrail prints it within a request: `Apr 19, 2018 4:32:50 PM`, in UTC."""
    try:
        moment = datetime.strptime(text, "%b %d, %Y %I:%M:%S %p").replace(tzinfo=UTC)
    except ValueError:
        return None
    return hour_of(epoch(moment))


def _shown(event: Event, result: dict[str, Any]) -> dict[str, Any]:
    usage = result.get("usageRecord") or {}
    return {
        "event_time": event.get("eventTime"),
        "event_id": event.get("eventID"),
        "sent_by": (event.get("userIdentity") or {}).get("arn"),
        "region": event.get("awsRegion"),
        "status": result.get("status"),
        "metering_record_id": result.get("meteringRecordId"),
        "quantity": usage.get("quantity"),
        "dimension": usage.get("dimension"),
        "timestamp": usage.get("timestamp"),
    }


def beyond(record: MeteringRecord, now: int) -> str | None:
    """Why CloudTrail's event history can't know the record any more, or None."""
    return f"the event history ends at {iso(now - KEPT)}" if record.hour < now - KEPT else None
