"""Cursors: the place where a listing in pages goes on, as a text that the caller hands back."""

import base64
import binascii
import json
from typing import Any

from marketplace.dynamodb.keys import Key


class InvalidCursorError(ValueError):
    """A cursor that this API did not return for this query."""


def cursor_of(*parts: str | int) -> str:
    """A text, safe in a URL, from which `parts_of` reads these parts again."""
    content = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def parts_of(cursor: str, count: int) -> list[Any]:
    """The parts of a cursor, which may be of any JSON type. Raises InvalidCursorError when there aren't `count`."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}".encode()))
    except (binascii.Error, ValueError) as error:
        raise InvalidCursorError("the cursor is not one of this API's") from error
    if not isinstance(parts, list) or len(parts) != count:
        raise InvalidCursorError("the cursor is not one of this API's")
    return parts


def key_after(cursor: str, pk: str, first: str, last: str) -> Key:
    """The key that a cursor holds. Raises InvalidCursorError unless it is in the partition `pk`, from `first` to
    `last`."""
    found_pk, sk = parts_of(cursor, 2)
    if found_pk != pk or not isinstance(sk, str) or not first <= sk <= last or not sk.isascii():
        raise InvalidCursorError("the cursor belongs to another query")
    return Key(pk, sk)
