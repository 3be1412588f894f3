"""CloudFormation's resource schemas, as cfn-lint ships them for the stack's region: which attributes a type has, which
properties replace a resource when they change, and whether properties have the form that the type takes."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

REGION = "us-east-1"
UNKNOWN_UNTIL_MADE = "<<"


@cache
def _schema(kind: str) -> Any:
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind)


def has_attribute(kind: str, attribute: str) -> bool:
    """Whether Fn::GetAtt takes this attribute of a resource of this type."""
    return attribute in _schema(kind).get_atts


def values_that_replace(kind: str, properties: dict[str, Any]) -> dict[str, list[Any]]:
    """The values of the properties whose change makes CloudFormation replace the resource, by their path.

    Source: the schemas' createOnlyProperties and conditionalCreateOnlyProperties. The latter replace in some cases
    only; here they count as if they always did.
    """
    schema = _schema(kind).schema
    paths = [*schema.get("createOnlyProperties", []), *schema.get("conditionalCreateOnlyProperties", [])]
    return {path: list(_at(properties, path.split("/")[2:])) for path in paths}


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        for item in value if isinstance(value, list) else []:
            yield from _at(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _is_number(_: Any, value: Any) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, (int, float)) or (isinstance(value, str) and bool(re.fullmatch(r"-?\d+(\.\d+)?", value)))
    )


def _is_boolean(_: Any, value: Any) -> bool:
    return isinstance(value, bool) or value in ("true", "false")


def _is_text(_: Any, value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


# CloudFormation takes a number or a truth value as a text, which is what a parameter is, and the other way round.
_checker = (
    Draft7Validator.TYPE_CHECKER.redefine("integer", _is_number)
    .redefine("number", _is_number)
    .redefine("boolean", _is_boolean)
    .redefine("string", _is_text)
)


def _on(convert: Callable[[Any], Any], keyword: str) -> Callable[..., Iterator[Any]]:
    """The schema keyword, checked on the converted value."""
    checked: Callable[..., Iterator[Any]] = Draft7Validator.VALIDATORS[keyword]

    def check(validator: Any, expected: Any, instance: Any, schema: Any) -> Iterator[Any]:
        listed = isinstance(expected, list) and not isinstance(instance, (list, dict))
        yield from checked(validator, list(map(str, expected)) if listed else expected, convert(instance), schema) or ()

    return check


def _as_number(value: Any) -> Any:
    return float(value) if _is_number(None, value) else value


def _as_text(value: Any) -> Any:
    return value if isinstance(value, (list, dict)) else str(value)


_Validator = extend(
    Draft7Validator,
    {
        **{keyword: _on(_as_number, keyword) for keyword in ("minimum", "maximum", "multipleOf")},
        **{keyword: _on(_as_text, keyword) for keyword in ("enum", "pattern", "minLength", "maxLength")},
    },
    type_checker=_checker,
)
_OF_TEXTS = frozenset({"pattern", "format", "enum", "minLength", "maxLength", "const"})


@cache
def _validator(kind: str) -> Any:
    return _Validator(_schema(kind).schema)


def faults(kind: str, properties: dict[str, Any]) -> list[str]:
    """What CloudFormation has against these properties of a resource of this type."""
    return [
        f"{'.'.join(map(str, error.absolute_path))} {error.message}"
        for error in _leaves(_validator(kind).iter_errors(properties))
        if not (error.validator in _OF_TEXTS and UNKNOWN_UNTIL_MADE in str(error.instance))
    ]


def _leaves(errors: Iterator[Any]) -> Iterator[Any]:
    for error in errors:
        if error.context:
            yield from _leaves(iter(error.context))
        else:
            yield error
