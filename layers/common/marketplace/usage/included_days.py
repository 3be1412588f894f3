"""How much a contract includes of a day's usage, by dimension and tag set: no metering record says it, statements do.

The item is changed in the transaction that splits a usage record, or changes its split.
"""

from collections.abc import Iterable

from marketplace.dynamodb import keys
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.update import Update
from marketplace.usage.report import TagSet, tags_digest


def included_of_day(
    subscription_id: str, hour: int, dimension: str, parts: Iterable[tuple[TagSet, int]], *, attribute: str = "included"
) -> list[tuple[Key, Update]]:
    """The changes that add units, by their tag sets, to the day of an hour. `attribute`: `included`, or `correction`
    for units that were charged and have to be credited."""
    added: dict[TagSet, int] = {}
    for tags, units in parts:
        added[tags] = added.get(tags, 0) + units
    return [
        (
            keys.included_day(subscription_id, hour, dimension, tags_digest(tags) if tags else None),
            Update(keep={"dimension": dimension, **({"tags": dict(tags)} if tags else {})}, add={attribute: units}),
        )
        for tags, units in sorted(added.items())
        if units
    ]
