"""Prints a module with the methods of the layer's dataclasses, so that no function compiles them when it starts.

    python dataclass_methods.py PACKAGES > marketplace/_dataclass_methods.py

`@dataclass` writes the methods of a class as text and gives it to exec(). That is 15 % of the initialisation of
`seller_api`. This program imports every module of the marketplace package in PACKAGES, notes each text, and prints a
module with the code that each compiles to. Once that module is imported, exec() in `dataclasses` takes the code of a
text that it knows, and compiles any other text as before.
"""

import builtins
import dataclasses
import importlib
import marshal
import pkgutil
import sys
from typing import Any

HEAD = '''"""The methods of the dataclasses, compiled: made by dataclass_methods.py."""

import builtins
import dataclasses
import marshal


def _exec(text, namespace, names):
    """Do as exec() does with this text, without compiling it where that was done before."""
    code = COMPILED.get(text)
    builtins.exec(text if code is None else marshal.loads(code), namespace, names)


dataclasses.exec = _exec

COMPILED = {
'''


def texts(package: str) -> list[str]:
    """Import all modules of a package and answer what `@dataclass` had compiled for it, each text once, in order."""
    found: dict[str, None] = {}

    def noting(text: str, namespace: dict[str, Any], names: dict[str, Any]) -> None:
        found[text] = None
        builtins.exec(text, namespace, names)

    vars(dataclasses)["exec"] = noting
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
    return list(found)


def module_of(known: list[str]) -> str:
    """Answer the module that has the code of these texts, each to be read when its class is made."""
    codes = ((text, marshal.dumps(compile(text, "<dataclass>", "exec"))) for text in known)
    return HEAD + "".join(f"    {text!r}: {code!r},\n" for text, code in codes) + "}\n"


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    noted = texts("marketplace")
    if not noted:
        sys.exit("the dataclasses of this Python call exec() no more: see dataclass_methods.py")
    sys.stdout.write(module_of(noted))
