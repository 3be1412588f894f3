"""The documented schemas of the seller's events, and the check that an event is as documented."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it ships no types

from tools.asyncapi import schema_of


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = schema_of(kind)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def check(kind: str, detail: Mapping[str, Any]) -> None:
    """Raises jsonschema.ValidationError unless `detail` (as it is published) is as documented."""
    _validator(kind).validate(dict(detail))
