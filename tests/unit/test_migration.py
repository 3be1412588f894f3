"""Moving a legacy customer to a licence: every hour belongs to one of the two."""

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.commands import migration
from marketplace.commands.migration import NOTICE, Cutover, Migration, MigrationRefusedError, next_boundary
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import DAY, HOUR
from marketplace.subscriptions import recheck
from tests.support.lifecycle_world import LEGACY, LICENSED, LifecycleWorld, at, notification
from tests.support.tables import Tables

NOW = at("2026-08-20T14:30:00Z")
CUTOVER = at("2026-08-20T16:00:00Z")


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> LifecycleWorld:
    """A legacy customer of a product, and the licence that the same product gave them."""
    world = LifecycleWorld(moto_dynamodb, moto_tables)
    world.receive("sns_subscribe_success")
    updated = notification("eventbridge_license_updated")
    values = {name: getattr(updated, name) for name in type(updated).__dataclass_fields__}
    world.lifecycle.receive(type(updated)(**{**values, "product_code": "n0123EXAMPLEXXXXXXXXXXXX"}))
    return world


@pytest.fixture
def moving(world: LifecycleWorld) -> Migration:
    return migration_of(world)


def migration_of(world: LifecycleWorld, sleep: Callable[[float], None] = lambda _: None) -> Migration:
    return Migration(
        table=Table(world.dynamodb, world.tables.subscriptions),
        usage_table=Table(world.dynamodb, world.tables.usage),
        clock=world.time.now,
        sleep=sleep,
    )


@pytest.mark.parametrize("minute", range(60))
def test_the_cut_over_is_an_hour_far_enough_ahead(minute: int) -> None:
    now = at("2026-08-20T14:00:00Z") + minute * 60
    boundary = next_boundary(now)
    assert boundary % HOUR == 0
    assert NOTICE <= boundary - now < NOTICE + HOUR


def test_hours_before_the_cut_over_are_the_customers_and_all_others_the_licences(
    world: LifecycleWorld, moving: Migration
) -> None:
    assert moving.migrate(LEGACY, LICENSED) == Cutover(LEGACY, LICENSED, CUTOVER)
    for reported_for in (LEGACY, LICENSED):
        found = world.subscription(reported_for)
        assert found.billed_to(CUTOVER - HOUR) == LEGACY
        assert found.billed_to(CUTOVER) == LICENSED
        assert found.billed_to(CUTOVER + HOUR) == LICENSED


def test_without_a_migration_every_hour_is_ones_own(world: LifecycleWorld) -> None:
    assert world.subscription(LEGACY).billed_to(CUTOVER) == LEGACY


def test_asked_again_the_first_answer_stands(world: LifecycleWorld, moving: Migration) -> None:
    first = moving.migrate(LEGACY, LICENSED)
    world.time.seconds += 2 * HOUR
    booked = keys.metering_record(LICENSED, CUTOVER, "emails")
    world.dynamodb.put_item(TableName=world.tables.usage, Item=booked.item())
    assert moving.migrate(LEGACY, LICENSED) == first


def test_the_lifecycle_leaves_a_migration_alone(world: LifecycleWorld, moving: Migration) -> None:
    moving.migrate(LEGACY, LICENSED)
    world.receive("sns_unsubscribe_pending", "eventbridge_license_deprovisioned")
    assert world.subscription(LEGACY).migrated_to == LICENSED
    assert world.subscription(LICENSED).migrated_from == LEGACY


def test_the_lifecycle_leaves_a_hold_alone(world: LifecycleWorld) -> None:
    taking_usage: list[bool] = []

    def receive_meanwhile(_: float) -> None:
        world.receive("eventbridge_license_updated", "eventbridge_purchase_agreement_created_renewal")
        world.look_again(LICENSED, recheck.RECONCILED)
        taking_usage.append(world.subscription(LICENSED).activated_at is not None)

    migration_of(world, receive_meanwhile).migrate(LEGACY, LICENSED)
    assert taking_usage == [False]
    assert world.subscription(LICENSED).activated_at is not None


LATEST_HOURS = (NOW // HOUR * HOUR - DAY, NOW // HOUR * HOUR, CUTOVER - HOUR)
TERM_ENDS = (None, NOW - 400 * DAY, NOW + 400 * DAY)
"""Usage that a contract included refuses in whatever term: its metering record may never have been."""


@pytest.mark.parametrize(
    ("stored", "match"),
    [
        *((keys.metering_record(LICENSED, hour, "emails"), "legacy customer's") for hour in LATEST_HOURS),
        *((keys.included(LICENSED, "emails", term_end), "once more") for term_end in TERM_ENDS),
        (keys.metering_record(LEGACY, CUTOVER, "emails"), "ahead"),
    ],
)
def test_usage_that_could_be_billed_twice_refuses(
    world: LifecycleWorld, moving: Migration, stored: keys.Key, match: str
) -> None:
    world.dynamodb.put_item(TableName=world.tables.usage, Item=stored.item())
    with pytest.raises(MigrationRefusedError, match=match):
        moving.migrate(LEGACY, LICENSED)


@pytest.mark.parametrize(
    "stored",
    [
        keys.included(LEGACY, "emails", NOW + 400 * DAY),
        keys.metering_record(LEGACY, CUTOVER - HOUR, "emails"),
        keys.metering_record(LICENSED, NOW // HOUR * HOUR - 48 * HOUR, "emails"),
    ],
)
def test_usage_of_the_customer_before_the_cut_over_and_old_usage_of_the_licence_do_not(
    world: LifecycleWorld, moving: Migration, stored: keys.Key
) -> None:
    world.dynamodb.put_item(TableName=world.tables.usage, Item=stored.item())
    assert moving.migrate(LEGACY, LICENSED).at == CUTOVER


def test_what_does_not_fit_together_is_refused(world: LifecycleWorld, moving: Migration) -> None:
    with pytest.raises(MigrationRefusedError, match="first has to be"):
        moving.migrate(LICENSED, LEGACY)
    with pytest.raises(MigrationRefusedError, match="no subscription"):
        moving.migrate("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa", LICENSED)
    world.register(product_code="another")
    with pytest.raises(MigrationRefusedError, match="different products"):
        moving.migrate(LEGACY, LICENSED)


def test_a_licence_that_is_not_active_is_refused(world: LifecycleWorld, moving: Migration) -> None:
    world.receive("eventbridge_license_deprovisioned")
    with pytest.raises(MigrationRefusedError, match="isn't active"):
        moving.migrate(LEGACY, LICENSED)


def test_one_customer_moves_once(world: LifecycleWorld, moving: Migration) -> None:
    moving.migrate(LEGACY, LICENSED)
    world.register("sub-other", None, product_code="n0123EXAMPLEXXXXXXXXXXXX", integration="legacy")
    with pytest.raises(MigrationRefusedError, match="another migration"):
        moving.migrate("sub-other", LICENSED)


def test_the_command_says_when(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "utc_now", world.time.now)
    monkeypatch.setattr(migration, "IN_FLIGHT", 0)
    tables = ["--table", world.tables.subscriptions, "--usage-table", world.tables.usage]
    shown: list[str] = []
    assert migration.main([*tables, "--legacy", LEGACY, "--license", LICENSED], shown.append) == 0
    assert shown[0].startswith("usage requests that are running are waited for")
    assert "from 2026-08-20T16:00:00Z on" in shown[1]
    assert migration.main([*tables, "--legacy", LICENSED, "--license", LEGACY], shown.append) == 1
    assert shown[-1].startswith("refused: ")
