"""The audit trail of a subscription's claim: each change is an item of its own, numbered from 1 on.

The number is the subscription's `claim_revision` after the change. The change and its item are written in one
transaction, so the trail has no gap, and a request that is repeated finds what it has done.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.paging import InvalidCursorError, cursor_of, parts_of
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write

type Action = Literal["claimed", "released", "transferred"]
type Via = Literal["registration", "subscription"]
"""What a request named: a registration code, or the id of the subscription."""

MAX_PAGE = 100
MAX_CALLER = 512
"""Characters that are kept of a caller's ARN: more than any principal's has (IAM User Guide: IAM and STS quotas)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimChange:
    """One change. `tenant_id`: whose the subscription is from then on; `previous_tenant_id`: whose it was. `at`:
    seconds since the epoch. `caller`: the ARN of the principal that signed the request."""

    revision: int
    action: Action
    tenant_id: str | None
    previous_tenant_id: str | None
    at: int
    caller: str
    via: Via
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes, and the cursor of the next page; None on the last page."""

    changes: list[ClaimChange]
    cursor: str | None


class ClaimHistory:
    """The audit trails of all subscriptions. Methods that read raise AwsError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def writing(self, subscription_id: str, change: ClaimChange) -> Write:
        """The member of a transaction that stores the change."""
        values = {**asdict(change), "caller": change.caller[:MAX_CALLER]}
        return self._table.put_action(
            to_item({**keys.claim_change(subscription_id, change.revision)._asdict(), **values})
        )

    def get(self, subscription_id: str, revision: int) -> ClaimChange | None:
        """The change that made this revision, or None."""
        item = self._table.get(keys.claim_change(subscription_id, revision))
        return None if item is None else _change(from_item(item))

    def page(self, subscription_id: str, *, cursor: str | None = None, limit: int = MAX_PAGE) -> ChangePage:
        """At most `limit` changes, the newest first. Raises InvalidCursorError."""
        before = 10**8 if cursor is None else _revision(cursor)
        span = {"first": keys.claim_change(subscription_id, 0), "last": keys.claim_change(subscription_id, before - 1)}
        page = self._table.page(
            "pk = :pk AND sk BETWEEN :first AND :last",
            {"pk": keys.subscription_pk(subscription_id), **{name: key.sk for name, key in span.items()}},
            limit=max(1, min(limit, MAX_PAGE)),
            last_first=True,
        )
        changes = [_change(from_item(item)) for item in page.items]
        return ChangePage(changes, None if page.after is None else cursor_of(changes[-1].revision))


def _change(values: dict[str, object]) -> ClaimChange:
    names = ClaimChange.__dataclass_fields__
    whose = {"tenant_id": None, "previous_tenant_id": None}  # None is stored by leaving the attribute out
    return ClaimChange(**{**whose, **{name: value for name, value in values.items() if name in names}})  # type: ignore[arg-type]


def _revision(cursor: str) -> int:
    (revision,) = parts_of(cursor, 1)
    if not isinstance(revision, int) or not 1 <= revision < 10**8:
        raise InvalidCursorError("the cursor belongs to another query")
    return revision
