"""docs/events says what the seller's application hears: every kind has a schema and a sample that fits it."""

import json

import pytest

from marketplace.subscriptions.seller_events import KINDS, SOURCE, Kind
from tests.support.seller_schemas import DOCUMENTED, check, file_name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_and_a_sample_that_fits_it(kind: Kind) -> None:
    sample = json.loads((DOCUMENTED / f"{file_name(kind)}.json").read_text())
    assert (sample["detail-type"], sample["source"]) == (kind, SOURCE)
    check(kind, sample["detail"])


def test_nothing_else_is_documented() -> None:
    names = {file_name(kind) for kind in KINDS}
    documented = {path.name for path in DOCUMENTED.iterdir()} - {"README.md"}
    assert documented == {f"{name}{ending}" for name in names for ending in (".json", ".schema.json")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_overview_names_it(kind: Kind) -> None:
    assert f"| {kind} |" in (DOCUMENTED / "README.md").read_text()
