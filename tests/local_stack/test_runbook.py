"""The screens of docs/operations.md are what the commands print, and every command of the documents is one."""

import re
import shlex
from collections.abc import Iterator

import pytest

from marketplace_saas_cli import context
from marketplace_saas_cli.__main__ import main
from tests.local_stack.runbook import DOCUMENT, blocks, played
from tools.template import ROOT

SHOWN = blocks(DOCUMENT.read_text())
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES = sorted(
    {
        line.strip().removeprefix("$ ").split("  #")[0]
        for path in DOCUMENTS
        for line in path.read_text().replace("\\\n", " ").splitlines()
        if re.match(r"\s*(\$ )?marketplace-saas ", line)
    }
)


@pytest.fixture(scope="module")
def screens() -> Iterator[dict[str, str]]:
    with played() as screens:
        yield screens


@pytest.mark.parametrize("label", sorted(SHOWN))
def test_a_screen_of_the_runbook_is_real(screens: dict[str, str], label: str) -> None:
    assert SHOWN[label] == screens[label], "make screens writes it anew"


def test_every_screen_is_shown(screens: dict[str, str]) -> None:
    assert SHOWN.keys() == screens.keys()


class AskedError(Exception):
    """The command has read its arguments, and asks for the deployment."""


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_documents_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: object, line: str) -> None:
    def asked(*_: object) -> None:
        raise AskedError

    monkeypatch.setattr(context, "connect", asked)
    monkeypatch.setattr("marketplace_saas_cli.commands.usage.UsageFile.checked", asked)
    with pytest.raises(AskedError):
        main([*shlex.split(line)[1:], "--stack", "shop"])


def test_there_are_commands_to_understand() -> None:
    assert len(LINES) > 15
