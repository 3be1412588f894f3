"""How much a contract includes of a day's usage, by dimension and tag set: no metering record says it, statements do.

The item is changed in the transaction that splits a usage record, or changes its split.
"""

from collections.abc import Iterable

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.update import Update
from marketplace.usage.record import TagSet, tags_digest

type Share = tuple[str, int, str, TagSet, int]
"""Units of one tag set: the subscription that they are billed to, the hour, the dimension, the tags, how many."""


def included_of_days(shares: Iterable[Share], attribute: str = "included") -> list[tuple[Key, Update]]:
    """The changes that add units to their days, one for each item. `attribute`: `included`, or `correction` for units
    that were charged and have to be credited."""
    added: dict[Key, tuple[str, TagSet, int]] = {}
    for subscription_id, hour, dimension, tags, units in shares:
        key = keys.included_day(subscription_id, hour, dimension, tags_digest(tags) if tags else None)
        before = added[key][2] if key in added else 0
        added[key] = (dimension, tags, before + units)
    return [
        (key, Update(keep={"dimension": dimension, **({"tags": dict(tags)} if tags else {})}, add={attribute: units}))
        for key, (dimension, tags, units) in added.items()
        if units
    ]
