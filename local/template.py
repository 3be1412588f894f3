"""template.yaml as a deployment on this machine: its functions, routes, queues, tables, rules and schedules.

Nothing of the template is repeated here. What is read is the SAM form, with Globals merged in; conditions and intrinsic
functions are worked out with the parameters given. What the template could say and this stack does not do is an error
that names it, never a silent difference.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local import template_yaml
from local.deployment import (
    ACCOUNT,
    REGION,
    Bucket,
    Deployment,
    Function,
    Queue,
    QueueMapping,
    Route,
    Rule,
    Schedule,
    Subscription,
    Values,
    queue_arn,
)
from local.parameters import chosen
from local.template_yaml import TemplateError

_NO_VALUE = object()
_SUB = re.compile(r"\$\{(!?)([^}]+)\}")


def parameters_of(path: Path) -> frozenset[str]:
    """The names of the template's parameters."""
    return frozenset(template_yaml.read(path).get("Parameters", {}))


def read(
    path: Path,
    parameters: Mapping[str, Any],
    *,
    sqs_endpoint: str,
    stack_name: str = "marketplace-saas",
    root: Path | None = None,
) -> Deployment:
    """The template at `path` with these parameters, the others at their defaults.

    sqs_endpoint: where SQS listens, for queue URLs. root: the folder that CodeUri starts from; the template's own
    by default. Raises TemplateError.
    """
    template = template_yaml.read(path)
    try:
        return _Reader(template, parameters, sqs_endpoint, stack_name, root or path.parent).deployment()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise TemplateError(f"{path} is no template that CloudFormation takes: {error!r}") from error


class _Reader:
    def __init__(
        self, template: Values, given: Mapping[str, Any], sqs_endpoint: str, stack_name: str, root: Path
    ) -> None:
        self._template = template
        self._sqs_endpoint = sqs_endpoint
        self._stack_name = stack_name
        self._root = root
        self._resources: dict[str, Values] = template["Resources"]
        self._parameters = chosen(template.get("Parameters", {}), given)
        self._conditions: dict[str, bool] = {}

    def deployment(self) -> Deployment:
        functions = {function.name: function for function in self._functions()}
        return Deployment(
            functions=functions,
            routes=list(self._routes()),
            queue_mappings=list(self._queue_mappings()),
            schedules=list(self._schedules()),
            tables=[self._table(name, body) for name, body in self._of("AWS::DynamoDB::Table")],
            queues=[self._queue(name, body) for name, body in self._of("AWS::SQS::Queue")],
            buses=[self._physical(name) for name, _ in self._of("AWS::Events::EventBus")],
            rules=list(self._rules()),
            subscriptions=list(self._subscriptions()),
            fulfilment_path=self._fulfilment_path(),
            buckets=[self._bucket(name, body) for name, body in self._of("AWS::S3::Bucket")],
            time_to_live=dict(self._time_to_live()),
            exports=list(self._exports()),
            parameters=self._parameters,
            outputs=dict(self._outputs()),
            resources={name: self._physical(name) for name in self._resources},
            resource_types={name: str(body["Type"]) for name, body in self._resources.items()},
            stack_name=self._stack_name,
        )

    # -- resources ----------------------------------------------------------------------------------------

    def _of(self, kind: str) -> Iterator[tuple[str, Values]]:
        """The resources of one type that the conditions let be, with their properties as written."""
        for name, body in self._resources.items():
            if body["Type"] == kind and ("Condition" not in body or self._condition(body["Condition"])):
                yield name, body.get("Properties", {})

    def _functions(self) -> Iterator[Function]:
        shared: Values = self._template.get("Globals", {}).get("Function", {})
        for name, own in self._of("AWS::Serverless::Function"):
            merged = {**shared, **own}
            variables = {
                **shared.get("Environment", {}).get("Variables", {}),
                **own.get("Environment", {}).get("Variables", {}),
            }
            concurrency = self._value(merged.get("ReservedConcurrentExecutions"))
            role = merged.get("Role", {}).get("Fn::GetAtt", [""])[0]
            yield Function(
                name=name,
                folder=(self._root / str(self._value(merged["CodeUri"]))).resolve(),
                handler=str(self._value(merged["Handler"])),
                timeout=int(self._value(merged.get("Timeout", 3))),
                memory=int(self._value(merged.get("MemorySize", 128))),
                concurrency=None if concurrency in (None, _NO_VALUE) else int(concurrency),
                environment={
                    key: str(value) for key, raw in variables.items() if (value := self._value(raw)) is not _NO_VALUE
                },
                role=self._physical(role) if role else "local",
            )

    def _events(self, *kinds: str) -> Iterator[tuple[str, str, str, Values]]:
        """The functions' own events of some types: function, event's name, type, properties."""
        for function, body in self._of("AWS::Serverless::Function"):
            for name, event in body.get("Events", {}).items():
                if event["Type"] in kinds:
                    yield function, name, event["Type"], event.get("Properties", {})
                elif event["Type"] not in _EVENT_TYPES:
                    raise TemplateError(f"{function}: an event of type {event['Type']} is not played on one machine")

    def _routes(self) -> Iterator[Route]:
        by_default = {
            name: body.get("Auth", {}).get("DefaultAuthorizer") for name, body in self._of("AWS::Serverless::HttpApi")
        }
        for function, _, _, event in self._events("HttpApi"):
            api = event.get("ApiId", {})
            authorizer = event.get("Auth", {}).get("Authorizer", by_default.get(api.get("Ref", "")))
            if authorizer not in (None, "NONE", "AWS_IAM"):
                raise TemplateError(f"{function}: the authorizer {authorizer} is not played on one machine")
            yield Route(
                method=str(self._value(event.get("Method", "ANY"))).upper(),
                path=str(self._value(event.get("Path", "$default"))),
                function=function,
                needs_iam=authorizer == "AWS_IAM",
            )

    def _queue_mappings(self) -> Iterator[QueueMapping]:
        for function, _, _, event in self._events("SQS"):
            yield QueueMapping(
                queue=self._queue_name(self._value(event["Queue"])),
                function=function,
                batch_size=int(self._value(event.get("BatchSize", 10))),
                partial_responses="ReportBatchItemFailures" in self._value(event.get("FunctionResponseTypes", [])),
                concurrency=self._value(event.get("ScalingConfig", {}).get("MaximumConcurrency")),
            )

    def _schedules(self) -> Iterator[Schedule]:
        for function, name, kind, event in self._events("Schedule", "ScheduleV2"):
            expression = event["Schedule" if kind == "Schedule" else "ScheduleExpression"]
            yield Schedule(f"{function}{name}", self._value(expression), function, self._value(event.get("Input")))
        functions = {self._arn(name): name for name, _ in self._of("AWS::Serverless::Function")}
        for name, body in self._of("AWS::Events::Rule"):
            if "ScheduleExpression" not in body or self._value(body.get("State", "ENABLED")) == "DISABLED":
                continue
            for target in self._targets(name, body):
                started = functions.get(target["Arn"])
                queue = self._queue_name(target["Arn"]) if started is None else None
                yield Schedule(name, self._value(body["ScheduleExpression"]), started, target.get("Input"), queue)

    def _rules(self) -> Iterator[Rule]:
        for name, body in self._of("AWS::Events::Rule"):
            if "EventPattern" in body and self._value(body.get("State", "ENABLED")) != "DISABLED":
                if self._value(body.get("EventBusName", "default")) != "default":
                    raise TemplateError(f"{name}: rules of other buses than the default one are not played")
                queues = tuple(self._queue_name(target["Arn"]) for target in self._targets(name, body))
                yield Rule(name, self._value(body["EventPattern"]), queues)

    def _targets(self, rule: str, body: Values) -> list[Values]:
        targets: list[Values] = self._value(body.get("Targets", []))
        for target in targets:
            unknown = set(target) - {"Id", "Arn", "Input", "RetryPolicy", "DeadLetterConfig", "RoleArn"}
            if unknown:
                raise TemplateError(f"{rule}: a target's {', '.join(sorted(unknown))} is not played on one machine")
        return targets

    def _subscriptions(self) -> Iterator[Subscription]:
        for name, raw in self._of("AWS::SNS::Subscription"):
            body = self._value(raw)
            if body["Protocol"] != "sqs" or "FilterPolicy" in body:
                raise TemplateError(f"{name}: only SNS subscriptions of queues without a filter are played")
            yield Subscription(
                body["TopicArn"], self._queue_name(body["Endpoint"]), str(body.get("RawMessageDelivery")) == "True"
            )

    def _table(self, name: str, raw: Values) -> Values:
        body = self._value(raw)
        return {"TableName": self._physical(name), **{key: body[key] for key in _TABLE_PROPERTIES if key in body}}

    def _time_to_live(self) -> Iterator[tuple[str, str]]:
        for name, raw in self._of("AWS::DynamoDB::Table"):
            found = self._value(raw).get("TimeToLiveSpecification", {})
            if found.get("Enabled") is True:
                yield self._physical(name), found["AttributeName"]

    def _bucket(self, name: str, raw: Values) -> Bucket:
        versioning = self._value(raw.get("VersioningConfiguration", {}))
        return Bucket(self._physical(name), versioned=versioning.get("Status") == "Enabled")

    def _queue(self, name: str, raw: Values) -> Queue:
        body = self._value(raw)
        attributes = {key: str(body[key]) for key in _QUEUE_PROPERTIES if key in body}
        if "RedrivePolicy" in body:
            attributes["RedrivePolicy"] = json.dumps(body["RedrivePolicy"])
        return Queue(self._physical(name), attributes)

    def _queue_name(self, arn: str) -> str:
        for name, _ in self._of("AWS::SQS::Queue"):
            if self._arn(name) == arn:
                return self._physical(name)
        raise TemplateError(f"{arn} is no queue of the template")

    def _outputs(self) -> Iterator[tuple[str, str]]:
        for name, body in self._template.get("Outputs", {}).items():
            if "Condition" not in body or self._condition(body["Condition"]):
                yield name, str(self._value(body["Value"]))

    def _fulfilment_path(self) -> str:
        return urlsplit(dict(self._outputs()).get("FulfilmentUrl", "")).path

    def _exports(self) -> Iterator[str]:
        for body in self._template.get("Outputs", {}).values():
            if "Export" in body and ("Condition" not in body or self._condition(body["Condition"])):
                yield str(self._value(body["Export"]["Name"]))

    # -- names and intrinsic functions ----------------------------------------------------------------------

    def _physical(self, name: str) -> str:
        """The name that CloudFormation would give the resource, without the random part."""
        body = self._resources[name].get("Properties", {})
        kind = self._resources[name]["Type"]
        naming = _NAME_PROPERTY.get(kind)
        if kind == "AWS::Serverless::Function":
            return name
        if naming in body:
            return str(self._value(body[naming]))
        made = f"{self._stack_name}-{name}"
        return made.lower() if kind == "AWS::S3::Bucket" else made

    def _ref(self, name: str) -> Any:
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name == "AWS::StackName":
            return self._stack_name
        if name in self._parameters:
            return self._parameters[name]
        if name not in self._resources:
            raise TemplateError(f"there is no {name} to refer to")
        if self._resources[name]["Type"] == "AWS::SQS::Queue":
            return f"{self._sqs_endpoint}/{ACCOUNT}/{self._physical(name)}"
        return self._physical(name)

    def _arn(self, name: str) -> str:
        kind, physical = self._resources[name]["Type"], self._physical(name)
        match kind:
            case "AWS::Serverless::Function":
                return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
            case "AWS::SQS::Queue":
                return queue_arn(physical)
            case "AWS::DynamoDB::Table":
                return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{physical}"
            case "AWS::Events::EventBus":
                return f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{physical}"
            case "AWS::S3::Bucket":
                return f"arn:aws:s3:::{physical}"
        return f"arn:aws:{kind.split('::')[1].lower()}:{REGION}:{ACCOUNT}:{physical}"

    def _attribute(self, name: str, attribute: str) -> str:
        if name not in self._resources:
            raise TemplateError(f"there is no {name} to take {attribute} of")
        if attribute == "Arn":
            return self._arn(name)
        if attribute in ("QueueName", "Name"):
            return self._physical(name)
        if attribute == "VersionNumber":
            return "1"
        raise TemplateError(f"{name}.{attribute} is not known on one machine")

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            self._conditions[name] = bool(self._value(self._template["Conditions"][name]))
        return self._conditions[name]

    def _value(self, raw: Any) -> Any:
        """What a part of the template comes to."""
        if isinstance(raw, list):
            return [value for item in raw if (value := self._value(item)) is not _NO_VALUE]
        if not isinstance(raw, dict):
            return raw
        if len(raw) == 1:
            ((name, argument),) = raw.items()
            if name == "Ref" or (name == "Condition" and isinstance(argument, str)) or name.startswith("Fn::"):
                return self._intrinsic(name, argument)
        return {key: value for key, item in raw.items() if (value := self._value(item)) is not _NO_VALUE}

    def _intrinsic(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                found = self._ref(argument)
            case "Condition":
                found = self._condition(argument)
            case "Fn::If":
                found = self._value(argument[1] if self._condition(argument[0]) else argument[2])
            case "Fn::GetAtt":
                resource, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
                found = self._attribute(resource, attribute)
            case "Fn::Sub":
                found = self._substituted(argument)
            case _ if name in _FUNCTIONS:
                found = _FUNCTIONS[name](self._value(argument))
            case _:
                raise TemplateError(f"the intrinsic function {name} is not known on one machine")
        return found

    def _substituted(self, argument: Any) -> str:
        text, given = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])

        def of(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in given:
                return str(self._value(given[name]))
            resource, dot, attribute = name.partition(".")
            return str(self._attribute(resource, attribute) if dot else self._ref(name))

        return _SUB.sub(of, text)


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Fn::Equals": lambda given: str(given[0]) == str(given[1]),
    "Fn::Not": lambda given: not given[0],
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Select": lambda given: given[1][int(given[0])],
    "Fn::Split": lambda given: given[1].split(given[0]),
    "Fn::Join": lambda given: given[0].join(given[1]),
}
_EVENT_TYPES = frozenset({"HttpApi", "SQS", "Schedule", "ScheduleV2"})
_TABLE_PROPERTIES = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
_QUEUE_PROPERTIES = ("VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds", "MaximumMessageSize")
_NAME_PROPERTY = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::Events::EventBus": "Name",
    "AWS::S3::Bucket": "BucketName",
}
_PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/local/00000000-0000-0000-0000-000000000000",
    "AWS::NoValue": _NO_VALUE,
}
