"""The arguments that several commands have."""

from typing import Annotated

import typer

from marketplace_saas_cli.exits import RefusedError


def _not_blank(text: str) -> str:
    if not text.strip():
        raise RefusedError("--reason must not be blank")
    return text.strip()


Identifier = Annotated[str, typer.Argument(help="the id of a subscription, sub-...", metavar="SUBSCRIPTION")]
Reason = Annotated[str, typer.Option("--reason", help="why; it is kept", callback=_not_blank)]
OfSubscription = Annotated[
    str | None, typer.Option("--subscription", help="only this subscription; it is found faster then")
]
OfDimension = Annotated[str | None, typer.Option("--dimension", help="only usage of this dimension")]
From = Annotated[str | None, typer.Option("--from", help="from this time on, ISO 8601 with a UTC offset")]
To = Annotated[str | None, typer.Option("--to", help="to before this time")]
