"""A deployment as CloudFormation describes it: outputs, parameters, resources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from marketplace.platform.clock import epoch
from marketplace_saas_cli.aws import REGION, Aws, sentences
from marketplace_saas_cli.exits import RefusedError

NEEDED = (
    "ApiUrl",
    "FulfilmentUrl",
    "NotificationQueueUrl",
    "ReadBackQueueUrl",
    "DeadLetterQueueUrl",
    "SubscriptionsTableName",
    "UsageTableName",
)
"""The outputs without which a stack is none of this application's."""


@dataclass(frozen=True, slots=True)
class StackDescription:
    """`id` is the stack's ARN, and `status` CloudFormation's word for its state."""

    name: str
    id: str = ""
    status: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def region(self) -> str:
        return _part(self.id, 3)

    @property
    def account(self) -> str:
        return _part(self.id, 4)

    @property
    def product_codes(self) -> tuple[str, ...]:
        return tuple(one for one in self.parameters.get("ProductCodes", "").split(",") if one)

    @property
    def metering_enabled(self) -> bool:
        return self.parameters.get("MeteringEnabled", "true") == "true"

    @property
    def metering_starts_at(self) -> int:
        """The first hour that is metered; 0 where every one is."""
        given = self.parameters.get("MeteringStartsAt", "")
        return epoch(datetime.fromisoformat(given)) if given else 0

    @property
    def seller_role(self) -> str:
        """The role of the account that published the products; empty where it is the stack's own account."""
        return self.parameters.get("SellerRoleArn", "")

    @property
    def stage(self) -> str:
        return self.parameters.get("Stage", "")


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the stack."""

    logical_id: str
    physical_id: str
    type: str


def described(aws: Aws, name: str) -> StackDescription:
    """The stack of this name. Raises RefusedError when there is none, or when it is another application's, and
    NoAnswerError."""
    try:
        with sentences():
            try:
                (found,) = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
            except ClientError as error:
                if "does not exist" in str(error):
                    raise RefusedError(
                        f"there is no stack {name} in {REGION} in the account of these credentials"
                    ) from error
                raise
    except ValueError as error:
        raise RefusedError(f"there is no stack {name} in {REGION}") from error
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}
    parameters = {one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])}
    if missing := [output for output in NEEDED if output not in outputs]:
        raise RefusedError(f"the stack {name} is none of Marketplace SaaS: it lacks the output {missing[0]}")
    return StackDescription(found["StackName"], found.get("StackId", ""), found["StackStatus"], outputs, parameters)


def resources_of(aws: Aws, name: str) -> dict[str, Resource]:
    """Every resource of the stack, by its logical id. Raises what boto3 raises."""
    client: Any = aws.client("cloudformation")
    found: dict[str, Resource] = {}
    token: dict[str, str] = {}
    while True:
        page = client.list_stack_resources(StackName=name, **token)
        for one in page["StackResourceSummaries"]:
            logical_id = one["LogicalResourceId"]
            found[logical_id] = Resource(logical_id, one.get("PhysicalResourceId", ""), one["ResourceType"])
        if not page.get("NextToken"):
            return found
        token = {"NextToken": page["NextToken"]}


def _part(arn: str, number: int) -> str:
    parts = arn.split(":")
    return parts[number] if len(parts) > number else ""
