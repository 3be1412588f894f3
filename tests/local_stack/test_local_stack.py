"""What the stack does with time, and with messages that fail."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from local.stack import Stack
from tests.local_stack.browser import Neighbourhood, call, lines, submit

MINUTE, HOUR = 60, 3600
MAIN_QUEUE, DEAD_LETTERS = "marketplace-saas-NotificationQueue", "marketplace-saas-NotificationDeadLetterQueue"


@pytest.fixture(autouse=True)
def ten_past(stack: Stack) -> None:
    """Every test begins at ten past an hour, with nothing left to do, and not in a quiet time."""
    stack.clock.to_next_hour()
    stack.advance(10 * MINUTE)
    call("GET", f"{stack.api_url}/register")


def since(log: io.StringIO, act: Any, *wanted: str) -> list[str]:
    before = len(lines(log, *wanted))
    act()
    return lines(log, *wanted)[before:]


def minutes(found: list[str]) -> list[str]:
    """Minutes and seconds of these lines."""
    return [line[3:8] for line in found]


def time_of_day(stack: Stack) -> str:
    return f"{stack.clock.now():%M:%S}"


def test_an_hour_passes_through_every_tick_of_the_schedule(stack: Stack, log: io.StringIO) -> None:
    found = since(log, lambda: stack.advance(HOUR), "MeterUsage", "metering run")

    assert minutes(found) == ["20:00", "35:00", "50:00", "05:00"]
    assert time_of_day(stack) == "10:00"


def test_the_clock_s_page_and_api_move_time_the_same_way(
    stack: Stack, neighbourhood: Neighbourhood, log: io.StringIO
) -> None:
    assert minutes(since(log, lambda: neighbourhood.advance(15 * MINUTE), "metering run")) == ["20:00"]
    page = since(log, lambda: submit(f"{neighbourhood.marketplace}/ui/clock", {"by": "next_hour"}), "metering run")

    assert minutes(page) == ["35:00", "50:00"]
    assert time_of_day(stack) == "00:00"


def test_a_message_s_timer_follows_the_clock(stack: Stack, log: io.StringIO) -> None:
    look = {"marketplace_request": "look_again", "subscription_id": f"sub-{'a' * 26}", "reason": "claimed"}
    stack.aws.client("sqs").send_message(
        QueueUrl=stack.queue_url(MAIN_QUEUE), MessageBody=json.dumps(look), DelaySeconds=600
    )

    assert since(log, lambda: stack.advance(599), "unknown_subscription") == []
    assert minutes(since(log, lambda: stack.advance(2), "unknown_subscription")) == ["20:00"]


def test_a_poison_message_ends_in_the_dead_letter_queue_and_holds_up_nobody(
    stack: Stack, neighbourhood: Neighbourhood
) -> None:
    sqs = stack.aws.client("sqs")
    sqs.send_message(QueueUrl=stack.queue_url(MAIN_QUEUE), MessageBody="no JSON")
    bought = neighbourhood.buy("ca2payasyougoproduct00000", "111122223333")
    landing = neighbourhood.register(bought["id"])
    neighbourhood.advance(120)
    claimed = neighbourhood.claim(landing.rsplit("/", 1)[1], "acme")

    assert claimed["status"] == "active"
    assert stack.aws.visible_messages(DEAD_LETTERS) == 0
    stack.advance(18 * MINUTE)
    assert stack.aws.visible_messages(DEAD_LETTERS) == 1


def test_a_metering_run_comes_shortly_before_a_closing_deadline(stack: Stack, log: io.StringIO) -> None:
    purchase = stack.marketplace.purchases.subscribe("ca2payasyougoproduct00000", "111122223333", provision=True)
    stack.advance(MINUTE)
    stack.marketplace.purchases.cancel(purchase.id)
    stack.advance(2 * MINUTE)
    runs = since(log, lambda: stack.advance(HOUR), "MeterUsage", "metering run")
    beside_the_schedule = set(minutes(runs)) - {"20:00", "35:00", "50:00", "05:00"}
    # Cancelled at 11:00, deprovisioned 31 seconds later: the deadline is at 11:31. A second run follows a minute later.
    assert beside_the_schedule == {"09:32", "10:32"}


def test_a_long_quiet_time_plays_fewer_ticks_and_always_the_last(stack: Stack, log: io.StringIO) -> None:
    stack.advance(3 * HOUR)
    found = since(log, lambda: stack.advance(4 * 24 * HOUR), "metering run")

    assert len(found) < 4 * 24 * 4 / 2
    assert minutes(found[-1:]) == ["05:00"]
    assert time_of_day(stack) == "10:00"


def test_backwards_only_with_force_and_then_the_schedule_goes_on(stack: Stack, log: io.StringIO) -> None:
    with pytest.raises(ValueError, match="forward only"):
        stack.advance(-HOUR)
    stack.clock.advance(-2 * HOUR, force=True)
    call("GET", f"{stack.api_url}/register")  # not quiet any more: every tick is played

    assert len(since(log, lambda: stack.advance(HOUR), "metering run")) == 4


def test_the_clock_can_run_and_be_stopped(stack: Stack) -> None:
    stack.clock.run()
    assert not stack.clock.is_frozen
    stack.advance(60)
    stack.clock.freeze()
    before = stack.clock.timestamp()

    assert stack.clock.timestamp() == before
