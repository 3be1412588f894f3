"""A statement as the seller API answers it, page by page, put together again.

It is asked of the API and not read from the tables, because the first reader of a closed month freezes it, and that is
the application's to write.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import marketplace_saas_client.operations as api
from marketplace.statements.statement import Correction, Day, Line, Statement, Units
from marketplace_saas_cli.exits import NoAnswerError
from marketplace_saas_cli.session import Session

PAGE = 1000


def statement_of(session: Session, subscription_id: str, month: str) -> Statement:
    """The statement of a month such as `2026-11`. Raises RefusedError and NoAnswerError."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for part in session.output.each(_parts(session, subscription_id, month), "days"):
        parts.setdefault(part["day"], []).append(part)
    return Statement(subscription_id, month, [_day(name, found) for name, found in parts.items()])


def as_json(statement: Statement) -> dict[str, Any]:
    """The whole statement as plain JSON values."""
    return {
        "subscription_id": statement.subscription_id,
        "month": statement.month,
        "closed": statement.closed,
        "totals": _totals(statement.totals),
        "days": [
            {
                "day": day.day,
                "closed": day.closed,
                "lines": [line.as_json() for line in day.lines],
                "totals": _totals(day.totals),
            }
            for day in statement.days
        ],
        "corrections": [one.as_json() for one in statement.corrections],
    }


def _parts(session: Session, subscription_id: str, month: str) -> Iterator[Mapping[str, Any]]:
    """The days of every page; a day may go on on the next page."""
    cursor: str | None = None
    while True:
        page = session.call(api.get_statement(subscription_id, month=month, limit=PAGE, cursor=cursor))
        yield from page["days"]
        cursor = page["cursor"]
        if cursor is None:
            return


def _day(name: str, parts: list[Mapping[str, Any]]) -> Day:
    """One day of its parts. Raises NoAnswerError when it has changed between two pages: its lines don't add up then."""
    day = Day(
        name,
        [Line.from_json(line) for part in parts for line in part["lines"]],
        closed=parts[-1]["closed"],
        corrections=[_correction(one) for part in parts for one in part["corrections"]],
    )
    if day.totals != [(total["dimension"], Units.from_json(total)) for total in parts[-1]["totals"]]:
        raise NoAnswerError(f"the usage of {name} has changed while it was read")
    return day


def _correction(values: Mapping[str, Any]) -> Correction:
    tags = tuple(sorted(values["tags"].items()))
    return Correction(values["day"], values["dimension"], tags, Units.from_json(values))


def _totals(totals: list[tuple[str, Units]]) -> list[dict[str, Any]]:
    return [{"dimension": name, **units.as_json()} for name, units in totals]
