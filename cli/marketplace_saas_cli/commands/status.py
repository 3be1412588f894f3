"""`status`: the units of every state that stand in the ledger, and what AWS soon takes no more."""

from typing import Any

import typer

from marketplace.dynamodb import keys
from marketplace.ledger.due_index import DueEntry, Unreadable
from marketplace.ledger.record import SAVABLE
from marketplace.metering.report import AT_RISK_HOURS, MeteringReport
from marketplace.platform.clock import iso
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import FINE, TROUBLE
from marketplace_saas_cli.output import table
from marketplace_saas_cli.session import Session
from marketplace_saas_cli.walks import unsettled

_MEANS = {
    "open": "waits to be metered",
    "held": "AWS says the customer is not subscribed, or the licence is invalid",
    "awaiting_approval": "unusual; it waits for your approval, or its deadline",
    "rejected": "AWS refused the record for what it contains",
    "conflict": "AWS has another quantity for the hour, from another sender",
    "unbillable": "AWS takes it no more, or you have refused it",
    "in_doubt": "of these, what AWS may have already",
}
_TROUBLE = ("held", "awaiting_approval", "rejected", "conflict", "unbillable")
SHOWN = 20


def status(context: typer.Context) -> None:
    """Units by state, what is at risk and until when."""
    session = session_of(context)
    standing = measured(session)
    rows = [{"state": state, **standing["states"][state], "means": _MEANS[state]} for state in standing["states"]]
    risks = [{"aws_refuses_within": f"{hours} h", "units": n} for hours, n in standing["units_at_risk"].items()]
    session.output.show(
        standing,
        f"At {standing['at']} {standing['note']} in {session.stack.name}.",
        table(rows, "state", "records", "units", "oldest", "means"),
        table(risks, "aws_refuses_within", "units"),
        table(standing["soonest"], "refused_at", "state", "units", "subscription_id", "hour", "dimension")
        if standing["soonest"]
        else "nothing waits that AWS could refuse",
    )
    raise typer.Exit(TROUBLE if standing["needs_a_person"] else FINE)


def measured(session: Session) -> dict[str, Any]:
    """What stands in the `due` index now, in numbers."""
    report, now = MeteringReport(), session.now
    oldest: dict[str, int] = {}
    savable: list[DueEntry] = []
    unreadable: list[str] = []
    late: list[DueEntry] = []
    for entry in unsettled(session):
        if isinstance(entry, Unreadable):
            unreadable.append(f"{entry.key.pk}/{entry.key.sk}")
            continue
        report.stands_as_seen(entry, now)
        oldest[entry.state] = min(oldest.get(entry.state, entry.hour), entry.hour)
        if entry.state in SAVABLE:
            savable.append(entry)
        if entry.state == "open" and entry.overdue(now):
            late.append(entry)
    states = {
        state: {
            "records": report.standing_records[state],
            "units": report.standing_units[state],
            "oldest": iso(oldest[state]) if state in oldest else None,
        }
        for state in _MEANS
    }
    waiting_since = max((entry.overdue(now) for entry in late), default=0)
    at_risk = {hours: report.units_at_risk[hours] for hours in sorted(AT_RISK_HOURS)}
    trouble = any(states[state]["records"] for state in _TROUBLE) or bool(unreadable) or any(at_risk.values())
    soonest = sorted(savable, key=lambda entry: (entry.refuse_at, entry.key))[:SHOWN]
    return {
        "stack": session.stack.name,
        "at": iso(now),
        "metering_enabled": session.stack.metering_enabled,
        "states": states,
        "units_at_risk": at_risk,
        "oldest_due_seconds": waiting_since,
        "unreadable": unreadable,
        "needs_a_person": trouble,
        "note": "something needs a person" if trouble else "nothing needs a person",
        "soonest": [_shown(entry) for entry in soonest],
    }


def _shown(entry: DueEntry) -> dict[str, Any]:
    hour, dimension = keys.hour_and_dimension(entry.key.sk)
    return {
        "refused_at": iso(entry.refuse_at),
        "state": entry.state,
        "units": entry.quantity,
        "subscription_id": keys.subscription_id_of(entry.key.pk),
        "hour": hour,
        "dimension": dimension,
    }
