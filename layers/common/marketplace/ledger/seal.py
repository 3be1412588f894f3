"""The seal of a metering record: who may change it, and whether AWS may know it already.

    "-"                       unsealed: usage can still be added
    "<id>@<region>"           sealed, and in doubt: the attempt with this token may have reached AWS in that region, no
                              answer is written down
    "clear-<id>@<region>"     sealed, and no attempt without an answer stands behind it

Every attempt first puts its own token in place of the seal that it saw, so that a slower writer finds another seal.
"""

UNSEALED = "-"
_CLEAR = "clear-"


def cleared(token: str) -> str:
    """The seal once every attempt behind this token has an answer that says: not accepted."""
    return token if token.startswith(_CLEAR) else _CLEAR + token


def withdrawn(seal: str) -> str:
    """The seal of a record that is not to be sent: another one, so that an attempt which has seen the record before
    does not seal it; in doubt if it was."""
    return cleared(f"withdrawn-{seal.removeprefix(_CLEAR)}") if seal.startswith(_CLEAR) else f"withdrawn-{seal}"


def in_doubt(seal: str) -> bool:
    """Whether an attempt stands behind this seal that AWS may have accepted without an answer."""
    return seal != UNSEALED and not seal.startswith(_CLEAR)


def token_in(region: str, attempt: str) -> str:
    """The seal of an attempt, named by an id that never repeats, to send the record to AWS in a region."""
    return f"{attempt}@{region}"
