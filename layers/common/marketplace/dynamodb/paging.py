"""Cursors: where a listing in pages goes on, as a text that a caller hands back."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from marketplace.dynamodb.keys import Key

if TYPE_CHECKING:
    pass


class InvalidCursorError(ValueError):
    """A cursor that this API did not give out for this question."""


def _cursor(key: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([key["pk"]["S"], key["sk"]["S"]]).encode()).decode()


def _from_cursor(cursor: str, pk: str, first: str, last: str) -> Key:
    try:
        given = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        key = Key(*given)
        valid = key.pk == pk and first <= key.sk <= last and key.sk.isascii()
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidCursorError("the cursor is not one of this API's") from error
    if not valid:
        raise InvalidCursorError("the cursor belongs to another question")
    return key
