"""Which message is done by whom, and what becomes of a question that AWS Marketplace doesn't answer."""

import json
from typing import Any

import pytest

from marketplace.lifecycle.messages import MAX_TRIES, Messages
from marketplace.lifecycle.notifications import QueueMessage
from marketplace.lifecycle.reconciliation import Reconciliation
from marketplace.platform.clock import HOUR, MINUTE
from marketplace.platform.errors import AwsError, NoAnswerError, RefusedError, SystemicError, ThrottledError
from tests.support.lifecycle_world import AGREEMENT, LICENSED, LifecycleWorld, sample

READ_BACK = {"marketplace_request": "read_back", "subscription_id": LICENSED, "attempt": 0}
FIND_LICENSES = {"marketplace_request": "find_licenses", "agreement_id": AGREEMENT}
RECONCILE = {"marketplace_request": "reconcile", "subscription_id": LICENSED}


class SilentAgreements:
    """An agreement API that raises `error`."""

    def __init__(self, error: AwsError) -> None:
        self.error = error

    def of_license(self, _: str) -> Any:
        raise self.error

    provisioning = has_free_trial = of_license


@pytest.fixture
def world() -> LifecycleWorld:
    made = LifecycleWorld.in_memory()
    made.receive("eventbridge_license_updated")
    made.sqs.asked.clear()
    return made


def silenced(world: LifecycleWorld, error: AwsError) -> Messages:
    """The use case while AWS Marketplace gives no answer but this error."""
    world.source.errors = [error] * 99
    agreements = SilentAgreements(error)
    world.lifecycle._joins._find_licenses = lambda _: agreements.of_license(AGREEMENT)
    reconciliation = Reconciliation(
        store=world.store, agreements=agreements, lifecycle=world.lifecycle, queue=world.queue, clock=world.time.now
    )
    return Messages(world.lifecycle, reconciliation, world.gauges, world.queue)


def message(content: dict[str, Any]) -> QueueMessage:
    return QueueMessage(message_id="m", body=json.dumps(content), sent_at_ms=0)


@pytest.mark.parametrize("question", [READ_BACK, FIND_LICENSES, RECONCILE])
@pytest.mark.parametrize("error", [ThrottledError("ThrottlingException"), NoAnswerError("ReadTimeoutError")])
def test_a_question_without_an_answer_is_asked_again_and_fails_nothing(
    world: LifecycleWorld, question: dict[str, Any], error: AwsError
) -> None:
    assert silenced(world, error).handle(message(question)).outcome == "postponed"
    assert world.sqs.asked == [({**question, "tries": 1}, 60)]


def test_credentials_that_do_not_work_fail_no_message(world: LifecycleWorld) -> None:
    messages = silenced(world, SystemicError("AccessDeniedException"))
    assert messages.handle(message(READ_BACK)).outcome == "postponed"


def test_a_refused_question_is_not_asked_again(world: LifecycleWorld) -> None:
    messages = silenced(world, RefusedError("InvalidParameterException"))
    assert messages.handle(message(READ_BACK)).outcome == "entitlements_refused"
    assert world.sqs.asked == []


def test_a_silence_of_hours_is_ridden_out_and_then_fails(world: LifecycleWorld) -> None:
    messages = silenced(world, NoAnswerError("ReadTimeoutError"))
    question: dict[str, Any] = READ_BACK
    waited, delays = 0, list[int]()
    while question.get("tries", 0) < MAX_TRIES:
        messages.handle(message(question))
        question, delay = world.sqs.asked.pop()
        delays.append(delay)
        waited += delay
    assert delays[:6] == [60, 120, 240, 480, 900, 900]
    assert 6 * HOUR < waited < 7 * HOUR + 10 * MINUTE
    with pytest.raises(NoAnswerError):
        messages.handle(message(question))
    assert world.sqs.asked == []


def test_a_notification_is_done_while_aws_is_silent_and_never_postponed(world: LifecycleWorld) -> None:
    messages = silenced(world, NoAnswerError("ReadTimeoutError"))
    (record,) = sample("eventbridge_purchase_agreement_ended")
    world.bus.down = True
    with pytest.raises(AwsError):
        messages.handle(QueueMessage.from_record(record))
    world.bus.down = False
    assert messages.handle(QueueMessage.from_record(record)).outcome == "applied"
    assert world.subscription().status == "closing"
    assert world.sqs.asked == []
