"""Conflicts resolved with numbers: what AWS has too little is billed once more, what it has too much is given back."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from marketplace.archive.content import EXPIRY
from marketplace.commands.refusal import CommandRefusedError
from marketplace.corrections.adjustments import CorrectionRefusedError, Corrections, Preview, Wanted
from marketplace.corrections.billing_api import BillingApi
from marketplace.ledger import conflict
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds, hour_of, iso
from marketplace.platform.errors import AwsError
from marketplace.reconcile.cloudtrail import entries_of, looked_up
from marketplace.reconcile.compare import reconcile
from marketplace.reconcile.evidence import our_entries
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.outbox import Outbox
from marketplace.subscriptions.seller_events import SellerBus, SellerEvent, from_outbox
from marketplace.usage.recorder import UsageRecorder
from marketplace_saas_cli.exits import NOT_CONFIRMED, TROUBLE, USAGE
from tests.support.calls import Calls, CrashError, no_answer, throttled
from tests.support.duty import Duty, on_duty
from tests.support.in_process import client
from tests.support.lifecycle_world import EventsClient, QueueClient
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.seller_schemas import check
from tests.support.world import NOON, World

PAYG = "ca2payasyougoproduct00000"
CONTRACT = "ca1contractandconsumption"
HOUR_OF_USE = EpochSeconds(hour_of(NOON))


def another_sender(world: World, buyer: Subscription, quantity: int, dimension: str = "api_calls") -> None:
    """Somebody else meters noon first."""
    record = {
        "Timestamp": world.time.now(), "CustomerAWSAccountId": buyer.account_id, "LicenseArn": buyer.license_arn,
        "Dimension": dimension, "Quantity": quantity,
    }  # fmt: skip
    client("meteringmarketplace", world.marketplace).batch_meter_usage(UsageRecords=[record])


def in_conflict(world: World, used: int, theirs: int, product: str = PAYG) -> Subscription:
    """A buyer whose usage of noon, r0, is a conflict that was found twenty minutes ago."""
    purchase = world.marketplace.purchases.subscribe(product, "111122223333", provision=True)
    buyer = world.store_subscription(
        purchase, activated_at=world.time.seconds(), agreement_ids=(purchase.agreement_id,)
    )
    world.report(buyer, used, id="r0", tags={"team": "a"})
    another_sender(world, buyer, theirs)
    world.to_due()
    world.meter()
    assert [one["state"] for one in world.stored()] == ["conflict"]
    world.time.advance(20 * MINUTE)
    return buyer


def resolved(world: World, buyer: Subscription, aws: int) -> MeteringRecord:
    """The operator previews and confirms, and does the same again when they do not know."""
    use_case = world.conflicts()
    return use_case.resolve(use_case.plan(use_case.find(buyer.id, HOUR_OF_USE, "api_calls"), aws), "ops")


def billed(world: World) -> int:
    """Every unit that AWS bills, once all hours are metered."""
    for _ in range(3):
        world.time.advance(HOUR)
        world.meter()
    return sum(world.billed().values())


@pytest.mark.parametrize("theirs", [0, 1, 29, 30])
def test_what_aws_has_too_little_is_billed_once_in_a_later_hour(world: World, theirs: int) -> None:
    buyer = in_conflict(world, 30, theirs) if theirs != 30 else in_conflict(world, 31, theirs)
    used = 31 if theirs == 30 else 30
    record = resolved(world, buyer, theirs)
    assert (record.state, record.aws_quantity, record.resolved_by) == ("conflict", theirs, "ops")
    assert record.carried_to is not None
    assert record.carried_to > HOUR_OF_USE
    assert conflict.is_done(record)
    for _ in range(3):
        assert resolved(world, buyer, theirs) == record
    assert billed(world) == used


def test_the_carried_units_are_proven_like_any_usage(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    record = resolved(world, buyer, 10)
    proof = world.queries().proof(buyer.id, conflict.carrying_id(record))
    assert proof is not None
    assert (proof["record"]["quantity"], proof["hour"]) == (20, iso(record.carried_to or 0))
    reported = world.queries().proof(buyer.id, "r0")
    assert reported is not None
    shown = reported["metering_record"]
    assert (shown["state"], shown["aws_quantity"], shown["carried_to"], shown["resolved_by"]) == (
        "conflict", 10, iso(record.carried_to or 0), "ops",
    )  # fmt: skip


def test_what_aws_has_too_much_is_billed_no_more_and_can_be_corrected(world: World) -> None:
    buyer = in_conflict(world, 3000, 5000)
    wanted = Wanted(price=Decimal("0.001"), hour=HOUR_OF_USE, dimension="api_calls", reference="conflict")
    billing = BillingApi(client("marketplace-agreement", world.marketplace))
    corrections = Corrections(world.usage_table(), billing, world.time.now)
    with pytest.raises(CorrectionRefusedError, match="resolve the conflict first"):
        corrections.preview(buyer, wanted, "ops")
    record = resolved(world, buyer, 5000)
    assert (conflict.to_credit(record), record.carried_to, conflict.is_done(record)) == (2000, None, False)
    world.time.to(NOON + 15 * DAY)
    preview = corrections.preview(buyer, wanted, "ops")
    assert isinstance(preview, Preview)
    assert (preview.correction.units, preview.correction.amount) == (2000, "2")
    assert corrections.request(preview).state == "requested"
    record = world.conflicts().find(buyer.id, HOUR_OF_USE, "api_calls")
    assert (conflict.to_credit(record), conflict.is_done(record), billed(world)) == (0, True, 5000)
    more = Wanted(price=Decimal("0.001"), hour=HOUR_OF_USE, dimension="api_calls", units=3001, reference="more")
    with pytest.raises(CorrectionRefusedError, match="3000 of 5000 are left"):
        corrections.preview(buyer, more, "ops")


def test_a_usage_record_of_a_resolved_conflict_can_be_corrected(world: World) -> None:
    buyer = in_conflict(world, 3000, 1000)
    resolved(world, buyer, 1000)
    world.time.to(NOON + 15 * DAY)
    corrections = Corrections(
        world.usage_table(), BillingApi(client("marketplace-agreement", world.marketplace)), world.time.now
    )
    with pytest.raises(CorrectionRefusedError, match="1000 of 1000 are left"):
        corrections.preview(buyer, Wanted(price=Decimal("0.001"), record_id="r0"), "ops")
    preview = corrections.preview(buyer, Wanted(price=Decimal("0.001"), record_id="r0", units=400), "ops")
    assert isinstance(preview, Preview)
    assert corrections.request(preview).units == 400


def test_equal_numbers_leave_nothing_to_do(world: World) -> None:
    """Another sender may correct itself, or CloudTrail show two records that AWS adds up."""
    buyer = in_conflict(world, 30, 10)
    record = resolved(world, buyer, 30)
    assert conflict.is_done(record)
    assert len(world.stored()) == 1


def test_what_was_charged_beyond_a_contract_is_carried_without_using_it_up(world: World) -> None:
    world.overage_dimensions = {(CONTRACT, "api_calls"): "seats"}
    purchase = world.marketplace.purchases.subscribe(CONTRACT, "111122223333", provision=True)
    buyer = world.store_subscription(purchase, activated_at=world.time.seconds())
    world.grant(buyer, 10, ends_at=NOON + 300 * DAY)
    world.report(buyer, 25, id="r0")
    another_sender(world, buyer, 5)
    world.to_due()
    world.meter()
    world.time.advance(20 * MINUTE)
    world.grant(buyer, 100, ends_at=NOON + 300 * DAY)
    resolved(world, buyer, 5)
    assert billed(world) == 15


def test_the_first_word_about_what_aws_has_stands(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    use_case = world.conflicts()
    record = use_case.find(buyer.id, HOUR_OF_USE, "api_calls")
    plans = [use_case.plan(record, aws) for aws in (10, 20)]
    use_case.resolve(plans[0], "a")
    with pytest.raises(CommandRefusedError, match="meanwhile"):
        use_case.resolve(plans[1], "b")
    with pytest.raises(CommandRefusedError, match="resolved by a with 10 units"):
        resolved(world, buyer, 20)
    assert billed(world) == 30


def test_only_a_conflict_whose_run_has_ended_is_resolved(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    with pytest.raises(CommandRefusedError, match="no metering record"):
        world.conflicts().find(buyer.id, HOUR_OF_USE, "emails")
    with pytest.raises(CommandRefusedError, match="from 0 to"):
        resolved(world, buyer, -1)
    world.report(buyer, 5, dimension="emails")
    with pytest.raises(CommandRefusedError, match="is open, and no conflict"):
        world.conflicts().find(buyer.id, hour_of(world.time.seconds()), "emails")
    world.time.skew = -10 * MINUTE
    with pytest.raises(CommandRefusedError, match="15 minutes"):
        resolved(world, buyer, 10)
    world.usage_table().update_if(world.conflicts().find(buyer.id, HOUR_OF_USE, "api_calls").key, _expiring())
    with pytest.raises(CommandRefusedError, match="archived"):
        world.conflicts().find(buyer.id, HOUR_OF_USE, "api_calls")


def _expiring() -> Any:
    from marketplace.dynamodb.update import Update

    return Update(set={EXPIRY: 1})


def test_missing_units_that_no_hour_takes_are_refused_before_anything_is_written(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    before = world.stored()
    world.metering_enabled = False
    with pytest.raises(CommandRefusedError, match="can't be recorded"):
        resolved(world, buyer, 10)
    assert world.stored() == before


def test_missing_units_that_could_not_be_recorded_are_carried_by_the_same_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = in_conflict(world, 30, 10)
    real = UsageRecorder.record

    def ended(recorder: UsageRecorder, records: Any, *, validate: bool = False) -> Any:
        answer = {"status": "rejected", "message": "the subscription has ended"}
        return real(recorder, records, validate=True) if validate else [answer]

    with monkeypatch.context() as patched:
        patched.setattr(UsageRecorder, "record", ended)
        with pytest.raises(CommandRefusedError, match="has ended"):
            resolved(world, buyer, 10)
    record = world.conflicts().find(buyer.id, HOUR_OF_USE, "api_calls")
    assert (conflict.to_carry(record), conflict.is_done(record)) == (20, False)
    assert conflict.is_done(resolved(world, buyer, 10))
    assert billed(world) == 30


def test_a_resolved_conflict_leaves_the_gauges_and_the_differences(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    assert world.meter().standing_units["conflict"] == 30
    resolved(world, buyer, 10)
    assert world.meter().standing_units["conflict"] == 0
    events = looked_up(client("cloudtrail", world.marketplace), NOON - HOUR, world.time.seconds(), sleep=lambda _: None)
    theirs = [one for one in entries_of(events, []) if one.period == HOUR_OF_USE]
    ours = [MeteringRecord.from_item(item) for item in world._all_items(world.tables.usage) if "seal" in item]
    noon = [one for one in ours if one.hour == HOUR_OF_USE]
    assert list(reconcile(our_entries(noon), theirs, senders={"ours"})) == []
    others = [one._replace(quantity=11) for one in theirs]
    (found,) = reconcile(our_entries(noon), others, senders={"ours"})
    assert (found.kind, found.units, found.our_state) == ("sent_by_someone_else", 1, "resolved")


# The event


def told(world: World) -> list[SellerEvent]:
    """What the seller's application is told of resolved conflicts, once the outboxes are published."""
    events = [from_outbox(item) for item in world._all_items(world.tables.subscriptions) if "event_id" in item]
    for event in events:
        check(event.kind, event.published_detail)
    return events


@pytest.mark.parametrize(("theirs", "missing", "excess"), [(10, 20, 0), (30, 0, 0), (31, 0, 1), (0, 30, 0)])
def test_the_sellers_application_is_told_what_aws_has_and_what_becomes_of_the_rest(
    world: World, theirs: int, missing: int, excess: int
) -> None:
    buyer = in_conflict(world, 30, theirs) if theirs != 30 else in_conflict(world, 30, 10)
    record = resolved(world, buyer, theirs)
    (event,) = told(world)
    assert (event.kind, event.time) == ("Conflict Resolved", record.settled_at)
    assert event.detail == {
        "subscription_id": buyer.id, "dimension": "api_calls", "hour": iso(HOUR_OF_USE), "quantity": 30,
        "aws_quantity": theirs, "missing": missing, "excess": excess,
        "record_id": conflict.carrying_id(record) if missing else None,
    }  # fmt: skip
    if missing:
        assert world.queries().proof(buyer.id, event.detail["record_id"]) is not None


def test_a_resolution_is_told_with_one_id_however_often_and_each_conflict_with_its_own(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    for _ in range(3):
        resolved(world, buyer, 10)
        world.time.advance(60)
    other = in_conflict_again(world, buyer, 7, 5)
    ids = {event.id for event in told(world)}
    assert len(ids) == 2
    bus = EventsClient()
    for _ in range(2):
        Outbox(world.table(world.tables.subscriptions), SellerBus(bus, "seller")).publish(buyer.id)  # type: ignore[arg-type]
    published = bus.details("Conflict Resolved")
    assert [one["hour"] for one in published] == [iso(HOUR_OF_USE), iso(other)]
    assert {one["id"] for one in published} == ids
    assert told(world) == []


def in_conflict_again(world: World, buyer: Subscription, used: int, theirs: int) -> EpochSeconds:
    """Another hour of the buyer in conflict, and resolved."""
    hour = EpochSeconds(hour_of(world.time.seconds()))
    another_sender(world, buyer, theirs)
    world.report(buyer, used)
    world.to_due()
    world.meter()
    world.time.advance(20 * MINUTE)
    use_case = world.conflicts()
    use_case.resolve(use_case.plan(use_case.find(buyer.id, hour, "api_calls"), theirs), "ops")
    return hour


def test_every_resolution_has_its_event_published_also_one_that_is_made_already(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    for times in (1, 2):
        resolved(world, buyer, 10)
        assert world.requests.asked == [(buyer.id, recheck.CONFLICT_RESOLVED, None)] * times


def test_what_is_refused_is_told_to_nobody(world: World) -> None:
    buyer = in_conflict(world, 30, 10)
    resolved(world, buyer, 10)
    before = told(world)
    with pytest.raises(CommandRefusedError):
        resolved(world, buyer, 20)
    assert told(world) == before


FAILURES: list[Callable[[], BaseException]] = [throttled, no_answer, CrashError]
NAMES = ("get_item", "batch_get_item", "update_item", "transact_write_items")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.slow
def test_a_resolution_that_is_interrupted_at_any_call_is_completed_by_its_repetition(
    failure: Callable[[], BaseException], when: str
) -> None:
    """Played once for each call; the operator repeats the command until it is done. Hours pass in between."""
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap)
        buyer = in_conflict(world, 30, 10)
        calls.forget()

        def strike(point: int = point, calls: Calls = calls, failed: list[bool] = failed) -> BaseException | None:
            if failed[0] or sum(calls.count()[name] for name in NAMES) != point + 1:
                return None
            failed[0] = True
            return failure()

        for name in NAMES:
            calls.fail(name, strike, when=when, times=None)
        for _ in range(3):
            with suppress(AwsError, CrashError, CommandRefusedError):
                resolved(world, buyer, 10)
            world.time.advance(2 * HOUR)
        calls.heal()
        assert conflict.is_done(resolved(world, buyer, 10))
        assert [event.kind for event in told(world)] == ["Conflict Resolved"]
        assert billed(world) == 30
        if not failed[0]:
            assert point > 5
            return


# The command


@pytest.fixture
def duty(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    clients = {
        "dynamodb": world.dynamodb,
        "cloudtrail": client("cloudtrail", world.marketplace),
        "marketplace-agreement": client("marketplace-agreement", world.marketplace),
        "sqs": QueueClient(),
    }
    parameters = {"SealDelayMinutes": "10", "UsageRecordTtlDays": "400"}
    return on_duty(
        monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients, parameters=parameters
    )


def order(buyer: Subscription, *more: str) -> tuple[str, ...]:
    return ("resolve", buyer.id, "--hour", iso(HOUR_OF_USE), "--dimension", "api_calls", *more)


def test_the_command_learns_from_cloudtrail_previews_and_carries(world: World, duty: Duty) -> None:
    buyer = in_conflict(world, 30, 10)
    listed = duty.json("usage", "list", status=TROUBLE)["metering_records"]
    assert [one["state"] for one in listed] == ["conflict"]
    assert duty.run(*order(buyer)) == NOT_CONFIRMED
    assert "30 api_calls of 2026-11-18T12:00:00Z were used, and AWS Marketplace has 10" in duty.out
    assert "20 units are recorded in the next hour that is open" in duty.out
    assert len(world.stored()) == 1
    done = duty.json(*order(buyer, "--yes"))
    assert (done["changed"], done["metering_record"]["aws_quantity"], done["to_credit"]) == (True, 10, 0)
    assert duty.json(*order(buyer))["changed"] is False
    asked = [(message["subscription_id"], message["reason"]) for message, _ in duty.clients["sqs"].sent]
    assert asked == [(buyer.id, recheck.CONFLICT_RESOLVED)] * 2
    assert duty.run("trace", "r0", "--subscription", buyer.id) == 0
    assert f"AWS Marketplace has 10; {done['metering_record']['carried_to']} took the rest" in duty.out
    assert duty.json("usage", "list")["metering_records"] == []
    assert billed(world) == 30


def test_the_timeline_tells_what_was_voided_resolved_and_corrected(world: World, duty: Duty) -> None:
    buyer = in_conflict(world, 3000, 5000)
    duty.parameters = {**duty.parameters, "ProductCodes": PAYG}
    world.report(buyer, 4, id="wrong")
    world.void(buyer, "wrong", caller="arn:aws:iam::1:user/a")
    world.time.advance(1)
    assert duty.run(*order(buyer, "--yes")) == 0
    world.time.to(NOON + 15 * DAY)
    billing = BillingApi(client("marketplace-agreement", world.marketplace))
    corrections = Corrections(world.usage_table(), billing, world.time.now)
    wanted = Wanted(price=Decimal("0.001"), hour=HOUR_OF_USE, dimension="api_calls", reference="conflict")
    preview = corrections.preview(buyer, wanted, "ops")
    assert isinstance(preview, Preview)
    corrections.request(preview)
    world.time.advance(120)
    corrections.follow(preview.correction)
    shown = duty.json("subscriptions", "show", buyer.id)["timeline"]
    told = {one["what"]: (one["at"], one["detail"]) for one in shown}
    at, voided = told["voided"]
    assert voided == "4 api_calls of 2026-11-18T13:00:00Z, wrong, by arn:aws:iam::1:user/a"
    resolved_at, said = told["conflict resolved"]
    assert at < resolved_at
    assert said.startswith("3,000 api_calls of 2026-11-18T12:00:00Z, AWS Marketplace has 5,000, by ")
    given = "2,000 api_calls of 2026-11-18T12:00:00Z, 2 USD"
    assert told["correction prepared"] == (iso(NOON + 15 * DAY), f"{given}, by ops")
    assert told["correction completed"] == (iso(NOON + 15 * DAY + 120), given)
    assert [one["at"] for one in shown] == sorted(one["at"] for one in shown)


def test_the_command_says_what_is_to_be_given_back_and_how(world: World, duty: Duty) -> None:
    buyer = in_conflict(world, 3000, 5000)
    assert duty.run(*order(buyer, "--yes")) == 0
    _, command = duty.out.rsplit("marketplace-saas ", 1)
    (left,) = duty.json("usage", "list", status=TROUBLE)["metering_records"]
    assert left["to_credit"] == 2000
    world.time.to(NOON + 15 * DAY)
    assert duty.run(*command.replace("PRICE", "0.001").split(), "--yes") == 0
    assert "2,000 api_calls of 2026-11-18T12:00:00Z at 0.001 are 2 USD" in duty.out
    listed = duty.json("usage", "list", "--from", "2026-11-18T00:00:00Z", "--to", "2026-11-19T00:00:00Z")
    assert listed["metering_records"] == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--aws", "-1"), "from 0 to"),
        (("--aws", "9999999999"), "from 0 to"),
        (("--dimension", "emails"), "no metering record"),
        (("--hour", "noon"), "the time"),
    ],
)
def test_the_command_says_what_is_wrong(world: World, duty: Duty, more: tuple[str, ...], said: str) -> None:
    buyer = in_conflict(world, 30, 10)
    assert duty.run(*order(buyer, *more, "--yes")) == USAGE
    assert said in duty.err
    assert len(world.stored()) == 1


def test_where_cloudtrail_can_not_say_it_the_command_asks_for_the_number(world: World, duty: Duty) -> None:
    buyer = in_conflict(world, 30, 10)
    world.time.advance(91 * DAY)
    assert duty.run(*order(buyer, "--yes")) == USAGE
    assert "say with --aws what AWS has" in duty.err
