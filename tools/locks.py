"""The lock files: every package by exact version and hash, written from the .in files with uv.

python -m tools.locks            write them again
python -m tools.locks --upgrade  the same, with the newest versions that the .in files allow
python -m tools.locks --check    answer whether they still match the .in files; needs no network
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYER = "layers/common/requirements"
LOCKS = (
    LAYER,
    *(f"requirements-{environment}" for environment in ("run", "cli", "dev", "sam", "checkov", "docs", "awscli")),
)
DIGEST = "# inputs: sha256 "
OVERRIDES = {"requirements-dev": "requirements-overrides.in"}
"""What replaces the requirements of packages in a lock. pip would refuse the result, so tools/install has it install
what the lock names and ask no package what it requires."""
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)


def read_inputs(name: str) -> str:
    """Answer the digest of everything a lock is made from: its .in file, and those it names."""
    source = f"{name}.in"
    text = (ROOT / source).read_text()
    named = re.findall(r"^-[cr] (\S+)$", text, flags=re.MULTILINE)
    replaced = [(ROOT / OVERRIDES[name]).read_text()] if name in OVERRIDES else []
    parts = [text, *replaced, *((ROOT / path).read_text() for path in named)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def write(name: str, *options: str) -> None:
    """Resolve one .in file and write its lock."""
    lock = ROOT / f"{name}.txt"
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", f"{name}.in", "--output-file", f"{name}.txt"),
            *("--quiet", "--universal", "--python-version", "3.13"),
            *("--generate-hashes", "--no-emit-index-url", "--no-header", *options),
            *(("--override", OVERRIDES[name]) if name in OVERRIDES else ()),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    header = f"# Written by `make lock` from {Path(name).name}.in.\n{DIGEST}{read_inputs(name)}\n"
    lock.write_text(header + lock.read_text())


def stale() -> list[str]:
    """Answer the locks that were not made from what their .in files now say."""
    return [name for name in LOCKS if f"{DIGEST}{read_inputs(name)}\n" not in (ROOT / f"{name}.txt").read_text()]


def disagreeing(root: Path = ROOT) -> list[str]:
    """Answer the packages that `make run` or `make cli` would install in another version than the one that is
    tested."""
    run, cli, tested = (
        dict(_PIN.findall((root / f"requirements-{name}.txt").read_text())) for name in ("run", "cli", "dev")
    )
    return sorted(name for name, version in (run | cli).items() if tested.get(name) != version)


def main() -> None:
    """Write the locks, or check them."""
    if "--check" in sys.argv[1:]:
        if differing := disagreeing():
            sys.exit(f"locks: what runs and requirements-dev.txt differ in {', '.join(differing)} (make lock)")
        if old := stale():
            sys.exit(f"locks: out of date: {', '.join(f'{name}.txt' for name in old)} (make lock)")
        print("locks: up to date")
        return
    for name in LOCKS:
        write(name, *sys.argv[1:])
        print(f"locks: wrote {name}.txt")


if __name__ == "__main__":
    main()
