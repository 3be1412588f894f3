"""The shapes in which one statement of AWS may come: functions that give a body another shape and leave its meaning.

They keep the id and the time of what is said, so that a history in other shapes is the same history. events/variants/
holds such bodies as texts, and shapes that are not understood.
"""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

type Body = dict[str, Any]
type Shape = Callable[[Body], Any]

_TOPIC = "arn:aws:sns:us-east-1:222233334444:forwarded"


def _part(event: Body, name: str, change: Callable[[Any], Any]) -> Body:
    detail = event["detail"]
    return {**event, "detail": {**detail, name: change(detail[name])}} if name in detail else event


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _enveloped(message: Any) -> Body:
    """The envelope of a topic on the way; what it holds has an id and a time of its own."""
    later = {"MessageId": "on-the-way", "Timestamp": "2026-09-01T00:00:00.000Z"}
    return {"Type": "Notification", "TopicArn": _TOPIC, "Message": message, **later}


def _account(event: Body, change: Callable[[str], Any]) -> Body:
    return _part(event, "acceptor", lambda acceptor: {**acceptor, "accountId": change(acceptor["accountId"])})


def _put_events_entry(event: Body) -> Body:
    return {
        "Id": event["id"],
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "Time": event["time"],
        "Account": event["account"],
    }


def _with_nothing_for_what_is_absent(event: Body) -> Body:
    detail = copy.deepcopy(event["detail"])
    for part, member, nothing in (
        ("agreement", "startTime", ""),
        ("agreement", "intent", None),
        ("offer", "id", "null"),
        ("product", "code", " "),
        ("license", "arn", []),
    ):
        detail.setdefault(part, {}).setdefault(member, nothing)
    return {**event, "detail": detail, "resources": None}


def _with_more_members(event: Body) -> Body:
    more = {"tenancy": {"id": 7, "code": "other"}, "Tags": ["a", "b"]}
    return {**event, "trace-header": "Root=1", "detail": {**event["detail"], **more}}


EVENT_SHAPES: dict[str, Shape] = {
    "as documented": lambda event: event,
    "members that nobody knows": _with_more_members,
    "null, empty and blank for what is absent": _with_nothing_for_what_is_absent,
    "detail as text": lambda event: {**event, "detail": json.dumps(event["detail"])},
    "detail as text of a text": lambda event: {**event, "detail": json.dumps(json.dumps(event["detail"]))},
    "the entry of PutEvents": _put_events_entry,
    "in an envelope of SNS": lambda event: _enveloped(json.dumps(event)),
    "in an envelope of SNS, as an object": _enveloped,
    "in two envelopes of SNS": lambda event: _enveloped(json.dumps(_enveloped(json.dumps(event)))),
    "the body as text of a text": json.dumps,
    "the body as a list of one": lambda event: [event],
    "lists of one": lambda event: _part(event, "license", lambda one: [{"arn": [one["arn"]]}]) | {"id": [event["id"]]},
    "the agreement as a list of one": lambda event: _part(event, "agreement", lambda agreement: [agreement]),
    "the licence in place of its ARN": lambda event: _part(event, "license", lambda one: one["arn"]),
    "the account in place of the acceptor": lambda event: _part(event, "acceptor", lambda one: one["accountId"]),
    "account ids as numbers": lambda event: _account(event, int),
    "account ids as floating point": lambda event: _account(event, float),
    "account ids with hyphens": lambda event: _account(event, lambda one: f"{one[:4]}-{one[4:8]}-{one[8:]}"),
    "the time in seconds": lambda event: {**event, "time": int(_moment(event["time"]).timestamp())},
    "the time in milliseconds, as text": lambda event: {
        **event,
        "time": str(int(_moment(event["time"]).timestamp() * 1000)),
    },
    "the time of another zone": lambda event: {**event, "time": event["time"].replace("Z", "-00:00")},
    "the time without a zone": lambda event: {**event, "time": event["time"].removesuffix("Z")},
    "the time as in mail": lambda event: {
        **event,
        "time": format_datetime(_moment(event["time"]).astimezone(UTC), usegmt=True),
    },
    "small letters": lambda event: _part(
        {**event, "detail-type": event["detail-type"].lower()},
        "agreement",
        lambda one: {name: value.lower() if name in {"status", "intent"} else value for name, value in one.items()},
    ),
    "without its source": lambda event: {name: value for name, value in event.items() if name != "source"},
}


def _message(envelope: Body, change: Callable[[Body], Any]) -> Body:
    return {**envelope, "Message": change(json.loads(envelope["Message"]))}


def _as_text(change: Callable[[Body], Any]) -> Shape:
    return lambda envelope: _message(envelope, lambda message: json.dumps(change(message)))


def _trial(change: Callable[[str], Any]) -> Shape:
    def changed(message: Body) -> Body:
        trial = message.get("isFreeTrialTermPresent")
        return message if trial is None else {**message, "isFreeTrialTermPresent": change(trial)}

    return _as_text(changed)


_OLDER_NAMES = {
    "customer-identifier": "CustomerIdentifier",
    "product-code": "ProductCode",
    "offer-identifier": "OfferIdentifier",
    "action": "Action",
}

ENVELOPE_SHAPES: dict[str, Shape] = {
    "as documented": lambda envelope: envelope,
    "the message as an object": lambda envelope: _message(envelope, lambda message: message),
    "the message as a list of one": _as_text(lambda message: [message]),
    "the older names": _as_text(lambda message: {_OLDER_NAMES.get(name, name): one for name, one in message.items()}),
    "names with underscores": _as_text(lambda message: {name.replace("-", "_"): one for name, one in message.items()}),
    "members that nobody knows": _as_text(lambda message: {**message, "account": {"id": 1}, "x": [1, 2]}),
    "empty for what is absent": _as_text(lambda message: {"offer-identifier": "", **message}),
    "lists of one for texts": _as_text(lambda message: {name: [value] for name, value in message.items()}),
    "a trial as a boolean": _trial(lambda trial: trial == "true"),
    "a trial in capitals": _trial(str.upper),
    "a trial as a number": _trial(lambda trial: int(trial == "true")),
    "the action in capitals": _as_text(lambda message: {**message, "action": message["action"].title()}),
    "the time in milliseconds": lambda envelope: {
        **envelope,
        "Timestamp": int(_moment(envelope["Timestamp"]).timestamp() * 1000),
    },
    "an envelope without a type": lambda envelope: {name: one for name, one in envelope.items() if name != "Type"},
    "the envelope as a list of one": lambda envelope: [envelope],
    "the envelope as text of a text": json.dumps,
    "in another envelope": lambda envelope: _enveloped(json.dumps(envelope)),
}


def shapes_of(body: Body) -> dict[str, Shape]:
    """The shapes that this body, as documented, may take."""
    return ENVELOPE_SHAPES if body.get("Type") == "Notification" else EVENT_SHAPES
