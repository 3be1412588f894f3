"""AWS's JSON in every shape of events/variants/: read as the same, or not at all, and never as something else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketplace.lifecycle.members import Members
from marketplace.lifecycle.notifications import MalformedMessageError, Notification, QueueMessage, parsed
from tests.support.json_shapes import shapes_of
from tests.support.lifecycle_world import EVENTS, at, notification, sample

VARIANTS = EVENTS / "variants"
SENT = at("2026-08-20T15:00:00Z") * 1000
SPECIAL = ("not_applied", "partly_understood")
SAMPLES = sorted(path.stem for path in VARIANTS.glob("*.json") if path.stem not in SPECIAL)


def cases(name: str) -> list[Any]:
    """The cases of a file, for parametrize."""
    content = json.loads((VARIANTS / f"{name}.json").read_text())
    return [pytest.param(case, id=case["shape"]) for case in content]


def shapes() -> Iterator[Any]:
    for name in SAMPLES:
        content = json.loads((VARIANTS / f"{name}.json").read_text())
        for case in content["variants"]:
            yield pytest.param(content["sample"], case, id=f"{name}: {case['shape']}")


def read(body: Any) -> Notification:
    found = parsed(QueueMessage(message_id="m-1", body=json.dumps(body), sent_at_ms=SENT))
    assert isinstance(found, Notification)
    return found


@pytest.mark.parametrize(("name", "case"), list(shapes()))
def test_a_shape_means_what_its_sample_means(name: str, case: dict[str, Any]) -> None:
    found, expected = read(case["body"]), notification(name)
    if case.get("untimed"):
        found = replace(found, id=expected.id, at_ms=expected.at_ms)
    assert replace(found, message=expected.message, title=expected.title) == expected
    assert found.title.lower() == expected.title.lower()


@pytest.mark.parametrize("case", cases("not_applied"))
def test_what_is_no_sale_or_could_mean_two_things_is_not_applied(case: dict[str, Any]) -> None:
    if case["kind"] == "malformed":
        with pytest.raises(MalformedMessageError):
            read(case["body"])
        return
    assert read(case["body"]).kind == case["kind"]


@pytest.mark.parametrize("case", cases("partly_understood"))
def test_a_part_that_is_not_understood_is_absent(case: dict[str, Any]) -> None:
    found = read(case["body"])
    assert {name: getattr(found, name) for name in case["reads"]} == case["reads"]


def test_every_shape_that_histories_are_drawn_in_is_in_the_corpus() -> None:
    kept = {case.values[1]["shape"] for case in shapes()}
    bodies = [json.loads(sample(name)[0]["body"]) for name in ("eventbridge_license_updated", "sns_subscribe_success")]
    assert {shape for body in bodies for shape in shapes_of(body)} - {"as documented"} <= kept


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["[", "{}", "2026"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_no_value_stops_the_reader(value: Any) -> None:
    members = Members({"a": value})
    members.text("a"), members.account("a"), members.flag("a"), members.milliseconds("a")
    members.license_arn("a"), members.agreement_id("a"), members.object("a"), members.part("a", "b")


@given(st.sampled_from(["detail", "time", "id", "source", "account", "detail-type"]), json_values)
def test_an_event_with_any_value_in_any_place_is_read(place: str, value: Any) -> None:
    event: dict[str, Any] = json.loads(sample("eventbridge_license_updated")[0]["body"])
    assert isinstance(
        parsed(QueueMessage(message_id="m", body=json.dumps({**event, place: value}), sent_at_ms=SENT)), Notification
    )


@example("acceptor", 1)
@given(st.sampled_from(["agreement", "license", "product", "acceptor", "offer"]), json_values)
def test_a_licence_event_with_any_value_in_a_part_names_no_other_licence(part: str, value: Any) -> None:
    event: dict[str, Any] = json.loads(sample("eventbridge_license_updated")[0]["body"])
    event["detail"][part] = value
    found = read(event)
    expected = notification("eventbridge_license_updated")
    assert found.license_arn in {None, expected.license_arn}
    assert found.account_id in {None, expected.account_id}
    assert found.product_code in {None, expected.product_code}


def test_a_body_nested_without_end_is_malformed() -> None:
    with pytest.raises(MalformedMessageError):
        parsed(QueueMessage(message_id="m", body="[" * 200_000, sent_at_ms=SENT))
