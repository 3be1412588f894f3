"""Moments as callers write them: the one reader for times in bodies and queries."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, Field

_HOUR = "(?:[01][0-9]|2[0-3])"
_MINUTE = "[0-5][0-9]"
_FORM = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt]({_HOUR}:{_MINUTE})(?::({_MINUTE}|60)(?:\.([0-9]{{1,9}}))?)?"
    rf"(?:[Zz]|([+-]{_HOUR}):?({_MINUTE}))"
)
_LOST_PLUS = re.compile(r"[^ ]+[Tt][^ ]+ [0-9]{2}:?[0-9]{2}")


def moment_of(text: object) -> datetime:
    """The moment, in UTC, that an ISO 8601 text with a UTC offset names, such as `2026-11-22T14:05:00Z`.

    The seconds may be left out, or have a fraction of up to nine digits, of which six count. The offset is `Z`,
    `+hh:mm` or `+hhmm`. `t` and `z` may be small letters (RFC 3339). Nothing else is taken: no number, also not as a
    text, because its unit would be a guess; no date alone, no time without an offset, no space in place of the `T`, no
    hour 24, and no second 60, which clocks that count seconds since 1970 do not have.

    Raises ValueError whose text is for the caller.
    """
    if not isinstance(text, str):
        raise ValueError("must be a text: ISO 8601 with a UTC offset, such as 2026-11-22T14:05:00Z")
    found = _FORM.fullmatch(text)
    if found is None:
        if _LOST_PLUS.fullmatch(text):
            raise ValueError("the + of the UTC offset arrived as a space: write %2B in place of + in a query, or use Z")
        raise ValueError("must be ISO 8601 with a UTC offset, such as 2026-11-22T14:05:00Z or 2026-11-22T15:05+01:00")
    day, minute, second, fraction, hours, minutes = found.groups()
    if second == "60":
        raise ValueError("the second must be 00 to 59; report a leap second as second 59")
    offset = f"{hours}:{minutes}" if hours else "+00:00"
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:{second or '00'}.{fraction or '0':0<6.6}{offset}")
        return moment.astimezone(UTC)
    except ValueError as error:
        raise ValueError("there is no such day") from error
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


type Moment = Annotated[
    AwareDatetime, BeforeValidator(moment_of), Field(description="ISO 8601 with a UTC offset; no number.")
]
"""A member of a model that `moment_of` reads."""
