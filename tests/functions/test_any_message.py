"""Whatever a queue or a schedule brings: no function fails on it, and nothing is lost. A message is handled, and then
what it says is kept or was asked for by this application; or it goes back to its queue, and in the end to the
dead-letter queue. The HTTP functions have the same in test_seller_api.py and test_resolve_customer.py."""

import copy
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.entitlement_check import app as entitlement_check
from functions.meter_usage import app as meter_usage
from tests.functions.test_entitlement_check import NOTIFICATIONS, Deployment, deployment, log
from tests.functions.test_meter_usage import Deployment as Metering
from tests.functions.test_meter_usage import deployment as metering
from tests.functions.test_meter_usage import due
from tests.support.lifecycle_world import sample

__all__ = ["deployment", "log", "metering"]

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SAMPLES = [json.loads(record["body"]) for name in NOTIFICATIONS for record in sample(name)]
NOT_KEPT = {"own_purchase"}
"""Outcomes of notifications that are not kept, as decision 0041 has it."""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in _paths(one, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A sample body in which one value is another one, or is absent."""
    body = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    *way, last = draw(st.sampled_from(_paths(body)[1:]))
    place = body
    for key in way:
        place = place[key]
    if draw(st.booleans()):
        place[last] = draw(ANY_JSON)
    elif isinstance(place, dict):
        del place[last]
    return body


def as_text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


BODIES = st.text() | ANY_JSON.map(json.dumps) | spoilt().map(as_text) | st.sampled_from(SAMPLES).map(as_text)


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(body=BODIES, event_id=st.uuids())
def test_a_message_is_kept_answered_or_given_back(
    deployment: Deployment, log: io.StringIO, body: str, event_id: Any
) -> None:
    (shape,) = sample("eventbridge_license_updated")
    record = {**shape, "messageId": str(event_id), "body": body}
    before = log.tell()
    given_back = entitlement_check.lambda_handler({"Records": [record]}, _Context())["batchItemFailures"]
    lines = [json.loads(line) for line in log.getvalue()[before:].splitlines()]
    (told,) = [line for line in lines if line["message"] in {"message handled", "message given back"}]
    if given_back:
        assert given_back == [{"itemIdentifier": str(event_id)}]
        assert told["message"] == "message given back"
        assert told["error"] == "MalformedMessageError", told
    elif "event_id" in told and told["outcome"] not in NOT_KEPT:
        assert any(told["event_id"] in key for _, key in _stored(deployment)), (told, body)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(event=st.dictionaries(st.text(), ANY_JSON, max_size=4) | st.just({"Records": []}))
def test_a_metering_run_does_its_work_whatever_started_it(metering: Metering, event: dict[str, Any]) -> None:
    if not metering.world.billed():
        due(metering.world)
        assert meter_usage.lambda_handler(event, metering.context)["records"] == {"metered": 3}
    else:
        assert meter_usage.lambda_handler(event, metering.context)["due"] == 0
    assert sum(metering.world.billed().values()) == 21


def _stored(deployment: Deployment) -> set[tuple[str, str]]:
    items = deployment.dynamodb.scan(TableName=deployment.tables.subscriptions)["Items"]
    return {(item["pk"]["S"], item["sk"]["S"]) for item in items}


class _Context:
    """What the function uses of Lambda's context."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "test"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000
