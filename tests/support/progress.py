"""The progress of a long command, on its standard error output: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

_LINES = 10
"""So many lines a command writes where its output is no terminal."""


def tracked[Thing](things: Iterable[Thing], description: str, total: int) -> Iterator[Thing]:
    """The things, `total` of them; the progress moves on whenever the next one is asked for."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        # Rich would write what is printed meanwhile to the console, so only where that is the same terminal.
        with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
            yield from progress.track(things, total, description=description)
        return
    every = max(1, total // _LINES)
    for number, thing in enumerate(things, 1):
        yield thing
        if number % every == 0:
            console.print(f"{description}: {number:,} of {total:,}", highlight=False, soft_wrap=True)
