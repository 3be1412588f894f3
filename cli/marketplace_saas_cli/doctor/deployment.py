"""Checks of the deployment itself: its state, its place, its parameters, who may be told, who asks."""

import email.utils
from collections.abc import Iterator
from datetime import UTC

from marketplace.platform.clock import epoch, iso
from marketplace.platform.settings import parsed_overage_dimensions
from marketplace_saas_cli.aws import REGION
from marketplace_saas_cli.doctor.check import Finding, fine, trouble, unknown
from marketplace_saas_cli.output import counted
from marketplace_saas_cli.session import Session

SKEW_SECONDS = 30
_SCHEDULES = ("MeterUsageSchedule", "ReconciliationSchedule", "WaitingSchedule")


def deployment(session: Session) -> Iterator[Finding]:
    """CloudFormation's state of the stack, and where it is."""
    status = session.stack.status
    if status.endswith("_IN_PROGRESS"):
        yield trouble("deployment", f"CloudFormation is at work ({status})", "wait until it is done and ask again")
    elif status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}:
        yield fine("deployment", f"{session.stack.name} is {status}")
    else:
        yield trouble("deployment", f"the last change of the stack ended {status}", "read its events, deploy again")
    if session.stack.region == REGION:
        yield fine("region", REGION)
    else:
        yield trouble(
            "region", f"the stack is in {session.stack.region}", f"deploy it to {REGION}: AWS's events come there"
        )


def parameters(session: Session) -> Iterator[Finding]:
    """Parameters that are allowed each by itself and wrong together."""
    stack = session.stack
    given = stack.parameters
    if not given:
        yield unknown("parameters", "CloudFormation shows none")
        return
    found = list(_wrong(session))
    yield from found
    if not found:
        yield fine("parameters", f"stage {stack.stage}, products {', '.join(stack.product_codes)}")


def _wrong(session: Session) -> Iterator[Finding]:
    stack, given = session.stack, session.stack.parameters
    if not stack.metering_enabled:
        yield trouble(
            "parameters",
            "MeteringEnabled is false: this deployment takes no usage and bills nothing",
            "right for a test stage; otherwise deploy it with MeteringEnabled=true",
        )
    if stack.metering_starts_at > session.now:
        yield fine(
            "parameters",
            f"usage of hours before {iso(stack.metering_starts_at)} is not sent: another meter bills it (`shadow`)",
        )
    for name in ("LegacyProductCodes", "LegacyContractProductCodes"):
        if missing := {one for one in given.get(name, "").split(",") if one} - set(stack.product_codes):
            yield trouble(
                "parameters", f"{name} has {', '.join(sorted(missing))}, ProductCodes has not", "add the codes"
            )
    try:
        overage = parsed_overage_dimensions(given.get("OverageDimensions", ""))
    except ValueError as error:
        yield trouble("parameters", f"OverageDimensions: {error}", "correct it and deploy")
        return
    products = {product for product, _ in overage} if isinstance(overage, dict) else set()
    if missing := products - set(stack.product_codes):
        text = f"OverageDimensions names {', '.join(sorted(missing))}, ProductCodes does not"
        yield trouble("parameters", text, "correct it and deploy")
    if given.get("HeartbeatDimension"):
        yield fine("parameters", f"zeros of {given['HeartbeatDimension']} are sent for idle hours (AWS's listing test)")


def identity(session: Session) -> Iterator[Finding]:
    """Whose credentials ask, and whether the stack is of the same account."""
    caller = session.aws.client("sts").get_caller_identity()
    if caller["Account"] == session.stack.account:
        yield fine("identity", f"{caller['Arn']}, in the account of the stack")
    else:
        yield trouble(
            "identity", f"{caller['Arn']} is of another account than the stack", "use its account's credentials"
        )


def clock(session: Session) -> Iterator[Finding]:
    """How far this machine's clock is from AWS's: signatures and `at risk` are computed with it."""
    if session.local:
        yield fine("clock", f"the emulator's clock, at {session.clock():%Y-%m-%d %H:%M:%S} UTC")
        return
    answer = session.aws.client("sts").get_caller_identity()
    told = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    skew = epoch(session.clock()) - epoch(told.astimezone(UTC))
    if abs(skew) <= SKEW_SECONDS:
        yield fine("clock", f"{abs(skew)} seconds from AWS's")
    else:
        yield trouble("clock", f"this machine's clock is {skew:+} seconds from AWS's", "set it; AWS refuses signatures")


def schedules(session: Session) -> Iterator[Finding]:
    """Whether the schedules that run everything are enabled."""
    events = session.aws.client("events")
    for name in _SCHEDULES:
        resource = session.resources.get(name)
        if resource is None:
            yield trouble("schedule", f"the stack has no {name}", "deploy the current version")
            continue
        try:
            state = events.describe_rule(Name=resource.physical_id)["State"]
        except events.exceptions.ResourceNotFoundException:
            state = "gone"
        if state == "ENABLED":
            yield fine("schedule", f"{name} is enabled")
        else:
            yield trouble("schedule", f"{name} is {state}", f"aws events enable-rule --name {resource.physical_id}")


def alarms(session: Session) -> Iterator[Finding]:
    """Alarms that are raised, and alarms that nobody is told of."""
    if session.local:
        yield unknown("alarms", "alarms are not played on one machine")
        return
    names = [one.physical_id for one in session.resources.values() if one.type == "AWS::CloudWatch::Alarm"]
    client = session.aws.client("cloudwatch")
    found = [
        alarm
        for start in range(0, len(names), 100)
        for alarm in client.describe_alarms(AlarmNames=names[start : start + 100])["MetricAlarms"]
    ]
    if missing := len(names) - len(found):
        yield trouble("alarms", f"{missing} of the stack's {len(names)} alarms do not exist", "deploy the stack again")
    for alarm in found:
        if alarm["StateValue"] == "ALARM":
            name = alarm["AlarmName"]
            yield trouble(
                "alarms", f"{name} is raised: {alarm.get('AlarmDescription', '')}", "docs/operations.md, Alarms"
            )
    untold = [alarm["AlarmName"] for alarm in found if not alarm.get("AlarmActions") or not alarm["ActionsEnabled"]]
    if untold:
        yield trouble(
            "alarms", f"nobody is told of {counted(len(untold), 'alarm')}", "deploy with AlarmEmail or AlarmTopicArn"
        )
    elif found:
        yield fine("alarms", f"{len(found)} alarms have a target")
    yield from _topic(session, {action for alarm in found for action in alarm.get("AlarmActions", [])})


def _topic(session: Session, topics: set[str]) -> Iterator[Finding]:
    sns = session.aws.client("sns")
    for topic in sorted(one for one in topics if ":sns:" in one):
        subscribed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        confirmed = [one for one in subscribed if one["SubscriptionArn"].startswith("arn:")]
        if confirmed:
            yield fine("alarms", f"{len(confirmed)} subscribers of {topic}")
        else:
            yield trouble("alarms", f"nobody has confirmed a subscription of {topic}", "confirm AWS's e-mail")
