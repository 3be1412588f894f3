"""A boto3 client with hooks before and after each call, which record it or make it fail."""

from collections.abc import Callable
from functools import partial
from typing import Any

type Hook = Callable[[str, dict[str, Any]], None]
"""Takes the method's name, such as put_item, and its arguments. What it raises reaches the caller."""

type Repeats = Callable[[str, dict[str, Any]], bool]
"""Whether the answer to a call is lost, so that the SDK makes the call once more."""

_NOT_CALLS = frozenset({"can_paginate", "close", "generate_presigned_post", "generate_presigned_url", "get_waiter"})


def _nothing(name: str, arguments: dict[str, Any]) -> None:
    pass


def _never(name: str, arguments: dict[str, Any]) -> bool:
    return False


class ObservedClient:
    """Forwards everything to `client`. `before` runs before each API call and may prevent it; `after` runs once it has
    succeeded, so what it raises is an answer lost on the way.

    Where `repeated` says so, the call is carried out, its answer is lost, and the SDK makes it again, as botocore's
    standard retry mode does: the caller gets the second answer, so a conditional write meets its own first attempt. A
    transaction is not carried out twice: botocore gives it a ClientRequestToken before the first attempt.
    """

    def __init__(
        self, client: Any, before: Hook = _nothing, after: Hook = _nothing, repeated: Repeats = _never
    ) -> None:
        self._client = client
        self._before = before
        self._after = after
        self._repeated = repeated

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name in _NOT_CALLS or isinstance(found, type) or not callable(found):
            return found
        return partial(self._call, name, found)

    def _call(self, name: str, method: Callable[..., Any], **arguments: Any) -> Any:
        self._before(name, arguments)
        if self._repeated(name, arguments) and name != "transact_write_items":
            method(**arguments)
        answer = method(**arguments)
        self._after(name, arguments)
        return answer

    @property
    def exceptions(self) -> Any:
        return self._client.exceptions
