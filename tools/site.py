"""The documentation site: the repository's documents and the pages written from the API's documents, as HTML that
needs nothing from elsewhere. `make docs` runs it; decision 0064 says why Sphinx.

python -m tools.site    build build/site/index.html; a dead link is an error, and so is an asset of another host
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tools import reference, versions
from tools.documents import LINK, documents
from tools.template import ROOT

SPHINX = ROOT / ".tools" / "docs" / "bin" / "python"
SITE, SOURCE = ROOT / "build" / "site", ROOT / "build" / "site-source"
SETTINGS = Path("docs/site")
START = Path("README.md")
CONTENTS = {START: "contents.myst", Path("docs/decisions/README.md"): "decisions.myst"}
"""Documents that others stand below in the site's menu, and the file that names these."""
WRITTEN: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "docs/openapi.json": reference.openapi_page,
    "docs/asyncapi.json": reference.asyncapi_page,
}
MOVED = {str(START): "index.md", **{name: name.replace(".json", ".md") for name in WRITTEN}}
"""What a link to a file leads to on the site, if not to the file: the start page, and the written pages."""
_PLACE = re.compile(r'<a id="([^"]+)"></a>')
_ASSETS = {"src", "srcset", "poster", "data", "action"}
_NOT_LOADED = {"author", "next", "prev", "search", "index"}
_CSS_ADDRESS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)")


class SiteError(Exception):
    """The site could not be built as it should be."""


def stage(source: Path, root: Path = ROOT) -> None:
    """Put what Sphinx reads into a folder: every document where it lies in the repository, and every file it links to.

    Raises SiteError for a link to a file that is not there.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / SETTINGS, source / SETTINGS)
    for document in documents(root):
        text, linked = _staged(document, root)
        for file in linked:
            (source / file.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, source / file)
        if document in CONTENTS:
            text += (root / SETTINGS / CONTENTS[document]).read_text()
        target = source / MOVED.get(str(document), document)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for name, written in WRITTEN.items():
        shutil.copyfile(root / name, source / name)
        (source / MOVED[name]).write_text(written(json.loads((root / name).read_text())))


def _staged(document: Path, root: Path) -> tuple[str, set[Path]]:
    """A document as Sphinx reads it, and the files that it links to and that are no documents."""
    folder = root / document.parent
    linked: set[Path] = set()

    def leading(link: re.Match[str]) -> str:
        target, place = link.groups()
        if not target:
            return link[0]
        path = Path(os.path.normpath(folder / target))
        if not path.is_relative_to(root) or not path.exists():
            raise SiteError(f"{document}: there is no {target}")
        name = str(path.relative_to(root))
        if path.suffix != ".md" and path.is_file() and name not in WRITTEN:
            linked.add(path.relative_to(root))
        shown = os.path.relpath(root / MOVED.get(name, name), folder)
        return f"{shown}#{place}" if place else shown

    text = LINK.sub(leading, (root / document).read_text())
    return _PLACE.sub(r"[]{#\1}", text), linked


def build(source: Path = SOURCE, site: Path = SITE) -> None:
    """Build the site from the staged folder. Raises SiteError with what Sphinx says."""
    shutil.rmtree(site, ignore_errors=True)
    command = (str(SPHINX), "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--fresh-env")
    folders = ("--conf-dir", str(source / SETTINGS), "--doctree-dir", f"{source}-read", str(source), str(site))
    done = subprocess.run(
        [*command, *folders],
        env={**os.environ, "SITE_VERSION": versions.version()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SiteError(done.stderr.replace(f"{source}/", "").strip())


class _References(HTMLParser):
    """What a page links to, loads, and can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if not value:
                continue
            if name in {"id", "name"}:
                self.places.add(value)
            if name == "href" and tag == "a":
                self.links.append(value)
            elif name in _ASSETS or (name == "href" and dict(attrs).get("rel") not in _NOT_LOADED):
                self.assets.append(value)
            elif name == "style":
                self.assets += _CSS_ADDRESS.findall(value)


def problems(site: Path) -> list[str]:
    """Dead links and assets of other hosts in what was built."""
    pages = {page: _read(page) for page in sorted(site.rglob("*.html"))}
    found = []
    for page, read in pages.items():
        here = page.relative_to(site)
        found += [f"{here}: dead link {link}" for link in read.links + read.assets if _is_dead(page, link, pages)]
        found += [f"{here}: an asset from elsewhere, {one}" for one in read.assets if _is_elsewhere(one)]
    for sheet in sorted(site.rglob("*.css")):
        found += [f"{sheet.relative_to(site)}: {one}" for one in _CSS_ADDRESS.findall(sheet.read_text())]
    return found


def _read(page: Path) -> _References:
    read = _References()
    read.feed(page.read_text())
    return read


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def _is_dead(page: Path, link: str, pages: Mapping[Path, _References]) -> bool:
    """Whether a link to a place of this site leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not target.is_file():
        return True
    return bool(parts.fragment) and target in pages and unquote(parts.fragment) not in pages[target].places


def listed(lines: list[str]) -> Iterator[str]:
    """The first lines of a long list, and how many more there are."""
    yield from lines[:50]
    if len(lines) > 50:
        yield f"and {len(lines) - 50} more"


def main() -> None:
    """Build the site and check it."""
    try:
        stage(SOURCE)
        build()
    except SiteError as error:
        sys.exit(f"docs: {error}")
    if wrong := problems(SITE):
        sys.exit("docs: " + "\n".join(listed(wrong)))
    print(f"docs: open {(SITE / 'index.html').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
