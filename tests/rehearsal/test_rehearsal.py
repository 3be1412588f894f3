"""template.yaml deployed on paper: a first deployment, an update from the previous release, and a change of parameters,
with every combination of parameters that Hypothesis draws. `make rehearse` draws more."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rehearsal import moto_stack, resolver
from tests.rehearsal.__main__ import rehearse
from tests.rehearsal.parameters import at_least, combinations, ends
from tests.rehearsal.rehearsal import previous, rehearsed, upgrade_faults, version_faults
from tests.rehearsal.resolver import Stack
from tests.rehearsal.update import STATEFUL
from tools import template

CERTIFICATE = {"CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/c"}
FRONT = {"BuyersFrontSecret": "a1B2" * 8}
OPTIONS: dict[str, dict[str, str]] = {
    "domain": {"DomainName": "api.seller.example", **CERTIFICATE, "HostedZoneId": "Z123"},
    "front": {"BuyersFront": "only", **FRONT},
    "front beside": {"BuyersFront": "beside", **FRONT},
    "front with a domain": {
        "BuyersFront": "only",
        **FRONT,
        "BuyersDomainName": "buy.seller.example",
        **CERTIFICATE,
        "HostedZoneId": "Z123",
    },
    "key": {"CustomerManagedKey": "true"},
    "key for legacy products": {"CustomerManagedKey": "true", "LegacyProductCodes": "a,b"},
    "boundary": {"PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary"},
    "archive": {"EventArchiveDays": "30"},
    "usage archive": {"ArchiveAfterMonths": "2"},
    "locked usage archive": {"ArchiveAfterMonths": "12", "ArchiveLockDays": "3650", "UsageReconciliation": "true"},
    "usage archive under the key": {"ArchiveAfterMonths": "1", "CustomerManagedKey": "true"},
    "backup": {"BackupDays": "100"},
    "snapshots": {"SnapStart": "true"},
    "gradual": {"DeploymentPreference": "Canary10Percent10Minutes"},
    "seller's role": {
        "SellerRoleArn": "arn:aws:iam::123456789012:role/marketplace",
        "SellerRoleExternalId": "an-agreed-id",
    },
    "throttle": {"ApiRequestsPerSecond": "500", "ApiBurst": "900"},
}
ALL = {name: value for option in ("front with a domain", *OPTIONS) for name, value in OPTIONS[option].items()}
ALL |= {"BuyersFront": "only", "SellerRoleArn": "", "SellerRoleExternalId": ""}
"""All that go together: what is metered with a role of another account is not reconciled here."""


def stack(**given: str) -> Stack:
    return rehearsed(template.load(), at_least(template.load(), **given))


# -- every combination ------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=30, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_parameters_deploy_update_and_change(data: st.DataObject) -> None:
    both = combinations(template.load())
    assert rehearse(data.draw(both), data.draw(both)) == []


@pytest.mark.parametrize("given", [{}, ALL])
def test_a_stack_may_have_the_longest_name(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """128 characters: CloudFormation API Reference, "CreateStack"."""
    for name, value in resolver.PSEUDO.items():
        if isinstance(value, str):
            monkeypatch.setitem(resolver.PSEUDO, name, value.replace(resolver.STACK, "s" * 128))
    assert stack(**given).faults == []


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_switched_on_and_off_in_a_stack_that_runs(option: str) -> None:
    off, on = at_least(template.load()), at_least(template.load(), **OPTIONS[option])
    assert rehearse(off, on) == []
    assert rehearse(on, off) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameter", sorted(name for name, body in template.load()["Parameters"].items() if ends(body))
)
def test_a_parameter_takes_the_ends_of_what_it_allows_with_all_options_on(parameter: str) -> None:
    for value in ends(template.load()["Parameters"][parameter]):
        assert stack(**{**ALL, parameter: value}).faults == []


def test_an_update_from_the_previous_release_loses_nothing() -> None:
    old = rehearsed(previous(), at_least(previous()))
    assert old.faults == []
    assert upgrade_faults(old, stack()) == []
    assert upgrade_faults(old, stack(**ALL)) == []
    assert {resource.kind for resource in old.resources.values()} >= {"AWS::DynamoDB::Table", "AWS::ApiGatewayV2::Api"}


@pytest.mark.parametrize("built", ["CommonLayer", "ResolveCustomerFunction", "SellerApiFunction", "MeterUsageFunction"])
def test_a_new_build_gives_new_versions_and_keeps_everything_else(built: str) -> None:
    parameters = at_least(template.load(), **ALL)
    old, new = (rehearsed(template.load(), parameters, {built: build}) for build in ("one", "two"))
    assert version_faults(old, new) == []
    assert upgrade_faults(old, new) == []


# -- moto -------------------------------------------------------------------------------------------------


def test_the_types_that_moto_does_not_make_are_named() -> None:
    """The list is exact: what moto learns, it is to make here."""
    assert moto_stack.unknown(resource.kind for resource in stack(**ALL).resources.values()) == moto_stack.NOT_BY_MOTO


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"LegacyProductCodes": "a,b", "LegacyContractProductCodes": "c"}, ALL])
def test_moto_makes_all_the_rest(moto: None, given: dict[str, str]) -> None:
    status, made = moto_stack.made(template.load(), at_least(template.load(), **given))
    assert status == "CREATE_COMPLETE"
    assert made == {resource.kind for resource in stack(**given).resources.values()} - moto_stack.NOT_BY_MOTO


# -- what the options are ---------------------------------------------------------------------------------


def test_no_option_is_on_by_default() -> None:
    kinds = {resource.kind for resource in stack().resources.values()}
    assert not [kind for kind in kinds if kind.split("::")[1] in {"CloudFront", "WAFv2", "KMS", "Backup", "Route53"}]
    assert not kinds & {"AWS::Events::Archive", "AWS::ApiGatewayV2::DomainName", "AWS::CodeDeploy::DeploymentGroup"}
    assert "UpdatePolicy" not in stack().resources["SellerApiFunctionAliaslive"].attributes


def test_a_key_encrypts_everything_that_holds_data() -> None:
    made = stack(CustomerManagedKey="true", EventArchiveDays="9")
    key = "<<DataKey.Arn>>"
    assert {body["SSESpecification"]["KMSMasterKeyId"] for body in made.of("AWS::DynamoDB::Table").values()} == {key}
    for kind, name in {
        "AWS::SQS::Queue": "KmsMasterKeyId",
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::Events::EventBus": "KmsKeyIdentifier",
        "AWS::Events::Archive": "KmsKeyIdentifier",
    }.items():
        found = made.of(kind)
        assert found
        assert {body[name] for body in found.values()} == {key}, kind


def test_the_key_serves_who_uses_it_and_outlives_the_stack() -> None:
    def services(**given: str) -> set[str]:
        (key,) = stack(CustomerManagedKey="true", **given).of("AWS::KMS::Key").values()
        principals = [one["Principal"].get("Service", []) for one in key["KeyPolicy"]["Statement"]]
        return {name for found in principals for name in ([found] if isinstance(found, str) else found)}

    always = {"events.amazonaws.com", "cloudwatch.amazonaws.com", "logs.us-east-1.amazonaws.com"}
    assert services() == always
    assert services(LegacyProductCodes="a") == always | {"sns.amazonaws.com"}
    made = stack(CustomerManagedKey="true")
    assert made.resources["DataKey"].attributes["DeletionPolicy"] == "Retain"
    functions = {body["Role"] for body in made.of("AWS::Lambda::Function").values()}
    (use,) = made.of("AWS::IAM::Policy").values()
    assert {f"<<{role.strip('<>')}.Arn>>" for role in use["Roles"]} == functions


def test_a_boundary_is_on_every_role() -> None:
    roles = stack(**ALL).of("AWS::IAM::Role")
    assert len(roles) == 8
    assert {body["PermissionsBoundary"] for body in roles.values()} == {ALL["PermissionsBoundaryArn"]}


@pytest.mark.parametrize(
    ("given", "fulfilment", "api"),
    [
        ({}, "https://<<HttpApi>>.execute-api.us-east-1.amazonaws.com/register", "<<HttpApi>>"),
        (OPTIONS["domain"], "https://api.seller.example/register", "https://api.seller.example"),
        (OPTIONS["front"], "https://<<BuyersDistribution.DomainName>>/register", "<<HttpApi>>"),
        (OPTIONS["front with a domain"], "https://buy.seller.example/register", "<<HttpApi>>"),
        (ALL, "https://buy.seller.example/register", "https://api.seller.example"),
    ],
)
def test_the_outputs_say_where_buyers_and_the_application_go(given: dict[str, str], fulfilment: str, api: str) -> None:
    outputs = stack(**given).outputs
    assert outputs["FulfilmentUrl"] == fulfilment
    assert api in outputs["ApiUrl"]
    assert outputs["ApiId"] == "<<HttpApi>>"


def test_cloudfront_alone_knows_the_stage_and_every_client_has_a_limit() -> None:
    made = stack(**OPTIONS["front"], BuyerRequestsPerFiveMinutes="50")
    (distribution,) = made.of("AWS::CloudFront::Distribution").values()
    assert distribution["DistributionConfig"]["Origins"][0]["OriginPath"] == "/<<BuyersStage>>"
    assert made.resources["BuyersStage"].properties["StageName"] == FRONT["BuyersFrontSecret"]
    assert FRONT["BuyersFrontSecret"] not in str(made.outputs)
    (acl,) = made.of("AWS::WAFv2::WebACL").values()
    assert acl["Scope"] == "CLOUDFRONT"
    (rule,) = acl["Rules"]
    assert rule["Statement"]["RateBasedStatement"]["Limit"] == "50"
    assert rule["Action"]["Block"]["CustomResponse"]["ResponseCode"] == 429
    assert not rule["VisibilityConfig"]["SampledRequestsEnabled"]


@pytest.mark.parametrize(("front", "closed"), [("none", False), ("beside", False), ("only", True)])
def test_the_pages_are_closed_on_the_api_when_only_the_front_has_them(front: str, closed: bool) -> None:
    function = stack(BuyersFront=front, **FRONT).of("AWS::Lambda::Function")["ResolveCustomerFunction"]
    assert function["Environment"]["Variables"]["FRONT_STAGE"] == (FRONT["BuyersFrontSecret"] if closed else "")


def test_both_stages_write_the_same_access_log() -> None:
    formats = {
        body["AccessLogSettings"]["Format"]
        for body in stack(**OPTIONS["front"]).of("AWS::ApiGatewayV2::Stage").values()
    }
    assert len(formats) == 1


def test_calls_around_the_front_do_not_use_up_its_limits() -> None:
    stages = stack(**OPTIONS["front"]).of("AWS::ApiGatewayV2::Stage")
    assert {body["StageName"] for body in stages.values()} == {"$default", FRONT["BuyersFrontSecret"]}
    assert stages["BuyersStage"]["DefaultRouteSettings"]["ThrottlingRateLimit"] == 20
    assert "RouteSettings" not in stages["BuyersStage"]


@pytest.mark.parametrize("function", ["ResolveCustomerFunction", "SellerApiFunction"])
def test_who_waits_for_a_function_calls_its_alias(function: str) -> None:
    made = stack(SnapStart="true")
    (api,) = made.of("AWS::ApiGatewayV2::Api").values()
    assert f"<<{function}>>" not in str(api)
    assert f"<<{function}.Arn>>" not in str(api)
    assert f"<<{function}Aliaslive>>" in str(api)
    allowed = [body["FunctionName"] for body in made.of("AWS::Lambda::Permission").values()]
    assert f"<<{function}Aliaslive>>" in allowed
    assert f"<<{function}>>" not in allowed
    assert made.resources[function].properties["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert stack().resources[function].properties["SnapStart"] == {"ApplyOn": "None"}


def test_an_old_version_is_deleted_so_that_its_snapshot_costs_nothing() -> None:
    versions = [one for one in stack().resources.values() if one.kind == "AWS::Lambda::Version"]
    assert [one.attributes["DeletionPolicy"] for one in versions] == ["Delete", "Delete"]


@pytest.mark.parametrize("how", template.load()["Parameters"]["DeploymentPreference"]["AllowedValues"])
def test_a_gradual_deployment_is_watched_by_alarms_of_its_function(how: str) -> None:
    made = stack(DeploymentPreference=how)
    groups: dict[str, Any] = made.of("AWS::CodeDeploy::DeploymentGroup")
    if how == "AllAtOnce":
        assert not groups
        return
    assert {name: {one["Name"] for one in body["AlarmConfiguration"]["Alarms"]} for name, body in groups.items()} == {
        "ResolveCustomerFunctionDeploymentGroup": {"<<ResolveCustomerErrorsAlarm>>", "<<RegistrationFailedAlarm>>"},
        "SellerApiFunctionDeploymentGroup": {"<<SellerApiErrorsAlarm>>", "<<RequestFailedAlarm>>"},
    }
    assert {body["DeploymentConfigName"] for body in groups.values()} == {f"CodeDeployDefault.Lambda{how}"}
    assert all("DEPLOYMENT_STOP_ON_ALARM" in body["AutoRollbackConfiguration"]["Events"] for body in groups.values())


def test_the_throttle_is_the_parameters() -> None:
    stage = stack(ApiRequestsPerSecond="7", ApiBurst="9").resources["HttpApiApiGatewayDefaultStage"].properties
    limits = stage["DefaultRouteSettings"]
    assert (limits["ThrottlingRateLimit"], limits["ThrottlingBurstLimit"]) == ("7", "9")


def test_backups_hold_both_tables() -> None:
    made = stack(BackupDays="90")
    (selection,) = made.of("AWS::Backup::BackupSelection").values()
    tables = {f"<<{name}.Arn>>" for name in made.of("AWS::DynamoDB::Table")}
    assert set(selection["BackupSelection"]["Resources"]) == tables
    (plan,) = made.of("AWS::Backup::BackupPlan").values()
    assert [rule["Lifecycle"] for rule in plan["BackupPlan"]["BackupPlanRule"]] == [{"DeleteAfterDays": "90"}]
    assert made.resources["BackupVault"].attributes["DeletionPolicy"] == "Retain"


def test_whatever_holds_data_is_known_as_such() -> None:
    """A type with a deletion policy that keeps it is one whose replacement the rehearsal looks for."""
    kept = {one.kind for one in stack(**ALL).resources.values() if one.attributes.get("DeletionPolicy") == "Retain"}
    assert kept <= STATEFUL
