"""Has every call that a function makes judged by the function's own role, as IAM does: what template.yaml does not
grant is refused with AccessDeniedException. What was used is remembered, to find a grant that nothing uses.

The role decides by action and resource. A transaction, a batch of statements and an index have their own: a transaction
needs the action of each of its members, a PartiQL statement an action of PartiQL, and a query of an index is a query of
the index's ARN (DynamoDB Developer Guide, "IAM and DynamoDB transactions", "IAM security policies with PartiQL" and
"Using IAM policy conditions"; Service Authorization Reference for SQS, EventBridge and AWS Marketplace).
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from functions.entitlement_check import app as entitlement_check
from functions.meter_usage import app as meter_usage
from functions.resolve_customer import app as resolve_customer
from functions.seller_api import app as seller_api
from tests.support.translated import attached, of_type, statements

FUNCTIONS = {
    "ResolveCustomerFunction": resolve_customer,
    "MeterUsageFunction": meter_usage,
    "EntitlementCheckFunction": entitlement_check,
    "SellerApiFunction": seller_api,
}
EVERYTHING = "*"

type Grant = tuple[str, str]
"""An action, and the resource that it is for: `LogicalId`, `LogicalId/index/name`, or everything."""

_OF_MEMBER = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
_OF_STATEMENT = {"SELECT": "Select", "INSERT": "Insert", "UPDATE": "Update", "DELETE": "Delete"}
_STATEMENT = re.compile(r'^(\w+)[^"]*"([^"]+)"')
_ONE_TABLE = frozenset({"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"})
_BATCHES = frozenset({"BatchGetItem", "BatchWriteItem"})
_OF_MARKETPLACE = frozenset({"meteringmarketplace", "marketplace-entitlement", "marketplace-agreement"})
POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
"""What Lambda does in the role's name with a queue that it polls (Lambda Developer Guide, "Configuring permissions for
Amazon SQS")."""
LOGGING = ("logs:CreateLogStream", "logs:PutLogEvents")
"""What Lambda does in the role's name with the function's log group."""


def needed(service: str, operation: str, given: dict[str, Any]) -> set[Grant]:
    """What IAM asks of a caller. Resources have the names that the request gives them. Raises AssertionError for an
    operation that nobody has looked up yet."""
    needs: set[Grant] | None = None
    match service, operation:
        case "dynamodb", "TransactWriteItems":
            members = [member for one in given["TransactItems"] for member in one.items()]
            needs = {(f"dynamodb:{_OF_MEMBER[kind]}", body["TableName"]) for kind, body in members}
        case "dynamodb", "BatchExecuteStatement":
            needs = {_of_statement(one["Statement"]) for one in given["Statements"]}
        case "dynamodb", _ if operation in _BATCHES:
            needs = {(f"dynamodb:{operation}", table) for table in given["RequestItems"]}
        case "dynamodb", _ if operation in _ONE_TABLE:
            index = f"/index/{given['IndexName']}" if "IndexName" in given else ""
            needs = {(f"dynamodb:{operation}", given["TableName"] + index)}
        case "sqs", "SendMessage" | "ChangeMessageVisibility":
            needs = {(f"sqs:{operation}", given["QueueUrl"])}
        case "events", "PutEvents":
            needs = {("events:PutEvents", entry["EventBusName"]) for entry in given["Entries"]}
        case "s3", "GetObject" | "PutObject":
            needs = {(f"s3:{operation}", f"{given['Bucket']}/{given['Key'].partition('/')[0]}/*")}
        case _ if service in _OF_MARKETPLACE:
            needs = {(f"aws-marketplace:{operation}", EVERYTHING)}
    assert needs is not None, f"nobody has looked up what {service}.{operation} needs"
    return needs


def _of_statement(statement: str) -> Grant:
    verb, table = _STATEMENT.findall(statement)[0]
    return f"dynamodb:PartiQL{_OF_STATEMENT[verb]}", table


@cache
def granted(function: str, options: frozenset[str] = frozenset()) -> frozenset[Grant]:
    """What the function's role allows, with these of the policies that an option attaches to it."""
    (role, _) = of_type("AWS::Lambda::Function")[function]["Role"]["Fn::GetAtt"]
    return frozenset(
        (action, _logical(resource))
        for statement in [*statements(role), *attached(role, options)]
        for action in statement["Action"]
        for resource in statement["Resource"]
    )


def _logical(resource: Any) -> str:
    match resource:
        case {"Fn::GetAtt": [logical_id, "Arn"]}:
            return str(logical_id)
        case {"Fn::Sub": str(text)}:
            return text.replace("${", "").replace(".Arn}", "")
    return str(resource)


@cache
def used_by_lambda(function: str) -> frozenset[Grant]:
    """What Lambda itself needs of the function's role, and no call of the function uses."""
    (log_group,) = of_type("AWS::Lambda::Function")[function]["LoggingConfig"].values()
    polled = [
        body["EventSourceArn"]["Fn::GetAtt"][0]
        for body in of_type("AWS::Lambda::EventSourceMapping").values()
        if body["FunctionName"] == {"Ref": function}
    ]
    return frozenset(
        {(action, log_group["Ref"]) for action in LOGGING} | {(action, queue) for queue in polled for action in POLLING}
    )


def _deployed_as(function: str) -> dict[str, str]:
    """The logical id of a resource by the name that the function's environment gives it."""
    variables = of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"]
    return {
        os.environ[name]: value["Ref"]
        for name, value in variables.items()
        if isinstance(value, dict) and "Ref" in value and os.environ.get(name)
    }


@dataclass
class Roles:
    """`used` by each function, `refused` to it; `called` may watch each call that is allowed. `options`: the policies
    that options of this deployment attach."""

    used: dict[str, set[Grant]] = field(default_factory=lambda: {name: set() for name in FUNCTIONS})
    refused: list[tuple[str, Grant]] = field(default_factory=list)
    called: Callable[[str, dict[str, Any]], None] = lambda _operation, _given: None
    options: frozenset[str] = frozenset()
    _running: list[str] = field(default_factory=list)

    def judge(self, client: BaseClient, operation: str, given: dict[str, Any]) -> None:
        """Raises AccessDeniedException for a call of a running function that its role does not allow."""
        if not self._running:
            return  # the test's own call
        function = self._running[-1]
        names = _deployed_as(function)
        for action, resource in needed(client.meta.service_model.service_name, operation, given):
            name, slash, index = resource.partition("/index/")
            grant = action, names.get(name, name) + slash + index
            self.used[function].add(grant)
            if grant not in granted(function, self.options):
                self.refused.append((function, grant))
                message = f"{function} is not authorized to perform {action} on {grant[1]}"
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, operation)
        self.called(operation, given)

    def of(self, function: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, as it runs with the function's role. One function runs at a time."""

        def lambda_handler(event: Any, context: Any) -> Any:
            self._running.append(function)
            try:
                return handler(event, context)
            finally:
                self._running.pop()

        return lambda_handler


@contextmanager
def enforced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    """Has each function run with its role. A call that a role does not allow fails, and so does the test, even if the
    function makes do without an answer."""
    roles = Roles()
    call: Callable[..., Any] = vars(BaseClient)["_make_api_call"]

    def judged(client: BaseClient, operation: str, given: dict[str, Any]) -> Any:
        roles.judge(client, operation, given)
        return call(client, operation, given)

    monkeypatch.setattr(BaseClient, "_make_api_call", judged)
    for function, app in FUNCTIONS.items():
        monkeypatch.setattr(app, "lambda_handler", roles.of(function, app.lambda_handler))
    yield roles
    assert roles.refused == []
