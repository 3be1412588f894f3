"""What `doctor` finds in an AWS account: each check fine, in trouble with what to do, or not asked."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from marketplace.dynamodb.keys import Key
from marketplace.lifecycle.outcomes import GAUGE_OF_WAITING
from marketplace.subscriptions.waiting import Waiting
from marketplace_saas_cli.doctor import deployment, market, work
from marketplace_saas_cli.doctor.check import Check, Finding, asked
from marketplace_saas_cli.output import Output
from marketplace_saas_cli.patience import PATIENCE, overdue
from marketplace_saas_cli.session import Session
from marketplace_saas_cli.stack import Resource, StackDescription
from tests.support.duty import STACK_ID, Clients

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
PARAMETERS = {"Stage": "prod", "ProductCodes": "one,two", "MeteringEnabled": "true"}


class Answers:
    """A client that answers each operation with a value, or raises it."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.exceptions = type("Exceptions", (), {"ResourceNotFoundException": GoneError})

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            found = self._answers[operation]
            found = found(**arguments) if callable(found) else found
            if isinstance(found, Exception):
                raise found
            return found

        return call


class GoneError(Exception):
    """The rule does not exist."""


def denied(operation: str = "Any") -> ClientError:
    answer: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return ClientError(answer, operation)


def session(
    clients: Mapping[str, Any],
    *,
    parameters: Mapping[str, str] = PARAMETERS,
    status: str = "UPDATE_COMPLETE",
    stack_id: str = STACK_ID,
    resources: tuple[Resource, ...] = (),
) -> Session:
    aws: Any = Clients(dict(clients))
    made = Session(StackDescription("shop", stack_id, status, {}, parameters), aws, Output(), clock=lambda: NOW)
    made.__dict__["resources"] = {one.logical_id: one for one in resources}
    return made


def results(check: Check, made: Session) -> list[tuple[str, str]]:
    return [(one.result, one.text) for one in asked(check, made, "subject")]


def troubles(check: Check, made: Session) -> list[Finding]:
    found = [one for one in asked(check, made, "subject") if one.result == "trouble"]
    assert all(one.do for one in found)
    return found


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"])
def test_a_stack_at_rest_in_the_right_region_is_fine(status: str) -> None:
    assert troubles(deployment.deployment, session({}, status=status)) == []


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED", "UPDATE_IN_PROGRESS"])
def test_a_stack_whose_last_change_is_not_done_is_trouble(status: str) -> None:
    (found,) = troubles(deployment.deployment, session({}, status=status))
    assert status in found.text


def test_a_stack_in_another_region_is_trouble() -> None:
    (found,) = troubles(deployment.deployment, session({}, stack_id=STACK_ID.replace("us-east-1", "eu-west-1")))
    assert "eu-west-1" in found.text


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"MeteringEnabled": "false"}, "bills nothing"),
        ({"LegacyProductCodes": "one,three"}, "LegacyProductCodes has three"),
        ({"LegacyContractProductCodes": "four"}, "LegacyContractProductCodes has four"),
        ({"OverageDimensions": "three/calls=users"}, "names three"),
        ({"OverageDimensions": "one/calls"}, "is not of the form"),
    ],
)
def test_parameters_that_contradict_each_other_are_named(parameters: dict[str, str], words: str) -> None:
    (found,) = troubles(deployment.parameters, session({}, parameters={**PARAMETERS, **parameters}))
    assert words in found.text


def test_parameters_that_fit_are_fine() -> None:
    given = {**PARAMETERS, "LegacyProductCodes": "one", "OverageDimensions": "two/calls=users"}
    assert troubles(deployment.parameters, session({}, parameters=given)) == []


def caller(account: str = "123456789012", skew: int = 0) -> Answers:
    date = format_datetime(NOW - timedelta(seconds=skew), usegmt=True)
    answer = {
        "Account": account,
        "Arn": f"arn:aws:sts::{account}:assumed-role/duty/me",
        "ResponseMetadata": {"HTTPHeaders": {"date": date}},
    }
    return Answers(get_caller_identity=answer)


def test_credentials_of_another_account_are_trouble() -> None:
    assert troubles(deployment.identity, session({"sts": caller()})) == []
    (found,) = troubles(deployment.identity, session({"sts": caller("999999999999")}))
    assert "another account" in found.text


@pytest.mark.parametrize(("skew", "count"), [(0, 0), (30, 0), (31, 1), (-301, 1)])
def test_a_clock_that_is_wrong_is_trouble(skew: int, count: int) -> None:
    assert len(troubles(deployment.clock, session({"sts": caller(skew=skew)}))) == count


SCHEDULES = tuple(
    Resource(name, f"shop-{name}", "AWS::Events::Rule")
    for name in ("MeterUsageSchedule", "ReconciliationSchedule", "WaitingSchedule")
)


@pytest.mark.parametrize("state", ["DISABLED", "gone"])
def test_a_schedule_that_is_disabled_or_gone_is_named(state: str) -> None:
    def described(*, Name: str) -> Any:  # noqa: N803 - AWS's name
        if Name != "shop-WaitingSchedule":
            return {"State": "ENABLED"}
        return {"State": state} if state == "DISABLED" else GoneError()

    made = session({"events": Answers(describe_rule=described)}, resources=SCHEDULES)
    (found,) = troubles(deployment.schedules, made)
    assert found.text == f"WaitingSchedule is {state}"
    assert "shop-WaitingSchedule" in found.do


def test_a_stack_without_a_schedule_is_trouble() -> None:
    made = session({"events": Answers(describe_rule={"State": "ENABLED"})}, resources=SCHEDULES[1:])
    (found,) = troubles(deployment.schedules, made)
    assert "MeterUsageSchedule" in found.text


TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"


def alarm(name: str, **given: Any) -> dict[str, Any]:
    plain = {"AlarmName": name, "StateValue": "OK", "AlarmActions": [TOPIC], "ActionsEnabled": True}
    return {**plain, "AlarmDescription": f"about {name}", **given}


@pytest.mark.parametrize(
    ("found", "subscription", "words"),
    [
        ([alarm("a"), alarm("b")], "arn:aws:sns:sub", []),
        ([alarm("a", StateValue="ALARM"), alarm("b")], "arn:aws:sns:sub", ["a is raised: about a"]),
        ([alarm("a", AlarmActions=[]), alarm("b")], "arn:aws:sns:sub", ["nobody is told of 1 alarm"]),
        ([alarm("a", ActionsEnabled=False), alarm("b")], "arn:aws:sns:sub", ["nobody is told of 1 alarm"]),
        ([alarm("a")], "arn:aws:sns:sub", ["1 of the stack's 2 alarms do not exist"]),
        ([alarm("a"), alarm("b")], "PendingConfirmation", ["nobody has confirmed"]),
    ],
)
def test_alarms_that_are_raised_or_reach_nobody_are_named(
    found: list[dict[str, Any]], subscription: str, words: list[str]
) -> None:
    clients = {
        "cloudwatch": Answers(describe_alarms={"MetricAlarms": found}),
        "sns": Answers(list_subscriptions_by_topic={"Subscriptions": [{"SubscriptionArn": subscription}]}),
    }
    resources = tuple(Resource(name, name, "AWS::CloudWatch::Alarm") for name in ("a", "b"))
    texts = [one.text for one in troubles(deployment.alarms, session(clients, resources=resources))]
    assert len(texts) == len(words)
    assert all(text.startswith(word) for text, word in zip(texts, words, strict=True))


ROLES = tuple(Resource(name, f"shop-{name}", "AWS::IAM::Role") for name in market.ACTIONS)


def test_a_role_that_lost_its_permission_is_named() -> None:
    def simulated(*, PolicySourceArn: str, ActionNames: list[str]) -> Any:  # noqa: N803 - AWS's names
        decision = "implicitDeny" if PolicySourceArn.endswith("MeterUsageRole") else "allowed"
        return {"EvaluationResults": [{"EvalActionName": one, "EvalDecision": decision} for one in ActionNames]}

    iam = Answers(
        get_role=lambda RoleName: {"Role": {"Arn": f"arn:aws:iam::1:role/{RoleName}"}},  # noqa: N803 - AWS's name
        simulate_principal_policy=simulated,
    )
    (found,) = troubles(market.permissions, session({"iam": iam}, resources=ROLES))
    assert found.text == "shop-MeterUsageRole is denied aws-marketplace:BatchMeterUsage"


def test_where_the_products_are_another_accounts_the_roles_must_be_allowed_to_assume_its_role() -> None:
    seller, asked_for = "arn:aws:iam::222233334444:role/seller", set[tuple[str, ...]]()

    def simulated(*, PolicySourceArn: str, ActionNames: list[str], ResourceArns: list[str]) -> Any:  # noqa: N803
        asked_for.add((*ActionNames, *ResourceArns))
        decision = "implicitDeny" if PolicySourceArn.endswith("SellerApiRole") else "allowed"
        return {"EvaluationResults": [{"EvalActionName": one, "EvalDecision": decision} for one in ActionNames]}

    iam = Answers(
        get_role=lambda RoleName: {"Role": {"Arn": f"arn:aws:iam::1:role/{RoleName}"}},  # noqa: N803 - AWS's name
        simulate_principal_policy=simulated,
    )
    made = session({"iam": iam}, parameters={**PARAMETERS, "SellerRoleArn": seller}, resources=ROLES)
    (found,) = troubles(market.permissions, made)
    assert found.text == "shop-SellerApiRole is denied sts:AssumeRole"
    assert asked_for == {("sts:AssumeRole", seller)}


def test_a_product_code_of_another_account_is_named_and_a_denied_call_is_not_asked() -> None:
    def entitlements(*, ProductCode: str, **_: Any) -> Any:  # noqa: N803 - AWS's name
        answer: Any = {
            "Error": {"Code": "InvalidParameterException", "Message": "no"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        return ClientError(answer, "GetEntitlements") if ProductCode == "two" else {"Entitlements": []}

    made = session({"marketplace-entitlement": Answers(get_entitlements=entitlements)})
    assert [one for one, _ in results(market.product_codes, made)] == ["fine", "trouble"]
    refused = session({"marketplace-entitlement": Answers(get_entitlements=denied())})
    assert {one for one, _ in results(market.product_codes, refused)} == {"unknown"}


def points(**sums: list[float]) -> Answers:
    def statistics(*, MetricName: str, **_: Any) -> Any:  # noqa: N803 - AWS's name
        return {"Datapoints": [{"Timestamp": NOW, "Sum": value} for value in sums.get(MetricName, [])]}

    return Answers(get_metric_statistics=statistics)


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        ({"Invocations": [1.0]}, []),
        ({}, ["no metering run was started"]),
        ({"Invocations": [0.0]}, ["no metering run was started"]),
        ({"Invocations": [1.0], "Errors": [2.0]}, ["2 Errors"]),
        ({"Invocations": [1.0], "MeteringErrors": [5.0]}, ["5 MeteringErrors"]),
    ],
)
def test_runs_that_do_not_start_or_fail_are_named(sums: dict[str, list[float]], words: list[str]) -> None:
    function = Resource("MeterUsageFunction", "shop-meter", "AWS::Lambda::Function")
    made = session({"cloudwatch": points(**sums)}, resources=(function,))
    texts = [one.text for one in troubles(work.last_run, made)]
    assert [text[: len(word)] for text, word in zip(texts, words, strict=True)] == words


@pytest.mark.parametrize("error", [denied(), ConnectTimeoutError(endpoint_url="https://x.invalid")])
@pytest.mark.parametrize(
    "check", [deployment.identity, deployment.clock, deployment.schedules, market.permissions, work.last_run]
)
def test_what_can_not_be_asked_is_said_and_is_no_trouble(check: Check, error: Exception) -> None:
    function = Resource("MeterUsageFunction", "shop-meter", "AWS::Lambda::Function")
    services = ("sts", "events", "cloudwatch", "iam")
    operations = ("get_caller_identity", "describe_rule", "get_metric_statistics", "get_role")
    clients = {service: Answers(**dict.fromkeys(operations, error)) for service in services}
    found = asked(check, session(clients, resources=(*SCHEDULES, *ROLES, function)), "subject")
    assert [one.result for one in found] == ["unknown"]
    assert type(error).__name__ in found[0].text or "denies" in found[0].text


def test_the_checks_ask_for_what_the_template_declares() -> None:
    from tools.template import resources

    declared = set(resources("AWS::Events::Rule")) | set(resources("AWS::IAM::Role"))
    assert {*deployment._SCHEDULES, *market.ACTIONS} <= declared
    for role, actions in market.ACTIONS.items():
        body = str(resources("AWS::IAM::Role")[role])
        assert all(action in body for action in actions), role


def test_a_wait_is_trouble_when_its_alarm_is_raised() -> None:
    from tools.template import resources

    alarms = [one["Properties"] for one in resources("AWS::CloudWatch::Alarm").values()]
    thresholds = {one["MetricName"]: one["Threshold"] for one in alarms if "MetricName" in one}
    assert {GAUGE_OF_WAITING[kind]: seconds for kind, seconds in PATIENCE.items()} == {
        gauge: thresholds[gauge] for gauge in GAUGE_OF_WAITING.values()
    }
    for kind, seconds in PATIENCE.items():
        wait = Waiting(kind, Key("pk", "sk"), since=1_000_000)
        assert [overdue(wait, 1_000_000 + seconds + late) for late in (0, 1)] == [False, True]
