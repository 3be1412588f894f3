"""Checks of the work that is to be done: the ledger, the runs, the queues, what waits."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from marketplace.commands.waiting import WaitingList
from marketplace.platform.clock import HOUR, MINUTE, iso
from marketplace_saas_cli.commands import differences
from marketplace_saas_cli.commands.queue import depths
from marketplace_saas_cli.commands.status import measured
from marketplace_saas_cli.doctor.check import Finding, fine, trouble, unknown
from marketplace_saas_cli.output import counted
from marketplace_saas_cli.patience import overdue
from marketplace_saas_cli.session import Session

LATE_SECONDS = 45 * MINUTE
"""Three runs: no run works off what has been due for longer (template.yaml, MeteringDidNotRunAlarm)."""
_DO = {
    "held": "activated soon: nothing; otherwise `subscriptions recheck`, or `retry` once AWS's cause is mended",
    "awaiting_approval": "`approvals list` names them; then `approvals approve` or `approvals refuse`",
    "rejected": "`usage list` names them and the reason; mend it at AWS and `retry`, or report anew under new ids",
    "conflict": "another sender meters this subscription: stop it; `trace` shows who; report the difference",
    "unbillable": "`usage list` names them; ask AWS for a billing adjustment, or report the quantity under a new id",
}
_LOST = "MeteringErrors"


def ledger(session: Session) -> Iterator[Finding]:
    """Usage that is late, at risk, or that AWS has refused, from the stored records: it is found whatever became of the
    run that should have told it."""
    found = measured(session)
    late = found["oldest_due_seconds"]
    if late > LATE_SECONDS and session.stack.metering_enabled:
        hours = late / HOUR
        yield trouble(
            "last run",
            f"usage has been due for {hours:.1f} hours: no run has metered it",
            "check the schedule, the function and its role; then `run`",
        )
    else:
        yield fine("last run", "no usage is overdue")
    if found["units_at_risk"][6]:
        units, soonest = found["units_at_risk"][6], found["soonest"][0]["refused_at"]
        text = f"AWS refuses {units:,} units within six hours, the first at {soonest}"
        yield trouble("at risk", text, "mend the cause, then `run`")
    else:
        yield fine("at risk", "nothing within six hours")
    for state, do in _DO.items():
        standing = found["states"][state]
        if standing["records"]:
            units, records, oldest = (standing[name] for name in ("units", "records", "oldest"))
            yield trouble(
                state, f"{counted(units, 'unit')} in {counted(records, 'metering record')}, the oldest of {oldest}", do
            )
    if found["unreadable"]:
        text = f"{', '.join(found['unreadable'][:5])} lack what a metering record has"
        yield trouble("unreadable", text, "restore or correct them (docs/operations.md, Backups)")


def queues(session: Session) -> Iterator[Finding]:
    """What the queues hold."""
    for row in depths(session):
        if row["queue"] == "dead-letter" and row["waiting"] + row["in_work"]:
            text = f"{counted(row['waiting'] + row['in_work'], 'message')} could not be handled"
            yield trouble("queues", text, "`queue show`, mend the cause, `queue redrive`")
        else:
            yield fine("queues", f"{row['queue']}: {row['waiting']} waiting")


def waiting(session: Session) -> Iterator[Finding]:
    """What has waited so long that its alarm is raised: for AWS, a person or this application itself."""
    everything = WaitingList(session.subscriptions, session.clock).all()
    late = [one.waiting for one in everything if overdue(one.waiting, session.now)]
    if not late:
        yield fine("waiting", "nothing has waited for too long")
        return
    oldest = min(late, key=lambda one: one.since)
    text = f"{counted(len(late), 'item')}, the oldest ({oldest.kind}) since {iso(oldest.since)}"
    yield trouble("waiting", text, "`subscriptions waiting` lists them; docs/operations.md, What waits")


def reconciliation(session: Session) -> Iterator[Finding]:
    """What the daily reconciliation has found and nobody has accepted."""
    if found := differences.unaccepted(differences.stored(session)):
        text, do = (
            differences.summary(found),
            "`differences list` names them; docs/operations.md, Metered usage and CloudTrail",
        )
        yield trouble("reconciliation", text, do)
    else:
        yield fine("reconciliation", "no difference that nobody has accepted")


def last_run(session: Session) -> Iterator[Finding]:
    """When metering ran last, and whether its calls failed, from Lambda's and the application's metrics."""
    function = session.resources["MeterUsageFunction"].physical_id
    lambda_ = [{"Name": "FunctionName", "Value": function}]
    own = [{"Name": "service", "Value": f"meter_usage-{session.stack.stage}"}]
    invoked = _points(session, "AWS/Lambda", "Invocations", lambda_)
    if not invoked:
        yield trouble("last run", "no metering run was started within the last hour", "check the schedule; then `run`")
        return
    yield fine("last run", f"the last metering run was started about {max(invoked)}")
    for namespace, name, dimensions, do in (
        ("AWS/Lambda", "Errors", lambda_, "read the log of meter_usage"),
        ("MarketplaceSaaS", _LOST, own, "`errors` in the log of meter_usage has the codes: role, account, region"),
    ):
        failed = _points(session, namespace, name, dimensions)
        if total := sum(failed.values()):
            yield trouble("last run", f"{total:g} {name} within the last hour", do)


def _points(session: Session, namespace: str, name: str, dimensions: list[dict[str, str]]) -> dict[str, float]:
    """The sums of a metric in the last hour, by time, without the zeros."""
    now = session.clock()
    answer: dict[str, Any] = session.aws.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=dimensions,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=5 * MINUTE,
        Statistics=["Sum"],
    )
    return {f"{one['Timestamp']:%H:%M} UTC": one["Sum"] for one in answer["Datapoints"] if one["Sum"]}


def local_run(_session: Session) -> Iterator[Finding]:
    """In place of `last_run` on one machine, which has no metrics."""
    yield unknown("last run", "CloudWatch's metrics are not played on one machine; the ledger says what is overdue")
