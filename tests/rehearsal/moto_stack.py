"""template.yaml made by moto's CloudFormation, so that whatever moto knows of a type has been tried on it. Run it
under moto. What moto does not know it skips, and says that the stack is complete all the same; NOT_BY_MOTO names those
types."""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import boto3

from tests.rehearsal.resolver import STACK
from tests.support.translated import translated

NOT_BY_MOTO = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Stage",
        "AWS::CloudWatch::Alarm",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Logs::MetricFilter",
        "AWS::SNS::Subscription",
        "AWS::SQS::QueuePolicy",
    }
)
"""The types of template.yaml that moto does not make. The resolver and the schemas are all that checks them."""


def made(template: dict[str, Any], parameters: Mapping[str, str]) -> tuple[str, set[str]]:
    """Makes the stack. Answers its status and the types of the resources that are there."""
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=_code())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one for each resource that is skipped
        cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=json.dumps(translated(template, dict(parameters))),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
    return stack["StackStatus"], {one["ResourceType"] for page in pages for one in page["StackResourceSummaries"]} - {
        ""
    }


def _code() -> bytes:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "")
    return code.getvalue()
