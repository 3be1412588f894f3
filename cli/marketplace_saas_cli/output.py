"""What the command line shows: tables for people, or one JSON document. Results go to standard output; progress,
questions and what went wrong go to standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from marketplace_saas_cli.exits import NotConfirmedError

WIDTH = 120
"""Characters of a line where no terminal says another width."""

_UNLIMITED = 100_000


class Output:
    """Shows results once, and asks before a change. `ask` returns what a person answers; None where nobody can be
    asked."""

    def __init__(
        self, *, as_json: bool = False, yes: bool = False, ask: Callable[[str], str | None] | None = None
    ) -> None:
        self.as_json = as_json
        self._yes = yes
        self._ask = ask or _asked_at_the_terminal
        self._console = _console(sys.stdout)
        self._notes = _console(sys.stderr)

    def show(self, data: Any, *human: Any) -> None:
        """The result: `data` as JSON, or the rest for people, texts and tables one below the other."""
        if self.as_json:
            sys.stdout.write(f"{json.dumps(data, indent=2)}\n")
            return
        for one in human:
            if isinstance(one, Table):
                self._show_table(one)
            else:
                self._console.print(one, highlight=False, markup=False, soft_wrap=True)

    def _show_table(self, shown: Table) -> None:
        """A value that is copied must be whole, so a line may be longer than the terminal is wide."""
        width = self._console.width
        needed = Measurement.get(self._console, self._console.options.update(width=_UNLIMITED), shown).minimum
        self._console.width = max(width, needed)
        self._console.print(shown, highlight=False)
        self._console.width = width

    def note(self, text: str) -> None:
        """What goes beside the result."""
        self._notes.print(text, highlight=False, markup=False, soft_wrap=True)

    def confirm(self, data: Any, *preview: Any, question: str = "Do this?") -> None:
        """Shows what would change, and returns when it is confirmed. Raises NotConfirmedError."""
        if not self.as_json:
            self.show(data, *preview)
        if self._yes:
            return
        answer = None if self.as_json else self._ask(f"{question} [y/N] ")
        if answer is not None and answer.strip().lower() in {"y", "yes"}:
            return
        if self.as_json:
            self.show({"changed": False, "preview": data})
        raise NotConfirmedError("nothing was changed; --yes confirms it")

    def each[T](self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The items, with a line on a terminal that says how far the work is."""
        if self.as_json or not self._notes.is_terminal:
            yield from items
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._notes, transient=True) as progress:
            yield from progress.track(items, total=total, description=what)


def table(rows: Sequence[Mapping[str, Any]], *columns: str, title: str | None = None) -> Table | str:
    """Rows under the names of the columns; numbers stand to the right, and a column without any value is left out.
    Without a row it is the word `nothing`."""
    if not rows:
        return f"{title}: nothing" if title else "nothing"
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    shown = [column for column in columns if any(_cell(row.get(column)) for row in rows)]
    for column in shown:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        name, whole = column.replace("_", " "), column not in _FOLDED
        made.add_column(
            name,
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=whole,
            min_width=max(map(cell_len, (name, *(_cell(row.get(column)) for row in rows)))) if whole else None,
        )
    for row in rows:
        made.add_row(*(_cell(row.get(column)) for column in shown))
    return made


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 message`, `2 messages`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


_FOLDED = frozenset({"means", "effect", "found", "do", "detail", "reason", "sent_by", "aws", "title", " "})
"""Columns of prose and of long names, which are folded; the others hold values that are copied."""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _console(file: Any) -> Console:
    console = Console(file=file, markup=False)
    return console if console.is_terminal else Console(file=file, markup=False, width=WIDTH)


def _asked_at_the_terminal(question: str) -> str | None:
    if not sys.stdin.isatty():
        return None
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline()
