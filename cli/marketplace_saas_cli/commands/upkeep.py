"""`rebuild`, `migrate`, `run` and `put-back`: a state computed again, a customer moved to a licence, a metering run by
hand, lost items from a restored table."""

import json
from collections import Counter
from typing import Annotated, Any, Literal

import typer

from marketplace.commands.migration import IN_FLIGHT, Migration
from marketplace.commands.put_back import PutBack, kind_of
from marketplace.commands.rebuild import Diff, Rebuild
from marketplace.dynamodb.table import Table, key_of
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform.clock import iso
from marketplace_saas_cli.commands.options import OfSubscription
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE, NoAnswerError, RefusedError
from marketplace_saas_cli.output import counted, table

RUN_SECONDS = 900
"""What a metering run takes at most (template.yaml)."""


def rebuild(
    context: typer.Context,
    subscription: OfSubscription = None,
    everything: Annotated[bool, typer.Option("--all", help="every subscription")] = False,
) -> None:
    """Computes the state of subscriptions again from every notification that is kept, and writes what differs."""
    if everything == (subscription is not None):
        raise RefusedError("give --subscription or --all")
    session = session_of(context)
    use_case = Rebuild(SubscriptionStore(session.subscriptions), session.clock, session.queue)
    ids = [subscription] if subscription is not None else list(use_case.all_ids())
    diffs = [use_case.diff(one) for one in session.output.each(ids, "subscriptions", len(ids))]
    differing = [diff for diff in diffs if diff.changes]
    if not differing:
        session.output.show(
            {"changed": False, "differing": []}, f"{counted(len(diffs), 'subscription')}: as the inbox says"
        )
        return
    shown = [_shown(diff) for diff in differing]
    session.output.confirm({"differing": shown}, *map(str, differing), question="Write what differs?")
    written = [use_case.write(diff.subscription_id) for diff in session.output.each(differing, "writing")]
    session.output.show(
        {"changed": True, "differing": list(map(_shown, written))}, f"written: {counted(len(written), 'subscription')}"
    )


def _shown(diff: Diff) -> dict[str, Any]:
    changes = [{"name": one.name, "stored": str(one.stored), "rebuilt": str(one.rebuilt)} for one in diff.changes]
    return {"subscription_id": diff.subscription_id, "changes": changes}


def migrate(
    context: typer.Context,
    legacy: Annotated[str, typer.Argument(help="the id of the legacy customer's subscription")],
    license_: Annotated[str, typer.Argument(help="the id of the licence's subscription", metavar="LICENSE")],
) -> None:
    """Moves one customer from the legacy integration to their licence, at the start of an hour."""
    session = session_of(context)
    migration = Migration(
        table=session.subscriptions, usage_table=session.usage, clock=session.clock, sleep=session.sleep
    )
    planned = migration.planned(legacy, license_)
    session.output.confirm(
        {"legacy": legacy, "license": license_, "cutover": iso(planned.at)},
        f"usage from about {iso(planned.at)} on is billed to the licence {license_}, earlier usage to {legacy}; this "
        f"can't be undone. The licence takes no usage for the {IN_FLIGHT} seconds that this takes.",
    )
    cutover = migration.migrate(legacy, license_)
    session.output.show(
        {"changed": True, "legacy": legacy, "license": license_, "cutover": iso(cutover.at)},
        f"usage from {iso(cutover.at)} on is billed to the licence, earlier usage to the legacy customer",
    )


def run(context: typer.Context) -> None:
    """Runs metering once, now, and shows what it did. Any number of runs at any time is safe."""
    session = session_of(context)
    function = session.resources.get("MeterUsageFunction")
    if function is None:
        raise RefusedError(f"the stack {session.stack.name} has no metering function")
    session.output.confirm(
        {"run": function.physical_id}, f"{function.physical_id} runs once, as its schedule has it run"
    )
    client = session.aws.client("lambda", read_timeout=RUN_SECONDS)
    answer = client.invoke(FunctionName=function.physical_id)
    report = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        raise NoAnswerError(f"the run failed: {report.get('errorType')}: {report.get('errorMessage')}")
    lines = [f"{name}: {value}" for name, value in report.items() if value]
    session.output.show({"changed": True, "report": report}, *(lines or ["nothing was due"]))
    raise typer.Exit(TROUBLE if report.get("errors") else FINE)


def put_back(
    context: typer.Context,
    restored: Annotated[str, typer.Argument(help="the table that was restored from a backup")],
    into: Annotated[Literal["usage", "subscriptions"], typer.Option(help="which table of the stack has lost items")],
) -> None:
    """Puts back items that a table has lost, from one that was restored from a backup. Nothing is overwritten."""
    session = session_of(context)
    current = session.usage if into == "usage" else session.subscriptions
    use_case = PutBack(Table(session.aws.client("dynamodb"), restored), current, session.clock)
    missing = list(session.output.each(use_case.missing(), "comparing"))
    counts = Counter(kind_of(key_of(item)) for item in missing)
    rows = [{"items": kind, "gone": count} for kind, count in sorted(counts.items())]
    if not missing:
        session.output.show({"changed": False, "gone": {}}, f"{current.name} has everything that {restored} has")
        return
    session.output.confirm({"gone": dict(counts), "into": current.name}, table(rows, "items", "gone"))
    written = sum(use_case.write(session.output.each(missing, "writing", len(missing))))
    session.output.show(
        {"changed": True, "gone": dict(counts), "written": written},
        f"put back into {current.name}: {counted(written, 'item')}. "
        + ("`reconcile` shows what AWS has of it" if into == "usage" else "`rebuild --all` shows what differs now"),
    )
