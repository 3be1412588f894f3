"""What template.yaml deploys, as this machine needs to know it; local/template.py reads it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"

type Values = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """One Lambda function. `timeout` is in seconds; `concurrency` None means that none is reserved. `role` is the
    name of its role."""

    name: str
    folder: Path
    handler: str
    timeout: int
    memory: int
    concurrency: int | None
    environment: dict[str, str]
    role: str = "local"

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"

    @property
    def access_key(self) -> str:
        """The access key of its role's session. AWS's DynamoDB Local refuses any but letters and digits."""
        return re.sub("[^A-Za-z0-9]", "", self.role)


@dataclass(frozen=True)
class Route:
    """One route of the HTTP API."""

    method: str
    path: str
    function: str
    needs_iam: bool

    @property
    def key(self) -> str:
        """API Gateway's route key, such as `GET /register/{code}`."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class QueueMapping:
    """A queue that Lambda polls for a function."""

    queue: str
    function: str
    batch_size: int
    partial_responses: bool
    concurrency: int | None


@dataclass(frozen=True)
class Schedule:
    """When a function is run by itself, or a queue gets a message; `event` is what it is handed."""

    name: str
    expression: str
    function: str | None
    event: str | None
    queue: str | None = None


@dataclass(frozen=True)
class Queue:
    """An SQS queue with its attributes as CreateQueue takes them."""

    name: str
    attributes: dict[str, str]

    @property
    def arn(self) -> str:
        return queue_arn(self.name)


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket. `versioned`: whether what is overwritten stays as an older version."""

    name: str
    versioned: bool = False


@dataclass(frozen=True)
class Rule:
    """An EventBridge rule of the default bus, and the queues that get what it matches."""

    name: str
    pattern: Values
    queues: tuple[str, ...]


@dataclass(frozen=True)
class Subscription:
    """An SNS topic that a queue is subscribed to."""

    topic_arn: str
    queue: str
    raw: bool


@dataclass(frozen=True)
class Deployment:
    """Everything that the template declares and this machine plays. Tables are what CreateTable takes, `time_to_live`
    the attribute of each table by which DynamoDB removes items, `outputs` the stack's outputs, `resources` the physical
    name of each resource, and `resource_types` its type."""

    functions: dict[str, Function]
    routes: list[Route]
    queue_mappings: list[QueueMapping]
    schedules: list[Schedule]
    tables: list[Values]
    queues: list[Queue]
    buses: list[str]
    rules: list[Rule]
    subscriptions: list[Subscription]
    fulfilment_path: str
    buckets: list[Bucket] = field(default_factory=list)
    time_to_live: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    exports: list[str] = field(default_factory=list)
    outputs: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    resource_types: Mapping[str, str] = field(default_factory=dict)
    stack_name: str = "marketplace-saas"


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
