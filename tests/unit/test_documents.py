"""What the documents point to exists: their links, the files and modules that they name, and the tests that they name
as evidence. Decisions have a number, a date and a status, and the index lists them all."""

import re
import tomllib
from datetime import date
from itertools import chain
from pathlib import Path

import pytest

from tools.documents import LINK, documents

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = documents()
TEST_NAME = re.compile(r"`(test_\w+)(?:\.py)?`")
FILE_NAME = re.compile(r"`((?:[\w-]+/)+(?:[\w.-]+\.(?:py|md|json|yaml|toml))?)`")
"""A path in backquotes: a folder with its last slash, or a file with its ending."""
MODULE_NAME = re.compile(r"\bmarketplace((?:\.[a-z_]+)+)")
WRITTEN_BY_MAKE = {"events/env.json"}
FOLDERS = (ROOT, ROOT / "layers/common", ROOT / "layers/common/marketplace")
DECISION_NAME = re.compile(r"(\d{4})-(\d{4}-\d{2}-\d{2})-(accepted|superseded|refused)-[a-z0-9]+(?:-[a-z0-9]+)*\.md")
DECISIONS = ROOT / "docs/decisions"


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


def test_every_file_that_a_document_names_exists() -> None:
    named = {
        (str(document), name)
        for document in DOCUMENTS
        for name in FILE_NAME.findall((ROOT / document).read_text())
        if name not in WRITTEN_BY_MAKE
    }
    assert len(named) > 50
    assert {(document, name) for document, name in named if not named_exists(document, name)} == set()


def named_exists(document: str, name: str) -> bool:
    """A document names a file from the repository's root, from the layer, or from its own folder."""
    return any((folder / name).exists() for folder in (*FOLDERS, (ROOT / document).parent))


def test_every_module_that_a_document_names_exists() -> None:
    named = {
        (str(document), name)
        for document in DOCUMENTS
        for name in MODULE_NAME.findall((ROOT / document).read_text())
        if name != ".saas"  # the source of the seller's events
    }
    assert named
    assert {(document, name) for document, name in named if not module_exists(name)} == set()


def module_exists(name: str) -> bool:
    """Whether a dotted name below `marketplace` is a module or a package, or a name that a module defines."""
    path = FOLDERS[-1].joinpath(*name.strip(".").split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent.with_suffix(".py")
    defined = rf"^(?:def |class )?{path.name}\b"
    return module.exists() and re.search(defined, module.read_text(), re.MULTILINE) is not None


def decisions() -> list[Path]:
    return sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")


def test_decisions_are_numbered_without_a_gap_in_the_order_of_their_dates() -> None:
    parts = [DECISION_NAME.fullmatch(path.name) for path in decisions()]
    assert [path.name for path, part in zip(decisions(), parts, strict=True) if part is None] == []
    assert [int(part[1]) for part in parts if part] == list(range(1, len(parts) + 1))
    dates = [date.fromisoformat(part[2]) for part in parts if part]
    assert dates == sorted(dates)


@pytest.mark.parametrize("decision", decisions(), ids=lambda path: path.name[:4])
def test_a_decision_repeats_number_date_and_status_of_its_name(decision: Path) -> None:
    number, day, status = decision.name[:4], decision.name[5:15], decision.name.split("-")[4]
    title, blank, front, *_ = decision.read_text().splitlines()
    assert title.startswith("# ")
    assert (blank, front) == ("", f"Decision {number}, {day}, {status}.")
    assert "**What.**" in decision.read_text()


def test_the_index_lists_every_decision_with_its_number_date_status_and_title() -> None:
    rows = re.findall(
        r"^\| (\d{4}) \| ([\d-]{10}) \| (\w+) \| [^|]+ \| \[(.+)\]\((.+)\) \|$",
        (DECISIONS / "README.md").read_text(),
        re.MULTILINE,
    )
    assert rows == [
        (
            path.name[:4],
            path.name[5:15],
            path.name.split("-")[4],
            path.read_text().splitlines()[0].removeprefix("# "),
            path.name,
        )
        for path in decisions()
    ]


def test_the_architecture_describes_every_package_of_the_floors() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    packages = {package for floor in floors for package in floor.split(" | ")}
    section = (ROOT / "docs/architecture.md").read_text().split("## The floors")[1].split("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == packages
    drawn = re.split(r"\n +-{20,}\n", section.split("```")[1])[1:]
    names = [set(re.findall(r" {3}(\w+)(?= {2}|$)", floor.splitlines()[0])) for floor in drawn]
    assert names == [set(floor.split(" | ")) for floor in floors]
