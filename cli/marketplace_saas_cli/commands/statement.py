"""`statement`: what one buyer used in a month, as a table, CSV, HTML or JSON."""

import json
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from marketplace.platform.clock import iso
from marketplace.statements.statement import Statement
from marketplace.statements.text import as_csv, as_table
from marketplace_saas_cli import walks
from marketplace_saas_cli.commands.options import Identifier
from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.files import written
from marketplace_saas_cli.statement_document import as_html
from marketplace_saas_cli.statements import as_json, statement_of

type Form = Literal["table", "csv", "html", "json"]
_SUFFIXES: dict[str, Form] = {".txt": "table", ".csv": "csv", ".html": "html", ".json": "json"}


def statement(
    context: typer.Context,
    subscription_id: Identifier,
    month: Annotated[str | None, typer.Option(help="such as 2026-11; the present month without it")] = None,
    form: Annotated[
        Literal["table", "csv", "html", "json"] | None,
        typer.Option("--format", help="by the name of --file without it"),
    ] = None,
    to: Annotated[Path | None, typer.Option("--file", help=".txt, .csv, .html or .json; else standard output")] = None,
    title: Annotated[str, typer.Option(help="whose it is, for the head of the HTML document")] = "",
) -> None:
    """What a buyer used in a month, by day, dimension and tag set, and what became of it."""
    chosen = _form(form, to, as_json=context.obj.common.as_json)
    session = session_of(context)
    walks.subscription(session, subscription_id)
    found = statement_of(session, subscription_id, month or iso(session.now)[:7])
    with written(to) as file:
        file.write(_text(found, chosen, title))
    if to is not None:
        session.output.note(f"written to {to}")


def _form(form: Form | None, to: Path | None, *, as_json: bool) -> Form:
    """How the statement is shown. Raises RefusedError."""
    if form is not None:
        if as_json and to is None and form != "json":
            raise RefusedError("--json and --format exclude each other")
        return form
    if to is None:
        return "json" if as_json else "table"
    known = _SUFFIXES.get(to.suffix.lower())
    if known is None:
        forms = ", ".join(get_args(Form.__value__))
        raise RefusedError(f"{to.name} ends in none of {', '.join(_SUFFIXES)}; --format says which of {forms} it is")
    return known


def _text(found: Statement, form: Form, title: str) -> str:
    if form == "csv":
        return as_csv(found)
    if form == "html":
        return as_html(found, title)
    if form == "json":
        return f"{json.dumps(as_json(found), indent=2)}\n"
    state = "closed" if found.closed else "open: usage may still be added or settled"
    head = f"{found.subscription_id}, {found.month}, {state}\n"
    return head + (as_table(found) if found.days else "no usage\n")
