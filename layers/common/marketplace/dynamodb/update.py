"""A change of one item and the condition for it, as expressions with their names and values; nothing is sent here.

In an expression an attribute is named `#name` and a value `:name`; the placeholders are filled in here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marketplace.dynamodb.attributes import Item, from_item, to_attribute, to_item

_NAME = re.compile(r"#(\w+)")


@dataclass(frozen=True, slots=True)
class Update:
    """A change of one item, and the condition for it.

    `set`: values that replace what is there, None removes. `keep`: values that are set where there is none yet.
    `add`: numbers that are added, and sets of strings that are joined. `remove`: attributes that go. `condition`: an
    expression; `given` holds the values that only the condition names.
    """

    set: Mapping[str, Any] = field(default_factory=dict)
    keep: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, int | frozenset[str]] = field(default_factory=dict)
    remove: Sequence[str] = ()
    condition: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """The expression with its names and values, as UpdateItem and TransactWriteItems take them."""
        kept = {name: value for name, value in self.keep.items() if value is not None}
        values = {name: value for name, value in self.set.items() if value is not None}
        removed = [*self.remove, *(name for name, value in self.set.items() if value is None)]
        sets = [
            *(f"#{name} = :{name}" for name in values),
            *(f"#{name} = if_not_exists(#{name}, :{name})" for name in kept),
        ]
        clauses = {
            "SET": sets,
            "REMOVE": [f"#{name}" for name in removed],
            "ADD": [f"#{name} :{name}" for name in self.add],
        }
        expression = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts)
        arguments: dict[str, Any] = {}
        if expression:
            arguments["UpdateExpression"] = expression
        if self.condition:
            arguments["ConditionExpression"] = self.condition
        return arguments | placeholders(f"{expression} {self.condition}", {**values, **kept, **self.add, **self.given})

    def is_done_in(self, item: Item) -> bool:
        """Whether the item holds what this change sets, and nothing that it removes. False for a change that adds: its
        result does not show whether it was made."""
        if self.add or not (self.set or self.remove):
            return False
        expected = from_item(to_item(self.set))
        stored = from_item(item)
        return all(stored.get(name) == expected.get(name) for name in self.set) and not any(
            name in stored for name in self.remove
        )


def placeholders(expressions: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The names that the expressions use, and the values that are given for them."""
    names = {f"#{name}": name for name in _NAME.findall(expressions)}
    filled: dict[str, Any] = {}
    if names:
        filled["ExpressionAttributeNames"] = names
    if values:
        filled["ExpressionAttributeValues"] = {f":{name}": to_attribute(value) for name, value in values.items()}
    return filled
