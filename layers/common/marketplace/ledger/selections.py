"""Which metering records a query finds, by their attributes: marketplace.ledger.record says what they mean."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from marketplace.ledger.record import SAVABLE


class Selection(NamedTuple):
    """An expression and its values, as marketplace.dynamodb.table takes them."""

    expression: str
    values: Mapping[str, Any]

    def of_dimension(self, dimension: str | None) -> "Selection":
        """Those of one dimension; of all for None."""
        if dimension is None:
            return self
        return Selection(f"({self.expression}) AND #dimension = :dimension", {**self.values, "dimension": dimension})


def _in_states(names: Sequence[str]) -> Selection:
    return Selection(f"#state IN ({', '.join(f':{name}' for name in names)})", {name: name for name in names})


WITH_USAGE = Selection(
    "attribute_not_exists(#records) OR #records <> :nothing OR #quantity <> :nothing", {"nothing": 0}
)
"""All of an hour but the zeros that are written where no usage was reported."""

METERING_RECORDS = Selection("attribute_exists(#seal)", {})
"""The metering records among all items of an hour."""

_SAVABLE = _in_states(sorted(SAVABLE))
UNSETTLED = Selection(f"attribute_exists(#due_shard) AND {_SAVABLE.expression}", _SAVABLE.values)
"""Those that can still be billed."""

_REFUSED = _in_states(("rejected", "held", "unbillable"))
REFUSED_BY_AWS = Selection(
    f"{_REFUSED.expression} AND (attribute_not_exists(#approval) OR #approval <> :refused)",
    {**_REFUSED.values, "refused": "refused"},
)
"""Those that AWS refused, or takes no more; not what the seller has refused."""

AWAITING_APPROVAL = _in_states(("awaiting_approval",))
