"""The list of mutants fits the sources it breaks; `make mutants` tells whether each is noticed."""

import ast
from pathlib import Path

import pytest

from tests.faults.mutants import MUTANTS, SOURCES, Mutant, applied


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_a_mutant_changes_its_module_into_another_valid_one(mutant: Mutant, tmp_path: Path) -> None:
    source = SOURCES / f"{mutant.module}.py"
    copy = tmp_path / f"{mutant.module}.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(source.read_text())
    applied(mutant, tmp_path)
    assert copy.read_text() != source.read_text()
    ast.parse(copy.read_text())
