"""`trace`: where one unit went, from the usage record to AWS's answer and CloudTrail, or the way back."""

import re
from typing import Annotated, Any

import typer

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, hour_of
from marketplace_saas_cli import trail, walks
from marketplace_saas_cli.aws import ASKING, why_unasked
from marketplace_saas_cli.commands.options import OfSubscription
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, NoAnswerError, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.session import Session

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SHOWN = 50
_PER_READ = 100


def trace(
    context: typer.Context,
    record: Annotated[str, typer.Argument(help="the id of a usage record, or a MeteringRecordId of AWS")],
    subscription: OfSubscription = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="how far back a MeteringRecordId is looked for")] = 90,
) -> None:
    """The whole way of a usage record: its hour, its metering record, AWS's answer, CloudTrail. Or the way back."""
    session = session_of(context)
    found = walks.chosen(session, subscription)
    proofs = _proofs(session, found, record)
    if proofs:
        chains = [_forward(session, proof) for proof in proofs]
    elif _UUID.fullmatch(record):
        chains = _back(session, found, record, days)
    else:
        chains = []
    if not chains:
        where = f"in {subscription}" if subscription else f"in any of {counted(len(found), 'subscription')}"
        raise RefusedError(f"no usage record and no metering record has the id {record} {where}")
    for chain in chains:
        chain["cloudtrail"] = _cloudtrail(session, chain.pop("_record"))
    session.output.show({"chains": chains}, *(part for chain in chains for part in _human(chain)))
    settled = all(_is_settled(chain["metering_record"]) for chain in chains)
    raise typer.Exit(FINE if settled else TROUBLE)


def _proofs(session: Session, found: list[Any], record_id: str) -> list[dict[str, Any]]:
    """The proof under each subscription that has a usage record of this id; one for both of a migrated customer."""
    if not (record_id.isascii() and len(record_id) <= 128):
        return []
    ids = [one.id for one in found]
    holders: list[str] = []
    for start in session.output.each(range(0, len(ids), _PER_READ), "looking for the record"):
        wanted = [keys.usage_record(one, record_id) for one in ids[start : start + _PER_READ]]
        holders += [keys.subscription_id_of(key.pk) for key in session.usage.get_many(wanted)]
    queries = session.queries
    proofs = [proof for one in sorted(holders) if (proof := queries.proof(one, record_id)) is not None]
    return list({(proof["billed_to"], proof["hour"]): proof for proof in proofs}.values())


def _forward(session: Session, proof: dict[str, Any]) -> dict[str, Any]:
    record = None
    if proof["metering_record"] is not None:
        hour = walks.moment(proof["hour"])
        record = _metering_record(session, proof["billed_to"], hour, proof["record"]["dimension"])
    return {**proof, "usage_records": None, "_record": record}


def _metering_record(session: Session, subscription_id: str, hour: int, dimension: str) -> MeteringRecord | None:
    item = session.history.get(keys.metering_record(subscription_id, hour, dimension))
    return None if item is None else MeteringRecord.from_item(item)


def _back(session: Session, found: list[Any], metering_record_id: str, days: int) -> list[dict[str, Any]]:
    """The metering record that AWS accepted under this id, with the usage records that it sums up."""
    queries = session.queries
    end = hour_of(session.now) + 2 * HOUR
    for one in session.output.each(found, "looking for the metering record", len(found)):
        record = queries.accepted_as(one.id, metering_record_id, end - days * DAY, end)
        if record is not None:
            ids = list(queries.record_ids_in(record))
            described = record.described()
            return [
                {
                    "subscription_id": one.id,
                    "billed_to": one.id,
                    "record": None,
                    "hour": described["hour"],
                    "metering_record": described,
                    "usage_records": [_reported(session, one.id, record_id) for record_id in ids],
                    "_record": record,
                }
            ]
    return []


def _reported(session: Session, subscription_id: str, record_id: str) -> dict[str, Any]:
    values = from_item(session.usage.get(keys.usage_record(subscription_id, record_id)) or {})
    return {"id": record_id, "quantity": values.get("quantity"), "included": values.get("included", 0)}


def _cloudtrail(session: Session, record: MeteringRecord | None) -> dict[str, Any]:
    """What CloudTrail shows of the metering record, or why it could not be asked."""
    if record is None:
        return {"asked": False, "why": "nothing of it was sent to AWS", "answers": []}
    if why := trail.beyond(record, session.now):
        return {"asked": False, "why": why, "answers": []}
    try:
        return {"asked": True, "why": None, "answers": trail.answers_about(session, record)}
    except ASKING as error:
        return {"asked": False, "why": why_unasked(error), "answers": []}
    except NoAnswerError as error:
        return {"asked": False, "why": str(error), "answers": []}


def _is_settled(record: dict[str, Any] | None) -> bool:
    """Whether nothing waits for AWS or a person: nothing is metered of it, AWS has it, or its conflict is resolved."""
    return record is None or record["state"] == "metered" or "aws_quantity" in record


def _human(chain: dict[str, Any]) -> list[Any]:
    parts: list[Any] = [f"subscription   {chain['subscription_id']}"]
    if chain["billed_to"] != chain["subscription_id"]:
        parts.append(f"billed to      {chain['billed_to']}")
    if reported := chain["record"]:
        tags = "".join(f" {key}={value}" for key, value in reported["tags"].items())
        parts.append(
            f"usage record   {reported['id']}: {reported['quantity']:,} {reported['dimension']} of "
            f"{reported['own_hour']}, recorded {reported['recorded_at']}{tags}"
        )
    if contract := chain.get("contract"):
        parts.append(f"contract       {contract['explanation']}")
    if record := chain["metering_record"]:
        parts += [
            f"hour           {record['hour']} {record['dimension']}: {counted(record['quantity'], 'unit')} of "
            f"{counted(record['records'], 'usage record')}",
            f"state          {record['state']}{f', {record["reason"]}' if 'reason' in record else ''}"
            f"{f', settled {record["settled_at"]}' if 'settled_at' in record else ''}"
            f"{', AWS may have it' if record.get('in_doubt') else ''}",
            f"AWS's id       {record.get('metering_record_id', 'none')}",
        ]
        if "aws_quantity" in record:
            carried = f"; {record['carried_to']} took the rest" if "carried_to" in record else ""
            parts.append(
                f"resolved       by {record['resolved_by']}: AWS Marketplace has {record['aws_quantity']:,}{carried}"
            )
    elif reported and "voided_at" in reported:
        parts.append(f"voided         {reported['voided_at']} by {reported['voided_by']}; nothing of it is metered")
    else:
        parts.append("hour           the contract includes it all; nothing is metered")
    answers = chain["cloudtrail"]["answers"]
    trail_ = chain["cloudtrail"]
    parts.append(
        table(answers, "event_time", "status", "quantity", "metering_record_id", "sent_by", title="CloudTrail")
        if answers
        else f"CloudTrail     {'shows no answer about it (yet)' if trail_['asked'] else trail_['why']}"
    )
    if chain["usage_records"] is not None:
        rows = chain["usage_records"]
        parts.append(table(rows[:_SHOWN], "id", "quantity", "included", title=counted(len(rows), "usage record")))
    return parts
