"""Reads AWS's JSON as it may come: tolerant of the shape of a value, strict about its meaning.

The same statement of AWS arrives in several shapes, depending on the service, the forwarding and the sample that
somebody started from (events/variants/ holds a corpus). A member may be

- named with other capitals, hyphens or underscores (`detail-type`, `DetailType`, `customer-identifier`,
  `CustomerIdentifier`);
- JSON text in place of the object that it describes;
- a list of one in place of its only element;
- null, empty, blank, or the word for nothing in some language (`"null"`): all of them mean that it is absent;
- beside others that nobody knows.

What could mean two things is absent as well: two spellings of one name with different values, a list of several, a
number where an identifier is text (it may have lost leading zeros), an account id that is not one. Nothing here raises.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

_NESTED = 5
"""How many layers of text and lists are taken off a value. SNS, SQS and EventBridge add two."""
_NOTHING = frozenset({"", "null", "none", "nil", "undefined"})
_YES, _NO = frozenset({"true", "1"}), frozenset({"false", "0"})
_ACCOUNT = re.compile(r"[0-9]{12}|[0-9]{4}-[0-9]{4}-[0-9]{4}", re.ASCII)
_LICENSE_ARN = re.compile(r"(?:arn:)?aws[a-z-]*:license-manager:[!-~]+")
"""The Seller Guide prints it without `arn:` too (marketplace.subscriptions.identity)."""
_AGREEMENT_ID = re.compile(r"[A-Za-z0-9_/-]{1,64}")
"""botocore model of marketplace-agreement, ResourceId."""
_DIGITS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
_SECONDS, _MILLISECONDS = range(10**9, 10**10), range(10**12, 10**13)
"""Numbers that are a time after 1970: the years 2001 to 2286, in either unit, and never the same number in both."""


class Members:
    """The members of one JSON object. `kept`: the object as it came."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self.kept = kept
        self._values: dict[str, Any] = {}
        contradicted: set[str] = set()
        for given_name, given in kept.items():
            name, value = _plain(given_name), unwrapped(given)
            if _is_absent(value):
                continue
            if self._values.setdefault(name, value) != value:
                contradicted.add(name)
        for name in contradicted:
            del self._values[name]

    @classmethod
    def of(cls, value: object) -> Self | None:
        """The members of a value that is a JSON object in some shape; None when it is not."""
        content = unwrapped(value)
        return cls(content) if isinstance(content, dict) else None

    def __contains__(self, name: str) -> bool:
        return _plain(name) in self._values

    def value(self, name: str) -> object:
        """A member as it is; None when it is absent."""
        return self._values.get(_plain(name))

    def object(self, name: str) -> "Members":
        """A member that is an object; one without members when it is not."""
        value = self._values.get(_plain(name))
        return Members(value if isinstance(value, dict) else {})

    def part(self, name: str, member: str) -> "Members":
        """A member that is an object, or a text in place of that object's one telling member."""
        value = self._values.get(_plain(name))
        if isinstance(value, dict):
            return Members(value)
        return Members({member: value} if isinstance(value, str) else {})

    def text(self, name: str) -> str | None:
        """A text without surrounding blanks. A number is none: as an identifier it may have lost leading zeros."""
        value = self._values.get(_plain(name))
        return value.strip() if isinstance(value, str) and value.strip().isprintable() else None

    def account(self, name: str) -> str | None:
        """An AWS account id, as text of twelve digits. A number is one too: as all have twelve digits, the leading
        zeros that it has lost are known."""
        value = self._values.get(_plain(name))
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**12:
            return f"{value:012d}"
        text = self.text(name) or ""
        return text.replace("-", "") if _ACCOUNT.fullmatch(text) else None

    def license_arn(self, name: str) -> str | None:
        """The ARN of a licence, in one of the forms in which AWS prints it."""
        return self._matching(name, _LICENSE_ARN)

    def agreement_id(self, name: str) -> str | None:
        return self._matching(name, _AGREEMENT_ID)

    def flag(self, name: str) -> bool | None:
        """Yes or no, as a boolean or as text; None when it says neither."""
        word = str(self._values.get(_plain(name))).strip().lower()
        return True if word in _YES else False if word in _NO else None

    def milliseconds(self, name: str) -> int | None:
        """A moment, in milliseconds since the epoch: ISO 8601 (in UTC when it names no zone), the form of HTTP and
        mail, or a number of seconds or milliseconds."""
        value = self._values.get(_plain(name))
        text = str(value).strip()
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            return None
        if _DIGITS.fullmatch(text):
            return _from_number(float(text))
        return _from_text(text)

    def _matching(self, name: str, form: re.Pattern[str]) -> str | None:
        text = self.text(name)
        return text if text is not None and form.fullmatch(text) else None


def unwrapped(value: object) -> object:
    """The value without the text and the lists of one that it is wrapped in."""
    for _ in range(_NESTED):
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        elif isinstance(value, str) and value.lstrip()[:1] in {"{", "[", '"'}:
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return value
        else:
            return value
    return value


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()


def _is_absent(value: object) -> bool:
    return value is None or value in ([], {}) or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _from_number(number: float) -> int | None:
    if int(number) in _SECONDS:
        return round(number * 1000)
    return int(number) if int(number) in _MILLISECONDS else None


def _from_text(text: str) -> int | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
            since_epoch = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
        except (ValueError, OverflowError):
            continue
        # An agreement without an end runs to the year 9999.
        return since_epoch.days * 86_400_000 + since_epoch.seconds * 1000 + since_epoch.microseconds // 1000
    return None
