"""AWS's events about billing adjustments: they end the correction that asked, and the seller is told of it."""

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from marketplace.corrections.adjustments import Preview
from marketplace.corrections.billing_api import BillingApi
from marketplace.corrections.decisions import AdjustmentDecisions
from marketplace.corrections.store import CorrectionStore
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction
from marketplace.lifecycle.notifications import Notification, QueueMessage, parsed
from marketplace.platform.errors import AwsError, ThrottledError
from marketplace.subscriptions.model import Subscription
from tests.support.calls import Calls, CrashError, no_answer, throttled
from tests.support.in_process import client
from tests.support.lifecycle_world import LifecycleWorld
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import World
from tests.unit.test_corrections import corrected, corrections, metered, of_record


def requested(world: World, buyer: Subscription, **given: Any) -> Correction:
    """A correction that AWS has not decided about."""
    found = corrections(world).preview(buyer, of_record(**given), "ops")
    assert isinstance(found, Preview)
    made = corrections(world).request(found)
    assert made.state == "requested"
    return made


def lifecycle_of(
    world: World, *buyers: Subscription, joined: bool = True, wrap: Any = lambda one: one
) -> LifecycleWorld:
    """The handling of notifications on the same tables."""
    dynamodb = wrap(world.dynamodb)
    decisions = AdjustmentDecisions(Table(dynamodb, world.tables.usage, sleep=world.time.sleep))
    made = LifecycleWorld(world.dynamodb, world.tables, adjustments=decisions)
    made.time.seconds = world.time.seconds()
    for buyer in buyers if joined else ():
        for agreement_id in buyer.agreement_ids:
            made.store.join(agreement_id, buyer.id)
    return made


def events(world: World, after: float = 120) -> list[Notification]:
    """What AWS has announced about adjustments by then."""
    world.time.advance(after)
    world.marketplace.agenda.settle()
    sent = [one for one in world.marketplace.outbox.log if "Billing Adjustment" in one.name]
    found = [parsed(QueueMessage(message_id=f"m{one.seq}", body=json.dumps(one.body), sent_at_ms=0)) for one in sent]
    assert all(isinstance(one, Notification) for one in found)
    return [one for one in found if isinstance(one, Notification)]


def fail_the_next(world: World, buyer: Subscription) -> None:
    """Another adjustment takes what is left of the invoice first."""
    billing = BillingApi(client("marketplace-agreement", world.marketplace))
    (invoice,) = billing.invoices(buyer.agreement_ids[0], 2026, 11)
    entry = {
        "agreementId": buyer.agreement_ids[0], "originalInvoiceId": invoice.id,
        "adjustmentAmount": str(invoice.left), "currencyCode": "USD",
        "adjustmentReasonCode": "OTHER", "clientToken": "by-hand",
    }  # fmt: skip
    client("marketplace-agreement", world.marketplace).batch_create_billing_adjustment_request(
        billingAdjustmentRequestEntries=[entry]
    )


def stands(world: World, buyer: Subscription) -> list[str]:
    return [one.state for one in CorrectionStore(world.usage_table()).of(buyer.id)]


def test_a_completed_adjustment_completes_its_correction_and_is_told(world: World) -> None:
    buyer = metered(world, 5000, 700)
    requested(world, buyer)
    lifecycle = lifecycle_of(world, buyer)
    (told,) = events(world)
    assert lifecycle.lifecycle.receive(told) == "applied"
    assert (stands(world, buyer), corrected(world)) == (["completed"], 5000)
    (detail,) = lifecycle.bus.details("Correction Completed")
    assert (detail["subscription_id"], detail["quantity"], detail["amount"], detail["record_id"]) == (
        buyer.id, 5000, "5", "r0",
    )  # fmt: skip


def test_a_failed_adjustment_gives_the_hour_its_units_back_and_is_told(world: World) -> None:
    buyer = metered(world, 5000)
    found = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(found, Preview)
    fail_the_next(world, buyer)
    corrections(world).request(found)
    lifecycle = lifecycle_of(world, buyer)
    outcomes = [lifecycle.lifecycle.receive(one) for one in events(world)]
    assert sorted(outcomes) == ["applied", "noted"]
    assert (stands(world, buyer), corrected(world)) == (["refused"], 0)
    (detail,) = lifecycle.bus.details("Correction Refused")
    assert detail["message"] == "AWS Marketplace gave no reason"
    assert lifecycle.bus.kinds() == ["Correction Refused"]


def test_an_event_that_comes_again_or_after_the_command_tells_the_same(world: World) -> None:
    buyer = metered(world, 5000)
    made = requested(world, buyer)
    lifecycle = lifecycle_of(world, buyer)
    (told,) = events(world)
    assert corrections(world).follow(made).state == "completed"
    for _ in range(3):
        assert lifecycle.lifecycle.receive(told) == "applied"
    assert len(lifecycle.bus.put) == 3
    assert len({one["id"] for one in lifecycle.bus.details("Correction Completed")}) == 1
    assert (stands(world, buyer), corrected(world)) == (["completed"], 5000)


def test_the_command_finds_what_an_event_has_decided(world: World) -> None:
    buyer = metered(world, 5000)
    made = requested(world, buyer)
    (told,) = events(world)
    lifecycle_of(world, buyer).lifecycle.receive(told)
    assert corrections(world).follow(made).state == "completed"
    again = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(again, Correction)
    assert again.state == "completed"


def unknown_request(told: Notification) -> Notification:
    return replace(told, adjustment_id="ba-0000000000000")


def without_request(told: Notification) -> Notification:
    return replace(told, adjustment_id=None)


def of_unknown_agreement(told: Notification) -> Notification:
    return replace(told, agreement_id="agmt-unknown")


def of_no_agreement(told: Notification) -> Notification:
    return replace(told, agreement_id=None)


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        (unknown_request, "noted"),
        (without_request, "noted"),
        (of_unknown_agreement, "noted"),
        (of_no_agreement, "unknown"),
    ],
)
def test_an_event_that_no_correction_asked_for_is_kept_and_changes_nothing(
    world: World, changed: Callable[[Notification], Notification], outcome: str
) -> None:
    buyer = metered(world, 5000)
    requested(world, buyer)
    lifecycle = lifecycle_of(world, buyer)
    (told,) = events(world)
    assert lifecycle.lifecycle.receive(changed(told)) == outcome
    assert (stands(world, buyer), lifecycle.bus.put) == (["requested"], [])


def test_a_correction_whose_request_was_not_stored_is_left_to_the_command(world: World, calls: Calls) -> None:
    buyer = metered(world, 5000)
    calls.fail("batch_create_billing_adjustment_request", no_answer, when="after")
    with suppress(AwsError):
        requested(world, buyer)
    lifecycle = lifecycle_of(world, buyer)
    (told,) = events(world)
    assert lifecycle.lifecycle.receive(told) == "noted"
    (prepared,) = CorrectionStore(world.usage_table()).of(buyer.id)
    assert prepared.state == "prepared"
    assert corrections(world).follow(prepared).state == "completed"


def test_only_the_correction_that_asked_is_ended(world: World) -> None:
    buyer = metered(world, 5000, 700)
    first = requested(world, buyer)
    world.time.advance(30)
    requested(world, buyer, record_id="r1")
    (told,) = [one for one in events(world, 40) if one.adjustment_id == first.request_id]
    lifecycle = lifecycle_of(world, buyer)
    assert lifecycle.lifecycle.receive(told) == "applied"
    assert sorted(stands(world, buyer)) == ["completed", "requested"]


def test_an_event_beside_others_who_keep_changing_the_correction_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = metered(world, 5000)
    requested(world, buyer)
    (told,) = events(world)
    monkeypatch.setattr(Table, "update_if", lambda *_: False)
    with pytest.raises(ThrottledError):
        lifecycle_of(world, buyer).lifecycle.receive(told)


FAILURES: list[Callable[[], BaseException]] = [throttled, no_answer, CrashError]
NAMES = ("get_item", "query", "update_item", "transact_write_items", "put_events")


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.slow
def test_an_event_whose_handling_is_interrupted_at_any_call_is_told_when_it_comes_again(
    failure: Callable[[], BaseException], when: str, refused: bool
) -> None:
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB())
        buyer = metered(world, 5000)
        found = corrections(world).preview(buyer, of_record(), "ops")
        assert isinstance(found, Preview)
        if refused:
            fail_the_next(world, buyer)
        made = corrections(world).request(found)
        (told,) = [one for one in events(world) if one.adjustment_id == made.request_id]

        def strike(point: int = point, calls: Calls = calls, failed: list[bool] = failed) -> BaseException | None:
            if failed[0] or sum(calls.count()[name] for name in NAMES) != point + 1:
                return None
            failed[0] = True
            return failure()

        for name in NAMES:
            calls.fail(name, strike, when=when, times=None)
        lifecycle = lifecycle_of(world, buyer, wrap=calls.wrap)
        for _ in range(3):
            with suppress(AwsError, CrashError):
                lifecycle.lifecycle.receive(told)
        kind = "Correction Refused" if refused else "Correction Completed"
        assert {one["subscription_id"] for one in lifecycle.bus.details(kind)} == {buyer.id}
        assert len({one["id"] for one in lifecycle.bus.details(kind)}) == 1
        assert (stands(world, buyer), corrected(world)) == ((["refused"], 0) if refused else (["completed"], 5000))
        if not failed[0]:
            assert point > 2
            return
