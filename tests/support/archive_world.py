"""A deployment that archives its usage: the world, a bucket, and the clock in the month after next."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from marketplace.archive.archiver import ArchiveReport, UsageArchiver
from marketplace.archive.bucket import ArchiveBucket
from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR
from marketplace.statements.reader import StatementReader
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import subscriptions_ever_active
from marketplace.usage.queries import UsageQueries
from tests.support.calls import Calls
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.memory_s3 import MemoryS3
from tests.support.world import NOON, World

PAY_AS_YOU_GO = "ca2payasyougoproduct00000"
USERS, STORAGE = "api_calls", "storage_gb_hours"
MONTH = "2026-11"
READY = int(datetime(2027, 1, 1, 0, 20, tzinfo=UTC).timestamp())
"""When November is archived, one whole month after its end."""


@dataclass
class ArchiveWorld:
    """`calls` sees what the archiver asks of DynamoDB and S3. `told`: what was said of months that are held back."""

    world: World = field(default_factory=lambda: World.on(MemoryDynamoDB()))
    s3: MemoryS3 = field(default_factory=MemoryS3)
    calls: Calls = field(default_factory=Calls)
    told: list[dict[str, Any]] = field(default_factory=list)
    part_items: int = 20_000
    bucket_name: str = "archive"

    @property
    def bucket(self) -> ArchiveBucket:
        return ArchiveBucket(lambda: self.s3, self.bucket_name)

    def archiver(self) -> UsageArchiver:
        world, bucket = self.world, ArchiveBucket(lambda: self.calls.wrap(self.s3), self.bucket_name)
        usage, subscriptions = (
            Table(self.calls.wrap(world.dynamodb), name, sleep=world.time.sleep, jitter=lambda: 0.5)
            for name in (world.tables.usage, world.tables.subscriptions)
        )
        statements = StatementReader(usage, world.time.now, bucket)
        return UsageArchiver(
            usage=usage,
            objects=bucket,
            clock=world.time.now,
            after_months=1,
            subscription_ids=lambda: subscriptions_ever_active(subscriptions),
            close=lambda subscription_id, month: statements.statement(subscription_id, month).settled,
            tell=lambda _what, details: self.told.append(details),
            part_items=self.part_items,
        )

    def run(self, time_left: Callable[[], float] = lambda: 840.0, *, again: bool = False) -> ArchiveReport:
        return self.archiver().run(time_left, again=again)

    def queries(self) -> UsageQueries:
        return UsageQueries(self.world.usage_table(), self.world.time.now, self.bucket)

    def history(self) -> UsageHistory:
        return UsageHistory(self.world.usage_table(), self.world.time.now, self.bucket)

    def items(self, prefix: str = keys.HOUR_PREFIX) -> list[Item]:
        """What the table has of hours."""
        found = self.world.dynamodb.items(self.world.tables.usage)
        return [item for item in found if item["sk"]["S"].startswith(prefix)]

    def expire(self, chosen: Callable[[int], bool] = lambda _: True) -> int:
        """What DynamoDB does with what has expired, if it comes to it: items in no order, days later."""
        expired = [item for item in self.items() if "expires_at" in item]
        for number, item in enumerate(expired):
            if chosen(number):
                key = {name: item[name] for name in ("pk", "sk")}
                self.world.dynamodb.delete_item(TableName=self.world.tables.usage, Key=key)
        return len(expired)

    def statement(self, buyer: Subscription, month: str = MONTH) -> bytes:
        """Every byte of a statement."""
        found = StatementReader(self.world.usage_table(), self.world.time.now, self.bucket).statement(buyer.id, month)
        days = [
            (day.day, day.closed, [line.as_json() for line in day.lines], [one.as_json() for one in day.corrections])
            for day in found.days
        ]
        return json.dumps(days).encode()


def used(archive: ArchiveWorld, *, buyers: int = 1, hours: int = 4, tagged: bool = True) -> list[Subscription]:
    """Buyers with metered usage in some hours of November, and one in December, in January."""
    world = archive.world
    made = [world.subscribe(f"11112222{number:04d}", PAY_AS_YOU_GO) for number in range(buyers)]
    for hour in [*range(hours), 24 * 20]:
        world.time.to(NOON + hour * HOUR)
        for number, buyer in enumerate(made):
            world.report(buyer, 10 + number, id=f"of-{hour}", dimension=USERS, at=NOON + hour * HOUR)
            if tagged:
                world.report(buyer, 3 + hour, id=f"a-{hour}", dimension=STORAGE, tags={"team": "a", "stage": "x"})
                world.report(buyer, 4, id=f"b-{hour}", dimension=STORAGE, tags={"team": "b"})
        world.to_due()
        world.meter()
    world.time.to(READY)
    return made
