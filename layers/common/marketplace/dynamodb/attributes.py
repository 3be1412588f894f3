"""Plain values to and from DynamoDB's attribute-value form: strings, whole numbers, booleans, lists, maps, string sets.

boto3's own serializer goes through Decimal contexts; on the metering path that is a third of the CPU of a record.
Numbers here are integers only: nothing that is billed has a fraction.
"""

from collections.abc import Mapping
from typing import Any

type Item = dict[str, Any]


def to_attribute(value: Any) -> dict[str, Any]:
    """Raises TypeError for a value that has no place in an item (floats among them)."""
    attribute: dict[str, Any]
    match value:
        case bool():
            attribute = {"BOOL": value}
        case str():
            attribute = {"S": value}
        case int():
            attribute = {"N": str(value)}
        case None:
            attribute = {"NULL": True}
        case list() | tuple():
            attribute = {"L": [to_attribute(member) for member in value]}
        case frozenset():
            attribute = {"SS": sorted(value)}
        case Mapping():
            attribute = {"M": {name: to_attribute(member) for name, member in value.items()}}
        case _:
            raise TypeError(f"{type(value).__name__} can't be stored")
    return attribute


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """The plain value of an attribute. Raises TypeError for a type that `to_attribute` does not make."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S" | "BOOL" | "SS":
            return value
        case "N":
            return int(value)
        case "NULL":
            return None
        case "L":
            return [from_attribute(member) for member in value]
        case "M":
            return {name: from_attribute(member) for name, member in value.items()}
        case _:
            raise TypeError(f"the attribute type {kind} isn't used here")


def to_item(values: Mapping[str, Any]) -> Item:
    """An item from plain values; a None is left out, so a missing attribute and None are the same."""
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: from_attribute(attribute) for name, attribute in item.items()}
