"""A statement as a table of plain text, and as CSV."""

import csv
import io
from collections.abc import Iterator

from marketplace.statements.statement import COLUMNS, Correction, Line, Statement, TagSet, Units

HEADER = ("day", "dimension", "tags", "recorded", *COLUMNS)


def tags_text(tags: TagSet) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags)


def as_csv(statement: Statement) -> str:
    """One row for each line, one for each correction; numbers without separators. No cell begins as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", *HEADER))
    for day in statement.days:
        writer.writerows(("line", day.day, *_cells(line)) for line in day.lines)
    writer.writerows(("correction", one.day, *_cells(one)) for one in statement.corrections)
    return text.getvalue()


def as_table(statement: Statement) -> str:
    """The days' totals by dimension and tag set, then the month's, in columns."""
    rows = [HEADER]
    for day in statement.days:
        rows += [(day.day, line.dimension, tags_text(line.tags), *_numbers(line.units)) for line in day.lines]
    rows += [("total", name, "", *_numbers(units)) for name, units in statement.totals]
    rows += [
        (f"{one.day} corrected", one.dimension, tags_text(one.tags), *_numbers(one.change))
        for one in statement.corrections
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(_row(row, widths) for row in rows) + "\n"


def _row(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _numbers(units: Units) -> Iterator[str]:
    yield from (f"{value:,}" for value in units.as_json().values())


def _cells(row: Line | Correction) -> tuple[object, ...]:
    units = row.units if isinstance(row, Line) else row.change
    return (_harmless(row.dimension), _harmless(tags_text(row.tags)), *units.as_json().values())


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text
