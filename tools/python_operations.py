"""The Python client's module of typed calls, made from the OpenAPI document.

    python -m tools.python_operations > clients/python/marketplace_saas_client/operations.py

A schema becomes a TypedDict or an alias, an operation becomes a function that answers a Call.
"""

import json
import keyword
import re
import subprocess
import sys
import textwrap
from typing import Any

from tools.openapi import document
from tools.template import ROOT

MODULE = "clients/python/marketplace_saas_client/operations.py"
_HEADER = '''"""Every operation of the seller API as a typed call, and the types of its bodies.

Written by tools/python_operations.py from the API's document. The functions encode the values that they put into a path
or query.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from marketplace_saas_client.calls import Call, target

'''
_PLAIN = {"string": "str", "integer": "int", "boolean": "bool", "number": "float", "null": "None"}
_WIDTH = 110


def as_text() -> str:
    """The module as the client has it."""
    described = document()
    schemas = described["components"]["schemas"]
    parts = [_definition(name, schemas[name]) for name in _aliases_first(schemas)]
    for path, methods in described["paths"].items():
        parts += [_function(method.upper(), path, operation) for method, operation in methods.items()]
    return _formatted(_HEADER + "\n\n".join(parts))


def _formatted(source: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", MODULE, "-"]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=True).stdout


def _aliases_first(schemas: dict[str, Any]) -> list[str]:
    return sorted(schemas, key=lambda name: ("properties" in schemas[name], name))


def _definition(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"{name} = {_type(schema)}\n"
    required = schema.get("required", ())
    lines = [f"class {name}(TypedDict):", *_docstring(schema.get("description", name), "    "), ""]
    for member, described in schema["properties"].items():
        kind = _type(described)
        lines.append(f"    {member}: {kind if member in required else f'NotRequired[{kind}]'}")
    return "\n".join(lines) + "\n"


def _function(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", ())
    arguments = [f"{parameter['name']}: str" for parameter in parameters if parameter["in"] == "path"]
    body = operation.get("requestBody")
    if body:
        arguments.append(f"body: {_type(_content(body))}")
    queried = [parameter for parameter in parameters if parameter["in"] == "query"]
    if queried:
        arguments.append("*")
        arguments += [f"{_argument(one['name'])}: {_type(one['schema'])} | None = None" for one in queried]
    answer = _type(_content(operation["responses"]["200"]))
    pieces = [piece if number % 2 else json.dumps(piece) for number, piece in enumerate(re.split(r"[{}]", path))]
    pieces = [piece for piece in pieces if piece != '""']
    if queried:
        members = ", ".join(f'"{one["name"]}": {_argument(one["name"])}' for one in queried)
        pieces.append(f"query={{{members}}}")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation["operationId"]).lower()
    given = ", body" if body else ""
    return "\n".join(
        [
            f"def {name}({', '.join(arguments)}) -> Call[{answer}]:",
            *_docstring(operation["description"], "    "),
            f"    return Call({json.dumps(method)}, target({', '.join(pieces)}){given})",
            "",
        ]
    )


def _content(holder: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = holder["content"]["application/json"]["schema"]
    return schema


def _argument(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _type(schema: dict[str, Any]) -> str:
    kind = "Any"
    match schema:
        case {"$ref": str(ref)}:
            kind = ref.rpartition("/")[2]
        case {"enum": list(values)}:
            kind = f"Literal[{', '.join(map(json.dumps, values))}]"
        case {"anyOf": list(options)} | {"oneOf": list(options)}:
            kind = " | ".join(dict.fromkeys(map(_type, options)))
        case {"type": "array", "items": dict(items)}:
            kind = f"list[{_type(items)}]"
        case {"type": "object", "additionalProperties": dict(values)}:
            kind = f"dict[str, {_type(values)}]"
        case {"type": str(plain)}:
            kind = _PLAIN.get(plain, kind)
    return kind


def _docstring(text: str, indent: str) -> list[str]:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, _WIDTH)] if lines else textwrap.wrap(f'"""{paragraph}', _WIDTH)
    if len(lines) == 1:
        lines[0] += '"""'
    else:
        lines.append('"""')
    return [f"{indent}{line}" if line else "" for line in lines]


if __name__ == "__main__":
    sys.stdout.write(as_text())
