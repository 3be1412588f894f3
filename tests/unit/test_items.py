"""Plain values and DynamoDB's attribute values, there and back."""

from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb.attributes import from_attribute, from_item, to_attribute, to_item

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**37), 10**37) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_every_value_comes_back(value: Any) -> None:
    assert from_attribute(to_attribute(value)) == value


@given(values)
def test_the_form_is_that_of_the_sdks_own_serializer(value: Any) -> None:
    serializer: Any = TypeSerializer()
    deserializer: Any = TypeDeserializer()
    assert to_attribute(value) == serializer.serialize(value)
    assert from_attribute(serializer.serialize(value)) == deserializer.deserialize(to_attribute(value))


@given(st.dictionaries(st.text(), values, max_size=6))
def test_an_item_keeps_everything_but_none(item: dict[str, Any]) -> None:
    stored = to_item(item)
    assert from_item(stored) == {name: value for name, value in item.items() if value is not None}


def test_tuples_are_lists_and_string_sets_are_read() -> None:
    assert from_attribute(to_attribute(("a", 1))) == ["a", 1]
    assert from_attribute({"SS": ["a", "b"]}) == ["a", "b"]


def test_true_is_no_number() -> None:
    assert to_attribute(True) == {"BOOL": True}
    assert to_attribute(1) == {"N": "1"}


@pytest.mark.parametrize("value", [1.5, b"bytes", {1, 2}, object()])
def test_what_has_no_place_in_an_item_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_attribute(value)


@pytest.mark.parametrize("attribute", [{"B": b"x"}, {"NS": ["1"]}])
def test_an_attribute_type_that_is_not_used_is_refused(attribute: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        from_attribute(attribute)


def test_a_fraction_is_not_read_as_a_number() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        from_attribute({"N": "1.5"})
