"""Usage that AWS refused is sent again on request, as it was sealed, while AWS still takes its hour."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from marketplace.ledger.seal import in_doubt
from marketplace.platform.clock import DAY, HOUR
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions.model import Subscription
from marketplace.usage.retry import MAX_RETRIED, Retried
from tests.support.calls import Calls, no_answer
from tests.support.in_process import client as in_process_client
from tests.support.memory_dynamodb import aws_error
from tests.support.world import NOON, World

UNPUBLISHED = "published_later"


def retry(world: World, subscription_id: str, dimension: str | None = None) -> Retried | None:
    return world.retry().retry(subscription_id, dimension)


def retried(world: World, subscription_id: str, dimension: str | None = None) -> int:
    """How many records are due again."""
    answer = retry(world, subscription_id, dimension)
    assert answer is not None
    return len(answer.due_again)


def rejected(world: World, *hours: int, dimension: str = UNPUBLISHED) -> Subscription:
    """A buyer whose usage of these hours after noon, in a dimension that isn't published, was refused."""
    buyer = world.subscribe()
    for hour in hours or (0,):
        world.time.to(NOON + hour * HOUR + 60)
        world.report(buyer, 7, dimension=dimension)
    world.to_due()
    assert world.meter().records == {"rejected": len(hours) or 1}
    return buyer


def publish(world: World, buyer: Subscription, dimension: str = UNPUBLISHED) -> None:
    """The seller mends the listing."""
    (product,) = [
        product for product in world.marketplace.registry.products.values() if product.code == buyer.product_code
    ]
    listed = product.as_dict()
    world.marketplace.registry.add_product(
        listed | {"dimensions": [*listed["dimensions"], {"key": dimension, "type": "usage"}]}
    )


def test_rejected_usage_is_billed_once_its_cause_is_mended(either_world: World) -> None:
    world = either_world
    buyer = rejected(world)
    assert world.meter().due == 0
    publish(world, buyer)
    answer = retry(world, buyer.id)
    assert answer is not None
    (shown,) = answer.due_again
    assert (shown["state"], shown["quantity"], shown["sealed"]) == ("open", 7, True)
    assert "reason" not in shown
    assert (answer.too_late, answer.more) == ([], False)
    assert world.meter().records == {"metered": 1}
    assert world.billed() == {(buyer.id, UNPUBLISHED): 7}


def test_usage_that_is_still_refused_is_rejected_again(world: World) -> None:
    buyer = rejected(world)
    assert retried(world, buyer.id) == 1
    assert world.meter().records == {"rejected": 1}
    assert [record["reason"] for record in world.stored()] == ["InvalidUsageDimensionException"]


def test_each_refusal_after_a_retry_is_an_event_of_its_own(world: World) -> None:
    """A consumer that drops events whose id it has seen must hear that mending the cause did not help."""
    buyer = rejected(world)
    for _ in range(2):
        retried(world, buyer.id)
        world.meter()
    events = [event for event in world.bus.events if event.kind == "Usage Rejected"]
    assert len(events) == len({event.id for event in events}) == 3


def test_asking_twice_changes_nothing_more(world: World) -> None:
    buyer = rejected(world)
    assert retried(world, buyer.id) == 1
    before = world.stored()
    assert retried(world, buyer.id) == 0
    assert world.stored() == before


def test_only_the_dimension_that_was_named_is_made_due(world: World) -> None:
    buyer = rejected(world)
    assert retried(world, buyer.id, "users") == 0
    assert retried(world, buyer.id, UNPUBLISHED) == 1


def test_usage_that_is_billed_or_open_is_left_alone(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 1)
    world.to_due()
    world.meter()
    world.report(buyer, 2)
    before = world.stored()
    assert retried(world, buyer.id) == 0
    assert world.stored() == before


def test_held_usage_is_made_due_too(world: World) -> None:
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.to_due()
    assert world.meter().records == {"held": 1}
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    assert world.meter().due == 0
    assert retried(world, buyer.id) == 1
    assert world.meter().records == {"metered": 1}


def test_another_subscriptions_usage_is_left_alone(world: World) -> None:
    rejected(world)
    other = world.subscribe("999988887777")
    assert retried(world, other.id) == 0


def test_there_must_be_such_a_subscription(world: World) -> None:
    assert retry(world, "sub-" + "a" * 26) is None


# Too late


def test_hours_that_aws_takes_no_more_stay_rejected_and_are_named(world: World) -> None:
    buyer = rejected(world, 0, 1)
    world.time.to(NOON + DAY)
    answer = retry(world, buyer.id)
    assert answer is not None
    assert [one["hour"] for one in answer.too_late] == ["2026-11-18T12:00:00Z"]
    assert [one["hour"] for one in answer.due_again] == ["2026-11-18T13:00:00Z"]
    assert {record["hour"]: record["state"] for record in world.stored()} == {NOON: "rejected", NOON + HOUR: "open"}


@pytest.mark.parametrize(("status", "after"), [("closing", 1), ("closing", 2), ("ended", 2), ("ended", 20)])
def test_the_deadline_of_a_closing_subscription_orders_the_work_and_AWS_decides(  # noqa: N802 - a name
    world: World, status: Any, after: int
) -> None:
    buyer = rejected(world)
    closed = world.time.seconds()
    values = {name: getattr(buyer, name) for name in Subscription.__dataclass_fields__}
    values |= {"status": status, "closing_deadline": closed + 2 * HOUR}
    world.put_subscription(Subscription(**values))
    world.time.to(closed + after * HOUR)
    publish(world, buyer)
    assert retried(world, buyer.id) == 1
    assert [record["refuse_at"] for record in world.stored("open")] == [closed + 2 * HOUR]
    assert world.meter().records == {"metered": 1}


@pytest.mark.parametrize("too_old", [False, True])
def test_unbillable_usage_is_made_due_too_while_aws_may_take_it(world: World, calls: Calls, too_old: bool) -> None:
    """AWS called it too old by a clock of its own, or after an end that a later event took back."""
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.to_due()
    calls.fail("batch_meter_usage", lambda: aws_error("TimestampOutOfBoundsException", "BatchMeterUsage"))
    assert world.meter().records == {"unbillable": 1}
    if too_old:
        world.time.to(NOON + DAY)
        answer = retry(world, buyer.id)
        assert answer is not None
        assert [one["state"] for one in answer.too_late] == ["unbillable"]
        return
    assert retried(world, buyer.id) == 1
    assert world.meter().records == {"metered": 1}


# Many, at once, and while AWS gives no answer


def test_a_request_does_as_many_as_it_can_and_says_that_there_are_more(world: World) -> None:
    buyer = world.subscribe()
    world.report_all([world.usage(buyer, 1, dimension=f"unpublished_{n}") for n in range(MAX_RETRIED + 1)])
    world.to_due()
    world.meter()
    first, second = retry(world, buyer.id), retry(world, buyer.id)
    assert first is not None
    assert second is not None
    assert (len(first.due_again), first.more) == (MAX_RETRIED, True)
    assert (len(second.due_again), second.more) == (1, False)


def test_what_another_request_or_run_has_got_to_is_left_alone(world: World, calls: Calls) -> None:
    buyer = rejected(world)

    def meanwhile() -> ClientError | None:
        calls.heal()
        retried(world, buyer.id)
        world.meter()
        return None

    calls.fail("update_item", meanwhile, times=None)
    assert retried(world, buyer.id) == 0
    assert [record["state"] for record in world.stored()] == ["rejected"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_without_an_answer_can_be_repeated(world: World, calls: Calls, when: str) -> None:
    buyer = rejected(world, 0, 1)
    publish(world, buyer)
    calls.fail("update_item", no_answer, when=when, skip=1)
    with pytest.raises(NoAnswerError):
        retry(world, buyer.id)
    retry(world, buyer.id)
    assert world.meter().records == {"metered": 2}


def test_an_hour_that_another_sender_took_meanwhile_is_a_conflict(world: World) -> None:
    """AWS had answered each of our attempts, so its DuplicateRecord doesn't speak of them."""
    buyer = rejected(world)
    publish(world, buyer)
    record = {
        "Timestamp": NOON + 60,
        "Dimension": UNPUBLISHED,
        "Quantity": 1,
        "LicenseArn": buyer.license_arn,
        "CustomerAWSAccountId": buyer.account_id,
    }
    in_process_client("meteringmarketplace", world.marketplace).batch_meter_usage(UsageRecords=[record])
    retried(world, buyer.id)
    assert world.meter().records == {"conflict": 1}


@pytest.mark.parametrize("resend", ["success", "duplicate"])
def test_an_attempt_that_was_in_doubt_stays_so(world: World, resend: str) -> None:
    """AWS took the record, the answer was lost, and the buyer was suspended before it could be repeated."""
    world.marketplace.settings.update({"identical_resend": resend})
    buyer = world.subscribe()
    world.report(buyer, 3)
    world.to_due()
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "drop_after", "times": 1}])
    world.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "throttle", "times": 4}])
    world.meter()
    world.marketplace.purchases.suspend(buyer.account_id or "")
    world.meter()
    (record,) = world.stored("held")
    assert in_doubt(record["seal"])
    world.marketplace.purchases.unsuspend(buyer.account_id or "")
    assert retried(world, buyer.id) == 1
    outcome = "metered" if resend == "success" else "metered_earlier"
    assert world.meter().records == {outcome: 1}
    assert sum(world.billed().values()) == 3
