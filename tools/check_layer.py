"""Is a built layer right? Both architectures, small enough, imports nothing but itself, and never compiles again.

python -m tools.check_layer .aws-sam/build/CommonLayer
"""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

LIMIT_BYTES = 9_000_000
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
UNCHECKED_HASH = 1
IMPORTS = (
    "aws_lambda_powertools",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.typing",
    "marketplace",
    "botocore.session",
    "pydantic",
)
"""In the order of the functions: `marketplace` has the compiled methods of dataclasses for what comes after it."""
SERVICES = (
    "cloudtrail",
    "dynamodb",
    "events",
    "marketplace-agreement",
    "marketplace-entitlement",
    "meteringmarketplace",
    "s3",
    "sqs",
    "sts",
)


def zipped_bytes(layer: Path) -> int:
    """Answer how many bytes the layer is when zipped as SAM zips it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(layer.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(layer))
    return buffer.tell()


def _machine(module: Path) -> int:
    machine: int = struct.unpack_from("<H", module.read_bytes()[:20], 18)[0]
    return machine


def _tag(root: Path) -> str:
    """Answer the Python that the layer is for, as the names of its files say it: `cpython-313`."""
    return next((path.stem.rpartition(".")[2] for path in root.glob("marketplace/__pycache__/*.pyc")), "cpython-313")


def runtime_of(layer: Path) -> str | None:
    """Answer the Runtime that a built layer is for, such as python3.13: that of its bytecode and of all its compiled
    modules. None where there is none, or more than one."""
    root = layer / "python"
    names = [path.name for pattern in ("*.pyc", "*.so") for path in root.rglob(pattern)]
    found = {tag for name in names for tag in re.findall(r"\.cpython-3(\d+)[.-]", name)}
    return f"python3.{found.pop()}" if len(found) == 1 else None


def _compiled_modules_for_both(root: Path) -> list[str]:
    problems = []
    for architecture, machine in ELF_MACHINES.items():
        modules = [path for path in root.rglob("*.so") if architecture in path.name]
        problems += [f"{path.name} is for another Python" for path in modules if f".{_tag(root)}-" not in path.name]
        if not [path for path in modules if path.name.startswith(f"_pydantic_core.{_tag(root)}-")]:
            problems.append(f"pydantic_core is missing for {architecture}")
        problems += [f"{path.name} is not for {architecture}" for path in modules if _machine(path) != machine]
    return problems


def _bytecode(root: Path) -> list[str]:
    problems = []
    for source in root.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{_tag(root)}.pyc"
        if not compiled.is_file():
            problems.append(f"{source.relative_to(root)} is not compiled")
        elif int.from_bytes(compiled.read_bytes()[4:8], "little") != UNCHECKED_HASH:
            problems.append(f"{source.relative_to(root)} would be checked at run time")
    return problems


def _stray_files(root: Path) -> list[str]:
    strays = [*root.rglob("*.pyi"), *root.glob("marketplace/**/test*"), *root.glob("python"), *root.glob("bin")]
    return [f"{path.relative_to(root)} has no business in a layer" for path in strays]


def _imports_alone(root: Path) -> list[str]:
    """Import what the functions import and make their clients, with nothing else of this machine in reach, in a Python
    of the layer's version: this one, or one on the search path."""
    version = f"3.{_tag(root).removeprefix('cpython-3')}"
    own = version == "{}.{}".format(*sys.version_info)
    python = sys.executable if own else shutil.which(f"python{version}")
    if python is None:
        return [f"there is no python{version} to try the layer with"]
    program = "\n".join(
        [
            "import sys",
            "run = []",
            "sys.addaudithook(lambda event, given: run.append(given[0]) if event == 'exec' else None)",
            f"sys.path.insert(0, {str(root)!r})",
            "import importlib, pkgutil",
            *(f"import {name}" for name in IMPORTS),
            "for found in pkgutil.walk_packages(marketplace.__path__, 'marketplace.'):",
            "    importlib.import_module(found.name)",
            "session = botocore.session.get_session()",
            *(f"session.create_client({name!r}, region_name='us-east-1')" for name in SERVICES),
            "made = [code.co_filename for code in run if '__create_fn__' in code.co_names]",
            "assert set(made) == {'<dataclass>'}, 'methods of dataclasses are compiled at the start'",
            "print(*sorted({m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)}), sep='\\n')",
        ]
    )
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(
        [python, "-I", "-S", "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        return [f"the layer does not import by itself: {done.stderr.strip()}"]
    foreign = [line for line in done.stdout.splitlines() if "site-packages" in line]
    return [f"imported from elsewhere: {line}" for line in foreign]


def problems(layer: Path) -> list[str]:
    """Answer everything that is wrong with a built layer."""
    root = layer / "python"
    found = [
        *_compiled_modules_for_both(root),
        *_bytecode(root),
        *_stray_files(root),
        *_imports_alone(root),
    ]
    size = zipped_bytes(layer)
    if size > LIMIT_BYTES:
        found.append(f"{size / 1e6:.1f} MB zipped is more than {LIMIT_BYTES / 1e6:.0f} MB")
    return found


def main() -> None:
    """Check one built layer and say what it weighs."""
    layer = Path(sys.argv[1])
    if found := problems(layer):
        sys.exit("\n".join(f"layer: {problem}" for problem in found))
    python = _tag(layer / "python")
    print(f"layer: {zipped_bytes(layer) / 1e6:.1f} MB zipped, {python}, both architectures, imports by itself")


if __name__ == "__main__":
    main()
