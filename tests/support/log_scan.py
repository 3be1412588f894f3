"""Reads every line that a function's logger writes in any test, and fails the test that had an identifier of a buyer or
a secret logged. What operators see beside the application must not tell who bought what (docs/security.md).

It sees what is logged in the test's own process. The functions of the local stack run in others: a test there reads
their log.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

FORBIDDEN: Mapping[str, re.Pattern[str]] = {
    "an e-mail address": re.compile(r"[^\s@\"]+@[^\s@\"]+\.[^\s@\"]+"),
    "an AWS account id": re.compile(r"(?<![\w.-])[0-9]{12}(?![\w.-])"),
    "a licence ARN": re.compile(r"license-manager|license:l-"),
    "a legacy customer identifier": re.compile(r"\bcust-\w+|CUSTOMER_IDENTIFIER"),
    "a registration code": re.compile(r"(?<![\w-])(?=\S*[A-Z_])[A-Za-z0-9_-]{32}(?![\w-])"),
    "a registration token": re.compile(r"x-amzn-marketplace-token|\btoken-[\w-]+|(?<![\w+/])[A-Za-z0-9+/]{80,}={0,2}"),
    "a session's credentials": re.compile(r"\bASIA[A-Z0-9]{12,}|secret-of-the-session|token-of-the-session"),
}

ALLOWED = frozenset({"timestamp", "function_arn", "seller_account", "session"})
"""Members that name an account by design: the deployment's own, and the one that published the product."""

_lines: list[str] = []
_format = LambdaPowertoolsFormatter.format


def _formatted(self: LambdaPowertoolsFormatter, record: Any) -> str:
    line = _format(self, record)
    _lines.append(line)
    return line


LambdaPowertoolsFormatter.format = _formatted  # type: ignore[method-assign]


def identifiers_in(line: str) -> list[str]:
    """What the values in a log line hold of the above."""
    content = [value for name, value in json.loads(line).items() if name not in ALLOWED]
    text = "\n".join(_texts(content))
    return [what for what, pattern in FORBIDDEN.items() if pattern.search(text)]


def _texts(value: Any) -> Iterator[str]:
    """Every value in a value; the names of members are the application's own."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        yield str(value)
    else:
        for one in inner:
            yield from _texts(one)


@pytest.fixture(autouse=True)
def no_identifier_is_logged() -> Iterator[None]:
    _lines.clear()
    yield
    found = [(what, line) for line in _lines for what in identifiers_in(line)]
    _lines.clear()
    assert not found, f"logged: {found[:3]}"
