"""The pages of a list operation of AWS Marketplace, one after another, and never without an end."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.errors import NoAnswerError

MAX_PAGES = 40
"""A thousand entitlements, at 25 a page; a listing has far fewer dimensions, an agreement fewer terms."""


def pages(operation: Callable[..., Any], token_name: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
    """Every page of the operation's answer; one may be empty and still have a next one (botocore model,
    GetEntitlements). `token_name`: what the operation calls the token of the next page, in requests and answers.

    Raises AwsError: a list that doesn't end is no answer, because nobody knows what is missing from its part.
    """
    token: str | None = None
    for _ in range(MAX_PAGES):
        with classified_errors():
            page = operation(**arguments, **({} if token is None else {token_name: token}))
        yield page
        before, token = token, page.get(token_name)
        if not token:
            return
        if token == before:
            raise NoAnswerError("RepeatedPageToken", "the next page's token is the token of this page")
    raise NoAnswerError("TooManyPages", f"the list goes on after {MAX_PAGES} pages")
