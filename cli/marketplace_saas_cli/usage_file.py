"""A file of usage records, CSV or JSON Lines, read line by line: its size does not matter, that of a line is bounded.

CSV has one record a line below a line that names the columns: `id`, `subscription_id` or `license_arn`, `dimension`,
`quantity`, and if there is one `timestamp`. A column `tag:team` holds the value of the tag `team`; an empty cell is no
tag. JSON Lines has one object a line, as `POST /usage` takes it.
"""

import csv
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marketplace.usage.record import Rejection
from marketplace.usage.report import UsageReport, parsed
from marketplace_saas_cli.exits import RefusedError

MAX_LINE = 65_536
"""Bytes. A record with five tags of the greatest length takes less than 3,000."""
MAX_RECORDS = 2_000_000
SHOWN = 20
"""Mistakes that are named; the rest are counted."""
_COLUMNS = ("id", "subscription_id", "license_arn", "dimension", "quantity", "timestamp")
_TAG = "tag:"


@dataclass(frozen=True, slots=True)
class Line:
    """One record, and the line of the file that holds it."""

    number: int
    record: dict[str, Any]


class LineError(ValueError):
    """A line can't be read; the text says why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")


@dataclass(slots=True)
class Contents:
    """What a file holds: how many records, and the units by dimension. `digest` names its content."""

    digest: str = ""
    records: int = 0
    units: dict[str, int] = field(default_factory=dict)
    subscriptions: set[str] = field(default_factory=set)


class UsageFile:
    """A file by its path. Methods raise RefusedError when it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix.lower() not in {".csv", ".jsonl"}:
            raise RefusedError(f"{path.name} is neither .csv nor .jsonl")

    def checked(self) -> Contents:
        """What the file holds. Raises RefusedError that names the lines that are wrong."""
        contents, first_lines, problems = Contents(), dict[str, int](), list[str]()
        wrong = 0
        for line in self._lines():
            why = str(line) if isinstance(line, LineError) else _added(line, contents, first_lines)
            if why:
                wrong += 1
                problems += [why] if wrong <= SHOWN else []
            if contents.records + wrong > MAX_RECORDS:
                raise RefusedError(f"{self.path} holds more than {MAX_RECORDS:,} records; split it")
        if wrong > SHOWN:
            problems.append(f"and {wrong - SHOWN} more lines")
        if not contents.records and not wrong:
            problems.append("the file holds no record")
        if problems:
            raise RefusedError("\n  ".join([f"nothing of {self.path} is sent:", *problems]))
        contents.digest = self._digest()
        return contents

    def lines(self) -> Iterator[Line]:
        """The records of a file that was checked."""
        for line in self._lines():
            if isinstance(line, LineError):
                raise RefusedError(f"{self.path} has changed since it was checked: {line}")
            yield line

    def _digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _lines(self) -> Iterator[Line | LineError]:
        try:
            with self.path.open("rb") as file:
                texts = _texts(file)
                yield from _csv(texts) if self.path.suffix.lower() == ".csv" else _json(texts)
        except OSError as error:
            raise RefusedError(f"{self.path} can't be read: {error.strerror}") from error


def _added(line: Line, contents: Contents, first_lines: dict[str, int]) -> str | None:
    """Adds a record to what the file holds, or says what is wrong with it."""
    report = parsed(line.record)
    if isinstance(report, Rejection):
        return f"line {line.number}: {report.message}"
    name = f"{report.named_subscription}/{report.id}"
    before = first_lines.setdefault(name, line.number)
    if before != line.number:
        return f"line {line.number}: the id {report.id} of line {before} again"
    _count(report, contents)
    return None


def _count(report: UsageReport, contents: Contents) -> None:
    contents.records += 1
    contents.units[report.dimension] = contents.units.get(report.dimension, 0) + report.quantity
    contents.subscriptions.add(report.named_subscription)


def _texts(file: Any) -> Iterator[tuple[int, str | LineError]]:
    """The lines of a file with their numbers; never more than MAX_LINE bytes are held."""
    for number in itertools.count(1):
        content = file.readline(MAX_LINE + 1)
        if not content:
            return
        if len(content) > MAX_LINE:
            while content and not content.endswith(b"\n"):
                content = file.readline(MAX_LINE)
            yield number, LineError(number, f"it is longer than {MAX_LINE:,} bytes")
            continue
        try:
            text = content.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            yield number, LineError(number, "it is not UTF-8")
            continue
        if text.strip():
            yield number, text


def _json(texts: Iterator[tuple[int, str | LineError]]) -> Iterator[Line | LineError]:
    for number, text in texts:
        if isinstance(text, LineError):
            yield text
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            yield LineError(number, "it is not JSON")
            continue
        yield Line(number, record) if isinstance(record, dict) else LineError(number, "it is no JSON object")


def _csv(texts: Iterator[tuple[int, str | LineError]]) -> Iterator[Line | LineError]:
    """A record of CSV is one line here: a quoted line break is a mistake, which keeps lines bounded."""
    names: list[str] | None = None
    for number, text in texts:
        if isinstance(text, LineError):
            yield text
            continue
        try:
            cells = [cell.strip() for cell in next(csv.reader([text], strict=True))]
        except csv.Error as error:
            yield LineError(number, f"it is not CSV ({error})")
            continue
        if names is None:
            names = cells
            if why := _wrong_names(names):
                raise RefusedError(f"line {number}: {why}")
        elif len(cells) != len(names):
            yield LineError(number, f"{len(cells)} values for {len(names)} columns")
        else:
            yield _record(number, dict(zip(names, cells, strict=True)))


def _wrong_names(names: list[str]) -> str | None:
    for name in names:
        if name not in _COLUMNS and not (name.startswith(_TAG) and len(name) > len(_TAG)):
            return f"there is no column {name!r}; the columns are {', '.join(_COLUMNS)} and tag:NAME"
    if len(set(names)) < len(names):
        return "a column is there twice"
    missing = {"id", "dimension", "quantity"} - set(names)
    return f"the column {min(missing)} is missing" if missing else None


def _record(number: int, cells: dict[str, str]) -> Line | LineError:
    record: dict[str, Any] = {name: cells[name] for name in _COLUMNS if cells.get(name)}
    quantity = record.get("quantity", "")
    if not (quantity.isascii() and quantity.isdigit() and len(quantity) < 20):
        return LineError(number, f"the quantity {quantity[:40]!r} is not a whole number")
    record["quantity"] = int(quantity)
    tags = {name.removeprefix(_TAG): text for name, text in cells.items() if name.startswith(_TAG) and text}
    return Line(number, {**record, **({"tags": tags} if tags else {})})
