"""Snapshots: a graph of this emulator's objects as bytes, and back.

The form is pickle's, because the graph is one of shared and circular references (a purchase, its agreements, the tasks
that wait for it). Only classes of named modules are loaded, and no functions but their own methods, so a snapshot from
elsewhere can't run code.
"""

import functools
import io
import pickle
from collections.abc import Mapping
from typing import Any

_BUILTINS = frozenset({"set", "frozenset", "bytearray", "complex", "dict", "list", "object"})
_OTHERS = frozenset(
    {
        *(("collections", name) for name in ("deque", "defaultdict", "OrderedDict")),
        *(("datetime", name) for name in ("datetime", "timedelta", "timezone")),
        *(("copyreg", name) for name in ("_reconstructor", "__newobj__")),
        *(("decimal", "Decimal"), ("functools", "partial"), ("random", "Random")),
    }
)


class SnapshotError(Exception):
    """A snapshot that can't be read: damaged, or of another version."""


def dump(content: Any, shared: Mapping[str, Any]) -> bytes:
    """The content as bytes. `shared`: what is not written, but known by name to whoever loads it."""
    names = {id(value): name for name, value in shared.items()}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> str | None:
            return names.get(id(value))

    written = io.BytesIO()
    Pickler(written, pickle.HIGHEST_PROTOCOL).dump(content)
    return written.getvalue()


def load(data: bytes, shared: Mapping[str, Any], modules: tuple[str, ...] = ("marketplace_emulator",)) -> Any:
    """What was dumped. `modules`: the packages whose classes may be loaded. Raises SnapshotError."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name: Any) -> Any:
            return shared[name]

        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("builtins", "getattr"):
                return functools.partial(_method, modules)
            if (module == "builtins" and name in _BUILTINS) or (module, name) in _OTHERS:
                return super().find_class(module, name)
            found = (
                super().find_class(module, name) if module.partition(".")[0] in modules and "." not in name else None
            )
            if not isinstance(found, type):
                raise SnapshotError(f"a snapshot holds no {module}.{name}")
            return found

    try:
        return Unpickler(io.BytesIO(data)).load()
    except SnapshotError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise SnapshotError(f"the snapshot is damaged, or of another version ({error!r})") from error


def _method(modules: tuple[str, ...], owner: Any, name: str) -> Any:
    """A bound method of one of the classes that may be loaded, which is how pickle writes it."""
    kind = owner if isinstance(owner, type) else type(owner)
    if kind.__module__.partition(".")[0] not in modules or name.startswith("__"):
        raise SnapshotError(f"a snapshot holds no {kind.__name__}.{name}")
    return getattr(owner, name)
