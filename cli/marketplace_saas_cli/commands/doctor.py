"""`doctor`: everything that a deployment needs to be sound, asked in one go."""

from typing import Annotated

import typer

from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.doctor import deployment, market, work
from marketplace_saas_cli.doctor.check import Check, Finding, asked
from marketplace_saas_cli.exits import FINE, NO_ANSWER, TROUBLE
from marketplace_saas_cli.output import table
from marketplace_saas_cli.session import Session

CHECKS: dict[str, Check] = {
    "deployment": deployment.deployment,
    "parameters": deployment.parameters,
    "identity": deployment.identity,
    "clock": deployment.clock,
    "permissions": market.permissions,
    "product codes": market.product_codes,
    "schedule": deployment.schedules,
    "queues": work.queues,
    "ledger": work.ledger,
    "last run": work.last_run,
    "waiting": work.waiting,
    "reconciliation": work.reconciliation,
    "alarms": deployment.alarms,
    "fulfilment url": market.fulfilment_url,
    "dimensions": market.dimensions,
}
_MARK = {"fine": "fine", "trouble": "TROUBLE", "unknown": "not asked"}


def doctor(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="show what is fine, too")] = False,
) -> None:
    """Asks for everything that a deployment needs to be sound, and says what to do. Changes nothing."""
    session = session_of(context)
    found = examined(session)
    troubles = [one for one in found if one.result == "trouble"]
    rows = [
        {"check": one.subject, "result": _MARK[one.result], "found": one.text, "do": one.do}
        for one in found
        if everything or one.result != "fine"
    ]
    counts = {result: sum(one.result == result for one in found) for result in _MARK}
    session.output.show(
        {"stack": session.stack.name, "counts": counts, "findings": [one.as_json() for one in found]},
        table(rows, "check", "result", "found", "do") if rows else "",
        f"{counts['fine']} fine, {counts['trouble']} trouble, {counts['unknown']} could not be asked",
    )
    raise typer.Exit(TROUBLE if troubles else FINE if counts["fine"] else NO_ANSWER)


def examined(session: Session) -> list[Finding]:
    """What every check finds."""
    checks = CHECKS | ({"last run": work.local_run} if session.local else {})
    return [
        finding
        for subject, check in session.output.each(list(checks.items()), "checking", len(checks))
        for finding in asked(check, session, subject)
    ]
