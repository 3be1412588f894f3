"""Every shape that arrives on the queue, read into one form."""

import json
from typing import Any

import pytest

from marketplace.lifecycle.notifications import (
    FindLicenses,
    LookAgain,
    MalformedMessageError,
    Notification,
    QueueMessage,
    ReadBack,
    Reconcile,
    parsed,
)
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from tests.support.lifecycle_world import AGREEMENT, LICENSE_ARN, at, notification, sample

SENT = at("2026-08-20T15:00:00Z") * 1000


def message(body: Any) -> QueueMessage:
    return QueueMessage(message_id="m-1", body=body if isinstance(body, str) else json.dumps(body), sent_at_ms=SENT)


def read(body: Any) -> Notification:
    found = parsed(message(body))
    assert isinstance(found, Notification)
    return found


def event(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sample("eventbridge_license_updated")[0]["body"])
    return {**body, **changes}


def test_a_license_event() -> None:
    found = notification("eventbridge_license_updated")
    assert (found.kind, found.title) == ("license_updated", "License Updated")
    assert found.time == "2026-08-20T14:24:23.000Z"
    assert found.identity == LicenseIdentity(LICENSE_ARN)
    assert (found.agreement_id, found.offer_id) == (AGREEMENT, "offer-abcdefghijklm")


def test_an_agreement_event_names_no_subscription() -> None:
    found = notification("eventbridge_purchase_agreement_created")
    assert (found.kind, found.intent, found.agreement_status) == ("agreement_created", "NEW", "ACTIVE")
    assert found.starts_at_ms == at("2026-08-20T14:23:11Z") * 1000 + 13
    assert found.identity is None


@pytest.mark.parametrize("role", [" - Proposer", " - Manufacturer", ""])
def test_the_role_in_the_title_makes_no_difference(role: str) -> None:
    assert read(event(**{"detail-type": f"License Updated{role}"})).kind == "license_updated"


def test_a_channel_partners_sale_reads_like_a_direct_one() -> None:
    direct, resold = (notification(f"eventbridge_purchase_agreement_created{suffix}") for suffix in ("", "_cppo"))
    assert (direct.kind, direct.agreement_id) == (resold.kind, resold.agreement_id)


def test_a_legacy_message() -> None:
    found = notification("sns_subscribe_success")
    assert found.identity == LegacyIdentity("n0123EXAMPLEXXXXXXXXXXXX", "X01EXAMPLEX")
    assert (found.kind, found.free_trial, found.offer_id) == ("subscribe_success", True, "offer-abcexample123")
    assert found.time == "2026-08-20T14:24:23.512Z"


def test_a_free_trial_is_a_text_and_may_be_left_out() -> None:
    assert notification("sns_subscribe_fail").free_trial is False
    assert notification("sns_entitlement_updated").free_trial is None


def test_a_raw_legacy_message_is_named_and_timed_by_the_queue() -> None:
    raw = notification("sns_subscribe_success_raw")
    assert raw.kind == "subscribe_success"
    assert raw.id == raw.message.message_id
    assert raw.at_ms == raw.message.sent_at_ms


def test_one_envelope_keeps_its_id_through_several_deliveries() -> None:
    body = sample("sns_subscribe_success")[0]["body"]
    first, second = (parsed(QueueMessage(message_id=name, body=body, sent_at_ms=SENT)) for name in ("one", "two"))
    assert isinstance(first, Notification)
    assert isinstance(second, Notification)
    assert first.id == second.id


def test_an_event_inside_an_envelope_is_read_as_the_event() -> None:
    envelope = {"Type": "Notification", "MessageId": "sns", "Message": json.dumps(event())}
    found = read(envelope)
    assert (found.kind, found.id) == ("license_updated", event()["id"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "dance", "customer-identifier": "X", "product-code": "p"},
        {"action": "subscribe-success", "product-code": "p"},
        {"action": "subscribe-success", "customer-identifier": "X"},
        {"Type": "SubscriptionConfirmation", "Token": "t"},
        event(source="someone.else"),
        event(**{"detail-type": "License Cloned - Manufacturer"}),
        event(detail=None),
        event(detail={"license": {"arn": "n/a"}, "product": {"code": "p"}}),
        event(**{"detail-type": "Purchase Agreement Ended - Proposer"}, detail={"agreement": {"status": "CANCELLED"}}),
    ],
)
def test_what_is_not_understood_is_kept_as_unknown(body: dict[str, Any]) -> None:
    assert read(body).kind == "unknown"


@pytest.mark.parametrize(
    "title", ["Purchase Agreement Ending", "Spend Threshold Reached", "Agreement Cancellation Request Approved"]
)
def test_documented_types_that_change_nothing_are_known(title: str) -> None:
    assert read(event(**{"detail-type": f"{title} - Proposer"})).kind == "noted"


@pytest.mark.parametrize("body", ["", "no", "[]", "3", '"text"', json.dumps({"Type": "Notification", "Message": "no"})])
def test_what_is_no_object_is_malformed(body: str) -> None:
    with pytest.raises(MalformedMessageError):
        parsed(message(body))


@pytest.mark.parametrize("time", [None, 7, "noon", "0001-01-01T00:00:00+23:59"])
def test_an_event_without_a_time_is_timed_by_the_queue(time: Any) -> None:
    found = read(event(time=time))
    assert found.at_ms in {SENT, -62135683140000}


def test_a_time_without_a_zone_is_in_utc_and_the_year_9999_is_a_year() -> None:
    assert read(event(time="2026-08-20T14:24:23")).time == "2026-08-20T14:24:23.000Z"
    created = json.loads(sample("eventbridge_purchase_agreement_created")[0]["body"])
    created["detail"]["agreement"]["startTime"] = "9999-01-01T00:00:00Z"
    assert read(created).starts_at_ms == 253370764800000


def test_an_advisory_carries_what_was_said() -> None:
    assert notification("eventbridge_purchase_agreement_advisory_issued").advisory == {"reason": "ACCOUNT_COMPROMISED"}


def test_our_own_requests() -> None:
    asked = {"marketplace_request": "look_again", "subscription_id": "sub-1", "reason": "claimed"}
    assert parsed(message(asked)) == LookAgain(subscription_id="sub-1", reason="claimed")
    assert parsed(message({**asked, "since": 5, "agreement_id": "a"})) == LookAgain(
        subscription_id="sub-1", reason="claimed", since=5, agreement_id="a"
    )
    assert parsed(message({**asked, "since": "5"})) == LookAgain(subscription_id="sub-1", reason="claimed")
    assert parsed(message({"marketplace_request": "reconcile"})) == Reconcile()
    assert parsed(message({"marketplace_request": "reconcile", "status": "active", "tries": 3})) == Reconcile(
        status="active", tries=3
    )
    assert parsed(message({"marketplace_request": "read_back", "subscription_id": "sub-1", "attempt": 2})) == ReadBack(
        subscription_id="sub-1", attempt=2
    )
    assert parsed(message({"marketplace_request": "read_back", "subscription_id": "sub-1", "at": 77})) == ReadBack(
        subscription_id="sub-1", at=77
    )
    assert parsed(message({"marketplace_request": "find_licenses", "agreement_id": "a"})) == FindLicenses(
        agreement_id="a"
    )


@pytest.mark.parametrize(
    "body", [{"marketplace_request": word} for word in ("look_again", "read_back", "find_licenses", "dance")]
)
def test_a_request_that_is_none_of_ours_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessageError):
        parsed(message(body))
