"""Corrections of usage that AWS has: a billing adjustment is asked for once, and followed to its end."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from marketplace.corrections.adjustments import CorrectionRefusedError, Corrections, Preview, Wanted
from marketplace.corrections.billing_api import BillingApi
from marketplace.corrections.store import CorrectionStore
from marketplace.dynamodb.attributes import from_item
from marketplace.ledger.correction import Correction
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, hour_of
from marketplace.platform.errors import AwsError, NoAnswerError
from marketplace.subscriptions.model import Subscription
from marketplace_saas_cli.exits import NOT_CONFIRMED, USAGE
from tests.support.calls import Calls, CrashError, conflicting, no_answer, throttled
from tests.support.duty import on_duty
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World

PAYG = "ca2payasyougoproduct00000"
HOUR_OF_USE = EpochSeconds(hour_of(NOON))


def metered(world: World, *quantities: int) -> Subscription:
    """A buyer whose usage of noon, r0, r1 and so on, is metered, and whose November is invoiced."""
    purchase = world.marketplace.purchases.subscribe(PAYG, "111122223333", provision=True)
    buyer = world.store_subscription(
        purchase, activated_at=world.time.seconds(), agreement_ids=(purchase.agreement_id,)
    )
    for number, quantity in enumerate(quantities):
        world.report(buyer, quantity, id=f"r{number}")
    world.to_due()
    world.meter()
    world.time.to(NOON + 15 * DAY)
    return buyer


def corrections(world: World) -> Corrections:
    billing = BillingApi(world.wrap(client("marketplace-agreement", world.marketplace)))
    return Corrections(world.usage_table(), billing, world.time.now)


def of_record(record_id: str = "r0", price: str = "0.001", **given: Any) -> Wanted:
    return Wanted(price=Decimal(price), record_id=record_id, **given)


def made(world: World, buyer: Subscription, wanted: Wanted) -> Correction:
    """The operator previews and confirms, and does the same again when they do not know."""
    found = corrections(world).preview(buyer, wanted, "ops")
    return corrections(world).request(found) if isinstance(found, Preview) else corrections(world).follow(found)


def asked(world: World) -> list[tuple[str, str]]:
    """What AWS was asked for: the amounts and how they stand."""
    return [(one.amount, one.status) for one in world.marketplace.adjustments.requests]


def corrected(world: World) -> int:
    return sum(one.get("corrected", 0) for one in world.stored())


def test_a_record_that_was_metered_is_corrected_whole(world: World) -> None:
    buyer = metered(world, 5000, 700)
    preview = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(preview, Preview)
    assert (preview.correction.units, preview.correction.amount, preview.hour.quantity) == (5000, "5", 5700)
    assert asked(world) == []
    correction = corrections(world).request(preview)
    assert (correction.state, asked(world)) == ("requested", [("5", "PENDING")])
    world.time.advance(120)
    assert made(world, buyer, of_record()).state == "completed"
    assert asked(world) == [("5", "COMPLETED")]
    assert corrected(world) == 5000


def test_the_proof_of_a_record_shows_its_correction(world: World) -> None:
    buyer = metered(world, 5000, 700)
    made(world, buyer, of_record(units=1000, description="counted twice"))
    proof = world.queries().proof(buyer.id, "r0")
    assert proof is not None
    (shown,) = proof["corrections"]
    assert (shown["state"], shown["units"], shown["amount"]) == ("requested", 1000, "1")
    assert (shown["prepared_by"], shown["description"], proof["metering_record"]["corrected"]) == (
        "ops", "counted twice", 1000,
    )  # fmt: skip
    other = world.queries().proof(buyer.id, "r1")
    assert other is not None
    assert "corrections" not in other


def test_units_of_an_hour_are_corrected_under_a_reference(world: World) -> None:
    buyer = metered(world, 5000)
    for reference, units in (("a", 1000), ("b", 500), ("a", 1000)):
        wanted = Wanted(
            price=Decimal("0.001"), hour=HOUR_OF_USE, dimension="api_calls", units=units, reference=reference
        )
        made(world, buyer, wanted)
    assert asked(world) == [("1", "PENDING"), ("0.5", "PENDING")]
    assert [one.reference for one in CorrectionStore(world.usage_table()).of(buyer.id)] in (["a", "b"], ["b", "a"])
    assert corrected(world) == 1500


def test_no_more_is_corrected_than_was_metered(world: World) -> None:
    buyer = metered(world, 5000)
    made(world, buyer, of_record())
    more = Wanted(price=Decimal("0.001"), hour=HOUR_OF_USE, dimension="api_calls", units=1, reference="a")
    with pytest.raises(CorrectionRefusedError, match="0 of 5000 are left"):
        corrections(world).preview(buyer, more, "ops")
    with pytest.raises(CorrectionRefusedError, match="5000 metered units"):
        corrections(world).preview(buyer, of_record(units=5001), "ops")


def test_two_operators_who_correct_one_record_make_one_request(world: World) -> None:
    buyer = metered(world, 5000)
    previews = [corrections(world).preview(buyer, of_record(), name) for name in ("a", "b")]
    states = [corrections(world).request(one).state for one in previews if isinstance(one, Preview)]
    assert (states, asked(world), corrected(world)) == (["requested", "requested"], [("5", "PENDING")], 5000)


def test_two_operators_who_disagree_make_one_request(world: World) -> None:
    buyer = metered(world, 5000)
    first = corrections(world).preview(buyer, of_record(units=10), "a")
    second = corrections(world).preview(buyer, of_record(units=20), "b")
    assert isinstance(first, Preview)
    assert isinstance(second, Preview)
    corrections(world).request(first)
    with pytest.raises(CorrectionRefusedError, match="meanwhile"):
        corrections(world).request(second)
    assert (asked(world), corrected(world)) == ([("0.01", "PENDING")], 10)


def test_what_aws_refuses_later_gives_the_hour_its_units_back_and_can_be_made_anew(world: World) -> None:
    """Another adjustment has taken what was left of the invoice."""
    buyer = metered(world, 5000)
    preview = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(preview, Preview)
    agreement = client("marketplace-agreement", world.marketplace)
    entry = {
        "agreementId": buyer.agreement_ids[0], "originalInvoiceId": preview.invoice.id,
        "adjustmentAmount": str(preview.invoice.left), "currencyCode": "USD",
        "adjustmentReasonCode": "OTHER", "clientToken": "by-hand",
    }  # fmt: skip
    agreement.batch_create_billing_adjustment_request(billingAdjustmentRequestEntries=[entry])
    corrections(world).request(preview)
    world.time.advance(120)
    refused = corrections(world).follow(preview.correction)
    assert (refused.state, corrected(world)) == ("refused", 0)
    assert "At most" in str(refused.message)
    with pytest.raises(CorrectionRefusedError, match="can be given back"):
        corrections(world).preview(buyer, of_record(), "ops")


def test_what_aws_refuses_at_once_is_made_anew_under_another_token(world: World, calls: Calls) -> None:
    buyer = metered(world, 5000)
    preview = corrections(world).preview(buyer, of_record(), "ops")
    assert isinstance(preview, Preview)
    registry = world.marketplace.registry
    agreements = dict(registry.agreements)
    registry.agreements.clear()
    refused = corrections(world).request(preview)
    registry.agreements.update(agreements)
    assert (refused.state, corrected(world), asked(world)) == ("refused", 0, [])
    again = made(world, buyer, of_record(units=7))
    assert (again.state, again.attempt, corrected(world)) == ("requested", 2, 7)
    tokens = [one["billingAdjustmentRequestEntries"][0]["clientToken"] for one in _created(calls)]
    assert len(set(tokens)) == 2


def test_an_unclear_answer_leaves_the_correction_prepared(world: World, calls: Calls) -> None:
    """AWS may have the request: asking under another token would make two of it."""
    buyer = metered(world, 5000)
    calls.fail("batch_create_billing_adjustment_request", no_answer, when="after")
    with pytest.raises(NoAnswerError):
        made(world, buyer, of_record())
    (correction,) = CorrectionStore(world.usage_table()).of(buyer.id)
    assert (correction.state, corrected(world)) == ("prepared", 5000)
    assert made(world, buyer, of_record()).state == "requested"
    assert asked(world) == [("5", "PENDING")]


def _created(calls: Calls) -> list[dict[str, Any]]:
    return calls.of("batch_create_billing_adjustment_request")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"record_id": "unknown"}, "no usage is recorded"),
        ({"record_id": "r0", "price": "0"}, "price"),
        ({"record_id": "r0", "price": "0.0000000000001"}, "eight decimal places"),
        ({"record_id": "r0", "price": "9999"}, "can be given back"),
        ({"record_id": "r0", "reason": "BECAUSE"}, "reason"),
        ({"record_id": "r0", "units": 0}, "metered units"),
        ({"record_id": None, "hour": HOUR_OF_USE, "dimension": "api_calls", "units": 1}, "reference"),
        (
            {"record_id": None, "hour": HOUR_OF_USE, "dimension": "x", "units": 1, "reference": "a"},
            "no metering record",
        ),
    ],
)
def test_what_can_not_be_corrected_is_refused_in_words(world: World, given: dict[str, Any], says: str) -> None:
    buyer = metered(world, 5000)
    with pytest.raises(CorrectionRefusedError, match=says):
        corrections(world).preview(buyer, of_record(**given), "ops")
    assert asked(world) == []


def test_an_hour_that_is_not_metered_or_not_invoiced_is_not_corrected(world: World) -> None:
    purchase = world.marketplace.purchases.subscribe(PAYG, "111122223333", provision=True)
    buyer = world.store_subscription(
        purchase, activated_at=world.time.seconds(), agreement_ids=(purchase.agreement_id,)
    )
    world.report(buyer, 5, id="r0")
    world.report(buyer, 5, id="voided")
    world.void(buyer, "voided")
    with pytest.raises(CorrectionRefusedError, match="open"):
        corrections(world).preview(buyer, of_record(), "ops")
    with pytest.raises(CorrectionRefusedError, match="voided"):
        corrections(world).preview(buyer, of_record("voided"), "ops")
    world.to_due()
    world.meter()
    with pytest.raises(CorrectionRefusedError, match="no invoice for 2026-11"):
        corrections(world).preview(buyer, of_record(), "ops")


FAILURES: list[Callable[[], BaseException]] = [throttled, no_answer, CrashError]
NAMES = (
    *("get_item", "transact_write_items", "update_item", "list_agreement_invoice_line_items"),
    *("batch_create_billing_adjustment_request", "get_billing_adjustment_request"),
)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.slow
def test_a_correction_that_is_interrupted_at_any_call_is_asked_for_once(
    failure: Callable[[], BaseException], when: str
) -> None:
    """Played once for each call; the operator repeats the command until it is completed."""
    for point in itertools.count():
        calls, failed = Calls(), [False]
        world = World.on(MemoryDynamoDB(), wrap=calls.wrap)
        buyer = metered(world, 5000, 700)
        calls.forget()
        for name in NAMES:
            calls.fail(name, _at(point, calls, failure, failed), when=when, times=None)
        for _ in range(4):
            with suppress(AwsError, CrashError):
                made(world, buyer, of_record())
            world.time.advance(40)
        calls.heal()
        assert made(world, buyer, of_record()).state == "completed"
        assert (asked(world), corrected(world)) == ([("5", "COMPLETED")], 5000)
        if not failed[0]:
            assert point > 8
            return


def _at(
    point: int, calls: Calls, failure: Callable[[], BaseException], failed: list[bool]
) -> Callable[[], BaseException | None]:
    """Fails the call of this number, counted over all methods."""

    def strike() -> BaseException | None:
        if sum(calls.count()[name] for name in NAMES) != point + 1 or failed[0]:
            return None
        failed[0] = True
        return failure()

    return strike


def test_a_transaction_in_the_way_of_a_correction_is_waited_for(world: World, calls: Calls) -> None:
    buyer = metered(world, 5000)
    calls.fail("transact_write_items", conflicting)
    assert made(world, buyer, of_record()).state == "requested"


def test_a_settled_record_that_is_written_again_keeps_its_correction(world: World) -> None:
    buyer = metered(world, 5000)
    made(world, buyer, of_record())
    from marketplace.ledger.record import MeteringRecord

    (item,) = [one for one in world._all_items(world.tables.usage) if "seal" in one]
    again = MeteringRecord.from_item(item).as_metered(EpochSeconds(NOON + HOUR), "id")
    assert from_item(again)["corrected"] == 5000


# The command


def test_the_command_shows_requests_and_follows(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    buyer = metered(world, 5000)
    clients = {"dynamodb": world.dynamodb, "marketplace-agreement": client("marketplace-agreement", world.marketplace)}
    duty = on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)
    given = ("correct", buyer.id, "--record", "r0", "--price", "0.001")
    assert duty.run(*given) == NOT_CONFIRMED
    assert "5,000 api_calls of 2026-11-18T12:00:00Z at 0.001 are 5 USD of invoice" in duty.out
    assert asked(world) == []
    assert duty.json(*given, "--yes")["correction"]["state"] == "requested"
    world.time.advance(120)
    assert duty.json(*given)["correction"]["state"] == "completed"
    assert asked(world) == [("5", "COMPLETED")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--record", "unknown", "--price", "1"), "no usage is recorded under the id unknown"),
        (("--record", "r0", "--price", "much"), "--price"),
        (("--hour", "noon", "--price", "1"), "the time"),
        (("--price", "1"), "name a usage record"),
    ],
)
def test_the_command_says_what_is_wrong(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    said: str,
) -> None:
    buyer = metered(world, 5000)
    clients = {"dynamodb": world.dynamodb, "marketplace-agreement": client("marketplace-agreement", world.marketplace)}
    duty = on_duty(monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients)
    assert duty.run("correct", buyer.id, *given, "--yes") == USAGE
    assert said in duty.err
    assert asked(world) == []
