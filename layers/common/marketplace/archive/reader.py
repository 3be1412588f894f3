"""The metering records and allocations of a subscription, wherever they are: in the usage table, in the archive, or
half in each while DynamoDB removes what is archived.

A key that both have is taken once, from the archive: nobody can have changed it there. Hours that can't be archived yet
are read from the table alone, as if there were no archive.
"""

from collections.abc import Iterator
from typing import Any

from marketplace.archive.bucket import Objects
from marketplace.archive.content import ArchiveError, Manifest, items_in, joined, manifest_name, month_at, month_of
from marketplace.archive.marks import Marks
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import Clock

LEAST_MONTHS = 1
"""How many whole months lie at least between an archived month and the running one (ArchiveAfterMonths)."""


def manifest_of(objects: Objects, subscription_id: str, month: str, sha256: str | None = None) -> Manifest:
    """The manifest of a month. Raises AwsError, and ArchiveDamagedError."""
    name = manifest_name(subscription_id, month)
    return Manifest.read(name, objects.get(name), sha256)


def archived_items(objects: Objects, manifest: Manifest, first: str = "", last: str = "~") -> Iterator[Item]:
    """The items of a month from one sort key to another, in their order. Raises AwsError, and ArchiveDamagedError."""
    for part in manifest.parts:
        if part.last >= first and part.first <= last:
            yield from (one for one in items_in(part, objects.get(part.name)) if first <= one["sk"]["S"] <= last)


class UsageHistory:
    """Methods raise AwsError when DynamoDB or S3 gives no answer; ArchiveError when items are in an archive that this
    deployment has no bucket for; ArchiveDamagedError when an object is gone or is not what its hash says."""

    def __init__(self, table: Table, clock: Clock, objects: Objects | None = None) -> None:
        self._table = table
        self._clock = clock
        self._objects = objects

    def items(self, subscription_id: str, first: str, last: str, *, where: str = "") -> Iterator[Item]:
        """The items from one sort key to another, in their order. `where` filters those of the table."""
        months = self.archived_months(subscription_id, first, last)
        span: dict[str, Any] = {"pk": keys.subscription_pk(subscription_id), "first": first, "last": last}
        stored = self._table.items("pk = :pk AND sk BETWEEN :first AND :last", span, where=where)
        if not months:
            return stored
        kept = self._archived(subscription_id, months, first, last)
        return (item for pair in joined(stored, kept) if (item := pair[1] or pair[0]) is not None)

    def get(self, key: Key) -> Item | None:
        """One metering record or allocation, or None."""
        subscription_id = keys.subscription_id_of(key.pk)
        months = self.archived_months(subscription_id, key.sk, key.sk)
        if months:
            for item in self._archived(subscription_id, months, key.sk, key.sk):
                return item
        return self._table.get(key)

    def archived_months(self, subscription_id: str, first: str, last: str) -> dict[str, str]:
        """The archived months between two sort keys, with the hashes of their manifests: one read, and none for hours
        that can't be archived yet."""
        oldest = month_of(first)
        if oldest > month_at(self._clock(), LEAST_MONTHS + 1):
            return {}
        mark = Marks(self._table).of(subscription_id)
        found = {month: sha for month, sha in sorted(mark.months.items()) if oldest <= month <= month_of(last)}
        if found and self._objects is None:
            raise ArchiveError("ArchiveUnknown", f"{', '.join(found)} is archived, and no bucket is named")
        return found

    def _archived(self, subscription_id: str, months: dict[str, str], first: str, last: str) -> Iterator[Item]:
        assert self._objects is not None
        for month, sha256 in months.items():
            manifest = manifest_of(self._objects, subscription_id, month, sha256)
            yield from archived_items(self._objects, manifest, first, last)
