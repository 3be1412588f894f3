"""Makes the content of the common layer: the locked packages, slimmed, and the marketplace package, compiled.

    python build_layer.py ARTIFACTS VERSION

VERSION is that of the Python on Lambda, such as 3.13. Whatever Python runs this, one of that version must be there to
compile.

One layer serves both architectures, since SAM tells a makefile build nothing of the one that was chosen: the compiled
modules of both stand side by side under names that say which is whose. What only costs start-up time or size goes: the
data of AWS services that are not called, documentation and what makes it, type stubs, unused parts of Powertools. The
methods of dataclasses are compiled here and not at every start. The bytecode holds no columns of source lines, which
only the marks in a traceback need. It is never checked against its source at run time, which saves a file look-up for
every module, and the same input gives the same bytes.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent
ARCHITECTURES = ("x86_64", "aarch64")
SERVICES = {
    "cloudtrail",
    "dynamodb",
    "events",
    "marketplace-agreement",
    "marketplace-entitlement",
    "meteringmarketplace",
    "s3",
    "sqs",
    "sts",
}
ENDPOINTS = {
    "agreement-marketplace",
    "cloudtrail",
    "dynamodb",
    "entitlement.marketplace",
    "events",
    "metering.marketplace",
    "s3",
    "sqs",
    "sts",
}
NEEDLESS_FOLDERS = ("bin", "pydantic/v1", "botocore/data/dynamodb/2011-12-05", "aws_lambda_powertools/event_handler")
UTILITIES = {"jmespath_utils", "typing"}
"""Those of Powertools' utilities that its Logger or the functions import."""
NEEDLESS_FILES = ("*.pyi", "py.typed", "examples-1.json", "swagger-ui*", "direct_url.json", "REQUESTED", "INSTALLER")
DOCSTRINGS = '''"""Classes in place of botocore's, which would make documentation of prose that the layer leaves out."""


class _Nothing(str):
    def __new__(cls, *_given: object, **_named: object) -> "_Nothing":
        return super().__new__(cls)


ClientMethodDocstring = PaginatorDocstring = WaiterDocstring = _Nothing
'''
PLUGINS = '''"""In place of pydantic's search for plugins, which reads every package's metadata: the layer has none."""


def get_plugins() -> tuple[()]:
    return ()
'''
MODIFIED = 1577836800  # 2020-01-01: one moment for every file, so that archives of the same content are the same


class LayerError(Exception):
    """The layer cannot be built on this machine, or would not be right."""


def install(version: str, target: Path, architecture: str | None = None) -> None:
    """Install the locked packages for one version of Python, for Lambda of one architecture or for this machine."""
    names = ("manylinux_2_28", "manylinux_2_17", "manylinux2014") if architecture else ()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"),
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", version, *(f"--platform={name}_{architecture}" for name in names)),
            *("--target", str(target), "-r", str(SOURCE / "requirements.txt")),
        ],
        check=False,
    )
    if done.returncode != 0:
        raise LayerError(f"pip could not install the layer's packages for {architecture or 'this machine'}; see above")


def merge(first: Path, second: Path) -> None:
    """Add to one installation the compiled modules of the other; everything else must be the same in both."""
    for path in sorted(second.rglob("*")):
        place = first / path.relative_to(second)
        if path.is_dir() or ".dist-info" in str(place):
            continue
        if path.suffix == ".so":
            if place.exists():
                raise LayerError(f"{path.name} does not say which architecture it is for")
            shutil.copy2(path, place)
        elif not place.exists() or place.read_bytes() != path.read_bytes():
            raise LayerError(f"{place.relative_to(first)} differs between architectures")
    modules = [str(path.relative_to(first)) for path in first.rglob("*.so")]
    per_architecture = {name: sorted(m.replace(name, "") for m in modules if name in m) for name in ARCHITECTURES}
    if len({tuple(names) for names in per_architecture.values()}) != 1:
        raise LayerError(f"compiled modules differ between architectures: {per_architecture}")


def prune(root: Path) -> None:
    """Remove what no function reads."""
    for needless in NEEDLESS_FOLDERS:
        shutil.rmtree(root / needless, ignore_errors=True)
    for parent, kept in (("botocore/data", SERVICES), ("aws_lambda_powertools/utilities", UTILITIES)):
        for folder in (root / parent).glob("*/"):
            if folder.name not in kept:
                shutil.rmtree(folder)
    _without_generators_of_documentation(root / "botocore" / "docs")
    _without_needless_starts(root)
    for model in root.glob("botocore/data/*/*/service-2.json.gz"):
        described = json.loads(gzip.decompress(model.read_bytes()))
        model.write_bytes(gzip.compress(_compact(_without_documentation(described)), mtime=0))
    endpoints = root / "botocore" / "data" / "endpoints.json"
    endpoints.write_bytes(_compact(_for_called_services(json.loads(endpoints.read_text()))))
    for pattern in NEEDLESS_FILES:
        for path in root.rglob(pattern):
            path.unlink()
    for dist_info in root.glob("*.dist-info"):
        for path in sorted(dist_info.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            elif not re.match(r"METADATA|entry_points|(?i:licen[cs]e|notice|copying)", path.name):
                path.unlink()
            elif path.parent != dist_info:
                path.rename(dist_info / path.name)


def _without_generators_of_documentation(docs: Path) -> None:
    """Leave of botocore.docs what its clients import. Its generators, and what they import, are loaded at every start
    otherwise."""
    (docs / "docstring.py").write_text(DOCSTRINGS)
    (docs / "__init__.py").write_text("")
    for path in docs.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in {"__init__.py", "docstring.py", "utils.py"}:
            path.unlink()


def _without_needless_starts(root: Path) -> None:
    """Take out what is loaded at every start and never used: urllib3's HTTP/2, which botocore does not switch on, and
    the search for pydantic's plugins, which both load importlib.metadata; a large expression of urllib3; and what
    Powertools takes from typing_extensions, which Python has by itself since 3.13."""
    http2 = root / "urllib3" / "http2"
    (http2 / "__init__.py").write_text("")
    (http2 / "connection.py").unlink()
    (root / "pydantic" / "plugin" / "_loader.py").write_text(PLUGINS)
    _replace(root / "urllib3" / "util" / "url.py", '_IPV6_RE = re.compile("^" + _IPV6_PAT + "$")\n', "")
    if any("_IPV6_RE" in path.read_text() for path in (root / "urllib3").rglob("*.py")):
        raise LayerError("urllib3 uses _IPV6_RE: see _without_needless_starts")
    _replace(
        root / "aws_lambda_powertools" / "utilities" / "jmespath_utils" / "__init__.py",
        "from typing_extensions import deprecated\n",
        "from warnings import deprecated\n",
    )


def _replace(module: Path, old: str, new: str) -> None:
    """Put one text of a package in place of another, or say that its new version has not got it."""
    text = module.read_text()
    if text.count(old) != 1:
        raise LayerError(f"{module.name} has another text now: see _without_needless_starts")
    module.write_text(text.replace(old, new))


def _without_documentation(part: Any) -> Any:
    """Answer a service's model without its prose, which is most of it and is parsed at every start."""
    if isinstance(part, dict):
        return {
            key: _without_documentation(value)
            for key, value in part.items()
            if key != "documentation" or not isinstance(value, str)
        }
    return [_without_documentation(value) for value in part] if isinstance(part, list) else part


def _for_called_services(endpoints: dict[str, Any]) -> dict[str, Any]:
    """Answer botocore's table of endpoints with the services that are called, under every name they go by."""
    for partition in endpoints["partitions"]:
        partition["services"] = {name: body for name, body in partition["services"].items() if name in ENDPOINTS}
    return endpoints


def _compact(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def python_of(version: str) -> str:
    """Answer a Python of this version: this one, or the first on the search path."""
    program = "import sys; print('{}.{}'.format(*sys.version_info))"
    for candidate in (sys.executable, shutil.which(f"python{version}")):
        if candidate is not None:
            asked = subprocess.run([candidate, "-c", program], capture_output=True, text=True, check=False)
            if asked.stdout.strip() == version:
                return candidate
    raise LayerError(f"the layer's bytecode must be Python {version}'s, and there is no python{version} to compile it")


def add_dataclass_methods(package: Path, version: str, python: str) -> None:
    """Add the methods of the package's dataclasses as a module of its own, which the package imports first. The modules
    are imported to see them, with the packages for this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        install(version, Path(scratch))
        shutil.copytree(package, Path(scratch) / package.name)
        made = subprocess.run(
            [python, "-I", "-B", "-S", "-X", "no_debug_ranges", str(SOURCE / "dataclass_methods.py"), scratch],
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode != 0:
        raise LayerError(f"the methods of the dataclasses could not be made: {made.stderr.strip()}")
    (package / "_dataclass_methods.py").write_text(made.stdout)
    with (package / "__init__.py").open("a") as beginning:
        beginning.write("\nfrom marketplace import _dataclass_methods\n")


def compile_to_bytecode(root: Path, python: str) -> None:
    """Compile every module; a fixed hash seed keeps the bytes the same from one build to the next."""
    done = subprocess.run(
        [
            *(python, "-P", "-X", "no_debug_ranges", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(root), "-p", "/opt/python", str(root)),
        ],
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    if done.returncode != 0:
        raise LayerError("a module could not be compiled; see above")


def build(artifacts: Path, version: str) -> None:
    """Make the layer's content in `artifacts`, as Lambda unpacks it under /opt."""
    python = python_of(version)
    with tempfile.TemporaryDirectory() as scratch:
        installed = [Path(scratch) / architecture for architecture in ARCHITECTURES]
        for architecture, target in zip(ARCHITECTURES, installed, strict=True):
            install(version, target, architecture)
        merge(*installed)
        root = artifacts / "python"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(installed[0], root)
    prune(root)
    shutil.copytree(SOURCE / "marketplace", root / "marketplace", ignore=shutil.ignore_patterns("__pycache__"))
    add_dataclass_methods(root / "marketplace", version, python)
    compile_to_bytecode(root, python)
    for path in (artifacts, *artifacts.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
        os.utime(path, (MODIFIED, MODIFIED))


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]).resolve(), sys.argv[2])
    except LayerError as error:
        sys.exit(f"layer: {error}")
