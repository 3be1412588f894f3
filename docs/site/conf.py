"""Sphinx's settings for the documentation site (`make docs`, tools/site.py). Nothing is loaded from another host."""

import os
import re

project = "Marketplace SaaS"
release = version = os.environ.get("SITE_VERSION", "")
root_doc = "index"
source_suffix = {".md": "markdown"}
extensions = ["myst_parser"]
exclude_patterns = ["docs/site"]

# The documents are written as GitHub shows them: links name headings by GitHub's slugs.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["misc.highlighting_failure"]  # answers that are shortened with "..." are no JSON
pygments_style = "default"
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
html_show_search_summary = False  # it fetches pages, which a browser refuses to a page opened from the disk


def for_keyboards_and_screen_readers(*event):
    """Gives the menu's captions the level that their role needs, and lets the keyboard scroll wide code and tables."""
    context = event[3]
    if "furo_navigation_tree" in context:
        menu = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = menu.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        for wide in ("<pre", '<div class="table-wrapper'):
            reachable = re.sub(r"^<\w+", r'\g<0> tabindex="0"', wide)
            context["body"] = context["body"].replace(wide, reachable)


def setup(app):
    """Called by Sphinx. The theme makes the menu in its own handler of this event, which comes before."""
    app.connect("html-page-context", for_keyboards_and_screen_readers, priority=900)
