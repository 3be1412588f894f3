"""Comparing with the agreement API, which the emulator plays."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from marketplace.lifecycle.agreement_api import Agreement, MarketplaceAgreements, Provisioning, license_finder
from marketplace.lifecycle.facts import Fact
from marketplace.lifecycle.notifications import FindLicenses, Notification, QueueMessage, Reconcile, parsed
from marketplace.lifecycle.reconciliation import (
    SETTLING_TIME,
    Reconciliation,
    found_out,
    latest,
    needs_provisioning,
)
from marketplace.platform.clock import DAY, HOUR
from marketplace.platform.errors import AwsError, NoAnswerError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.identity import LicenseIdentity
from marketplace.subscriptions.model import Status, Subscription
from marketplace_emulator import Clock as EmulatorClock
from marketplace_emulator import Marketplace, Purchase
from tests.support.in_process import client as in_process_client
from tests.support.lifecycle_world import LEGACY, LifecycleWorld, notification, told
from tests.support.tables import Tables

NOW = 1_787_236_200


def agreement(status: str = "ACTIVE", **given: Any) -> Agreement:
    return Agreement(**{"id": "agmt", "status": status, "starts_at": 0, "updated_at": NOW - HOUR, **given})


def subscription(status: Status, **given: Any) -> Subscription:
    return Subscription(id="sub", integration="license", product_code="p", status=status, **given)


class TestFindings:
    @pytest.mark.parametrize("status", ["CANCELLED", "EXPIRED", "TERMINATED"])
    @pytest.mark.parametrize("known", ["pending", "active"])
    def test_an_end_that_was_missed(self, status: str, known: Status) -> None:
        found = found_out(subscription(known), agreement(status), None, NOW)
        assert found is not None
        assert found.kind == "license_deprovisioned"

    @pytest.mark.parametrize("known", ["pending", "closing", "ended", "failed"])
    def test_an_activation_that_was_missed(self, known: Status) -> None:
        found = found_out(subscription(known), agreement(), Provisioning("arn", "PROVISIONED", ""), NOW)
        assert found is not None
        assert found.kind == "license_updated"

    def test_a_payment_that_failed(self) -> None:
        failed = Provisioning("arn", "FAILED", "INVALID_PAYMENT_INSTRUMENT")
        found = found_out(subscription("pending"), agreement(), failed, NOW)
        assert found is not None
        assert found.kind == "subscribe_fail"

    def test_a_licence_gone_with_an_agreement_that_was_replaced(self) -> None:
        gone = Provisioning("arn", "DEPROVISIONED", "AGREEMENT_INACTIVE")
        found = found_out(subscription("active"), agreement("REPLACED"), gone, NOW)
        assert found is not None
        assert found.kind == "license_deprovisioned"

    @pytest.mark.parametrize(
        ("known", "now_known", "provisioning"),
        [
            ("active", agreement(), None),
            ("pending", agreement(), None),
            ("pending", agreement(), Provisioning("arn", "FAILED", "ACCOUNT_SUSPENDED")),
            ("ended", agreement(), Provisioning("arn", "FAILED", "INVALID_PAYMENT_INSTRUMENT")),
            ("pending", agreement(), Provisioning("arn", "PENDING", "PROVISIONING_IN_PROGRESS")),
            ("closing", agreement("CANCELLED"), None),
            ("ended", agreement("EXPIRED"), None),
            ("active", agreement("RENEWED"), Provisioning("arn", "PROVISIONED", "")),
            ("active", None, None),
        ],
    )
    def test_agreement(self, known: Status, now_known: Agreement | None, provisioning: Provisioning | None) -> None:
        assert found_out(subscription(known), now_known, provisioning, NOW) is None

    def test_a_change_of_a_moment_ago_is_left_to_its_notifications(self) -> None:
        recent = agreement("CANCELLED", updated_at=NOW - SETTLING_TIME + 1)
        assert found_out(subscription("active"), recent, None, NOW) is None
        heard = subscription("active", last_event_at=NOW - SETTLING_TIME + 1)
        assert found_out(heard, agreement("CANCELLED"), None, NOW) is None

    def test_a_closing_that_has_run_out_counts_as_ended(self) -> None:
        over = subscription("closing", closing_deadline=NOW)
        assert needs_provisioning(over, agreement(), NOW)
        assert not needs_provisioning(over, agreement("REPLACED"), NOW)

    def test_the_running_agreement_that_began_last_counts(self) -> None:
        first, second = agreement("RENEWED", id="a", starts_at=5), agreement(id="b", starts_at=2)
        ahead = agreement(id="c", starts_at=NOW + 1)
        assert latest([first, second, ahead], NOW) == second
        assert latest([first, ahead], NOW) == first
        assert latest([ahead], NOW) is None


class Reconciled(LifecycleWorld):
    """A world whose agreements are the emulator's, a day after the purchase."""

    def __init__(self, dynamodb: Any, tables: Tables) -> None:
        super().__init__(dynamodb, tables)
        self.market = Marketplace(clock=EmulatorClock.frozen(datetime.fromtimestamp(NOW, UTC)))
        self.agreements = MarketplaceAgreements(in_process_client("marketplace-agreement", self.market))
        self.time.seconds = NOW
        self.reconciliation = Reconciliation(
            store=self.store,
            agreements=self.agreements,
            lifecycle=self.lifecycle,
            queue=self.queue,
            clock=self.time.now,
        )

    def bought(self, *, told: bool = False, **given: Any) -> tuple[Purchase, str]:
        """A purchase that is registered, and told by its notifications or not."""
        purchase = self.market.purchases.subscribe(provision=True, **given)
        subscription_id = LicenseIdentity(purchase.license_arn).subscription_id
        self.register(
            subscription_id,
            purchase.agreement_id,
            license_arn=purchase.license_arn,
            product_code=purchase.product.code,
            account_id=purchase.account_id,
        )
        if told:
            self.tell()
        return purchase, subscription_id

    def tell(self) -> None:
        for delivery in self.market.outbox.deliveries():
            body = json.dumps(delivery.notification.body)
            found = parsed(QueueMessage(message_id="m", body=body, sent_at_ms=NOW * 1000))
            assert isinstance(found, Notification)
            self.lifecycle.receive(found)

    def later(self, seconds: int) -> None:
        self.market.clock.advance(seconds)
        self.market.agenda.settle()
        self.time.seconds += seconds

    def reconcile(self, subscription_id: str) -> str:
        return self.reconciliation.reconcile(Reconcile(subscription_id=subscription_id))


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> Reconciled:
    return Reconciled(moto_dynamodb, moto_tables)


def test_an_activation_nobody_told_of_is_found(world: Reconciled) -> None:
    _, subscription_id = world.bought()
    world.later(HOUR)
    assert world.reconcile(subscription_id) == "corrected"
    found = world.subscription(subscription_id)
    assert (found.status, found.activated_at) == ("active", world.time.seconds)
    assert world.usage.released == [subscription_id]
    assert world.bus.kinds() == ["Subscription Activated"]
    assert world.reconcile(subscription_id) == "agrees"


def test_a_notification_that_comes_after_all_corrects_the_time(world: Reconciled) -> None:
    _, subscription_id = world.bought()
    world.later(HOUR)
    world.reconcile(subscription_id)
    world.tell()
    assert world.subscription(subscription_id).activated_at == NOW


def test_an_end_nobody_told_of_is_found(world: Reconciled) -> None:
    purchase, subscription_id = world.bought(told=True)
    world.market.purchases.cancel(purchase.id)
    world.later(2 * HOUR)
    assert world.reconcile(subscription_id) == "corrected"
    found = world.subscription(subscription_id)
    assert (found.status, found.closing_deadline) == ("closing", world.time.seconds + HOUR)


def test_a_licence_left_behind_by_a_replacement_is_closed(world: Reconciled) -> None:
    purchase, subscription_id = world.bought(told=True)
    world.later(HOUR)
    world.market.purchases.replace(purchase.id, new_license=True)
    world.later(2 * HOUR)
    assert world.reconcile(subscription_id) == "corrected"
    assert world.subscription(subscription_id).status == "closing"


def test_a_replacement_with_another_licence_is_traced_to_the_first_agreement(world: Reconciled) -> None:
    purchase, first = world.bought(told=True)
    stored = world.store.read(first)
    world.store.write(first, read=stored, changes={"tenant_id": "acme"}, defaults={})
    world.later(HOUR)
    successor = world.market.purchases.replace(purchase.id, new_license=True)
    world.later(2 * HOUR)
    world.tell()
    second = LicenseIdentity(successor.license_arn).subscription_id
    assert world.waiting(recheck.RECONCILE) != []

    for subscription_id in (first, second):
        world.reconcile(subscription_id)

    assert world.subscription(second).initial_agreement_id == world.subscription(first).agreement_ids[0]
    assert world.store.predecessors.proposed_tenant(world.subscription(second)) == "acme"
    assert world.subscription(second).tenant_id is None
    assert world.subscription(first).initial_agreement_id is None


def test_a_failed_payment_is_found_where_eventbridge_has_no_event(world: Reconciled) -> None:
    purchase = world.market.purchases.subscribe()
    world.market.purchases.fail(purchase.id)
    subscription_id = LicenseIdentity(purchase.license_arn).subscription_id
    world.register(subscription_id, purchase.agreement_id, license_arn=purchase.license_arn)
    world.later(HOUR)
    assert world.reconcile(subscription_id) == "corrected"
    assert world.subscription(subscription_id).status == "failed"


def test_a_renewed_licence_agrees(world: Reconciled) -> None:
    purchase, subscription_id = world.bought(told=True)
    world.later(HOUR)
    world.market.purchases.renew(purchase.id)
    world.later(HOUR)
    assert world.reconcile(subscription_id) == "agrees"
    assert world.subscription(subscription_id).status == "active"


def test_a_free_trial_is_noted_until_it_is_over(world: Reconciled) -> None:
    _, subscription_id = world.bought(told=True, free_trial_days=14)
    world.later(HOUR)
    world.reconcile(subscription_id)
    assert world.subscription(subscription_id).free_trial is True
    calls = len(world.market.calls)
    world.reconcile(subscription_id)
    assert [call.operation for call in list(world.market.calls)[calls:]] == ["SearchAgreements"]
    world.later(13 * DAY)
    assert world.reconcile(subscription_id) == "agrees"
    assert world.subscription(subscription_id).free_trial is True


def test_a_converted_trial_is_none(world: Reconciled) -> None:
    purchase, subscription_id = world.bought(told=True, free_trial_days=14)
    world.later(HOUR)
    world.reconcile(subscription_id)
    world.market.purchases.replace(purchase.id)
    world.later(HOUR)
    world.reconcile(subscription_id)
    assert world.subscription(subscription_id).free_trial is False


def test_a_role_that_may_not_ask_is_told_and_everything_else_done(world: Reconciled) -> None:
    _, subscription_id = world.bought(told=True)
    world.market.settings.access_denied = ["SearchAgreements"]
    calls = world.source.calls
    assert world.reconcile(subscription_id) == "reconciliation_denied"
    assert world.source.calls == calls + 1


def test_a_question_that_is_refused_is_told(world: Reconciled) -> None:
    class Refusing:
        def search_agreements(self, **_: Any) -> None:
            from marketplace.platform.errors import RefusedError

            raise RefusedError("ValidationException")

    _, subscription_id = world.bought()
    world.reconciliation._agreements = MarketplaceAgreements(Refusing())  # type: ignore[arg-type]
    assert world.reconcile(subscription_id) == "reconciliation_refused"


def test_throttling_gives_the_message_back(world: Reconciled) -> None:
    _, subscription_id = world.bought()
    world.market.faults.plan([{"fault": "throttle", "operation": "SearchAgreements"}])
    with pytest.raises(AwsError):
        world.reconcile(subscription_id)


def test_nobody_and_legacy_customers(world: Reconciled) -> None:
    assert world.reconcile("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa") == "unknown_subscription"
    world.receive("sns_subscribe_success")
    assert world.reconcile(LEGACY) == "agrees"


@pytest.mark.slow
def test_all_subscriptions_are_handed_out_page_by_page(world: Reconciled) -> None:
    ids = [world.bought(told=True)[1] for _ in range(3)]
    reconciliation = world.reconciliation
    world.sqs.sent.clear()
    world.sqs.asked.clear()
    assert reconciliation.reconcile(Reconcile()) == "page"
    handed_out = [message["subscription_id"] for message, _ in world.sqs.asked[:-1]]
    assert handed_out == sorted(ids)
    assert world.sqs.asked[-1][0] == {"marketplace_request": "reconcile", "status": "closing"}
    world.sqs.asked.clear()
    reconciliation.reconcile(Reconcile(status="pending"))
    assert world.sqs.asked == world.sqs.sent == []


@pytest.mark.slow
def test_a_full_page_is_followed_by_the_next(world: Reconciled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketplace.lifecycle.reconciliation._PAGE", 2)
    ids = sorted(world.bought(told=True)[1] for _ in range(3))
    world.sqs.asked.clear()
    world.reconciliation.reconcile(Reconcile(status="active"))
    assert world.sqs.asked[-1][0] == {"marketplace_request": "reconcile", "status": "active", "after": ids[1]}


def test_an_end_without_a_join_is_joined_by_asking(moto_dynamodb: Any, moto_tables: Tables) -> None:
    world = Reconciled(moto_dynamodb, moto_tables)
    purchase, subscription_id = world.bought(told=True)
    for item in world.items(f"AGREEMENT#{purchase.agreement_id}"):
        world.dynamodb.delete_item(
            TableName=world.tables.subscriptions, Key={"pk": {"S": item["pk"]}, "sk": {"S": item["sk"]}}
        )
    world.lifecycle._joins._find_licenses = license_finder(world.agreements)
    world.market.purchases.cancel(purchase.id)
    ended = parsed(
        QueueMessage(
            message_id="m",
            body=json.dumps(world.market.outbox.deliveries()[-1].notification.body),
            sent_at_ms=NOW * 1000,
        )
    )
    assert isinstance(ended, Notification)
    assert world.lifecycle.receive(ended) == "waiting"
    assert world.subscription(subscription_id).status == "active"
    assert world.answer()[-1] == "applied"
    assert world.subscription(subscription_id).status == "closing"


@pytest.mark.parametrize("crash", ["join", "write"])
def test_a_licence_that_was_asked_for_is_closed_by_whoever_comes_after_a_crash(
    world: Reconciled, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    purchase, subscription_id = world.bought(told=True)
    request = FindLicenses(agreement_id="agmt-elsewhere")
    world.lifecycle._joins._find_licenses = lambda _: [purchase.license_arn]
    world.lifecycle.receive(
        told(
            "Purchase Agreement Ended",
            NOW,
            agreement={"id": request.agreement_id, "status": "CANCELLED"},
            acceptor={"accountId": purchase.account_id},
        )
    )
    with monkeypatch.context() as patched:
        patched.setattr(world.store, crash, raising)
        with pytest.raises(NoAnswerError):
            world.lifecycle.find_licenses(request)
    assert world.lifecycle.find_licenses(request) == "applied"
    assert world.store.joined(request.agreement_id) == [subscription_id]
    assert request.agreement_id in {fact.agreement_id for fact in stored_facts(world, subscription_id)}


def raising(*_: Any, **__: Any) -> None:
    raise NoAnswerError("InternalServerError")


def stored_facts(world: Reconciled, subscription_id: str) -> tuple[Fact, ...]:
    stored = world.store.read(subscription_id)
    assert stored is not None
    return stored.facts


def test_licences_that_aws_gives_no_answer_about_are_asked_for_again(world: Reconciled) -> None:
    world.market.faults.plan([{"fault": "throttle", "operation": "GetAgreementEntitlements"}])
    with pytest.raises(AwsError):
        license_finder(world.agreements)("agmt-1")


def test_asking_for_licences_in_vain_is_no_error(world: Reconciled) -> None:
    world.market.settings.access_denied = ["GetAgreementEntitlements"]
    assert license_finder(world.agreements)("agmt-1") == []


def test_a_registration_that_stays_pending_has_aws_asked(world: Reconciled) -> None:
    _, subscription_id = world.bought()
    world.look_again(subscription_id, recheck.REGISTERED)
    assert world.sqs.asked == [
        ({"marketplace_request": "read_back", "subscription_id": subscription_id}, 0),
        ({"marketplace_request": "reconcile", "subscription_id": subscription_id}, 900),
    ]


def test_usage_refused_without_a_known_reason_has_aws_asked(world: Reconciled) -> None:
    world.receive("eventbridge_license_updated")
    subscription_id = LicenseIdentity(notification("eventbridge_license_updated").license_arn or "").subscription_id
    world.sqs.asked.clear()
    world.look_again(subscription_id, recheck.NOT_SUBSCRIBED, since=world.time.seconds + HOUR)
    assert world.sqs.asked == [({"marketplace_request": "reconcile", "subscription_id": subscription_id}, 0)]
