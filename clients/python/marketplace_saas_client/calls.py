"""A call of the API as data: the functions in operations.py make them, a client sends them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request, and the type of its answer."""

    method: str
    target: str
    body: Any = None


def target(*parts: str, query: Mapping[str, object] | None = None) -> str:
    """A path with its query. Every second part is a value, which is encoded; a None in the query is left out."""
    path = "".join(_encoded(part) if number % 2 else part for number, part in enumerate(parts))
    given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def _encoded(value: str) -> str:
    """API Gateway decodes a path once and cuts it at a "?", so a value with such a character is encoded twice."""
    once = quote(value, safe="")
    return quote(once, safe="") if any(character in value for character in "?#%") else once


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
