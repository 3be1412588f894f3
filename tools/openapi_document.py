"""How the OpenAPI document is put together: routes, the models of their requests and answers, errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from marketplace.platform.problem import Problem
from marketplace.seller_api import problems
from marketplace.seller_api.requests import NoQuery
from marketplace.seller_api.routes import ROUTES, Route
from tools.openapi_schemas import Schema, component_schemas, json_content, path_names, query_parameters, reference


class Answer(BaseModel, extra="forbid", json_schema_extra=lambda schema: schema.pop("additionalProperties")):
    """An answer says no more than its schema. The document leaves that open, because members may be added later."""


class ErrorBody(BaseModel, extra="allow"):
    """`code` is for programs and stable; `message` says what to do."""

    code: str
    message: str


class Error(Answer):
    error: ErrorBody


class GatewayError(BaseModel):
    """API Gateway's own answer, given before the application is reached."""

    message: str


@dataclass(frozen=True, slots=True)
class Words:
    """What the document adds to a route: `problems` are those that its parameters and body do not show."""

    summary: str
    answer: type[BaseModel] | tuple[type[BaseModel], ...]
    problems: tuple[Problem, ...] = ()
    body: type[BaseModel] | None = None
    description: str = ""


_ANYWHERE = (problems.BUSY, problems.UNAVAILABLE, problems.INTERNAL)
_PATH_PARAMETERS = {
    "code": "The registration code that the sign-up page got as `registration`.",
    "subscription_id": "A subscription id, `sub-` and 26 characters.",
    "record_id": "The id that the usage record was reported under.",
}
TAGS = {
    "registrations": "From a buyer who comes from AWS Marketplace to a tenant of yours.",
    "subscriptions": "Who bought what, and where it stands.",
    "entitlements": "What a buyer may use.",
    "usage": "What is reported, metered, and proven.",
}
"""The groups of operations. An operation belongs to the last of them that its path names."""
VERSION = "1.0.0"
"""The API's version: the middle number grows when something is added, the first when something existing changes."""
_POLICY = """
What a seller's application calls. Every request is signed with AWS Signature Version 4 (service execute-api).

**Versions.** `info.version` is a semantic version. Routes, optional parameters, optional members of requests, members
of answers and reasons are added without notice: ignore the members that you do not know, and treat a reason that you do
not know by its `retryable`. Nothing else changes within a major version. Error codes never change.

**Deprecation.** What is to be removed is marked `deprecated` here and named in the changelog, with what replaces it, at
least twelve months and one minor version before the major version that removes it. A replacement is a new route or a
new member beside the old one; both work until then.
""".strip()


INFO = {
    "contact": {"name": "The operators of this deployment"},
    "license": {"name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
}
"""Who answers questions, and under which licence the document is."""


def assembled(words: Mapping[str, Words]) -> Schema:
    """The document of all routes, with the words of each operation, as plain JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        method, _, path = route.key.partition(" ")
        paths.setdefault(path.replace("+}", "}"), {})[method.lower()] = {
            "operationId": route.operation,
            "tags": [tag_of(route.key)],
            **_operation(route, words[route.operation]),
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Marketplace SaaS seller API",
            "version": VERSION,
            "description": _POLICY,
            **INFO,
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.us-east-1.amazonaws.com",
                "description": "The stack's output ApiUrl",
                "variables": {"api": {"default": "api-id", "description": "The first part of ApiUrl's host"}},
            }
        ],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "security": [{"AWS_IAM": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(words),
            "securitySchemes": {
                "AWS_IAM": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4",
                }
            },
        },
    }


def _answers(words: Words) -> tuple[type[BaseModel], ...]:
    return words.answer if isinstance(words.answer, tuple) else (words.answer,)


def _schemas(words: Mapping[str, Words]) -> Schema:
    models: dict[type[BaseModel], None] = {Error: None, GatewayError: None}
    for route in ROUTES:
        said = words[route.operation]
        body = said.body or route.body
        models.update(dict.fromkeys((*_answers(said), *((body,) if body else ()))))
    return component_schemas(models)


def _operation(route: Route, words: Words) -> Schema:
    rules = "" if route.query is NoQuery else " ".join((route.query.__doc__ or "").split())
    operation: Schema = {
        "summary": words.summary,
        "description": " ".join(text for text in (words.description, rules) if text) or f"{words.summary}.",
    }
    parameters = [*_path_parameters(route.key), *query_parameters(route.query)]
    if parameters:
        operation["parameters"] = parameters
    body = words.body or route.body
    if body is not None:
        operation["requestBody"] = {"required": True, "content": json_content(reference(body))}
    answers = [reference(model) for model in _answers(words)]
    schema = answers[0] if len(answers) == 1 else {"oneOf": answers}
    good = {"description": words.summary, "content": json_content(schema)}
    operation["responses"] = {"200": good, **_errors(route, words)}
    return operation


def tag_of(key: str) -> str:
    """The group of a route. Raises StopIteration where its path names none: TAGS needs another then."""
    return next(part for part in reversed(key.split("/")) if part in TAGS)


def _errors(route: Route, words: Words) -> Schema:
    parameters = route.query.model_fields
    shown = {
        problems.BODY_INVALID: route.body is not None,
        problems.BODY_TOO_LARGE: route.body is not None,
        problems.PARAMETER_INVALID: True,
        problems.CURSOR_INVALID: "cursor" in parameters,
        **dict.fromkeys(words.problems, True),
        problems.SUBSCRIPTION_UNKNOWN: "{subscription_id}" in route.key,
        **dict.fromkeys(_ANYWHERE, True),
    }
    by_status: dict[int, list[Problem]] = {}
    for problem in (problem for problem, is_shown in shown.items() if is_shown):
        by_status.setdefault(problem.status, []).append(problem)
    answers: Schema = {
        "403": _gateway("API Gateway: the signature is missing or wrong, or its principal may not call this route"),
        "429": _gateway("API Gateway: too many requests; wait, and send more records in each request"),
    }
    for status, found in by_status.items():
        lines = [f"`{problem.code}`: {problem.message}" for problem in found]
        answers[str(status)] = {"description": "\n\n".join(lines), "content": json_content(reference(Error))}
        if any(problem.retry_after for problem in found):
            answers[str(status)]["headers"] = {
                "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
            }
    return dict(sorted(answers.items()))


def _gateway(description: str) -> Schema:
    return {"description": description, "content": json_content(reference(GatewayError))}


def _path_parameters(key: str) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in path_names(key)
    ]
