"""docs/events says what the seller's application hears: every kind has a schema and a sample that fits it."""

import json

import pytest

from marketplace.subscriptions.seller_events import KINDS, SCHEMA_VERSION, SOURCE, Kind, SellerEvent
from tests.support.seller_schemas import check
from tools import asyncapi
from tools.asyncapi import DOCUMENTED, file_name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_and_a_sample_that_fits_it(kind: Kind) -> None:
    sample = json.loads((DOCUMENTED / f"{file_name(kind)}.json").read_text())
    assert (sample["detail-type"], sample["source"]) == (kind, SOURCE)
    check(kind, sample["detail"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_carries_what_all_events_carry(kind: Kind) -> None:
    schema = asyncapi.schema_of(kind)
    always = set(SellerEvent(kind, "evt-a", 0, {}).published_detail)
    assert always == {"id", "time", "schema_version"}
    assert always <= set(schema["required"])
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema["title"] == kind


def test_the_asyncapi_document_is_current() -> None:
    assert (DOCUMENTED.parent / "asyncapi.json").read_text() == asyncapi.as_text(), (
        "run: PYTHONPATH=.:layers/common python -m tools.asyncapi > docs/asyncapi.json"
    )


def test_the_asyncapi_document_names_every_kind_with_its_sample() -> None:
    document = json.loads(asyncapi.as_text())
    messages = document["components"]["messages"].values()
    assert [message["name"] for message in messages] == list(KINDS)
    for message in messages:
        (example,) = message["examples"]
        payload = message["payload"]["properties"]
        assert example["payload"]["detail-type"] == payload["detail-type"]["const"] == message["name"]
    assert "additionalProperties" not in json.dumps(document["components"]["schemas"]["UsageConflict"])


def test_nothing_else_is_documented() -> None:
    names = {file_name(kind) for kind in KINDS}
    documented = {path.name for path in DOCUMENTED.iterdir()} - {"README.md"}
    assert documented == {f"{name}{ending}" for name in names for ending in (".json", ".schema.json")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_overview_names_it(kind: Kind) -> None:
    assert f"| {kind} |" in (DOCUMENTED / "README.md").read_text()
