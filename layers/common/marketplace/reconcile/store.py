"""What reconciliation has found and how far it has come, in the usage table.

    RECONCILIATION / STATE                    the last day that was compared, and how far the month before was again
    RECONCILIATION / DIFFERENCE#<day>#<id>    a difference of that day, with the reason for which somebody accepted it

A difference that a later comparison of its day does not find is removed, unless it was accepted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.update import Update
from marketplace.platform.clock import DAY
from marketplace.reconcile.difference import Acceptance, Difference

KEPT_FOR = 400 * DAY


@dataclass(frozen=True, slots=True)
class Progress:
    """The first seconds of days: the last one that was compared, and the last one of the month before that was compared
    again; None while there is none."""

    day: int | None = None
    again: int | None = None


@dataclass(frozen=True, slots=True)
class StoredDifference:
    """A difference as it is kept: its JSON form, the day that it was found in, and why it was accepted."""

    day: int
    values: Mapping[str, Any]
    reason: str | None

    @property
    def id(self) -> str:
        return str(self.values["id"])


class ReconciliationStore:
    """The usage table as reconciliation sees it. Methods raise AwsError when DynamoDB gives no answer."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def progress(self) -> Progress:
        item = self._table.get(keys.reconciliation_state())
        values = {} if item is None else from_item(item)
        return Progress(values.get("day"), values.get("again"))

    def remember(self, progress: Progress) -> None:
        values = {"day": progress.day, "again": progress.again}
        self._table.put(to_item({**keys.reconciliation_state()._asdict(), **values}))

    def differences(self, day: int | None = None, *, since: int = 0) -> Iterator[StoredDifference]:
        """The stored differences of a day, or of all days from `since` on, in the order of their days."""
        if day is not None:
            items = self._table.items_under(keys.RECONCILIATION, keys.difference_prefix(day))
        else:
            span = {"pk": keys.RECONCILIATION, "first": keys.difference_prefix(since), "last": keys.LAST_DIFFERENCE}
            items = self._table.items("pk = :pk AND sk BETWEEN :first AND :last", span)
        for item in items:
            values = from_item(item)
            yield StoredDifference(values["day"], json.loads(values["difference"]), values.get("accepted_reason"))

    def replace(self, day: int, found: Iterable[Difference], now: int) -> None:
        """What was found of a day takes the place of what was found before; what was accepted stays."""
        wanted = {one.id: one for one in found}
        for stored in list(self.differences(day)):
            if wanted.pop(stored.id, None) is None and stored.reason is None:
                self._table.delete(keys.difference(day, stored.id))
        for one in wanted.values():
            values = {"day": day, "difference": json.dumps(one.as_json()), "expires_at": now + KEPT_FOR}
            self._table.put_new(to_item({**keys.difference(day, one.id)._asdict(), **values}))

    def acceptances(self, day: int) -> list[Acceptance]:
        return [Acceptance(one.id, one.reason) for one in self.differences(day) if one.reason is not None]

    def accept(self, difference: StoredDifference, reason: str, who: str, now: int) -> bool:
        """Notes why a difference stays. False when it is not stored any more, or was accepted before."""
        update = Update(
            set={"accepted_reason": reason, "accepted_by": who, "accepted_at": now},
            condition="attribute_exists(pk) AND attribute_not_exists(#accepted_reason)",
        )
        return self._table.update_if(keys.difference(difference.day, difference.id), update)
