"""Tokens of paged answers: which request they belong to, and where its next page begins."""

import base64
import json
from typing import Any


class TokenError(Exception):
    """A token that was not made here, or belongs to another request."""


def made(query: list[Any], *numbers: int) -> str:
    """The token of a request and the numbers that say where to go on."""
    return base64.urlsafe_b64encode(json.dumps([query, *numbers]).encode()).decode()


def read(token: Any, query: list[Any], count: int) -> list[int]:
    """The numbers of a token, so many. Raises TokenError for anything but a token of this request."""
    numbers: list[int]
    try:
        saved, *numbers = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, RecursionError):
        raise TokenError("is not one of ours") from None
    if saved != query:
        raise TokenError("belongs to another request")
    if len(numbers) != count or not all(type(number) is int and number >= 0 for number in numbers):
        raise TokenError("is not one of ours")
    return numbers
