"""template.yaml made by moto's CloudFormation, so that whatever moto knows of a type has been tried on it. Run it
under moto. NOT_BY_MOTO names the types that it does not know, which are left out."""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import boto3
from moto.cloudformation.parsing import get_model_map

from tests.rehearsal.resolver import STACK
from tests.support.translated import translated

NOT_BY_MOTO = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::ApiMapping",
        "AWS::ApiGatewayV2::DomainName",
        "AWS::ApiGatewayV2::Stage",
        "AWS::AppConfig::Application",
        "AWS::AppConfig::ConfigurationProfile",
        "AWS::AppConfig::HostedConfigurationVersion",
        "AWS::Backup::BackupPlan",
        "AWS::Backup::BackupSelection",
        "AWS::Backup::BackupVault",
        "AWS::CloudFront::Distribution",
        "AWS::CloudFront::ResponseHeadersPolicy",
        "AWS::CloudWatch::Alarm",
        "AWS::CodeDeploy::Application",
        "AWS::CodeDeploy::DeploymentGroup",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Logs::MetricFilter",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SQS::QueuePolicy",
        "AWS::WAFv2::WebACL",
    }
)
"""The types of template.yaml that moto does not make. The resolver and the schemas are all that checks them."""


def unknown(kinds: Iterable[str]) -> set[str]:
    """The types of these that moto does not make."""
    return set(kinds) - set(get_model_map())


def made(template: dict[str, Any], parameters: Mapping[str, str]) -> tuple[str, set[str]]:
    """Makes of the stack what moto can. Answers its status and the types of the resources that are there."""
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=_code())
    parameters = {**parameters, "HostedZoneId": _hosted_zone(parameters["HostedZoneId"])}
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(_for_moto(translated(template, dict(parameters)))),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
    return stack["StackStatus"], {one["ResourceType"] for page in pages for one in page["StackResourceSummaries"]} - {
        ""
    }


def _for_moto(template: dict[str, Any]) -> dict[str, Any]:
    """The template without the resources that moto does not make. Where they are referred to stands their name, or the
    function that an alias is of."""
    left_out = {name: body for name, body in template["Resources"].items() if body["Type"] in NOT_BY_MOTO}
    instead = {name: body.get("Properties", {}).get("FunctionName", name) for name, body in left_out.items()}
    kept = {name: body for name, body in template["Resources"].items() if name not in left_out}
    answer: dict[str, Any] = _without({**template, "Resources": kept}, instead)
    return answer


def _without(value: Any, instead: Mapping[str, Any]) -> Any:
    match value:
        case {"Ref": str(name)} if name in instead:
            return instead[name]
        case {"Fn::GetAtt": [str(name), *_]} if name in instead:
            return name
        case dict():
            return {key: _without(item, instead) for key, item in value.items()}
        case list():
            return [_without(item, instead) for item in value]
        case str():
            return re.sub(r"\$\{(\w+)(\.\w+)?\}", lambda one: one[1] if one[1] in instead else one[0], value)
    return value


def _hosted_zone(wanted: str) -> str:
    """A hosted zone that is there, where one is wanted."""
    if not wanted:
        return ""
    zone = boto3.client("route53").create_hosted_zone(Name="seller.example", CallerReference="rehearsal")
    return str(zone["HostedZone"]["Id"]).rpartition("/")[2]


def _code() -> bytes:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "")
    return code.getvalue()
