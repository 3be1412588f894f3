"""Puts the command `marketplace-saas` into an environment, for this folder: python -m tools.install_cli ENVIRONMENT.

The command line consists of packages of this repository (cli, layers/common, clients/python), so nothing is built or
downloaded: the command leads to them where they are.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cli", "layers/common", "clients/python")


def install(environment: Path, root: Path = ROOT) -> Path:
    """Writes the command, and returns where."""
    script = environment / "bin" / "marketplace-saas"
    paths = [str(root / package) for package in PACKAGES]
    script.write_text(
        f"#!{environment.absolute() / 'bin' / 'python'}\n"
        "# Written by tools/install_cli.py.\n"
        "import sys\n"
        f"sys.path[:0] = {paths!r}\n"
        "from marketplace_saas_cli.__main__ import run\n"
        "run()\n"
    )
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    print(f"Installed {install(Path(sys.argv[1]))}")
