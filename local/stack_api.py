"""CloudFormation and Lambda as far as docs/operations.md and the command line use them: a stack's outputs, its
parameters, its resources, one run.

moto's own CloudFormation deploys nothing of SAM (decision 0032), and its Lambda needs Docker.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from werkzeug import Request, Response

from local.deployment import ACCOUNT, REGION

_NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
_INVOCATIONS = "/2015-03-31/functions/"

type Invoke = Callable[[str, Any], Any]


class InvocationError(Exception):
    """The function raised; `kind` is the exception's class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class StackApi:
    """Answers the calls about one stack. `types` has the type of each resource; `invoke` raises InvocationError, and
    KeyError for an unknown function."""

    def __init__(
        self,
        name: str,
        *,
        outputs: Mapping[str, str],
        parameters: Mapping[str, str],
        resources: Mapping[str, str],
        types: Mapping[str, str],
        invoke: Invoke,
    ) -> None:
        self._name = name
        self._outputs = outputs
        self._parameters = parameters
        self._resources = resources
        self._types = types
        self._invoke = invoke

    def answer(self, request: Request) -> Response | None:
        """The answer to a request; None for what is not asked of CloudFormation or Lambda."""
        path = unquote(request.path)
        if path.startswith(_INVOCATIONS) and path.endswith("/invocations"):
            return self._invocation(path.removeprefix(_INVOCATIONS).removesuffix("/invocations"), request)
        if not request.mimetype.endswith("x-www-form-urlencoded") or request.form.get("Version") != "2010-05-15":
            return None
        action, stack = request.form.get("Action", ""), request.form.get("StackName", self._name)
        if stack not in (self._name, self._stack_id):
            return _refusal(f"Stack with id {stack} does not exist")
        answers: dict[str, Callable[[], Response]] = {
            "DescribeStacks": lambda: _xml(action, f"<Stacks><member>{self._described()}</member></Stacks>"),
            "DescribeStackResource": lambda: self._resource(action, request.form.get("LogicalResourceId", "")),
            "ListStackResources": lambda: self._listed(action),
        }
        return answers.get(action, lambda: _refusal(f"{action} is not played on one machine"))()

    @property
    def _stack_id(self) -> str:
        return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{self._name}/local"

    def _described(self) -> str:
        outputs = "".join(
            f"<member>{_element('OutputKey', key)}{_element('OutputValue', value)}</member>"
            for key, value in self._outputs.items()
        )
        parameters = "".join(
            f"<member>{_element('ParameterKey', key)}{_element('ParameterValue', value)}</member>"
            for key, value in self._parameters.items()
        )
        return (
            f"{_element('StackName', self._name)}{_element('StackId', self._stack_id)}"
            f"<CreationTime>1970-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>"
            f"<Outputs>{outputs}</Outputs><Parameters>{parameters}</Parameters>"
        )

    def _listed(self, action: str) -> Response:
        members = "".join(
            f"<member>{_element('LogicalResourceId', name)}{_element('PhysicalResourceId', physical)}"
            f"{_element('ResourceType', self._types[name])}<ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>"
            for name, physical in self._resources.items()
        )
        return _xml(action, f"<StackResourceSummaries>{members}</StackResourceSummaries>")

    def _resource(self, action: str, logical_id: str) -> Response:
        if logical_id not in self._resources:
            return _refusal(f"Resource {logical_id} does not exist for stack {self._name}")
        described = _element("LogicalResourceId", logical_id) + _element(
            "PhysicalResourceId", self._resources[logical_id]
        )
        return _xml(action, f"<StackResourceDetail>{described}</StackResourceDetail>")

    def _invocation(self, function: str, request: Request) -> Response:
        name = function.rpartition(":")[2]
        try:
            event = json.loads(request.get_data() or b"{}")
        except ValueError:
            return _lambda(400, {"message": "Could not parse request body into json"}, "InvalidRequestContentException")
        try:
            return _lambda(200, self._invoke(name, event))
        except KeyError:
            return _lambda(404, {"message": f"Function not found: {name}"}, "ResourceNotFoundException")
        except InvocationError as error:
            failed = _lambda(200, {"errorType": error.kind, "errorMessage": str(error)})
            failed.headers["X-Amz-Function-Error"] = "Unhandled"
            return failed


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _xml(action: str, result: str) -> Response:
    body = (
        f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>local</RequestId></ResponseMetadata></{action}Response>"
    )
    return Response(body, content_type="text/xml")


def _refusal(message: str) -> Response:
    error = f"<Type>Sender</Type><Code>ValidationError</Code>{_element('Message', message)}"
    body = f'<ErrorResponse xmlns="{_NAMESPACE}"><Error>{error}</Error><RequestId>local</RequestId></ErrorResponse>'
    return Response(body, 400, content_type="text/xml")


def _lambda(status: int, content: Any, error: str = "") -> Response:
    headers = {"X-Amzn-ErrorType": error} if error else {}
    return Response(json.dumps(content), status, headers, content_type="application/json")
