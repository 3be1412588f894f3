"""What a check of `doctor` finds: it is fine, it is trouble and there is something to do, or it could not be asked."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from marketplace_saas_cli.aws import ASKING, why_unasked
from marketplace_saas_cli.exits import CliError
from marketplace_saas_cli.session import Session

type Result = Literal["fine", "trouble", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about one subject; `do` says what to do about trouble."""

    subject: str
    result: Result
    text: str
    do: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


type Check = Callable[[Session], Iterator[Finding]]


def fine(subject: str, text: str) -> Finding:
    return Finding(subject, "fine", text)


def trouble(subject: str, text: str, do: str) -> Finding:
    return Finding(subject, "trouble", text, do)


def unknown(subject: str, text: str) -> Finding:
    return Finding(subject, "unknown", text)


def asked(check: Check, session: Session, subject: str) -> list[Finding]:
    """What a check finds; that it could not be asked when AWS gives no answer, with what it found before."""
    found: list[Finding] = []
    try:
        found.extend(check(session))
    except ASKING as error:
        found.append(unknown(subject, why_unasked(error)))
    except CliError as error:
        found.append(unknown(subject, str(error)))
    return found
