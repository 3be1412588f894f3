"""Moves one customer from the legacy integration to their licence, at the start of an hour.

"Sending metering records with both ProductCode and LicenseArn for the same customer within the same hour will result in
duplicate billing" (botocore model, BatchMeterUsage). So every hour belongs to exactly one of the two: hours before the
cut-over to the legacy customer, all others to the licence, whichever of them usage is reported for, and however late
(Subscription.billed_to). The cut-over lies ahead when it is set, so no usage of its hour is booked yet.

A licence that has usage of its own is refused; the zeros of HeartbeatDimension are no usage. A request reads
subscriptions first and books afterwards, so one that is running when the licence is checked may still book usage for
it. Therefore the licence takes no usage for a while (a hold), the command waits until every earlier request has ended,
and only then checks the licence. The cut-over is set on the condition that the hold has stood all the time. The
decision "In a migration every hour belongs to one integration" has the argument.

The ids of usage records belong to both subscriptions from then on (marketplace.usage.report, RecordName).
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table, Update
from marketplace.ledger.selections import WITH_USAGE
from marketplace.platform.clock import HOUR, Clock, epoch, hour_of

NOTICE = HOUR + 600
"""Seconds that the cut-over lies ahead at least. A request books to the next hour at most, counted from its start. Ten
minutes allow for clocks that differ, and for the time from reading the clock until the cut-over is stored."""
IN_FLIGHT = 60
"""Seconds after which no earlier usage request is still running: API Gateway and the function allow 29
(template.yaml)."""
_WINDOW = 25 * HOUR
"""Older hours are no longer taken by AWS (botocore model, BatchMeterUsage: the last 24 hours)."""
_AHEAD = 24 * HOUR
_AFTER_ALL = "$"
"""Sorts after `#`, which follows the hour in a key."""
_NOT_MIGRATED = "attribute_exists(pk) AND attribute_not_exists(migrated_to) AND attribute_not_exists(migrated_from)"


class MigrationRefusedError(CommandRefusedError):
    """The customer can't be moved; the text says why, for the operator."""


@dataclass(frozen=True, slots=True)
class Cutover:
    """From this hour on (seconds since the epoch) usage is billed to the licence."""

    legacy_id: str
    license_id: str
    at: int


def next_boundary(now: int) -> int:
    """The first hour that begins late enough for a cut-over, in seconds since the epoch."""
    return hour_of(now + NOTICE + HOUR - 1)


class Migration:
    """The use case. `table` holds the subscriptions. `sleep` (seconds) waits until the usage requests that run now have
    ended; `new_hold` returns a name that no other hold has."""

    def __init__(
        self,
        *,
        table: Table,
        usage_table: Table,
        clock: Clock,
        sleep: Callable[[float], None],
        new_hold: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._table = table
        self._usage_table = usage_table
        self._clock = clock
        self._sleep = sleep
        self._new_hold = new_hold

    def planned(self, legacy_id: str, license_id: str) -> Cutover:
        """The cut-over that `migrate` would set now, or the one that is set. Writes nothing. Raises
        MigrationRefusedError and AwsError."""
        standing = _standing(self._read(legacy_id), self._read(license_id))
        return standing or self._next_cutover(legacy_id, license_id)

    def migrate(self, legacy_id: str, license_id: str) -> Cutover:
        """Sets the cut-over, on both subscriptions or on neither; takes a minute, in which the licence takes no usage.
        Run again, it returns the cut-over that is set, and completes what an interrupted run has left.

        Raises MigrationRefusedError, and AwsError when DynamoDB gave no answer: run it again.
        """
        legacy, licensed = self._read(legacy_id), self._read(license_id)
        hold: str | None = licensed.get("usage_hold")
        try:
            standing = _standing(legacy, licensed)
            if standing is not None:
                return standing
            self._next_cutover(legacy_id, license_id)  # a licence that is in use is not held
            hold = self._new_hold()
            if self._hold(license_id, hold):
                self._sleep(IN_FLIGHT)
                cutover = self._next_cutover(legacy_id, license_id)
                if self._set(cutover, hold, legacy, licensed):
                    return cutover
            standing = _standing(self._read(legacy_id), self._read(license_id))
            if standing is not None:
                return standing
            raise MigrationRefusedError("another run of this command, or a claim, was in the way; ask again")
        except BaseException:
            if hold is not None:
                self._release(license_id, hold)
            raise

    def _next_cutover(self, legacy_id: str, license_id: str) -> Cutover:
        """The cut-over as of now. Raises MigrationRefusedError when usage is booked that would be on its wrong side."""
        now = epoch(self._clock())
        at = next_boundary(now)
        if found := self._first_usage(license_id, now - _WINDOW, at - HOUR):
            raise MigrationRefusedError(
                f"usage was recorded for the licence within the last day ({found}), in hours that would be the legacy "
                "customer's; ask again when that is a day ago, and report no usage for the licence until then"
            )
        if self._has_used_included(license_id):
            raise MigrationRefusedError(
                "usage of the licence was counted as included in its contract; counted for the legacy customer, the "
                "contract would include it once more"
            )
        if found := self._first_usage(legacy_id, at, now + _AHEAD):
            raise MigrationRefusedError(f"usage of the legacy customer is booked ahead ({found}); ask again in an hour")
        return Cutover(legacy_id, license_id, at)

    def _read(self, subscription_id: str) -> dict[str, Any]:
        item = self._table.get(keys.subscription(subscription_id))
        if item is None:
            raise MigrationRefusedError(f"there is no subscription {subscription_id}")
        return from_item(item)

    def _first_usage(self, subscription_id: str, first: int, last: int) -> str | None:
        """The hour and the dimension of the first usage that was reported for these hours, the last one included. The
        zeros of HeartbeatDimension are no usage: AWS bills nothing for them, so no hour is billed twice."""
        between = {
            "pk": keys.subscription_pk(subscription_id),
            "first": keys.hour_prefix(first),
            "last": keys.hour_prefix(last) + _AFTER_ALL,
        }
        found = self._usage_table.items(
            "pk = :pk AND sk BETWEEN :first AND :last", {**between, **WITH_USAGE.values}, where=WITH_USAGE.expression
        )
        for item in found:
            return " ".join(keys.hour_and_dimension(item["sk"]["S"]))
        return None

    def _has_used_included(self, subscription_id: str) -> bool:
        """Whether anything was counted against a contract of this subscription, in any term. Usage that is included
        whole has no metering record. Both sides of a migration count under the legacy customer, where none of it would
        be known."""
        counters = self._usage_table.items_under(keys.subscription_pk(subscription_id), keys.INCLUDED_PREFIX)
        return next(counters, None) is not None

    def _hold(self, license_id: str, hold: str) -> bool:
        """Sets a hold on the licence, in place of any other hold. False when the licence is part of a migration."""
        held = Update(set={"usage_hold": hold}, add={"version": 1}, condition=_NOT_MIGRATED)
        return self._table.update_if(keys.subscription(license_id), held)

    def _release(self, license_id: str, hold: str) -> None:
        """Ends this hold. Another hold in its place stays."""
        released = Update(
            remove=("usage_hold",), add={"version": 1}, condition="usage_hold = :hold", given={"hold": hold}
        )
        self._table.update_if(keys.subscription(license_id), released)

    def _set(self, cutover: Cutover, hold: str, legacy: Mapping[str, Any], licensed: Mapping[str, Any]) -> bool:
        """Writes the cut-over and ends the hold, if that still stands, neither is part of a migration, and both claims
        are as they were read."""
        to_license = _side("migrated_to", cutover.license_id, cutover.at, legacy)
        from_legacy = _side("migrated_from", cutover.legacy_id, cutover.at, licensed)
        held = replace(
            from_legacy,
            condition=f"{from_legacy.condition} AND usage_hold = :hold",
            given={**from_legacy.given, "hold": hold},
        )
        writes = [
            self._table.update_action(keys.subscription(cutover.legacy_id), to_license),
            self._table.update_action(keys.subscription(cutover.license_id), held),
        ]
        return self._table.write_together(writes) is None


def _side(attribute: str, other: str, at: int, read: Mapping[str, Any]) -> Update:
    """The change of one of the two subscriptions: `attribute` names the other."""
    claims = read.get("claim_revision")
    as_claimed = "attribute_not_exists(claim_revision)" if claims is None else "claim_revision = :claims"
    return Update(
        set={attribute: other, "cutover_at": at},
        remove=("usage_hold",),
        add={"version": 1},
        condition=f"{_NOT_MIGRATED} AND {as_claimed}",
        given={} if claims is None else {"claims": claims},
    )


def _standing(legacy: Mapping[str, Any], licensed: Mapping[str, Any]) -> Cutover | None:
    """The cut-over that is set for these two, if one is. Raises MigrationRefusedError when the first can't be moved to
    the second."""
    if legacy.get("integration") != "legacy" or licensed.get("integration") != "license":
        raise MigrationRefusedError("the first has to be a legacy subscription, the second a licence")
    if legacy.get("product_code") != licensed.get("product_code"):
        raise MigrationRefusedError("the two are subscriptions to different products")
    if licensed.get("status") != "active":
        raise MigrationRefusedError("the licence isn't active; its usage would not be taken")
    legacy_id, license_id = legacy["id"], licensed["id"]
    if legacy.get("migrated_to") == license_id:
        return Cutover(legacy_id, license_id, legacy["cutover_at"])
    if legacy.get("migrated_to") is not None or licensed.get("migrated_from") not in {None, legacy_id}:
        raise MigrationRefusedError("one of the two is part of another migration")
    if len({legacy.get("tenant_id"), licensed.get("tenant_id")} - {None}) > 1:
        raise MigrationRefusedError("the two belong to different tenants; transfer or release the wrong claim first")
    return None
