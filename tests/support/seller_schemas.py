"""The documented schemas of the seller's events, and the check that an event is as documented."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it ships no types

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "events"


def file_name(kind: str) -> str:
    """How the files of a detail-type are called, without their extension."""
    return kind.lower().replace(" ", "_")


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = json.loads((DOCUMENTED / f"{file_name(kind)}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def check(kind: str, detail: Mapping[str, Any]) -> None:
    """Raises jsonschema.ValidationError unless `detail` (with its `id` and `time`) is as documented."""
    _validator(kind).validate(dict(detail))
