"""The layer's dataclasses have the methods that `@dataclass` writes, without compiling them when a function starts.

tools/check_layer.py checks the same of each built layer.
"""

import subprocess
import sys
from pathlib import Path

import pytest

LAYER = Path(__file__).resolve().parents[2] / "layers" / "common"
BEGINNING = """
import dataclasses, importlib, pkgutil, sys
ran = []
sys.addaudithook(lambda event, given: ran.append(given[0]) if event == "exec" else None)
import _dataclass_methods
sys.path.insert(0, sys.argv[1])

def compiled():
    return [code.co_filename for code in ran if "__create_fn__" in code.co_names]
"""
EVERY_MODULE = """
import marketplace
for found in pkgutil.walk_packages(marketplace.__path__, "marketplace."):
    importlib.import_module(found.name)
assert len(compiled()) > 100
assert set(compiled()) == {"<dataclass>"}, compiled()

from marketplace.subscriptions.identity import LegacyIdentity
known = LegacyIdentity("product", "customer")
assert known == LegacyIdentity("product", customer_identifier="customer") != LegacyIdentity("product", "other")
assert repr(known) == "LegacyIdentity(product_code='product', customer_identifier='customer')"
assert len({known, LegacyIdentity("product", "customer")}) == 1
try:
    known.product_code = "other"
except dataclasses.FrozenInstanceError:
    print("frozen")
"""
ANOTHER_CLASS = """
@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    first: int
    second: list = dataclasses.field(default_factory=list)

assert compiled() == ["<string>"]
assert Unknown(1) == Unknown(1, []) != Unknown(2)
assert repr(Unknown(1)) == "Unknown(first=1, second=[])"
try:
    Unknown(1).first = 2
except dataclasses.FrozenInstanceError:
    print("frozen")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    program = [sys.executable, str(LAYER / "dataclass_methods.py"), str(LAYER)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    (folder / "_dataclass_methods.py").write_text(done.stdout)
    return folder


def after_import(made: Path, program: str) -> str:
    """Import the module that was made, run a program, and answer what it prints."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(made)!r})\n{BEGINNING}{program}", str(LAYER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_dataclass_of_the_layer_is_compiled_and_one_does_as_ever(made: Path) -> None:
    assert after_import(made, EVERY_MODULE) == "frozen\n"


def test_a_class_that_it_does_not_know_is_compiled_as_ever(made: Path) -> None:
    assert after_import(made, ANOTHER_CLASS) == "frozen\n"
