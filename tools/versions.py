"""The one version of the application, the emulator and the clients.

python -m tools.versions               print it; fail where two differ
python -m tools.versions --notes TAG   the changelog's section of a tag that is about to be released
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
_SERVER = re.compile(r'^VERSION = "(.+)"$', re.MULTILINE)
_TEMPLATE = re.compile(r"^    SemanticVersion: (.+)$", re.MULTILINE)
_HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?P<rest>.*)$", re.MULTILINE)


class VersionError(Exception):
    """Versions differ, or the changelog lacks one."""


def versions(root: Path = ROOT) -> dict[str, str]:
    """Every version that is written down, by file."""
    projects = [root / "pyproject.toml", root / "emulator/pyproject.toml"]
    projects += [*root.glob("clients/*/pyproject.toml"), *root.glob("cli/pyproject.toml")]
    found = {path: tomllib.loads(path.read_text())["project"]["version"] for path in projects}
    found |= {path: json.loads(path.read_text())["version"] for path in root.glob("clients/*/package.json")}
    server = root / "emulator/marketplace_emulator/server.py"
    found[server] = (_SERVER.search(server.read_text()) or ["", "none"])[1]
    template = root / "template.yaml"
    found[template] = (_TEMPLATE.search(template.read_text()) or ["", "none"])[1]
    found[root / "CHANGELOG.md"] = _newest((root / "CHANGELOG.md").read_text())
    return {str(path.relative_to(root)): version for path, version in found.items()}


def version(root: Path = ROOT) -> str:
    """The one version. Raises VersionError."""
    found = versions(root)
    if len(set(found.values())) != 1:
        raise VersionError("the versions differ: " + ", ".join(f"{path} {one}" for path, one in found.items()))
    return found["pyproject.toml"]


def notes(tag: str, root: Path = ROOT) -> str:
    """What the changelog says of a tag. Raises VersionError when the tag is not the version, or the section has no
    date."""
    if tag != f"v{version(root)}":
        raise VersionError(f"the tag {tag} is not v{version(root)}")
    text = (root / "CHANGELOG.md").read_text()
    heading = _HEADING.search(text)
    if heading is None or not re.search(r"\d{4}-\d\d-\d\d", heading["rest"]):
        raise VersionError("the changelog's first section has no date: ## [0.2.0] - 2026-12-01")
    following = _HEADING.search(text, heading.end())
    return text[heading.end() : following.start() if following else len(text)].strip() + "\n"


def _newest(changelog: str) -> str:
    """The version of the first section: `## [0.2.0] - 2026-12-01`, or `## [Unreleased]: 0.2.0` before it has a date."""
    heading = _HEADING.search(changelog)
    if heading is None:
        return "none"
    return heading["rest"].strip(" :") if heading["name"] == "Unreleased" else heading["name"]


def main() -> None:
    """Print the version, or the notes of a tag."""
    parser = argparse.ArgumentParser(prog="python -m tools.versions", description="The one version.")
    parser.add_argument("--notes", metavar="TAG")
    given = parser.parse_args()
    try:
        sys.stdout.write(notes(given.notes) if given.notes else f"{version()}\n")
    except VersionError as error:
        sys.exit(f"versions: {error}")


if __name__ == "__main__":
    main()
