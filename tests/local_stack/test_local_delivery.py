"""From AWS Marketplace to the queue: what matches a rule, and in which shape it arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.delivery import PatternError, destinations, matches
from local.deployment import Deployment, Rule, Subscription

EVENT = {
    "source": "aws.agreement-marketplace",
    "detail-type": "License Updated - Manufacturer",
    "resources": ["arn:one", "arn:two"],
    "detail": {"agreement": {"id": "agmt-1"}, "offer": None},
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["aws.agreement-marketplace"]}, True),
        ({"source": ["aws.ec2"]}, False),
        ({"detail-type": [{"prefix": "License "}]}, True),
        ({"detail-type": [{"suffix": "Proposer"}]}, False),
        ({"detail-type": ["x", {"equals-ignore-case": "license updated - manufacturer"}]}, True),
        ({"detail": {"agreement": {"id": ["agmt-1"]}}}, True),
        ({"detail": {"agreement": {"id": [{"anything-but": ["agmt-1"]}]}}}, False),
        ({"detail": {"agreement": {"id": [{"anything-but": {"prefix": "x"}}]}}}, True),
        ({"detail": {"product": {"id": ["p"]}}}, False),
        ({"detail": {"product": [{"exists": False}]}}, True),
        ({"detail": {"offer": [{"exists": True}]}}, True),
        ({"detail": {"product": [{"prefix": "x"}]}}, False),
        ({"resources": ["arn:two"]}, True),
        ({"source": ["aws.agreement-marketplace"], "detail-type": ["other"]}, False),
    ],
)
def test_event_patterns(pattern: dict[str, Any], expected: bool) -> None:
    assert matches(pattern, EVENT) is expected


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(PatternError, match="numeric"):
        matches({"source": [{"numeric": [">", 1]}]}, EVENT)


def deployment(*, rules: list[Rule] | None = None, subscriptions: list[Subscription] | None = None) -> Deployment:
    return Deployment({}, [], [], [], [], [], [], rules or [], subscriptions or [], "")


def test_an_event_goes_to_the_queues_of_every_rule_that_matches() -> None:
    rules = [Rule("a", {"source": ["aws.agreement-marketplace"]}, ("q1", "q2")), Rule("b", {"source": ["x"]}, ("q3",))]
    found = destinations(deployment(rules=rules), "eventbridge", EVENT)

    assert found == [("q1", json.dumps(EVENT)), ("q2", json.dumps(EVENT))]


def test_a_notification_goes_to_the_subscribers_of_its_topic_in_its_envelope_unless_raw() -> None:
    envelope = {"TopicArn": "arn:t", "Message": '{"action": "subscribe-success"}'}
    subscriptions = [
        Subscription("arn:t", "q1", raw=False),
        Subscription("arn:t", "q2", raw=True),
        Subscription("arn:other", "q3", raw=False),
    ]

    assert destinations(deployment(subscriptions=subscriptions), "sns", envelope) == [
        ("q1", json.dumps(envelope)),
        ("q2", '{"action": "subscribe-success"}'),
    ]
