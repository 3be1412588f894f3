"""The documentation site: built from every document, without a dead link, and without anything of another host."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import Page, page
from tests.support.machine import chromium
from tools import axe, reference, site
from tools.documents import documents
from tools.template import ROOT

OPENAPI = json.loads((ROOT / "docs/openapi.json").read_text())
ASYNCAPI = json.loads((ROOT / "docs/asyncapi.json").read_text())
LOOKED_AT = ("index.html", "docs/tutorial.html", "docs/integration.html", "docs/operations.html", "docs/openapi.html")


THE_THEMES_AND_TABLES = {"landmark-unique", "empty-table-header"}
"""What axe finds and the site keeps: the theme's two drawers have one role, and tables have columns without a title."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    site.stage(folder / "source")
    site.build(folder / "source", folder / "site")
    return folder / "site"


@pytest.mark.site
@pytest.mark.slow
def test_the_site_has_every_document_and_no_dead_link_and_nothing_from_elsewhere(built: Path) -> None:
    for document in documents():
        shown = Path(site.MOVED.get(str(document), str(document))).with_suffix(".html")
        assert (built / shown).is_file()
    assert site.problems(built) == []


@pytest.mark.site
@pytest.mark.slow
def test_the_scripts_and_styles_of_the_site_name_no_other_host(built: Path) -> None:
    """Addresses in their comments and of XML's namespaces are not loaded."""
    loading = re.compile(r"""(?:fetch|import|importScripts|\.src *=|url)\(? *['"`]https?:""")
    scripts = [*built.rglob("*.js"), *built.rglob("*.css")]
    assert scripts
    assert [path for path in scripts if loading.search(path.read_text())] == []


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """The parts of the repository that the site is made of, with a document changed."""

    def changed(document: str, text: str) -> Path:
        for one in documents():
            (tmp_path / one.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / one, tmp_path / one)
        for folder in ("docs", "layers", ".github"):
            shutil.copytree(ROOT / folder, tmp_path / folder, dirs_exist_ok=True)
        shutil.copyfile(ROOT / "template.yaml", tmp_path / "template.yaml")
        (tmp_path / document).write_text((tmp_path / document).read_text() + text)
        return tmp_path

    return changed


@pytest.mark.parametrize("target", ["nowhere.md", "../nowhere.json", "../../outside.md"])
def test_a_link_to_a_file_that_is_not_there_is_an_error(copy: Callable[..., Path], tmp_path: Path, target: str) -> None:
    root = copy("docs/operations.md", f"\n[there]({target})\n")

    with pytest.raises(site.SiteError, match=r"docs/operations\.md: there is no"):
        site.stage(tmp_path / "source", root)


@pytest.mark.site
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n[there](integration.md#nowhere)\n", "nowhere"),
        ("\n[there](#nowhere)\n", "nowhere"),
        ("\n[there](openapi.json#nowhere)\n", "nowhere"),
    ],
)
def test_a_link_to_a_place_that_is_not_there_is_an_error(
    copy: Callable[..., Path], tmp_path: Path, text: str, complaint: str
) -> None:
    site.stage(tmp_path / "source", copy("docs/operations.md", text))

    with pytest.raises(site.SiteError, match=complaint):
        site.build(tmp_path / "source", tmp_path / "site")


@pytest.mark.site
@pytest.mark.slow
def test_a_document_that_the_menu_forgets_is_an_error(copy: Callable[..., Path], tmp_path: Path) -> None:
    root = copy("docs/operations.md", "")
    (root / "docs" / "new.md").write_text("# New\n")
    site.stage(tmp_path / "source", root)

    with pytest.raises(site.SiteError, match="docs/new"):
        site.build(tmp_path / "source", tmp_path / "site")


@pytest.mark.parametrize(
    ("markup", "complaint"),
    [
        ('<a href="gone.html">', "dead link gone.html"),
        ('<a href="other.html#gone">', "dead link other.html#gone"),
        ('<a href="#gone">', "dead link #gone"),
        ('<img src="gone.png">', "dead link gone.png"),
        ('<script src="https://cdn.example/x.js">', "an asset from elsewhere, https://cdn.example/x.js"),
        ('<script src="//cdn.example/x.js">', "an asset from elsewhere, //cdn.example/x.js"),
        ('<link rel="stylesheet" href="https://fonts.example/css">', "an asset from elsewhere, https://fonts"),
        ('<link rel="preconnect" href="https://fonts.example">', "an asset from elsewhere, https://fonts"),
        ('<iframe src="https://video.example/1">', "an asset from elsewhere"),
        ("<p style=\"background: url('https://x.example/y.png')\">", "an asset from elsewhere, https://x.example"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(tmp_path: Path, markup: str, complaint: str) -> None:
    (tmp_path / "page.html").write_text(markup)
    (tmp_path / "other.html").write_text('<p id="here"><a href="https://aws.example/">elsewhere</a>')

    (found,) = site.problems(tmp_path)

    assert found.startswith(f"page.html: {complaint}")


@pytest.mark.parametrize("rule", ['@import "https://x.example/y.css"', "src: url(//x.example/y.woff2)"])
def test_what_a_style_sheet_loads_from_elsewhere_is_found(tmp_path: Path, rule: str) -> None:
    (tmp_path / "style.css").write_text(f"p {{ {rule} }}")

    assert site.problems(tmp_path) != []


def test_the_page_of_the_api_has_every_operation_parameter_member_and_status() -> None:
    shown = reference.openapi_page(OPENAPI)

    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            part = shown.split(f"**`{method.upper()} {path}`**")[1].split("\n### ")[0]
            for one in operation.get("parameters", []):
                assert f"| `{one['name']}`" in part
            for status in operation["responses"]:
                assert f"\n| {status} |" in part
    for name, schema in OPENAPI["components"]["schemas"].items():
        part = shown.split(f"\n### {name}\n")[1].split("\n### ")[0]
        for member in schema.get("properties", {}):
            assert f"| `{member}`" in part


def test_the_page_of_the_events_has_every_event_with_its_members_and_a_sample() -> None:
    shown = reference.asyncapi_page(ASYNCAPI)

    for name, schema in ASYNCAPI["components"]["schemas"].items():
        part = shown.split(f"\n## {schema['title']}\n")[1].split("\n## ")[0]
        assert f'"detail-type": "{schema["title"]}"' in part, name
        for member in schema["properties"]:
            assert f"| `{member}`" in part


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 9}, "integer, at least 0, at most 9"),
        ({"type": ["string", "null"], "pattern": "^a|b$"}, "string or null, matches `^a|b$`"),
        ({"anyOf": [{"$ref": "#/components/schemas/Moment"}, {"type": "null"}]}, "[Moment](#moment) or null"),
        ({"enum": ["a", None]}, '`"a"` or `null`'),
        ({"const": 1}, "always `1`"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 5}, "array of string, at most 5 items"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object whose values are string"),
    ],
)
def test_a_schema_is_said_in_words(schema: dict[str, Any], words: str) -> None:
    assert reference.kind(schema) == words


def test_a_keyword_without_words_is_not_passed_over() -> None:
    with pytest.raises(reference.UnknownKeywordError, match="multipleOf"):
        reference.kind({"type": "integer", "multipleOf": 5})


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page(chromium() or "") as opened:
        yield opened


@pytest.mark.site
@pytest.mark.browser
@pytest.mark.axe
@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_can_be_read_in_both_widths_and_schemes(built: Path, tab: Page, name: str) -> None:
    for width in (1280, 390):
        for dark in (False, True):
            tab.resize(width, 900, dark=dark)
            tab.go((built / name).as_uri())
            assert tab.run("document.documentElement.scrollWidth") <= width
            found = {one.partition(":")[0] for one in tab.violations(axe.script())}
            assert found <= THE_THEMES_AND_TABLES


@pytest.mark.site
@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_asks_no_other_host_and_reports_no_error(built: Path) -> None:
    with page(chromium() or "") as tab:
        for name in LOOKED_AT:
            tab.go((built / name).as_uri())
    assert [address for address, _ in tab.statuses if not address.startswith(("file:", "data:"))] == []
    assert tab.console == []


@pytest.mark.site
@pytest.mark.browser
@pytest.mark.slow
def test_the_search_finds_a_page_without_a_server(built: Path, tab: Page) -> None:
    tab.go(f"{(built / 'search.html').as_uri()}?q=redrive")
    tab.wait_for("Operations")
