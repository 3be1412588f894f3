"""Files that the command line writes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from marketplace_saas_cli.exits import RefusedError


@contextmanager
def written(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there once it is whole. Raises RefusedError."""
    if path is None:
        yield sys.stdout
        return
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise RefusedError(f"{path} can't be written: {error.strerror}") from error
