"""Packages of npm that tests need: fetched once, checked by their digest, unpacked into .cache."""

import fcntl
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"


class NpmError(Exception):
    """A package could not be fetched, or is another one than expected."""


def unpacked(package: str, sha256: str, part: str, home: Path) -> Path:
    """Put one file or folder of a package at `home`, the first time; safe to call from several processes.

    package: its name and version. sha256: the digest of its archive. Raises NpmError.
    """
    home.parent.mkdir(exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _fetch(package, sha256, part, home)
    return home


def _fetch(package: str, sha256: str, part: str, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        packed = subprocess.run(
            ["npm", "pack", package, "--silent", "--pack-destination", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(folder).glob("*.tgz"))
        if packed.returncode != 0 or len(archives) != 1:
            raise NpmError(f"npm pack {package} failed: {packed.stderr.strip()}")
        if hashlib.sha256(archives[0].read_bytes()).hexdigest() != sha256:
            raise NpmError(f"{package} is not the archive that was expected")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
        (Path(folder) / "package" / part).rename(home)
