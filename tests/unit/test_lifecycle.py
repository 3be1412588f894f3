"""What follows from a notification, step by step: the state, the usage, the events, the requests to look again."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.entitlements.rules import Entitlement
from marketplace.entitlements.terms import LAST_READING_LEAD
from marketplace.ledger.deadlines import FINAL_RUN
from marketplace.lifecycle.notifications import FindLicenses, Notification
from marketplace.lifecycle.store import Stored
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.platform.errors import RefusedError, ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.seller_events import stable_id
from tests.support.lifecycle_world import AGREEMENT, LEGACY, LICENSED, LifecycleWorld, at, notification
from tests.support.tables import Tables

CREATED, UPDATED, ENDED, DEPROVISIONED = (
    "eventbridge_purchase_agreement_created",
    "eventbridge_license_updated",
    "eventbridge_purchase_agreement_ended",
    "eventbridge_license_deprovisioned",
)
SEATS = Entitlement(dimension="seats", value_type="integer", value=25)


@pytest.fixture
def world(moto_dynamodb: Any, moto_tables: Tables) -> LifecycleWorld:
    return LifecycleWorld(moto_dynamodb, moto_tables)


def test_license_updated_activates_from_its_own_time(world: LifecycleWorld) -> None:
    assert world.receive(UPDATED) == ["applied"]
    found = world.subscription()
    assert (found.status, found.activated_at) == ("active", at("2026-08-20T14:24:23Z"))
    assert found.agreement_ids == (AGREEMENT,)
    assert world.usage.released == [LICENSED]
    assert world.bus.kinds() == ["Subscription Activated"]


def test_an_agreement_alone_makes_no_subscription(world: LifecycleWorld) -> None:
    assert world.receive(CREATED) == ["waiting"]
    assert world.store.read(LICENSED) is None
    assert [found.kind for found in world.store.waiting(AGREEMENT)] == ["agreement_created"]


def test_the_end_of_an_agreement_closes_its_licence_and_opens_the_final_hour(world: LifecycleWorld) -> None:
    world.receive(UPDATED, ENDED)
    deadline = at("2026-08-20T14:24:57Z") + HOUR
    found = world.subscription()
    assert (found.status, found.closing_deadline) == ("closing", deadline)
    assert world.usage.closed == [(LICENSED, deadline)]
    assert world.sqs.sent[-1] == (
        {"marketplace_request": "look_again", "subscription_id": LICENSED, "reason": "closing_timer"},
        900,
    )


def test_the_final_hour_counts_from_the_later_event(world: LifecycleWorld) -> None:
    world.receive(UPDATED, DEPROVISIONED, ENDED)
    assert world.subscription().closing_deadline == at("2026-08-20T14:25:28Z") + HOUR


@pytest.mark.parametrize("arrives_after", [0, HOUR + 1, DAY])
@pytest.mark.slow
def test_a_later_closing_event_gives_open_usage_of_an_ended_subscription_its_deadline(
    world: LifecycleWorld, arrives_after: int
) -> None:
    world.receive(UPDATED, ENDED)
    world.wait(at("2026-08-20T17:00:00Z"))
    assert world.subscription().status == "ended"
    happened = world.time.seconds
    world.time.seconds += arrives_after
    world.lifecycle.receive(changed(DEPROVISIONED, at_ms=happened * 1000))
    found = world.subscription()
    assert found.closing_deadline == happened + HOUR
    assert found.status == ("closing" if arrives_after < HOUR else "ended")
    assert world.usage.closed[-1] == (LICENSED, happened + HOUR)
    world.wait(happened + 2 * DAY)
    again = [] if arrives_after else ["Subscription Closing", "Subscription Ended"]
    assert world.bus.kinds() == ["Subscription Activated", "Subscription Closing", "Subscription Ended", *again]


def test_timers_follow_a_closing_subscription_to_its_end(world: LifecycleWorld) -> None:
    world.time.seconds = at("2026-08-20T14:25:00Z")
    world.receive(UPDATED, ENDED)
    delays = []
    while world.subscription().status == "closing":
        message, delay = world.sqs.sent[-1]
        delays.append(delay)
        world.time.seconds += delay
        world.look_again(message["subscription_id"], message["reason"])
    assert delays == [60, 900, 900, 900, 838]
    assert world.bus.kinds() == ["Subscription Activated", "Subscription Closing", "Subscription Ended"]
    assert len(world.usage.closed) == 6


@pytest.mark.parametrize("heard_after", [0, 700, 2579, 2580, 2581, 3479, 3481, 3599])
def test_a_metering_run_is_started_shortly_before_the_closing_deadline(world: LifecycleWorld, heard_after: int) -> None:
    cancelled = at("2026-08-20T14:24:57Z")
    world.receive(UPDATED)
    world.time.seconds = cancelled + heard_after
    world.receive(ENDED)
    runs: list[int] = []
    while world.subscription().status == "closing":
        runs += [world.time.seconds + delay for delay in world.sqs.runs]
        world.sqs.runs.clear()
        (_, delay) = world.sqs.sent[-1]
        world.time.seconds += delay
        world.look_again(LICENSED, recheck.CLOSING_TIMER)
    on_time = cancelled + HOUR - FINAL_RUN + 1
    assert min(runs) == max(on_time, cancelled + heard_after)
    last = cancelled + HOUR - FINAL_RUN // 2 + 1
    assert last in runs or cancelled + heard_after >= last
    assert all(on_time <= run < cancelled + HOUR for run in runs)
    assert world.sqs.runs == []


def test_a_deadline_that_moves_has_a_metering_run_of_its_own(world: LifecycleWorld) -> None:
    world.time.seconds = at("2026-08-20T15:10:00Z")
    world.receive(UPDATED, ENDED)
    first = list(world.sqs.runs)
    assert [world.time.seconds + delay for delay in first] == [
        at("2026-08-20T15:24:57Z") - lead + 1 for lead in (FINAL_RUN, FINAL_RUN // 2)
    ]
    world.sqs.runs.clear()
    world.receive(DEPROVISIONED)
    assert world.sqs.runs == [delay + 31 for delay in first]


@pytest.mark.slow
def test_every_order_of_the_captured_history_ends_in_the_same_state(moto_dynamodb: Any, moto_tables: Tables) -> None:
    expected: dict[str, Any] | None = None
    for order in itertools.permutations([CREATED, UPDATED, ENDED, DEPROVISIONED]):
        world = LifecycleWorld(moto_dynamodb, moto_tables)
        world.receive(*order, *order[:2])
        world.answer()
        found = world.attributes()
        for volatile in ("activation_seen_at", "entitlements_version"):
            found.pop(volatile)
        expected = expected or found
        assert found == expected, order
        _clear(world)
    assert expected is not None
    assert (expected["status"], expected["activated_at"]) == ("closing", at("2026-08-20T14:24:23Z"))


def test_an_event_that_waits_is_joined_when_the_licence_becomes_known(world: LifecycleWorld) -> None:
    assert world.receive(ENDED) == ["waiting"]
    world.receive(UPDATED)
    assert world.subscription().status == "closing"


def test_a_registration_pulls_in_what_waits_for_its_agreement(world: LifecycleWorld) -> None:
    world.receive(CREATED)
    world.register()
    assert world.look_again(LICENSED, recheck.REGISTERED) == "applied"
    assert world.answer() == ["read_back"]
    found = world.subscription()
    assert found.last_event_at == at("2026-08-20T14:23:22Z")
    assert found.status == "pending"
    assert world.source.calls == 1


def test_a_later_agreement_of_a_registration_is_named_by_the_request(world: LifecycleWorld) -> None:
    world.receive(CREATED)
    world.register(agreement_id=None)
    world.look_again(LICENSED, recheck.REGISTERED, agreement_id=AGREEMENT)
    assert world.subscription().agreement_ids == (AGREEMENT,)


def test_repeating_a_message_writes_and_announces_nothing_new(world: LifecycleWorld) -> None:
    world.receive(CREATED, UPDATED)
    version, announced = world.subscription().version, world.bus.kinds()
    world.receive(CREATED, UPDATED, CREATED)
    assert world.subscription().version == version
    assert world.bus.kinds() == announced


def test_legacy_messages_lead_through_the_same_states(world: LifecycleWorld) -> None:
    world.receive("sns_subscribe_success")
    found = world.subscription(LEGACY)
    assert (found.status, found.activated_at) == ("active", at("2026-08-20T14:24:24Z"))
    assert (found.free_trial, found.offer_id) == (True, "offer-abcexample123")
    world.receive("sns_unsubscribe_pending")
    assert world.subscription(LEGACY).status_at(at("2026-08-20T15:30:00Z")) == "closing"
    world.receive("sns_unsubscribe_success")
    assert world.subscription(LEGACY).status == "ended"
    assert world.bus.kinds() == ["Subscription Activated", "Subscription Closing", "Subscription Ended"]


def test_a_failed_subscription_is_told(world: LifecycleWorld) -> None:
    world.receive("sns_subscribe_fail")
    assert world.subscription(LEGACY).status == "failed"
    assert world.bus.kinds() == ["Subscription Failed"]


def test_an_unknown_type_is_kept_and_counted(world: LifecycleWorld) -> None:
    assert world.receive("eventbridge_unknown_type") == ["unknown"]
    assert [found.title for found in world.store.waiting(AGREEMENT)] == ["Purchase Agreement Transferred"]


def test_an_advisory_is_passed_on_and_revokes_nothing(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    assert world.receive("eventbridge_purchase_agreement_advisory_issued") == ["noted"]
    assert world.subscription().status == "active"
    (detail,) = world.bus.details("Advisory Issued")
    assert detail["subscription_ids"] == [LICENSED]
    assert detail["advisory"] == {"reason": "ACCOUNT_COMPROMISED"}


def test_another_sellers_product_is_kept_and_not_followed(moto_dynamodb: Any, moto_tables: Tables) -> None:
    world = LifecycleWorld(moto_dynamodb, moto_tables, product_codes=frozenset({"another"}))
    assert world.receive(UPDATED) == ["other_product"]
    assert world.store.read(LICENSED) is None
    assert len(world.items("UNASSIGNED#2026-08-20")) == 1


def test_an_end_that_only_the_account_matches_closes_nothing_and_is_reported(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    assert world.lifecycle.receive(changed(ENDED, agreement_id="agmt-other", id="other")) == "waiting"
    assert world.answer() == ["read_back", "waiting"]
    assert world.waiting(recheck.FIND_LICENSES) == [world.time.seconds + 300]
    assert world.lifecycle.find_licenses(FindLicenses(agreement_id="agmt-other", last=True)) == "ambiguous"
    assert world.subscription().status == "active"


def test_events_left_unpublished_are_published_by_the_next_message(world: LifecycleWorld) -> None:
    world.bus.failing = 99
    with pytest.raises(Exception, match="InternalFailure"):
        world.receive(UPDATED)
    world.bus.failing = 0
    assert world.bus.kinds() == []
    world.receive(UPDATED)
    assert world.bus.kinds() == ["Subscription Activated"]
    assert world.outbox.unpublished(LICENSED) == []
    (detail,) = world.bus.details("Subscription Activated")
    assert detail["id"] == stable_id("Subscription Activated", LICENSED, notification(UPDATED).id)


@pytest.mark.parametrize("name", [UPDATED, ENDED, DEPROVISIONED])
def test_all_that_money_depends_on_is_done_without_asking_aws(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world.receive(UPDATED)
    monkeypatch.setattr(world.source, "entitlements", lambda _: crashed())
    monkeypatch.setattr(world.lifecycle._joins, "_find_licenses", lambda _: crashed())
    assert world.receive(name) == ["applied"]
    for reason in (recheck.REGISTERED, recheck.CLAIMED, recheck.NOT_SUBSCRIBED, recheck.CLOSING_TIMER):
        assert world.look_again(LICENSED, reason) == "applied"
    assert world.outbox.unpublished(LICENSED) == []


def test_the_entitlements_are_read_back_by_a_message_of_their_own(world: LifecycleWorld) -> None:
    world.source.granted[LICENSED] = [SEATS]
    assert world.receive(UPDATED) == ["applied"]
    assert world.source.calls == 0
    assert world.answer() == ["read_back"]
    assert world.bus.kinds() == ["Subscription Activated", "Entitlements Changed"]


def test_a_reading_without_an_answer_has_to_be_asked_for_again(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.source.errors = [ThrottledError("ThrottlingException")]
    with pytest.raises(ThrottledError):
        world.read_back(LICENSED)


def test_a_refusal_to_name_entitlements_is_no_reason_to_try_forever(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.source.errors = [RefusedError("InvalidParameterException")]
    assert world.answer() == ["entitlements_refused"]
    assert world.sqs.asked == []


def test_the_entitlements_of_nobody_are_not_read(world: LifecycleWorld) -> None:
    assert world.read_back("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa") == "unknown_subscription"


@pytest.mark.parametrize("ends_in", [MINUTE, HOUR + 7, DAY])
@pytest.mark.slow
def test_a_term_is_read_once_more_shortly_before_its_end(world: LifecycleWorld, ends_in: int) -> None:
    ends_at = world.time.seconds + ends_in
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at)]}
    world.receive(UPDATED)
    world.answer()
    before = world.source.calls
    world.wait(ends_at - LAST_READING_LEAD - 1)
    assert world.source.calls == before
    world.wait(ends_at)
    assert world.source.calls == before + 1
    assert world.subscription().entitlements_synced_at == ends_at - LAST_READING_LEAD


def test_the_renewal_of_a_term_is_read_though_nothing_tells_of_it(world: LifecycleWorld) -> None:
    ends_at = world.time.seconds + 3 * HOUR
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at)]}
    world.receive(UPDATED)
    world.answer()
    world.wait(ends_at)
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at + 3 * HOUR)]}
    world.wait(ends_at + 3 * HOUR)
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at + 6 * HOUR)]}
    world.wait(ends_at + 4 * HOUR)
    history = world.entitlement_store.histories([(LICENSED, "seats")])[LICENSED, "seats"]
    assert [term.ends_at for term in history.terms] == [ends_at, ends_at + 3 * HOUR, ends_at + 6 * HOUR]


def test_readings_near_the_end_of_a_term_request_its_last_one_once(world: LifecycleWorld) -> None:
    ends_at = world.time.seconds + 2 * HOUR
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at)]}
    world.receive(UPDATED)
    world.answer()
    for _ in range(5):
        world.read_back(LICENSED)
        world.wait(world.time.seconds + 7 * MINUTE)
    assert len(world.waiting(recheck.READ_BACK)) == 1
    before = world.source.calls
    world.wait(ends_at)
    assert world.source.calls == before + 1


def test_a_clock_that_steps_back_does_not_keep_the_last_reading_away(world: LifecycleWorld) -> None:
    ends_at = world.time.seconds + 5 * HOUR
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=ends_at)]}
    world.receive(UPDATED)
    world.answer()
    world.sqs.asked.clear()
    world.time.seconds -= 2 * HOUR
    world.read_back(LICENSED, at=ends_at - LAST_READING_LEAD)
    assert len(world.waiting(recheck.READ_BACK)) == 1


def test_a_term_whose_end_is_far_away_is_left_to_the_daily_reading(world: LifecycleWorld) -> None:
    world.source.granted = {LICENSED: [replace(SEATS, expires_at=world.time.seconds + 2 * DAY)]}
    world.receive(UPDATED)
    world.answer()
    assert world.sqs.asked == []


def test_entitlements_that_are_not_listed_yet_are_read_again_later(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.answer()
    assert world.waiting(recheck.READ_BACK) == [world.time.seconds + 120]
    world.source.granted[LICENSED] = [SEATS]
    world.wait(world.time.seconds + DAY)
    assert world.source.calls == 2
    assert world.bus.details("Entitlements Changed")[0]["after"] == {"seats": {"value": 25, "value_type": "integer"}}


def test_the_first_activation_of_a_product_without_a_contract_asks_for_an_hour(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.wait(world.time.seconds + DAY)
    assert world.source.calls == 6


def test_entitlements_of_a_subscription_that_has_ended_are_not_waited_for(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.answer()
    world.receive(ENDED)
    world.wait(world.time.seconds + DAY)
    assert world.source.calls == 2


def test_usage_refused_before_the_activation_was_heard_of_is_released(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.look_again(LICENSED, recheck.NOT_SUBSCRIBED, since=world.time.seconds - 600)
    assert world.usage.released == [LICENSED, LICENSED]


def test_usage_refused_after_the_activation_stays_held(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.look_again(LICENSED, recheck.NOT_SUBSCRIBED, since=world.time.seconds + 600)
    assert world.usage.released == [LICENSED]


def test_a_request_about_nobody_is_answered(world: LifecycleWorld) -> None:
    assert world.look_again("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa", recheck.CLAIMED) == "unknown_subscription"


def test_a_closing_subscription_returns_with_a_new_subscription(world: LifecycleWorld) -> None:
    world.receive("sns_subscribe_success", "sns_unsubscribe_pending")
    later = at("2026-08-20T15:30:00Z")
    world.lifecycle.receive(changed("sns_subscribe_success", id="again", at_ms=later * 1000))
    found = world.subscription(LEGACY)
    assert (found.status, found.activated_at, found.closing_deadline) == ("active", at("2026-08-20T14:24:24Z"), None)
    assert world.usage.released == [LEGACY, LEGACY]


def test_held_usage_is_released_by_whoever_comes_after_a_crash(world: LifecycleWorld) -> None:
    world.usage.meanwhile = [crashed]
    with pytest.raises(ThrottledError):
        world.receive(UPDATED)
    assert (world.subscription().status, world.usage.released) == ("active", [])
    world.look_again(LICENSED, recheck.CLAIMED)
    assert world.usage.released == [LICENSED]


def test_held_usage_of_a_subscription_long_active_is_not_released_every_day(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    for _ in range(3):
        world.time.seconds += DAY
        world.look_again(LICENSED, recheck.RECONCILED)
    assert world.usage.released == [LICENSED]
    assert world.usage.reopened == [LICENSED] * 3


def test_a_release_is_followed_by_one_look_that_reopens(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    assert world.waiting(recheck.CLOSING_TIMER) == [world.time.seconds + 60]
    for _ in range(3):
        world.wait(world.time.seconds + DAY)
    assert world.usage.released == [LICENSED]
    assert world.usage.reopened[0] == LICENSED
    assert world.waiting(recheck.CLOSING_TIMER) == []


def test_the_look_after_a_release_is_asked_for_until_the_queue_has_taken_it(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(world.queue, "look_again", lambda *_, **__: crashed())
        with pytest.raises(ThrottledError):
            world.receive(UPDATED)
    assert world.subscription().status == "active"
    assert world.waiting(recheck.CLOSING_TIMER) == []
    world.look_again(LICENSED, recheck.CLAIMED)
    assert world.waiting(recheck.CLOSING_TIMER) == [world.time.seconds + 60]


def test_a_subscription_that_others_keep_changing_gives_the_message_back(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = world.store.write

    def quicker(subscription_id: str, **given: Any) -> Stored | None:
        return write(subscription_id, **given) if "status" in given["changes"] else None

    monkeypatch.setattr(world.store, "write", quicker)
    with pytest.raises(ThrottledError):
        world.receive(UPDATED)
    assert world.subscription().status == "active"


def test_a_subscription_that_is_deleted_meanwhile_is_left_alone(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    world.usage.meanwhile = [lambda: _clear(world)]
    assert world.look_again(LICENSED, recheck.CLAIMED) == "applied"


def crashed() -> None:
    raise ThrottledError("InternalServerError")


def changed(name: str, **changes: Any) -> Notification:
    """A sample with some of its values changed."""
    return replace(notification(name), **changes)


def test_an_advisory_about_nobody_known_is_passed_on_all_the_same(world: LifecycleWorld) -> None:
    assert (
        world.lifecycle.receive(changed("eventbridge_purchase_agreement_advisory_issued", agreement_id=None)) == "noted"
    )
    assert world.bus.details("Advisory Issued")[0]["subscription_ids"] == []


def test_what_names_nobody_is_kept_by_its_day(world: LifecycleWorld) -> None:
    assert world.lifecycle.receive(changed("eventbridge_unknown_type", agreement_id=None)) == "unknown"
    assert len(world.items("UNASSIGNED#2026-08-26")) == 1


def test_an_unknown_type_that_names_a_licence_is_kept_with_it(world: LifecycleWorld) -> None:
    assert world.lifecycle.receive(changed(UPDATED, kind="unknown")) == "unknown"
    assert len(world.store.inbox(LICENSED)) == 1
    assert world.store.read(LICENSED) is None


def test_an_agreement_that_ended_with_a_status_nobody_knows_is_counted(world: LifecycleWorld) -> None:
    world.receive(UPDATED)
    assert world.lifecycle.receive(changed(ENDED, agreement_status="VANISHED")) == "unknown"
    assert world.subscription().status == "active"


def test_an_end_without_an_account_waits(world: LifecycleWorld) -> None:
    assert world.lifecycle.receive(changed(ENDED, account_id=None)) == "waiting"


def test_a_join_to_a_subscription_that_is_still_to_come_waits_for_it(world: LifecycleWorld) -> None:
    world.store.join(AGREEMENT, LICENSED)
    assert world.receive(ENDED) == ["applied"]
    assert world.store.read(LICENSED) is None
    world.receive(UPDATED)
    assert world.subscription().status == "closing"


def test_a_crowd_of_writers_gives_the_message_back(world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.store, "write", lambda *_, **__: None)
    with pytest.raises(ThrottledError):
        world.receive(UPDATED)


def _clear(world: LifecycleWorld) -> None:
    for pk in (keys.subscription_pk(LICENSED), keys.agreement_pk(AGREEMENT)):
        for item in world.items(pk):
            world.dynamodb.delete_item(
                TableName=world.tables.subscriptions, Key=keys.Key(item["pk"], item["sk"]).item()
            )
