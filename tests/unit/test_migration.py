"""Moving a legacy customer to a licence: every hour belongs to one of the two."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from marketplace.commands.migration import NOTICE, Cutover, Migration, MigrationRefusedError, next_boundary
from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, EpochSeconds
from marketplace.subscriptions import recheck
from marketplace_saas_cli.exits import NOT_CONFIRMED, USAGE
from tests.support.duty import on_duty
from tests.support.lifecycle_world import LEGACY, LICENSED, LifecycleWorld, at, notification
from tests.support.tables import Tables

pytestmark = pytest.mark.slow

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


def book(world: LifecycleWorld, subscription_id: str, hour: int) -> None:
    key = keys.metering_record(subscription_id, hour, "emails")
    world.dynamodb.put_item(TableName=world.tables.usage, Item=key.item())


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
    book(world, LICENSED, CUTOVER)
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


@pytest.mark.parametrize("hour", ["2026-08-19T14:00:00Z", "2026-08-20T14:00:00Z", "2026-08-20T15:00:00Z"])
def test_usage_in_hours_of_the_other_refuses(world: LifecycleWorld, moving: Migration, hour: str) -> None:
    book(world, LICENSED, at(hour))
    with pytest.raises(MigrationRefusedError, match="legacy customer's"):
        moving.migrate(LEGACY, LICENSED)


def record(world: LifecycleWorld, subscription_id: str, hour: int, **given: Any) -> None:
    """A metering record without usage, as a heartbeat writes it, unless told otherwise."""
    zero = MeteringRecord.new(
        world.subscription(subscription_id),
        EpochSeconds(hour),
        "emails",
        timestamp=EpochSeconds(hour),
        due_at=EpochSeconds(hour + HOUR),
        refuse_at=EpochSeconds(hour + DAY),
    )
    world.dynamodb.put_item(TableName=world.tables.usage, Item=replace(zero, **given).to_item())


@pytest.mark.parametrize("settled", [{}, {"state": "metered", "seal": "clear-t", "due_shard": None, "due_at": None}])
def test_zeros_for_hours_without_usage_do_not_refuse(
    world: LifecycleWorld, moving: Migration, settled: dict[str, Any]
) -> None:
    for hours in range(25):
        record(world, LICENSED, CUTOVER - (hours + 1) * HOUR, **settled)
        record(world, LEGACY, CUTOVER - (hours + 1) * HOUR, **settled)
    assert moving.migrate(LEGACY, LICENSED).at == CUTOVER


@pytest.mark.parametrize("given", [{"quantity": 9, "records": 2}, {"quantity": 0, "records": 1}])
def test_reported_usage_among_zeros_refuses_and_is_named(
    world: LifecycleWorld, moving: Migration, given: dict[str, int]
) -> None:
    """A quantity of 0 too: AWS keeps the first record of an hour, and more may follow in its hour."""
    for hours in range(1, 26):
        record(world, LICENSED, CUTOVER - hours * HOUR, **(given if hours == 20 else {}))
    with pytest.raises(MigrationRefusedError, match=r"2026-08-19T20:00:00Z emails.*legacy customer's"):
        moving.migrate(LEGACY, LICENSED)


@pytest.mark.parametrize("term_end", [None, NOW - 400 * DAY, NOW + 400 * DAY])
def test_usage_that_the_licences_contract_included_refuses(
    world: LifecycleWorld, moving: Migration, term_end: int | None
) -> None:
    """In whatever term, and however long ago: its metering record may never have been."""
    key = keys.included(LICENSED, "emails", term_end)
    world.dynamodb.put_item(TableName=world.tables.usage, Item=key.item())
    with pytest.raises(MigrationRefusedError, match="once more"):
        moving.migrate(LEGACY, LICENSED)


def test_usage_that_the_customers_contract_included_does_not(world: LifecycleWorld, moving: Migration) -> None:
    key = keys.included(LEGACY, "emails", NOW + 400 * DAY)
    world.dynamodb.put_item(TableName=world.tables.usage, Item=key.item())
    assert moving.migrate(LEGACY, LICENSED).at == CUTOVER


def test_usage_that_is_booked_ahead_refuses(world: LifecycleWorld, moving: Migration) -> None:
    book(world, LEGACY, CUTOVER)
    with pytest.raises(MigrationRefusedError, match="ahead"):
        moving.migrate(LEGACY, LICENSED)


def test_usage_of_the_customer_before_the_cut_over_and_old_usage_of_the_licence_do_not(
    world: LifecycleWorld, moving: Migration
) -> None:
    book(world, LEGACY, CUTOVER - HOUR)
    book(world, LICENSED, NOW - 48 * HOUR)
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


def claim(world: LifecycleWorld, subscription_id: str, tenant_id: str) -> None:
    """What a claim writes of the subscription."""
    stored = world.store.read(subscription_id)
    assert stored is not None
    revision = stored.subscription.claim_revision + 1
    changes = {"tenant_id": tenant_id, "claim_revision": revision}
    world.store.write(subscription_id, read=stored, changes=changes, defaults={})


def test_two_subscriptions_of_different_tenants_are_not_made_one_contract(
    world: LifecycleWorld, moving: Migration
) -> None:
    claim(world, LEGACY, "acme")
    claim(world, LICENSED, "globex")
    with pytest.raises(MigrationRefusedError, match="different tenants"):
        moving.migrate(LEGACY, LICENSED)
    claim(world, LICENSED, "acme")
    assert moving.migrate(LEGACY, LICENSED).at == CUTOVER


@pytest.mark.parametrize("claimed", [LEGACY, LICENSED])
def test_a_claim_of_one_of_the_two_is_no_hindrance(world: LifecycleWorld, moving: Migration, claimed: str) -> None:
    claim(world, claimed, "acme")
    assert moving.migrate(LEGACY, LICENSED).at == CUTOVER


@pytest.mark.parametrize("claimed", [LEGACY, LICENSED])
def test_a_claim_while_the_command_waits_has_it_asked_again(world: LifecycleWorld, claimed: str) -> None:
    claim(world, LEGACY, "acme")
    moving = migration_of(world, sleep=lambda _: claim(world, claimed, "globex"))
    with pytest.raises(MigrationRefusedError, match=r"ask again|different tenants"):
        moving.migrate(LEGACY, LICENSED)
    assert world.subscription(LEGACY).migrated_to is None
    assert "usage_hold" not in world.attributes(LICENSED)


def test_one_customer_moves_once(world: LifecycleWorld, moving: Migration) -> None:
    moving.migrate(LEGACY, LICENSED)
    world.register("sub-other", None, product_code="n0123EXAMPLEXXXXXXXXXXXX", integration="legacy")
    with pytest.raises(MigrationRefusedError, match="another migration"):
        moving.migrate("sub-other", LICENSED)


def test_the_command_says_when(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clients = {"dynamodb": world.dynamodb}
    duty = on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)
    assert duty.run("migrate", LEGACY, LICENSED) == NOT_CONFIRMED
    assert "from about 2026-08-20T16:00:00Z on" in duty.out
    assert world.subscription(LEGACY).migrated_to is None
    assert duty.json("migrate", LEGACY, LICENSED, "--yes")["cutover"] == "2026-08-20T16:00:00Z"
    assert world.subscription(LEGACY).migrated_to == LICENSED
    assert duty.run("migrate", LICENSED, LEGACY, "--yes") == USAGE
    assert duty.err.startswith("marketplace-saas: the first has to be a legacy subscription")
