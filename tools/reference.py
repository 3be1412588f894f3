"""The pages of the documentation site that are written from docs/openapi.json and docs/asyncapi.json, as Markdown."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

type Schema = Mapping[str, Any]

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "format": "format `{}`",
    "pattern": "matches `{}`",
    "default": "`{}` if it is not given",
}
_KNOWN = {
    *_LIMITS,
    *("$ref", "anyOf", "oneOf", "type", "enum", "const", "items", "properties", "required", "additionalProperties"),
    *("title", "description", "examples"),
}


class UnknownKeywordError(Exception):
    """A schema says something that the page would leave out."""


def openapi_page(document: Mapping[str, Any]) -> str:
    """The seller API: every operation by tag, then every schema."""
    return "\n".join([*_head(document, "openapi.json"), *_operations(document), *_schemas(document)]) + "\n"


def asyncapi_page(document: Mapping[str, Any]) -> str:
    """The events: each with its members and a sample."""
    return "\n".join([*_head(document, "asyncapi.json"), *_messages(document)]) + "\n"


def _head(document: Mapping[str, Any], file: str) -> Iterator[str]:
    info = document["info"]
    yield f"# {info['title']}\n"
    yield f"Version {info['version']}. For generators of clients: {{download}}`{file}`.\n"
    yield f"{info['description']}\n"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"## {tag['name'].capitalize()}\n"
        yield f"{tag['description']}\n"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {operation['summary']}\n"
    yield f"**`{method.upper()} {path}`**\n"
    yield f"{operation['description']}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for one in parameters:
            name = f"`{one['name']}`{', required' if one['required'] else ''}"
            yield _row(name, one["in"], kind(one["schema"]), one.get("description", ""))
        yield ""
    if body := operation.get("requestBody"):
        yield f"The body is {_content(body)}.\n"
    yield "| status | answer | |\n|---|---|---|"
    for status, answer in operation["responses"].items():
        headers = "".join(
            f"\n\nHeader `{name}`: {one['description']}" for name, one in answer.get("headers", {}).items()
        )
        yield _row(status, _content(answer), answer["description"] + headers)
    yield ""


def _content(holder: Mapping[str, Any]) -> str:
    return ", ".join(kind(content["schema"]) for content in holder.get("content", {}).values())


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    yield "## Schemas\n"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"### {name}\n"
        yield f"{schema.get('description', '')}\n"
        yield from _members(schema)


def _messages(document: Mapping[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for message in document["components"]["messages"].values():
        yield f"## {message['title']}\n"
        yield f"{message['summary']}\n"
        detail = message["payload"]["properties"]["detail"]["$ref"].rpartition("/")[2]
        yield "Members of `detail`:\n"
        yield from _members(schemas[detail])
        for example in message["examples"]:
            yield f"```json\n{json.dumps(example['payload'], indent=2, ensure_ascii=False)}\n```\n"


def _members(schema: Schema) -> Iterator[str]:
    if "properties" not in schema:
        yield f"{kind(schema).capitalize()}.\n"
        return
    _check(schema)
    yield "| member | type | |\n|---|---|---|"
    yield from _rows(schema, "")
    yield ""
    if schema.get("additionalProperties") is False:
        yield "Other members are refused.\n"


def _rows(schema: Schema, within: str) -> Iterator[str]:
    for name, one in schema["properties"].items():
        required = ", required" if name in schema.get("required", ()) else ""
        examples = "".join(f" For example `{json.dumps(example)}`." for example in one.get("examples", ()))
        yield _row(f"`{within}{name}`{required}", kind(one), one.get("description", "") + examples)
        nested = one.get("items", one)
        if "properties" in nested:
            yield from _rows(nested, f"{within}{name}{'[]' if 'items' in one else ''}.")


def kind(schema: Schema) -> str:
    """What values a schema takes, in words. Raises UnknownKeywordError for a keyword that has none."""
    _check(schema)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    limits = [words.format(schema[keyword]) for keyword, words in _LIMITS.items() if keyword in schema]
    return ", ".join([_kind(schema), *limits])


def _kind(schema: Schema) -> str:
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(kind(one) for one in choices)
    if "const" in schema:
        return f"always `{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if schema["type"] == "array":
        return f"array of {kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object whose values are {kind(schema['additionalProperties'])}"
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return " or ".join(types)


def _check(schema: Schema) -> None:
    if unknown := set(schema) - _KNOWN:
        raise UnknownKeywordError(f"tools/reference.py has no words for {', '.join(sorted(unknown))}")


def _row(*cells: str) -> str:
    """A row of a table. A cell's text may have paragraphs, which a table of Markdown has not."""
    flat = (cell.replace("|", "\\|").replace("\n\n", " <br> ").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(flat)} |"
