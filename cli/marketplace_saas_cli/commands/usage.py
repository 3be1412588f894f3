"""`usage` and `retry`: what was reported and is not plainly metered, usage from and to files, refused usage again."""

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

import marketplace_saas_client.operations as api
from marketplace.ledger import conflict
from marketplace.ledger.deadlines import refuse_at
from marketplace.ledger.recent import recent_records
from marketplace.ledger.record import MeteringRecord
from marketplace.ledger.selections import REFUSED_BY_AWS
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import From, Identifier, OfDimension, OfSubscription, To
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.files import written
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.usage_file import UsageFile
from marketplace_saas_cli.usage_import import ResultFile, send

APP = typer.Typer(help="Usage: what is not plainly metered, imports, exports.", no_args_is_help=True)

_FIELDS = (
    *("subscription_id", "product_code", "license_arn", "customer_identifier", "account_id", "tenant_id", "hour"),
    *("dimension", "quantity", "records", "state", "reason", "in_doubt", "metering_record_id", "settled_at"),
    *("aws_quantity", "carried_to", "corrected"),
)
_LISTED = (
    *("subscription_id", "hour", "dimension", "quantity", "state", "reason", "in_doubt"),
    *("aws_quantity", "to_carry", "to_credit"),
)


@APP.command("list")
def list_(
    context: typer.Context,
    first: From = None,
    last: To = None,
    subscription: OfSubscription = None,
    everything: Annotated[bool, typer.Option("--all", help="what is plainly metered or open, too")] = False,
) -> None:
    """The metering records of all subscriptions that are not plainly metered; of the last day unless told otherwise."""
    session = session_of(context)
    start, end = walks.hours(session, first, last)
    found = [
        {"subscription_id": one.id, **record.described(), **_left_of(record)}
        for one, record in walks.metering_records(session, walks.chosen(session, subscription), start, end)
    ]
    shown = [record for record in found if everything or not is_plain(record)]
    session.output.show({"metering_records": shown}, table(shown, *_LISTED))
    raise typer.Exit(TROUBLE if any(not is_plain(record) for record in shown) else FINE)


def is_plain(record: dict[str, Any]) -> bool:
    """Whether a metering record is on its way or metered, with nothing to say about it, or a conflict that was
    resolved."""
    remarks = ("reason", "in_doubt", "tags_refused", "untagged_records")
    if "aws_quantity" in record:
        return not record.get("to_carry") and not record.get("to_credit")
    return record["state"] in {"open", "metered"} and not any(record.get(name) for name in remarks)


def _left_of(record: MeteringRecord) -> dict[str, int]:
    """What is left to do about a conflict that was resolved."""
    left = {"to_carry": conflict.to_carry(record), "to_credit": conflict.to_credit(record)}
    return {name: units for name, units in left.items() if units}


@APP.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="usage records, .csv or .jsonl (docs/operations.md has the columns)")],
    result: Annotated[Path | None, typer.Option(help="where the answers are kept; FILE.result.jsonl")] = None,
) -> None:
    """Reports the usage of a file. Every line is checked first; a run that was interrupted is resumed by the next."""
    usage = UsageFile(file)
    contents = usage.checked()
    results = ResultFile(result or file.with_name(f"{file.name}.result.jsonl"), contents.digest)
    session = session_of(context)
    if not session.stack.metering_enabled:
        raise RefusedError("this deployment meters nothing (MeteringEnabled), so it takes no usage")
    preview = {
        "records": contents.records,
        "answered_before": len(results.done),
        "subscriptions": len(contents.subscriptions),
        "units": contents.units,
        "result_file": str(results.path),
    }
    units = [{"dimension": dimension, "units": count} for dimension, count in sorted(contents.units.items())]
    session.output.confirm(
        preview,
        f"{counted(contents.records, 'record')} of {counted(len(contents.subscriptions), 'subscription')}, "
        f"{len(results.done):,} of them answered before",
        table(units, "dimension", "units"),
        question="Report this usage, to be billed?",
    )
    left = send(session, usage, results, contents.records)
    counts = {**results.counts, **({"to_be_sent_again": left.total()} if left else {})}
    why = [f"to be sent again by the same command, {count:,}: {reason}" for reason, count in sorted(left.items())]
    session.output.show(
        {"changed": True, "counts": counts, "to_be_sent_again": dict(left), "result_file": str(results.path)},
        ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(counts.items())),
        *why,
        f"the answer for each line is in {results.path}",
    )
    raise typer.Exit(FINE if set(counts) <= {"recorded", "duplicate"} else TROUBLE)


@APP.command()
def export(
    context: typer.Context,
    first: From = None,
    last: To = None,
    subscription: OfSubscription = None,
    to: Annotated[Path | None, typer.Option("--file", help=".csv or .jsonl; standard output without it")] = None,
) -> None:
    """Every metering record of the time between, as CSV, or as JSON Lines with --json or to a .jsonl file."""
    if to is not None and to.suffix.lower() not in {".csv", ".jsonl"}:
        raise RefusedError(f"{to.name} is neither .csv nor .jsonl")
    session = session_of(context)
    start, end = walks.hours(session, first, last)
    found = walks.metering_records(session, walks.chosen(session, subscription), start, end)
    rows = ({**walks.who(one), **record.described()} for one, record in found)
    as_json = to.suffix.lower() == ".jsonl" if to is not None else session.output.as_json
    with written(to) as file:
        if as_json:
            for row in rows:
                file.write(f"{json.dumps(row, separators=(',', ':'))}\n")
        else:
            writer = csv.DictWriter(file, _FIELDS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def retry(
    context: typer.Context,
    subscription_id: Identifier,
    dimension: OfDimension = None,
) -> None:
    """Has usage that AWS refused sent again by the next run, as it was: once the cause is mended on AWS's side."""
    session = session_of(context)
    walks.subscription(session, subscription_id)
    found = list(recent_records(session.usage, subscription_id, session.now, REFUSED_BY_AWS.of_dimension(dimension)))
    again = [record.described() for record in found if refuse_at(record.hour) > session.now]
    late = [record.described() for record in found if refuse_at(record.hour) <= session.now]
    if not again:
        session.output.show({"changed": False, "due_again": [], "too_late": late}, "nothing that AWS would still take")
        raise typer.Exit(TROUBLE if late else FINE)
    session.output.confirm(
        {"due_again": again, "too_late": late},
        table(again, "hour", "dimension", "quantity", "state", "reason", "in_doubt", title="sent again"),
        table(late, "hour", "dimension", "quantity", "state", "reason", title="too late, not sent"),
    )
    due: list[Any] = []
    more = True
    while more:
        answer = session.call(api.retry_usage(subscription_id, {"dimension": dimension} if dimension else {}))
        due += answer["due_again"]
        more = answer["more"]
    session.output.show(
        {"changed": bool(due), "due_again": due, "too_late": late}, f"due again: {counted(len(due), 'metering record')}"
    )
    raise typer.Exit(TROUBLE if late else FINE)
