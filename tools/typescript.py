"""The TypeScript client's tools: fetched through npm by the hashes of its lock, and its build.

    python -m tools.typescript [types|build|lock]

`types` writes the types again from docs/openapi.json, `build` compiles the client, `lock` resolves package.json again.
The lock is npm's own, without addresses: each package has its hash, and npm takes it from the registry that it is
configured for.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "clients" / "typescript"
LOCK = CLIENT / "npm-shrinkwrap.json"
TYPES = CLIENT / "src" / "schema.ts"
DIST = CLIENT / "dist"
CACHE = ROOT / ".cache"
NODE = 20


class TypeScriptError(Exception):
    """The client could not be built; the message holds what the tool said."""


def missing() -> str | None:
    """Answer what this machine lacks to build the client, or None."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return f"needs Node {NODE} or newer, with npm"
    version = _run("node", "--version").strip()
    return None if int(version.removeprefix("v").split(".")[0]) >= NODE else f"needs Node {NODE}, this is {version}"


def install() -> Path:
    """Answer the folder of the tools' commands, fetched when the lock has changed; safe from several processes."""
    CACHE.mkdir(exist_ok=True)
    modules = CLIENT / "node_modules"
    mark = modules / ".installed"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with (CACHE / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != wanted:
            _run("npm", "ci", "--ignore-scripts")
            mark.write_text(wanted)
    return modules / ".bin"


def types() -> str:
    """Answer the types as openapi-typescript makes them from docs/openapi.json."""
    return _run(install() / "openapi-typescript", str(ROOT / "docs" / "openapi.json"))


def problems_of(*documents: Path) -> list[str]:
    """Answer what Redocly's linter says of OpenAPI and AsyncAPI documents."""
    install()
    return _run("node", str(ROOT / "tools" / "lint-api-documents.mjs"), *map(str, documents)).splitlines()


def compile_client(target: Path = DIST) -> Path:
    """Compile the client into a folder and answer it. Raises TypeScriptError with the compiler's words."""
    _run(install() / "tsc", "--outDir", str(target))
    return target


def _run(command: str | Path, *arguments: str) -> str:
    done = subprocess.run([command, *arguments], cwd=CLIENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TypeScriptError(f"{Path(command).name} {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Do what the command line names."""
    if lacking := missing():
        sys.exit(f"typescript: {lacking}")
    match sys.argv[1:]:
        case ["types"]:
            TYPES.write_text(types())
        case ["build"]:
            compile_client()
        case ["lock"]:
            _run("npm", "install", "--ignore-scripts", "--package-lock-only")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
