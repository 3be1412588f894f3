"""JSON schemas of pydantic models in the form that generators of clients take, and the small parts of the document."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

type Schema = dict[str, Any]


def component_schemas(models: Iterable[type[BaseModel]]) -> Schema:
    """The schemas of these models, and of those that they contain, by name.

    They carry no defaults: generators take a member with a default for one that is always there, also in a request.
    """
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {name: _without_defaults(definitions["$defs"][name]) for name in sorted(definitions["$defs"])}


def query_parameters(model: type[BaseModel]) -> list[Schema]:
    """The members of a query's model as parameters."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    parameters = []
    for name, described in schema.get("properties", {}).items():
        plain = _without_null(_inlined(described, definitions))
        parameter: Schema = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in plain:
            parameter["description"] = plain.pop("description")
        plain.pop("title", None)
        parameters.append({**parameter, "schema": plain})
    return parameters


def path_names(key: str) -> list[str]:
    """The names of the parameters in a route's path."""
    return [name.rstrip("+") for name in re.findall(r"\{([^}]+)\}", key)]


def reference(model: type[BaseModel]) -> Schema:
    """A reference to the model's schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def json_content(schema: Schema) -> Schema:
    """The content of a body in JSON."""
    return {"application/json": {"schema": schema}}


def _without_defaults(schema: Any) -> Any:
    match schema:
        case {"properties": dict(properties), **rest}:
            members = {name: _without_defaults(member) for name, member in properties.items()}
            return {**_without_defaults(rest), "properties": members}
        case dict():
            return {name: _without_defaults(value) for name, value in schema.items() if name != "default"}
        case list():
            return [_without_defaults(value) for value in schema]
    return schema


def _inlined(schema: Any, definitions: Schema) -> Any:
    match schema:
        case {"$ref": str(ref), **rest}:
            return {**_inlined(definitions[ref.rpartition("/")[2]], definitions), **rest}
        case dict():
            return {name: _inlined(member, definitions) for name, member in schema.items()}
        case list():
            return [_inlined(member, definitions) for member in schema]
    return schema


def _without_null(schema: Schema) -> Schema:
    """A query parameter is given or not; it is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**options[0], **rest}
