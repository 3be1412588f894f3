"""Which months of which subscriptions are archived, in the usage table.

ARCHIVE / SUB#<id>    `until`: all months up to this one are done. `months`: those that are in the bucket, and the
                      hash of the manifest of each; written before the first of their items may expire
ARCHIVE / STATE       `month`: all subscriptions are done up to this month. `next`: a later one that runs have begun
                      with, the first of them at `since`
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a subscription is archived; `until` is "" while nothing is."""

    until: str = ""
    months: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """How far all subscriptions are archived."""

    month: str = ""
    next: str = ""
    since: int = 0


class Marks:
    """Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def of(self, subscription_id: str) -> Mark:
        item = self._table.get(keys.archive_mark(subscription_id))
        return Mark() if item is None else _mark(from_item(item))

    def of_many(self, subscription_ids: Iterable[str]) -> dict[str, Mark]:
        found = self._table.get_many(map(keys.archive_mark, subscription_ids))
        return {keys.subscription_id_of(key.sk): _mark(from_item(item)) for key, item in found.items()}

    def put(self, subscription_id: str, mark: Mark) -> None:
        values = {"until": mark.until, "months": dict(mark.months)}
        self._table.put(to_item({**keys.archive_mark(subscription_id)._asdict(), **values}))

    def state(self) -> State:
        item = self._table.get(keys.archive_state())
        if item is None:
            return State()
        values = from_item(item)
        return State(values["month"], values["next"], values["since"])

    def put_state(self, state: State) -> None:
        self._table.put(to_item({**keys.archive_state()._asdict(), **asdict(state)}))


def _mark(values: Mapping[str, object]) -> Mark:
    months = values.get("months")
    return Mark(str(values.get("until", "")), months if isinstance(months, dict) else {})
