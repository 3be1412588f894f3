"""The project's documents: which there are, where their links lead, and the commands and programs in them."""

import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tools.template import ROOT

PATTERNS = ("*.md", "docs/**/*.md", "emulator/*.md", "clients/*/README.md", "events/README.md")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?(?=\))")
"""A link's target, as a path and the name of a place in it. The two groups are all that the expression takes."""
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def documents(root: Path = ROOT) -> list[Path]:
    """Every document, as a path from the root."""
    found = chain.from_iterable(root.glob(pattern) for pattern in PATTERNS)
    return sorted(path.relative_to(root) for path in found)


@dataclass(frozen=True)
class Block:
    """A block of code: its document, the line of its first line, its language and its text."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: Path, language: str) -> list[Block]:
    """The blocks of one language, in order, without the indentation of a list they stand in."""
    source = (ROOT / document).read_text()
    return [
        Block(
            document,
            source.count("\n", 0, found.start(3)) + 1,
            language,
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for found in _BLOCK.finditer(source)
        if found[2] == language
    ]
