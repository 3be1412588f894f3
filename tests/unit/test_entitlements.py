"""Reading back, listing and checking entitlements on a table, with AWS remembered or played by the emulator."""

import json
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.rules import Decision, Entitlement
from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.entitlements.store import EntitlementStore, UnknownSubscriptionError
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.subscriptions.model import Subscription
from marketplace_emulator import Marketplace
from tests.support.in_process import client as in_process_client
from tests.support.lifecycle_world import LEGACY, LICENSE_ARN, LICENSED, PRODUCT, LifecycleWorld, Source
from tests.support.tables import Tables
from tools.template import resources

UPDATED = "eventbridge_license_updated"


def seats(count: int, expires_at: int | None = None) -> Entitlement:
    return Entitlement(dimension="seats", value_type="integer", value=count, expires_at=expires_at)


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> LifecycleWorld:
    return LifecycleWorld(moto_dynamodb, moto_tables)


@pytest.fixture
def active(world: LifecycleWorld) -> LifecycleWorld:
    """Twenty-five seats, read back a moment ago."""
    world.source.granted[LICENSED] = [seats(25)]
    world.receive(UPDATED)
    world.answer()
    world.source.calls = 0
    return world


class Calls:
    """Counts what is asked of DynamoDB."""

    def __init__(self, client: Any) -> None:
        self.made: list[str] = []
        self._client = client

    def __getattr__(self, name: str) -> Any:
        self.made.append(name)
        return getattr(self._client, name)


def reading_through(world: LifecycleWorld, client: Any) -> None:
    """Has the world's entitlements use this client of DynamoDB."""
    table = Table(client, world.tables.subscriptions, sleep=lambda _: None)
    world.entitlements._store = EntitlementStore(table)


class TestReadingBack:
    def test_stores_one_item_for_each_dimension_and_tells_the_difference(self, active: LifecycleWorld) -> None:
        active.source.granted[LICENSED] = [seats(40), Entitlement(dimension="sso", value_type="boolean", value=True)]
        assert active.entitlements.sync(LICENSED).changed
        assert active.entitlements.entitlements_of(LICENSED) == active.source.granted[LICENSED]
        detail = active.bus.details("Entitlements Changed")[-1]
        assert detail["before"] == {"seats": {"value": 25, "value_type": "integer"}}
        assert detail["after"] == {
            "seats": {"value": 40, "value_type": "integer"},
            "sso": {"value": True, "value_type": "boolean"},
        }

    def test_forgets_what_has_vanished(self, active: LifecycleWorld) -> None:
        active.source.granted[LICENSED] = []
        active.entitlements.sync(LICENSED)
        assert active.entitlements.entitlements_of(LICENSED) == []

    def test_remembers_the_terms_of_what_has_vanished(self, active: LifecycleWorld) -> None:
        read_at = active.time.seconds
        active.source.granted[LICENSED] = [seats(40, read_at + DAY)]
        active.entitlements.sync(LICENSED)
        active.time.seconds += HOUR
        active.source.granted[LICENSED] = []
        active.entitlements.sync(LICENSED)
        history = active.entitlement_store.histories([(LICENSED, "seats")])[LICENSED, "seats"]
        assert (history.withdrawn_at, history.wholly) == (active.time.seconds, True)
        (term,) = history.terms
        assert (term.starts_at, term.ends_at, term.value) == (read_at, read_at + DAY, 40)
        assert not active.entitlement_store.grants_anything(LICENSED)
        assert active.entitlements.check(LICENSED, "seats").entitlement is None

    def test_is_not_deleted_by_dynamodb_when_it_expires(self, active: LifecycleWorld) -> None:
        active.source.granted[LICENSED] = [seats(40, active.time.seconds + DAY)]
        active.entitlements.sync(LICENSED)
        deletes_by = resources("AWS::DynamoDB::Table")["SubscriptionsTable"]["Properties"]["TimeToLiveSpecification"][
            "AttributeName"
        ]
        (found,) = [item for item in active.items(keys.subscription_pk(LICENSED)) if "value" in item]
        assert deletes_by not in found

    def test_without_news_only_notes_the_time(self, active: LifecycleWorld) -> None:
        told = len(active.bus.put)
        active.time.seconds += 100
        assert not active.entitlements.sync(LICENSED).changed
        assert active.subscription().entitlements_synced_at == active.time.seconds
        assert len(active.bus.put) == told

    def test_changes_nothing_when_aws_does_not_answer(self, active: LifecycleWorld) -> None:
        active.source.errors = [NoAnswerError("InternalServiceErrorException")]
        with pytest.raises(NoAnswerError):
            active.entitlements.sync(LICENSED)
        assert [found["value"] for found in active.items(keys.subscription_pk(LICENSED)) if "value" in found] == [25]

    def test_an_older_answer_never_replaces_a_newer_one(self, active: LifecycleWorld) -> None:
        class Overtaken(Source):
            """While it waits for AWS's answer, another reading begins and ends."""

            def entitlements(self, subscription: Subscription) -> list[Entitlement]:
                answer = super().entitlements(subscription)
                if self.calls == 1:
                    active.source.granted[LICENSED] = [seats(50)]
                    active.entitlements.sync(LICENSED)
                    self.granted = active.source.granted
                return answer

        slow = Overtaken(granted={LICENSED: [seats(10)]})
        overtaken = Entitlements(
            store=EntitlementStore(Table(active.dynamodb, active.tables.subscriptions)),
            source=slow,
            clock=active.time.now,
            max_age=15 * MINUTE,
            stale_limit=DAY,
        )
        assert overtaken.sync(LICENSED).entitlements == (seats(50),)
        assert slow.calls == 2
        assert active.entitlements.entitlements_of(LICENSED) == [seats(50)]

    def test_twice_overtaken_takes_the_answer_of_the_other(self, active: LifecycleWorld) -> None:
        class Crowded(Source):
            def entitlements(self, subscription: Subscription) -> list[Entitlement]:
                active.source.granted[LICENSED] = [seats(50 + super().entitlements(subscription).count(seats(0)))]
                active.entitlements.sync(LICENSED)
                return []

        source = Crowded()
        crowded = Entitlements(
            store=EntitlementStore(Table(active.dynamodb, active.tables.subscriptions)),
            source=source,
            clock=active.time.now,
            max_age=15 * MINUTE,
            stale_limit=DAY,
        )
        assert crowded.sync(LICENSED).entitlements == (seats(50),)
        assert source.calls == 2

    @pytest.mark.slow
    def test_more_dimensions_than_a_transaction_holds(self, active: LifecycleWorld) -> None:
        many = [Entitlement(dimension=f"d{n:03}", value_type="integer", value=n) for n in range(250)]
        active.source.granted[LICENSED] = many
        active.entitlements.sync(LICENSED)
        assert active.entitlements.entitlements_of(LICENSED) == many
        assert len(active.bus.details("Entitlements Changed")) == 2

    def test_names_with_delimiters_stay_apart(self, active: LifecycleWorld) -> None:
        strange = [Entitlement(dimension=name, value_type="integer", value=1) for name in ("a#b", "a%23b", "ä b")]
        active.source.granted[LICENSED] = strange
        active.entitlements.sync(LICENSED)
        assert set(active.entitlements.entitlements_of(LICENSED)) == set(strange)
        assert active.entitlements.check(LICENSED, "a#b").allowed

    def test_of_nobody_is_an_error(self, world: LifecycleWorld) -> None:
        with pytest.raises(UnknownSubscriptionError):
            world.entitlements.sync(LICENSED)

    def test_an_event_that_cannot_be_published_now_stays_in_the_outbox(self, active: LifecycleWorld) -> None:
        active.bus.failing = 99
        active.source.granted[LICENSED] = [seats(1)]
        active.entitlements.sync(LICENSED)
        assert [event.kind for event in active.outbox.unpublished(LICENSED)] == ["Entitlements Changed"]

    def test_adds_up_grants_that_are_valid_at_once(self, active: LifecycleWorld) -> None:
        active.source.granted[LICENSED] = [seats(25), seats(10, active.time.seconds + DAY)]
        active.entitlements.sync(LICENSED)
        assert active.entitlements.check(LICENSED, "seats", 35).allowed
        assert not active.entitlements.check(LICENSED, "seats", 36).allowed
        active.time.seconds += DAY
        assert active.entitlements.check(LICENSED, "seats", 26).reason == "quantity_exceeded"


class TestListing:
    def test_asks_aws_when_the_answer_is_old(self, active: LifecycleWorld) -> None:
        active.entitlements.entitlements_of(LICENSED)
        assert active.source.calls == 0
        active.time.seconds += 15 * 60 + 1
        active.entitlements.entitlements_of(LICENSED)
        assert active.source.calls == 1

    def test_answers_what_is_stored_when_aws_does_not(self, active: LifecycleWorld) -> None:
        active.time.seconds += HOUR
        active.source.errors = [ThrottledError("ThrottlingException")]
        assert active.entitlements.entitlements_of(LICENSED) == [seats(25)]


class TestChecking:
    def test_is_one_read_when_the_answer_is_fresh(self, active: LifecycleWorld) -> None:
        calls = Calls(active.dynamodb)
        reading_through(active, calls)
        assert active.entitlements.check(LICENSED, "seats", 25).allowed
        assert calls.made == ["batch_get_item"]
        assert active.source.calls == 0

    def test_says_why_not(self, active: LifecycleWorld) -> None:
        found = active.entitlements.check(LICENSED, "seats", 26)
        assert (found.allowed, found.reason, found.stale) == (False, "quantity_exceeded", False)
        assert found.entitlement == seats(25)

    def test_of_nobody_is_no(self, world: LifecycleWorld) -> None:
        assert world.entitlements.check(LICENSED, "seats") == Decision(allowed=False, reason="unknown_subscription")

    def test_before_the_activation_is_no(self, world: LifecycleWorld) -> None:
        world.register()
        assert world.entitlements.check(LICENSED, "seats").reason == "subscription_pending"
        assert world.source.calls == 0

    def test_after_the_end_is_no_whether_or_not_the_timer_has_run(self, active: LifecycleWorld) -> None:
        active.receive("eventbridge_license_deprovisioned")
        assert active.entitlements.check(LICENSED, "seats").reason == "subscription_closing"
        active.time.seconds += 2 * HOUR
        assert active.subscription().status == "closing"
        assert active.entitlements.check(LICENSED, "seats").reason == "subscription_ended"

    def test_refreshes_an_old_answer_first(self, active: LifecycleWorld) -> None:
        active.time.seconds += HOUR
        active.source.granted[LICENSED] = [seats(30)]
        found = active.entitlements.check(LICENSED, "seats", 30)
        assert (found.allowed, found.stale, found.synced_at) == (True, False, active.time.seconds)

    def test_answers_from_the_store_within_the_stale_limit_when_aws_does_not_answer(
        self, active: LifecycleWorld
    ) -> None:
        active.time.seconds += 23 * HOUR
        active.source.errors = [NoAnswerError("ReadTimeoutError")]
        found = active.entitlements.check(LICENSED, "seats")
        assert (found.allowed, found.stale) == (True, True)

    def test_is_no_beyond_the_stale_limit(self, active: LifecycleWorld) -> None:
        active.time.seconds += 25 * HOUR
        active.source.errors = [NoAnswerError("ReadTimeoutError")]
        found = active.entitlements.check(LICENSED, "seats")
        assert (found.allowed, found.reason, found.stale) == (False, "entitlements_too_old", True)

    def test_is_no_when_aws_was_never_heard(self, world: LifecycleWorld) -> None:
        world.receive(UPDATED)
        world.source.errors = [ThrottledError("ThrottlingException")]
        assert world.entitlements.check(LICENSED, "seats").reason == "entitlements_unavailable"

    def test_right_after_the_purchase_an_empty_answer_is_pending_and_asked_again(self, world: LifecycleWorld) -> None:
        world.receive(UPDATED)
        assert world.entitlements.check(LICENSED, "seats").reason == "entitlements_pending"
        world.source.granted[LICENSED] = [seats(25)]
        world.time.seconds += 60
        assert world.entitlements.check(LICENSED, "seats").allowed

    def test_an_hour_after_the_purchase_an_empty_answer_is_no(self, world: LifecycleWorld) -> None:
        world.receive(UPDATED)
        world.time.seconds += HOUR
        assert world.entitlements.check(LICENSED, "seats").reason == "not_entitled"

    def test_an_expired_entitlement_is_asked_about_again(self, active: LifecycleWorld) -> None:
        expires_at = active.time.seconds + 60
        active.source.granted[LICENSED] = [seats(25, expires_at)]
        active.entitlements.sync(LICENSED)
        active.time.seconds = expires_at
        active.source.granted[LICENSED] = [seats(25, expires_at + 365 * DAY)]
        assert active.entitlements.check(LICENSED, "seats").reason == "entitled"

    def test_an_expired_entitlement_that_aws_still_lists_has_a_days_grace(self, active: LifecycleWorld) -> None:
        expires_at = active.time.seconds
        active.source.granted[LICENSED] = [seats(25, expires_at)]
        active.entitlements.sync(LICENSED)
        assert active.entitlements.check(LICENSED, "seats").reason == "in_grace"
        active.time.seconds += DAY
        assert active.entitlements.check(LICENSED, "seats").reason == "expired"

    def test_unread_keys_are_no_answer(self, active: LifecycleWorld) -> None:
        class Unread:
            def batch_get_item(self, **call: Any) -> dict[str, Any]:
                return {"Responses": {}, "UnprocessedKeys": call["RequestItems"]}

        reading_through(active, Unread())
        with pytest.raises(ThrottledError):
            active.entitlements.check(LICENSED, "seats")


class TestAwsAnswers:
    def test_every_page_is_read_empty_ones_too(self, aws_environment: None) -> None:
        market = Marketplace()
        market.settings.empty_pages = 2
        dimensions = [{"key": f"d{n}", "type": "entitlement"} for n in range(60)]
        market.registry.add_product({"code": "wide", "pricing": "contract", "dimensions": dimensions})
        purchase = market.purchases.subscribe("wide", entitlements={f"d{n}": n + 1 for n in range(60)}, provision=True)
        source = MarketplaceEntitlements(in_process_client("marketplace-entitlement", market))
        found = source.entitlements(_licensed(purchase.license_arn, "wide"))
        assert {entitlement.dimension: entitlement.value for entitlement in found} == purchase.entitlements

    def test_only_the_licences_own_are_read(self, aws_environment: None) -> None:
        market = Marketplace()
        first, second = (market.purchases.subscribe(entitlements={"seats": n}, provision=True) for n in (3, 5))
        source = MarketplaceEntitlements(in_process_client("marketplace-entitlement", market))
        for purchase, count in ((first, 3), (second, 5)):
            (found,) = source.entitlements(_licensed(purchase.license_arn, purchase.product.code))
            assert found.value == count

    def test_throttling_is_told(self, aws_environment: None) -> None:
        market = Marketplace()
        market.faults.plan([{"fault": "throttle", "operation": "GetEntitlements"}])
        source = MarketplaceEntitlements(in_process_client("marketplace-entitlement", market))
        with pytest.raises(ThrottledError):
            source.entitlements(_licensed(LICENSE_ARN, next(iter(market.registry.products))))

    def test_every_row_of_the_buyer_is_read_and_strangers_rows_are_not(self) -> None:
        def row(count: int, **named: str) -> dict[str, Any]:
            return {"Dimension": "seats", "Value": {"IntegerValue": count}, **named}

        class Client:
            asked: list[dict[str, Any]] = []  # noqa: RUF012 - one client, one test

            def get_entitlements(self, **call: Any) -> dict[str, Any]:
                self.asked.append(call)
                document_form = "aws:license-manager:us-east-1:123456789012:l-0123456789abcdef0123456789abcdef"
                return {
                    "Entitlements": [
                        row(3, LicenseArn=LICENSE_ARN),
                        row(5, LicenseArn=document_form),
                        row(99, LicenseArn=LICENSE_ARN[:-1] + "0"),
                        row(98, CustomerIdentifier="someone"),
                        {"Dimension": "broken"},
                        row(4),
                    ]
                }

        client = Client()
        source = MarketplaceEntitlements(client)  # type: ignore[arg-type]
        found = source.entitlements(_licensed(LICENSE_ARN, PRODUCT))
        assert [one.value for one in found] == [3, 5, 98, 4]  # a licence's row may name a customer too
        legacy = Subscription(id=LEGACY, integration="legacy", product_code="p", customer_identifier="X01")
        assert [one.value for one in source.entitlements(legacy)] == [3, 5, 99, 4]
        assert [json.dumps(call["Filter"]) for call in client.asked] == [
            json.dumps({"LICENSE_ARN": [LICENSE_ARN]}),
            json.dumps({"CUSTOMER_IDENTIFIER": ["X01"]}),
        ]


def _licensed(license_arn: str, product_code: str) -> Subscription:
    return Subscription(id="sub", integration="license", product_code=product_code, license_arn=license_arn)
