"""Members of a JSON object, checked by name and type before anything is done with them."""

from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from marketplace_emulator.errors import BadRequestError

_NAMES = {float: "a number", int: "a whole number", NoneType: "null", str: "text", bool: "true or false"}
_MOST = 2**63


def checked(given: Any, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a JSON object, each of which must have a name and a type of `hints`.

    Raises BadRequestError for anything else.
    """
    if not isinstance(given, dict):
        raise BadRequestError("this is not a JSON object", "send a JSON object")
    for name, value in given.items():
        if name not in hints:
            raise BadRequestError(f"unknown: {name}", f"known are: {', '.join(sorted(hints)) or 'none'}")
        if not fits(value, hints[name]):
            raise BadRequestError(f"{value!r} does not fit {name!r}", f"it takes {describe(hints[name])}")
    return given


def arguments(function: Callable[..., Any], given: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a JSON object as arguments of a function, checked by its annotations. `without` are set by the caller."""
    hints = get_type_hints(function)
    return checked(given, {name: hint for name, hint in hints.items() if name not in ("return", *without)})


def whole_number(text: str) -> int:
    """Return the number that a text from 0 on writes in digits. Raises BadRequestError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadRequestError(f"{text!r} is not a whole number", "for example 5")
    return int(text)


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of this type. Numbers are finite, and no number is a bool."""
    hint = getattr(hint, "__value__", hint)  # what a `type` statement names
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in options
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in options)
    if origin is list:
        return isinstance(value, list) and all(fits(item, options[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, options[1]) for item in value.values())
    if hint in (int, float):
        kinds = int if hint is int else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and -_MOST < value < _MOST
    return hint is Any or isinstance(value, hint)


def describe(hint: Any) -> str:
    """Return what `fits` accepts, in words."""
    hint = getattr(hint, "__value__", hint)
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(repr(option) for option in options)
    if origin in (Union, UnionType):
        return " or ".join(describe(option) for option in options)
    if origin is list:
        return f"a list, each {describe(options[0])}"
    if origin is dict:
        return f"an object, each {describe(options[1])}"
    return _NAMES.get(hint, str(hint))
