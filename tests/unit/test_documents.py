"""What the documents point to is there: their links, and the tests that they name as evidence."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT) for path in chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("emulator/*.md"))
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
TEST_NAME = re.compile(r"`(test_\w+)(?:\.py)?`")


def anchors(document: Path) -> set[str]:
    """The places in a document that a link can name, as GitHub makes them of headings."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = []
    for target, anchor in LINK.findall((ROOT / document).read_text()):
        path = (ROOT / document.parent / target) if target else ROOT / document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            dead.append(f"{target}#{anchor}")
    assert dead == []


def test_every_test_that_a_document_names_exists() -> None:
    sources = list(chain(ROOT.glob("tests/**/test_*.py"), ROOT.glob("emulator/tests/test_*.py")))
    there = {source.stem for source in sources}
    for source in sources:
        there.update(re.findall(r"^ *(?:async )?def (test_\w+)", source.read_text(), re.MULTILINE))
    named = {
        (str(document), name) for document in DOCUMENTS for name in TEST_NAME.findall((ROOT / document).read_text())
    }
    assert len(named) > 50
    assert {(document, name) for document, name in named if name not in there} == set()
