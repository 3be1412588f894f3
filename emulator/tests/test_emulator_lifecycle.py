"""What a seller is told about a purchase, in which order and shape.

Sources: EventBridge events captured on 2026-08-20; Seller Guide "notifications-eventbridge",
"saas-eventbridge-integration", "saas-notification", "saas-free-trials".
"""

import json
import re

import pytest

from marketplace_emulator import AdminError

PAYG, CONTRACT, LEGACY = "ca2payasyougoproduct00000", "ca1contractandconsumption", "legacysubscriptionproduct"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def bodies(emulator):
    return [item.body for item in emulator.m.outbox.notifications()]


def times(emulator):
    return [(item["detail-type"].split(" - ")[0], item["time"]) for item in bodies(emulator)]


def actions(emulator):
    return [json.loads(item["Message"])["action"] for item in bodies(emulator)]


def test_a_purchase_is_created_then_its_licence_updated_61_seconds_later(emulator):
    purchase = emulator.m.purchases.subscribe(PAYG)
    assert emulator.names() == ["Purchase Agreement Created - Proposer"]
    emulator.clock.advance(3600)
    assert times(emulator) == [
        ("Purchase Agreement Created", "2026-11-22T12:00:00Z"),
        ("License Updated", "2026-11-22T12:01:01Z"),
    ]
    assert emulator.m.purchases.state(purchase.id) == "active"


def test_a_cancellation_ends_the_agreement_then_the_licence_31_seconds_later(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(3600)
    assert times(emulator)[2:] == [
        ("Purchase Agreement Ended", "2026-11-22T12:00:00Z"),
        ("License Deprovisioned", "2026-11-22T12:00:31Z"),
    ]


def test_created_has_the_captured_shape(emulator):
    purchase = emulator.buy(PAYG)
    event = bodies(emulator)[0]
    assert UUID.fullmatch(event.pop("id"))
    assert UUID.fullmatch(event["detail"].pop("requestId"))
    assert event == {
        "version": "0",
        "detail-type": "Purchase Agreement Created - Proposer",
        "source": "aws.agreement-marketplace",
        "account": "222233334444",
        "time": "2026-11-22T12:00:00Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:aws-marketplace::aws:agreement:{purchase.agreement_id}"],
        "detail": {
            "catalog": "AWSMarketplace",
            "agreement": {
                "id": purchase.agreement_id,
                "intent": "NEW",
                "status": "ACTIVE",
                "acceptanceTime": "2026-11-22T12:00:00.000Z",
                "startTime": "2026-11-22T12:00:00.000Z",
                "endTime": "9999-01-01T00:00:00Z",
            },
            "acceptor": {"accountId": "111122223333"},
            "proposer": {"accountId": "222233334444"},
            "offer": {"id": purchase.agreement.offer_id},
            "resaleAuthorization": {"id": None},
        },
    }


def test_licence_events_have_the_captured_shape(emulator):
    purchase = emulator.buy(PAYG)
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(31)
    updated, gone = bodies(emulator)[1], bodies(emulator)[3]
    assert updated["detail-type"] == "License Updated - Manufacturer"
    assert gone["detail-type"] == "License Deprovisioned - Manufacturer"
    for event in (updated, gone):
        assert event["resources"] == [f"arn:aws:aws-marketplace::aws:agreement:{purchase.agreement_id}"]
        detail = dict(event["detail"])
        del detail["requestId"]
        assert detail == {
            "catalog": "AWSMarketplace",
            "agreement": {"id": purchase.agreement_id},
            "license": {"arn": purchase.license_arn},
            "product": {"id": purchase.product.id, "code": PAYG},
            "acceptor": {"accountId": "111122223333"},
            "proposer": {"accountId": "222233334444"},
            "offer": {"id": purchase.agreement.offer_id},
        }


def test_ended_has_the_captured_shape_without_an_offer(emulator):
    purchase = emulator.buy(PAYG)
    emulator.m.purchases.cancel(purchase.id)
    detail = bodies(emulator)[2]["detail"]
    del detail["requestId"]
    assert detail == {
        "catalog": "AWSMarketplace",
        "agreement": {"id": purchase.agreement_id, "status": "CANCELLED"},
        "acceptor": {"accountId": "111122223333"},
        "proposer": {"accountId": "222233334444"},
        "resaleAuthorization": {"id": None},
    }


def test_agreement_events_name_no_licence_and_no_product_code(emulator):
    purchase = emulator.buy(CONTRACT)
    emulator.m.purchases.renew(purchase.id)
    emulator.m.purchases.cancel(purchase.id)
    for event in bodies(emulator):
        if event["detail-type"].startswith("Purchase Agreement"):
            assert purchase.license_id not in json.dumps(event)
            assert CONTRACT not in json.dumps(event)


def test_licence_arns_have_the_form_seen_in_real_events(emulator):
    arn = emulator.buy().license_arn
    assert re.fullmatch(r"arn:aws:license-manager::\d{12}:license:l-[0-9a-f]{32}", arn)
    assert "111122223333" not in arn


def test_licence_arns_can_be_printed_as_the_documents_do(emulator):
    emulator.m.settings.update({"event_license_form": "document"})
    purchase = emulator.buy()
    printed = bodies(emulator)[1]["detail"]["license"]["arn"]
    assert printed == f"aws:license-manager:us-east-1:123456789012:{purchase.license_id}"


def test_resold_agreements_arrive_as_manufacturer_with_a_resale_authorization(emulator):
    emulator.buy(PAYG, reseller=True)
    created = bodies(emulator)[0]
    assert created["detail-type"] == "Purchase Agreement Created - Manufacturer"
    assert created["detail"]["resaleAuthorization"]["id"].startswith("resaleauthz-")
    assert created["detail"]["proposer"]["accountId"] != created["account"]


def test_an_upgrade_amends_the_agreement_then_updates_the_licence_and_renewal_alone_does_not(emulator):
    purchase = emulator.buy(CONTRACT, entitlements={"seats": 5})
    emulator.m.purchases.amend(purchase.id, auto_renew=True)
    emulator.clock.advance(3600)
    emulator.m.purchases.amend(purchase.id, entitlements={"seats": 9})
    emulator.clock.advance(61)
    amended = "Purchase Agreement Amended - Proposer"
    assert emulator.names(2) == [amended, amended, "License Updated - Manufacturer"]
    agreement = bodies(emulator)[3]["detail"]["agreement"]
    assert (agreement["id"], agreement["intent"]) == (purchase.agreement_id, "AMEND")
    assert agreement["autoRenewalEnabled"] is purchase.auto_renew is True


def test_a_renewal_makes_a_new_agreement_for_the_same_licence(emulator):
    purchase = emulator.buy(CONTRACT)
    old = purchase.agreement_id
    emulator.m.purchases.renew(purchase.id)
    emulator.clock.advance(61)
    created, ended, updated = bodies(emulator)[2:]
    assert emulator.names(2) == [
        "Purchase Agreement Created - Proposer",
        "Purchase Agreement Ended - Proposer",
        "License Updated - Manufacturer",
    ]
    agreement = created["detail"]["agreement"]
    assert (agreement["intent"], agreement["previousAgreementId"]) == ("RENEW", old)
    assert agreement["id"] == purchase.agreement_id != old
    assert created["detail"]["product"] == {"id": purchase.product.id, "title": "Acme Analytics"}
    assert created["detail"]["proposer"]["name"]
    assert "resaleAuthorization" not in created["detail"]
    assert ended["detail"]["agreement"] == {"id": old, "status": "RENEWED"}
    assert updated["detail"]["license"]["arn"] == purchase.license_arn
    assert updated["detail"]["agreement"]["id"] == purchase.agreement_id
    assert emulator.m.purchases.state(purchase.id) == "active"
    assert [item.status for item in purchase.agreements] == ["RENEWED", "ACTIVE"]


def test_a_renewal_can_be_told_by_the_licence_alone(emulator):
    emulator.m.settings.update({"renewal_events": "license_only"})
    purchase = emulator.buy(CONTRACT)
    emulator.m.purchases.renew(purchase.id)
    emulator.clock.advance(61)
    assert emulator.names(2) == ["License Updated - Manufacturer"]


def test_a_contract_renews_itself_or_expires(emulator):
    renewing = emulator.buy(CONTRACT, auto_renew=True, end="2026-12-22T12:00:00Z")
    expiring = emulator.buy(CONTRACT, end="2026-12-22T12:00:00Z")
    emulator.clock.set("2027-01-01T00:00:00Z")
    assert emulator.m.purchases.state(renewing.id) == "active"
    assert [item.status for item in renewing.agreements] == ["RENEWED", "ACTIVE"]
    assert emulator.m.purchases.state(expiring.id) == "ended"
    assert expiring.agreement.status == "EXPIRED"
    emulator.clock.set("2027-02-01T00:00:00Z")
    emulator.m.agenda.settle()
    assert len(renewing.agreements) == 3


def test_a_replacement_keeps_the_licence_or_brings_a_new_one(emulator):
    purchase = emulator.buy(CONTRACT)
    assert emulator.m.purchases.replace(purchase.id) is purchase
    assert [item.status for item in purchase.agreements] == ["REPLACED", "ACTIVE"]
    successor = emulator.m.purchases.replace(purchase.id, new_license=True)
    emulator.clock.advance(61)
    assert successor.license_arn != purchase.license_arn
    assert (successor.agreement.intent, successor.agreement.previous_id) == ("REPLACE", purchase.agreement_id)
    assert emulator.m.purchases.state(successor.id) == "active"
    assert emulator.m.purchases.state(purchase.id) == "closing"
    created = [item for item in bodies(emulator) if "Created" in item["detail-type"]]
    assert [item["detail"]["agreement"]["intent"] for item in created] == ["NEW", "REPLACE", "REPLACE"]


@pytest.mark.parametrize(("action", "status"), [("expire", "EXPIRED"), ("terminate", "TERMINATED")])
def test_expiry_and_termination_end_the_agreement(emulator, action, status):
    purchase = emulator.buy(CONTRACT)
    getattr(emulator.m.purchases, action)(purchase.id)
    assert bodies(emulator)[2]["detail"]["agreement"]["status"] == status


def test_a_future_dated_agreement_gets_its_licence_at_the_start(emulator):
    purchase = emulator.m.purchases.subscribe(CONTRACT, start="2026-12-01T00:00:00Z")
    assert emulator.m.purchases.state(purchase.id) == "scheduled"
    emulator.clock.set("2026-12-01T00:00:30Z")
    assert emulator.m.purchases.state(purchase.id) == "pending"
    emulator.clock.set("2026-12-01T00:01:01Z")
    assert emulator.m.purchases.state(purchase.id) == "active"


def test_changing_a_future_dated_agreement_does_not_bring_it_forward(emulator):
    purchase = emulator.m.purchases.subscribe(CONTRACT, start="2026-12-01T00:00:00Z")
    emulator.m.purchases.amend(purchase.id, entitlements={"seats": 9})
    emulator.clock.set("2026-12-01T00:01:00Z")
    assert emulator.m.purchases.state(purchase.id) == "pending"
    emulator.clock.advance(1)
    assert (emulator.m.purchases.state(purchase.id), purchase.entitlements) == ("active", {"seats": 9})


def test_a_contract_trial_ends_unless_replaced(emulator):
    left, kept = emulator.buy(CONTRACT, free_trial_days=7), emulator.buy(CONTRACT, free_trial_days=7)
    emulator.clock.advance("P6D")
    emulator.m.purchases.replace(kept.id)
    emulator.clock.advance("P1DT1M")
    assert emulator.m.purchases.state(left.id) == "closing"
    assert emulator.m.purchases.state(kept.id) == "active"
    assert kept.free_trial_until is None


@pytest.mark.parametrize("days", [6, 91])
def test_a_trial_lasts_7_to_90_days(emulator, days):
    with pytest.raises(AdminError, match="7 to 90"):
        emulator.m.purchases.subscribe(free_trial_days=days)


def test_one_account_holds_several_licences_of_one_product(emulator):
    one, other = emulator.buy(CONTRACT), emulator.buy(CONTRACT)
    assert one.license_arn != other.license_arn
    emulator.m.purchases.cancel(one.id)
    assert (emulator.m.purchases.state(one.id), emulator.m.purchases.state(other.id)) == ("closing", "active")


@pytest.mark.parametrize(
    ("action", "told"),
    [("fail", []), ("cancel", ["Purchase Agreement Ended - Proposer", "License Deprovisioned - Manufacturer"])],
)
def test_what_ends_before_the_licence_is_issued_announces_no_update(emulator, action, told):
    purchase = emulator.m.purchases.subscribe(PAYG)
    getattr(emulator.m.purchases, action)(purchase.id)
    emulator.clock.advance(3600)
    assert emulator.names() == ["Purchase Agreement Created - Proposer", *told]


def test_a_cancellation_request_is_approved_by_itself_after_seven_days(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.request_cancellation(purchase.id)
    emulator.clock.advance("P6DT23H")
    assert emulator.m.purchases.state(purchase.id) == "active"
    emulator.clock.advance("PT1H")
    assert emulator.names(2) == [
        "Agreement Cancellation Request Pending Approval - Proposer",
        "Agreement Cancellation Request Approved - Proposer",
        "Purchase Agreement Ended - Proposer",
    ]


def test_a_rejected_cancellation_request_changes_nothing(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.request_cancellation(purchase.id)
    emulator.m.purchases.answer_cancellation(purchase.id, "Rejected")
    emulator.clock.advance("P8D")
    assert emulator.names(3) == ["Agreement Cancellation Request Rejected - Proposer"]
    assert emulator.m.purchases.state(purchase.id) == "active"


def test_advisories_and_unknown_events_can_be_sent(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.advisory(purchase.id)
    emulator.m.purchases.advisory(purchase.id, "Resolved")
    now = emulator.clock.timestamp()
    emulator.m.announcer.custom(purchase, "Spend Threshold Reached - Proposer", None, now)
    emulator.m.announcer.custom(None, "Something Nobody Has Heard Of", {"a": 1}, now)
    assert emulator.names(2) == [
        "Purchase Agreement Advisory Issued - Manufacturer",
        "Purchase Agreement Advisory Resolved - Manufacturer",
        "Spend Threshold Reached - Proposer",
        "Something Nobody Has Heard Of",
    ]
    assert bodies(emulator)[-1]["detail"] == {"a": 1}
    assert bodies(emulator)[-2]["detail"]["agreement"]["id"] == purchase.agreement_id


# -- legacy SNS ---------------------------------------------------------------------------------------------


def test_legacy_products_are_told_by_sns_in_an_envelope(emulator):
    purchase = emulator.buy(LEGACY, free_trial_days=14)
    (notification,) = emulator.m.outbox.notifications()
    assert notification.kind == "sns"
    envelope = notification.body
    assert envelope["Type"] == "Notification"
    assert UUID.fullmatch(envelope["MessageId"])
    assert envelope["TopicArn"] == f"arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-{LEGACY}"
    assert envelope["Timestamp"] == "2026-11-22T12:00:00.000Z"
    assert json.loads(envelope["Message"]) == {
        "action": "subscribe-success",
        "customer-identifier": purchase.customer_identifier,
        "product-code": LEGACY,
        "offer-identifier": purchase.agreement.offer_id,
        "isFreeTrialTermPresent": "true",
    }


def test_a_legacy_subscription_ends_with_pending_and_an_hour_later_success(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.purchases.cancel(purchase.id)
    assert actions(emulator) == ["subscribe-success", "unsubscribe-pending"]
    emulator.clock.advance(3600)
    assert actions(emulator)[2:] == ["unsubscribe-success"]
    message = json.loads(bodies(emulator)[1]["Message"])
    assert "offer-identifier" not in message
    assert message["isFreeTrialTermPresent"] == "false"


def test_subscribing_again_replaces_unsubscribe_success(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(600)
    again = emulator.buy(LEGACY)
    emulator.clock.advance("P1D")
    assert actions(emulator) == ["subscribe-success", "unsubscribe-pending", "subscribe-success"]
    assert again.customer_identifier == purchase.customer_identifier


def test_a_legacy_account_has_one_subscription_per_product(emulator):
    emulator.buy(LEGACY)
    with pytest.raises(AdminError, match="already subscribed"):
        emulator.buy(LEGACY)


def test_a_legacy_payment_that_fails_is_told(emulator):
    purchase = emulator.m.purchases.subscribe(LEGACY)
    emulator.m.purchases.fail(purchase.id)
    assert actions(emulator) == ["subscribe-fail"]
    assert "offer-identifier" in json.loads(bodies(emulator)[0]["Message"])
    assert emulator.buy(LEGACY).customer_identifier == purchase.customer_identifier


def test_a_legacy_contract_is_told_to_read_its_entitlements(emulator):
    emulator.m.registry.add_product(
        {
            "code": "legacycontract",
            "integration": "legacy",
            "pricing": "contract",
            "dimensions": [{"key": "seats", "type": "entitlement"}],
        }
    )
    purchase = emulator.buy("legacycontract")
    emulator.m.purchases.amend(purchase.id, entitlements={"seats": 3})
    emulator.clock.advance(61)
    assert actions(emulator) == ["subscribe-success", "entitlement-updated", "entitlement-updated"]
    topic = bodies(emulator)[1]["TopicArn"]
    assert topic == "arn:aws:sns:us-east-1:287250355862:aws-mp-entitlement-notification-legacycontract"
    assert "isFreeTrialTermPresent" not in json.loads(bodies(emulator)[1]["Message"])


def test_an_accepted_new_offer_is_told_as_subscribe_success_again(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.purchases.replace(purchase.id)
    first, second = (json.loads(item["Message"]) for item in bodies(emulator))
    assert first["action"] == second["action"] == "subscribe-success"
    assert first["offer-identifier"] != second["offer-identifier"]


def test_legacy_products_can_have_eventbridge_events_too(emulator):
    emulator.m.settings.update({"eventbridge_for_legacy": True})
    emulator.buy(LEGACY)
    kinds = [item.kind for item in emulator.m.outbox.notifications()]
    assert kinds == ["eventbridge", "eventbridge", "sns"]


def test_sns_names_no_account_licence_or_agreement(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.purchases.cancel(purchase.id)
    text = json.dumps(bodies(emulator))
    for hidden in (purchase.account_id, purchase.license_id, purchase.agreement_id):
        assert hidden not in text


# -- what cannot be done ------------------------------------------------------------------------------------


def test_an_ended_purchase_cannot_be_changed(emulator):
    purchase = emulator.buy(CONTRACT)
    emulator.m.purchases.cancel(purchase.id)
    for action in ("cancel", "renew", "amend", "replace", "expire", "terminate", "request_cancellation"):
        with pytest.raises(AdminError, match="closing"):
            getattr(emulator.m.purchases, action)(purchase.id)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"product_code": "nope"}, "no product"),
        ({"account_id": "12"}, "not an AWS account"),
        ({"entitlements": {"cups": 1}}, "no entitlement dimension"),
        ({"entitlements": {"seats": "many"}}, "does not fit"),
        ({"entitlements": {"seats": True}}, "does not fit"),
        ({"end": "2026-11-22T11:00:00Z"}, "before the start"),
        ({"end": "soon"}, "not a time"),
    ],
)
def test_a_purchase_that_makes_no_sense_is_refused(emulator, arguments, text):
    with pytest.raises(AdminError, match=text):
        emulator.m.purchases.subscribe(**arguments)
    assert emulator.m.purchases.all() == []


def test_purchases_are_found_by_every_id(emulator):
    purchase = emulator.buy()
    for name in (purchase.id, purchase.license_arn, purchase.license_id, purchase.agreement_id):
        assert emulator.m.purchases.get(name) is purchase
    with pytest.raises(AdminError, match="no purchase"):
        emulator.m.purchases.get("purchase-99")


def test_what_waits_for_nothing_cannot_be_provisioned_or_answered(emulator):
    purchase = emulator.buy()
    with pytest.raises(AdminError, match="waits for no licence"):
        emulator.m.purchases.provision(purchase.id)
    with pytest.raises(AdminError, match="already provisioned"):
        emulator.m.purchases.fail(purchase.id)
    with pytest.raises(AdminError, match="no cancellation request"):
        emulator.m.purchases.answer_cancellation(purchase.id, "Approved")
    emulator.m.purchases.request_cancellation(purchase.id)
    with pytest.raises(AdminError, match="already pending"):
        emulator.m.purchases.request_cancellation(purchase.id)
    with pytest.raises(AdminError, match="in the past"):
        emulator.m.purchases.amend(purchase.id, end="2026-11-22T11:00:00Z")


def test_the_same_seed_makes_the_same_identifiers():
    from marketplace_emulator import Clock, Marketplace, Settings  # noqa: PLC0415

    def arns():
        marketplace = Marketplace(Clock.frozen("2026-11-22T12:00:00Z"), Settings(seed=7))
        return [marketplace.purchases.subscribe().license_arn for _ in range(2)]

    assert arns() == arns()
    assert len(set(arns())) == 2
