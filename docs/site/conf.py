"""Sphinx's settings for the documentation site (`make docs`, tools/site.py). Nothing is loaded from another host."""

import os

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
