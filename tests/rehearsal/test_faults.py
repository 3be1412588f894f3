"""What the rehearsal finds: each kind of mistake in a template is told, by several instances of it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.rehearsal.parameters import at_least
from tests.rehearsal.rehearsal import change_faults, rehearsed, upgrade_faults, version_faults
from tests.rehearsal.resolver import refusals
from tests.rehearsal.update import lost
from tools import template

type Change = Callable[[dict[str, Any]], None]


def changed(change: Change) -> dict[str, Any]:
    """template.yaml with a change."""
    copy = deepcopy(template.load())
    change(copy)
    return copy


def faults(change: Change, **given: str) -> str:
    return "\n".join(rehearsed(changed(change), at_least(template.load(), **given)).faults)


def upgrade(change: Change, **given: str) -> str:
    parameters = at_least(template.load(), **given)
    return "\n".join(upgrade_faults(rehearsed(template.load(), parameters), rehearsed(changed(change), parameters)))


def properties(source: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = source["Resources"][name].setdefault("Properties", {})
    return found


# -- a first deployment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: properties(t, "EventBus").update(Name={"Ref": "Nothing"}), "refers to Nothing"),
        (lambda t: t["Outputs"]["EventBusArn"].update(Value={"Fn::GetAtt": ["Gone", "Arn"]}), "refers to Gone"),
        (lambda t: properties(t, "EventBus").update(Description={"Fn::Sub": "of ${Absent.Arn}"}), "refers to Absent"),
        (lambda t: t["Resources"]["EventBus"].update(DependsOn="Missing"), "refers to Missing"),
        (lambda t: t["Resources"]["EventBus"].update(Condition="Unwritten"), "has no condition Unwritten"),
        (
            lambda t: properties(t, "EventBus").update(Description={"Fn::GetAtt": ["DataKey", "Arn"]}),
            "DataKey, which these parameters do not make",
        ),
        (
            lambda t: t["Outputs"]["EventBusArn"].update(Value={"Ref": "AlarmTopic"}),
            "AlarmTopic, which these parameters do not make",
        ),
        (lambda t: t["Outputs"]["EventBusArn"].update(Value={"Fn::GetAtt": ["UsageTable", "Url"]}), "takes Url"),
        (lambda t: t["Outputs"]["EventBusArn"].update(Value={"Fn::GetAtt": ["EventBus", "arn"]}), "takes arn"),
    ],
)
def test_a_dangling_reference_is_found(change: Change, told: str) -> None:
    assert told in faults(change, AlarmEmail="", AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:alarms")


NOTHING = [{"Fn::If": ["HasLegacy", "x", {"Ref": "AWS::NoValue"}]}]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: properties(t, "SellerApiRole").update(ManagedPolicyArns=NOTHING),
        lambda t: properties(t, "DeadLetterQueueDepthAlarm").update(AlarmActions=NOTHING),
        lambda t: properties(t, "NotificationQueuePolicy")["PolicyDocument"].update(Statement=NOTHING),
        lambda t: properties(t, "SellerApiRole")["Policies"][0]["PolicyDocument"]["Statement"][0].update(
            Action=NOTHING
        ),
    ],
)
def test_a_list_that_conditions_leave_empty_is_found(change: Change) -> None:
    assert "leave nothing" in faults(change)
    assert "leave nothing" not in faults(change, LegacyProductCodes="a")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["Resources"]["EventBus"].update(DependsOn="SellerApiFunction"),
        lambda t: properties(t, "UsageTable").update(TableName={"Fn::GetAtt": ["SellerApiRole", "Arn"]}),
        # What an alarm of the HTTP API would do among those that watch a deployment.
        lambda t: properties(t, "SellerApiFunction")["DeploymentPreference"].update(
            Alarms=[{"Ref": "HttpApiServerErrorsAlarm"}]
        ),
    ],
)
def test_a_circle_is_found(change: Change) -> None:
    assert "has a cycle" in faults(change, DeploymentPreference="Canary10Percent10Minutes")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: properties(t, "UsageTable").update(BillingMode="FREE"), "BillingMode"),
        (lambda t: properties(t, "MeteringQueue").update(VisibilityTimeout=50_000), "VisibilityTimeout"),
        (lambda t: properties(t, "MeteringQueue").update(Colour="red"), "Colour"),
        (lambda t: properties(t, "EventBus").pop("Name"), "Name"),
        (lambda t: properties(t, "ReadBackQueuePolicy").pop("Queues"), "Queues"),
    ],
)
def test_a_property_that_its_type_does_not_take_is_found(change: Change, told: str) -> None:
    assert told in faults(change)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"Stage": "local"}, "local"),
        ({"AlarmEmail": ""}, "AlarmEmail or AlarmTopicArn"),
        ({"AlarmEmail": "", "Stage": "live"}, "AlarmEmail or AlarmTopicArn"),
        ({"AlarmEmail": "", "MeteringEnabled": "false"}, "AlarmEmail or AlarmTopicArn"),
        ({"DomainName": "api.seller.example"}, "CertificateArn"),
        ({"BuyersFront": "only"}, "BuyersFrontSecret"),
        ({"BuyersFront": "beside"}, "BuyersFrontSecret"),
        ({"BuyersDomainName": "buy.seller.example", "CertificateArn": "x"}, "BuyersFront"),
    ],
)
def test_a_rule_refuses_what_would_go_wrong_later(given: dict[str, str], told: str) -> None:
    assert told in "\n".join(refusals(template.load(), at_least(template.load(), **given)))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"AlarmEmail": "", "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms"},
        {"AlarmEmail": "", "Stage": "dev", "MeteringEnabled": "false"},
    ],
)
def test_no_rule_refuses_what_is_right(given: dict[str, str]) -> None:
    assert refusals(template.load(), at_least(template.load(), **given)) == []


# -- an update --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("UsageTable", lambda t: properties(t, "UsageTable").update(TableName="usage")),
        ("SubscriptionsTable", lambda t: properties(t, "SubscriptionsTable")["KeySchema"].pop()),
        ("MeteringQueue", lambda t: properties(t, "MeteringQueue").update(QueueName="metering")),
        ("EventBus", lambda t: properties(t, "EventBus").update(Name="another")),
        ("SellerApiLogGroup", lambda t: properties(t, "SellerApiLogGroup").update(LogGroupName="another")),
        ("UsageTable", lambda t: t["Resources"].update(Usage=t["Resources"].pop("UsageTable"))),
        ("AlarmTopic", lambda t: t["Resources"].pop("AlarmTopic")),
        ("ReadBackQueue", lambda t: t["Resources"]["ReadBackQueue"].update(Type="AWS::SNS::Topic", Properties={})),
    ],
)
def test_a_resource_that_an_update_would_replace_or_remove_is_found(name: str, change: Change) -> None:
    assert f"{name} (" in upgrade(change)


def test_a_resource_is_replaced_with_the_one_that_it_is_of() -> None:
    """An archive is of one bus; another bus has another archive."""
    parameters = at_least(template.load(), EventArchiveDays="30")
    renamed = changed(lambda t: properties(t, "EventBus").update(Name="another"))
    found = lost(rehearsed(template.load(), parameters), rehearsed(renamed, parameters))
    assert {one.name for one in found} == {"EventBus", "EventArchive"}


def moved(method: str, path: str, new_path: str) -> Change:
    """Another path for a route of the buyers' pages, with its settings or without."""

    def change(source: dict[str, Any]) -> None:
        for function in ("ResolveCustomerFunction", "SellerApiFunction"):
            for event in properties(source, function)["Events"].values():
                if (event["Properties"].get("Method"), event["Properties"].get("Path")) == (method, path):
                    event["Properties"]["Path"] = new_path
        settings = properties(source, "HttpApi")["RouteSettings"]
        if f"{method} {path}" in settings:
            settings[f"{method} {new_path}"] = settings.pop(f"{method} {path}")

    return change


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/register"), ("GET", "/register/{code}"), ("HEAD", "/register")]
)
def test_a_renamed_route_with_settings_is_found(method: str, path: str) -> None:
    change = moved(method, path, path.replace("register", "welcome"))
    assert faults(change) == ""
    assert f"keeps settings for {method} {path}" in upgrade(change)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/usage"), ("GET", "/subscriptions"), ("GET", "/registrations/{code}")]
)
def test_a_route_without_settings_may_be_renamed(method: str, path: str) -> None:
    assert upgrade(moved(method, path, f"/v2{path}")) == ""


@pytest.mark.parametrize("key", ["POST /registre", "GET /usage", "ANY /register"])
def test_settings_of_a_route_that_is_not_there_are_found(key: str) -> None:
    assert f"settings for {key}" in faults(lambda t: properties(t, "HttpApi")["RouteSettings"].update({key: {}}))


def indexes(source: dict[str, Any], table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = properties(source, table)["GlobalSecondaryIndexes"]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: indexes(t, "UsageTable")[0]["Projection"]["NonKeyAttributes"].append("hour"),
            "the index due changes",
        ),
        (lambda t: indexes(t, "SubscriptionsTable")[0]["KeySchema"].pop(), "the index by_account changes"),
        (lambda t: indexes(t, "UsageTable")[0].update(IndexName="late"), "due, late come or go"),
        (lambda t: indexes(t, "SubscriptionsTable").clear(), "by_account, by_status, waiting come or go"),
    ],
)
def test_an_index_that_cannot_be_changed_so_is_found(change: Change, said: str) -> None:
    assert said in upgrade(change)


def test_one_index_may_be_added() -> None:
    another = {"IndexName": "by_seal", "KeySchema": [{"AttributeName": "sk", "KeyType": "HASH"}]}
    assert upgrade(lambda t: indexes(t, "UsageTable").append(another)) == ""


# -- versions of functions --------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", ["SignUpUrl", "SealDelayMinutes", "Architecture", "SnapStart", "SellerName"])
def test_a_setting_that_publishes_no_version_is_found(parameter: str) -> None:
    def without(source: dict[str, Any]) -> None:
        values = properties(source, "SettingsVersion")["Content"]["Fn::Join"][1]
        values.remove({"Ref": parameter})

    other = {"SignUpUrl": "https://a.example", "Architecture": "x86_64", "SnapStart": "true", "SellerName": "Acme"}
    source, given = changed(without), {parameter: other.get(parameter, "20")}
    old, new = (rehearsed(source, at_least(source, **values)) for values in ({}, given))
    assert "is changed, its version is old" in "\n".join(version_faults(old, new))


@pytest.mark.parametrize("function", ["ResolveCustomerFunction", "SellerApiFunction"])
def test_a_version_of_a_function_that_stays_the_same_is_found(function: str) -> None:
    def without(source: dict[str, Any]) -> None:
        properties(source, function)["Environment"]["Variables"].pop("SETTINGS_NUMBER")

    other = "SealDelayMinutes" if function == "ResolveCustomerFunction" else "SellerName"
    source = changed(without)
    old, new = (rehearsed(source, at_least(source, **values)) for values in ({}, {other: "20"}))
    assert f"{function} is the same, its version is new" in change_faults(old, new)


def test_a_layer_that_publishes_no_version_is_found() -> None:
    source = changed(lambda t: properties(t, "CommonLayer").pop("PublishLambdaVersion"))
    old, new = (rehearsed(source, at_least(source), {"CommonLayer": build}) for build in ("one", "two"))
    assert "is changed, its version is old" in "\n".join(version_faults(old, new))
