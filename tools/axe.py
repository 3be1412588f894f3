"""axe-core, which finds what makes a page hard to use with a screen reader, a keyboard or weak eyes.

It is fetched once through npm into .cache, and runs in the browser that a test drives. Licence: MPL-2.0, Deque Systems.
"""

import shutil

from tools.npm_package import CACHE, unpacked

PACKAGE = "axe-core@4.14.1"
ARCHIVE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
HOME = CACHE / "axe-core-4.14.1.js"


def missing() -> str | None:
    """What this machine lacks to run axe, or None."""
    if not HOME.is_file() and shutil.which("npm") is None:
        return "needs npm, to fetch axe-core once"
    return None


def script() -> str:
    """The script that defines `axe` on a page. Raises NpmError."""
    return unpacked(PACKAGE, ARCHIVE_SHA256, "axe.min.js", HOME).read_text(encoding="utf-8")
