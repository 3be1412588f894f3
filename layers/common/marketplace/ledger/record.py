"""The metering record."""

from typing import Literal

UNSEALED = "-"


_CLEAR = "clear-"


type State = Literal["open", "metered", "held", "rejected", "conflict", "unbillable"]
"""open: waits to be metered. metered: AWS has it. held: AWS said CustomerNotSubscribed; due again on activation.
rejected: AWS refused the record itself. conflict: another sender took the hour. unbillable: AWS takes it no more."""


MAX_TAG_SETS = 2500
"""botocore model, UsageAllocations."""


MAX_ALLOCATION_BYTES = 900_000
"""What the allocations of one record may take, so that every record fits a request alone."""


def cleared(token: str) -> str:
    """The seal once every attempt behind this token has an answer that says: not accepted."""
    return token if token.startswith(_CLEAR) else _CLEAR + token


def in_doubt(seal: str) -> bool:
    return seal != UNSEALED and not seal.startswith(_CLEAR)
