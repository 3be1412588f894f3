"""The fold: what each fact does, and that no order or repetition of facts makes a difference."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.lifecycle.facts import KNOWN_STATUSES, MAX_FACTS, Fact, State, compacted, folded, merged
from marketplace.lifecycle.notifications import Kind
from marketplace.platform.clock import DAY, HOUR, iso
from tests.support.lifecycle_world import at, notification

NOON = at("2026-08-20T12:00:00Z")
FIRST, SECOND, THIRD = "agmt-first", "agmt-second", "agmt-third"
LATE = NOON + 400 * DAY


def fact(kind: Kind, minutes: float = 0, **given: Any) -> Fact:
    at_ms = int((NOON + minutes * 60) * 1000)
    return Fact(kind=kind, at_ms=at_ms, **{"id": f"{kind}-{minutes}", "agreement_id": FIRST, **given})


def legacy(kind: Kind, minutes: float = 0, **given: Any) -> Fact:
    return fact(kind, minutes, **{"agreement_id": None, **given})


def state(*facts: Fact, now: int = NOON + HOUR // 2) -> State:
    return folded(facts, now)


def ended(minutes: float = 0, status: str | None = "CANCELLED", **given: Any) -> Fact:
    return fact("agreement_ended", minutes, agreement_status=status, **given)


def test_nothing_known_is_pending() -> None:
    assert state() == State()


@pytest.mark.parametrize("kind", ["license_updated", "subscribe_success"])
def test_an_activating_fact_activates_at_its_time(kind: Kind) -> None:
    found = state(fact(kind))
    assert (found.status, found.activated_at) == ("active", NOON)


def test_a_fraction_of_a_second_never_puts_the_activation_before_itself() -> None:
    assert state(legacy("subscribe_success", id="x", minutes=0.0001)).activated_at == NOON + 1


def test_an_agreement_is_no_activation() -> None:
    assert state(fact("agreement_created"), fact("agreement_amended", 1)).status == "pending"


@pytest.mark.parametrize("status", ["CANCELLED", "EXPIRED", "TERMINATED"])
def test_the_end_of_the_current_agreement_closes(status: str) -> None:
    found = state(fact("license_updated"), ended(10, status))
    assert (found.status, found.closing_deadline) == ("closing", NOON + 600 + HOUR)


@pytest.mark.parametrize("status", [*sorted(KNOWN_STATUSES - {"CANCELLED", "EXPIRED", "TERMINATED"}), "NEW_ONE", None])
def test_any_other_status_of_an_ended_agreement_closes_nothing(status: str | None) -> None:
    assert state(fact("license_updated"), ended(10, status)).status == "active"


def test_the_end_of_an_earlier_agreement_closes_nothing() -> None:
    found = state(fact("license_updated"), fact("license_updated", 5, agreement_id=SECOND), ended(10))
    assert (found.status, found.current_agreement_id) == ("active", SECOND)


@pytest.mark.parametrize("kind", ["license_deprovisioned", "unsubscribe_pending"])
def test_a_closing_fact_opens_the_final_hour(kind: Kind) -> None:
    found = state(fact("license_updated"), fact(kind, 10))
    assert (found.status, found.closing_deadline) == ("closing", NOON + 600 + HOUR)


def test_the_later_closing_fact_decides_the_deadline() -> None:
    found = state(fact("license_updated"), ended(10), fact("license_deprovisioned", 20))
    assert found.closing_deadline == NOON + 1200 + HOUR


def test_a_closing_subscription_ends_at_its_deadline() -> None:
    facts = fact("license_updated"), ended(10)
    deadline = NOON + 600 + HOUR
    assert state(*facts, now=deadline - 1).status == "closing"
    assert state(*facts, now=deadline).status == "ended"
    assert state(*facts, now=deadline).changed_at == deadline


class TestALaterClosingFactWithinADay:
    """AWS takes usage until an hour after the later closing event, however far apart the two are."""

    def closed_twice(self, minutes: float) -> list[Fact]:
        return [fact("license_updated"), ended(0.5), fact("license_deprovisioned", minutes)]

    @pytest.mark.parametrize("minutes", [60.5, 61, 300, 60.5 + 24 * 60])
    def test_opens_the_final_hour_again(self, minutes: float) -> None:
        later = NOON + int(minutes * 60)
        found = state(*self.closed_twice(minutes), now=later)
        assert (found.status, found.closing_deadline, found.changed_at) == ("closing", later + HOUR, later)
        over = state(*self.closed_twice(minutes), now=later + HOUR)
        assert (over.status, over.closing_deadline, over.activated_at) == ("ended", later + HOUR, NOON)

    def test_announces_an_end_of_its_own(self) -> None:
        facts = self.closed_twice(90)
        first, again = folded(facts[:2], NOON + 80 * 60), folded(facts, NOON + 160 * 60)
        assert (first.status, again.status) == ("ended", "ended")
        assert first.cause != again.cause

    def test_counts_from_its_own_time_however_late_it_arrives(self) -> None:
        assert state(*self.closed_twice(90), now=NOON + DAY).closing_deadline == NOON + 90 * 60 + HOUR

    def test_changes_nothing_later_than_that(self) -> None:
        found = state(*self.closed_twice(61 + 24 * 60), now=NOON + 2 * DAY)
        assert (found.status, found.closing_deadline) == ("ended", NOON + 30 + HOUR)

    def test_is_undone_by_an_activation(self) -> None:
        found = state(*self.closed_twice(90), fact("license_updated", 100), now=NOON + 2 * HOUR)
        assert (found.status, found.activated_at, found.closing_deadline) == ("active", NOON, None)

    def test_changes_nothing_once_aws_has_said_that_it_takes_no_more(self) -> None:
        facts = [legacy("subscribe_success"), legacy("unsubscribe_pending", 10), legacy("unsubscribe_success", 20)]
        found = state(*facts, legacy("unsubscribe_pending", 30), now=NOON + HOUR)
        assert (found.status, found.closing_deadline) == ("ended", NOON + 600 + HOUR)

    def test_opens_nothing_for_a_subscription_that_never_was_active(self) -> None:
        found = state(ended(10), fact("license_deprovisioned", 30), now=NOON + 40 * 60)
        assert (found.status, found.closing_deadline) == ("ended", NOON + 600)


def test_a_return_within_the_final_hour_keeps_the_activation() -> None:
    found = state(fact("license_updated"), ended(10), fact("license_updated", 20, agreement_id=SECOND))
    assert (found.status, found.activated_at, found.closing_deadline) == ("active", NOON, None)


def test_a_return_after_the_final_hour_is_a_new_activation() -> None:
    found = state(fact("license_updated"), ended(10), fact("license_updated", 90), now=NOON + 3 * HOUR)
    assert (found.status, found.activated_at) == ("active", NOON + 90 * 60)


def test_a_late_license_updated_from_before_the_end_changes_nothing() -> None:
    assert state(fact("license_deprovisioned", 10), fact("license_updated", 5)).status == "closing"


def test_unsubscribe_success_ends_at_once_and_leaves_open_usage_its_hour() -> None:
    found = state(legacy("subscribe_success"), legacy("unsubscribe_pending", 10), legacy("unsubscribe_success", 20))
    assert (found.status, found.closing_deadline) == ("ended", NOON + 600 + HOUR)
    found = state(legacy("subscribe_success"), legacy("unsubscribe_success", 20))
    assert (found.status, found.closing_deadline) == ("ended", NOON + 1200 + HOUR)


def test_a_new_subscription_instead_of_unsubscribe_success_goes_on() -> None:
    again = legacy("subscribe_success", 20, offer_id="offer-2")
    found = state(legacy("subscribe_success", offer_id="offer-1"), legacy("unsubscribe_pending", 10), again)
    assert (found.status, found.activated_at, found.offer_id) == ("active", NOON, "offer-2")


def test_a_failed_payment_fails_a_subscription_that_never_was_active() -> None:
    assert state(legacy("subscribe_fail")).status == "failed"
    assert state(legacy("subscribe_fail"), legacy("subscribe_success", 10)).status == "active"
    assert state(legacy("subscribe_success"), legacy("subscribe_fail", 10)).status == "active"


def test_a_subscription_that_ended_before_it_was_active_has_nothing_open() -> None:
    assert state(ended(10)).status == "ended"
    assert state(legacy("unsubscribe_success", 10)).closing_deadline == NOON + 600


def test_what_has_failed_stays_failed_when_it_is_closed() -> None:
    for kind in ("unsubscribe_pending", "unsubscribe_success"):
        assert state(legacy("subscribe_fail"), legacy(kind, 10)).status == "failed"


def test_the_trial_of_the_last_subscription_counts() -> None:
    trial = legacy("subscribe_success", free_trial=True)
    assert state(trial, legacy("subscribe_success", 10)).free_trial is True
    assert state(trial, legacy("subscribe_success", 10, free_trial=False)).free_trial is False


class TestRenewals:
    def test_a_renewal_takes_over_as_the_current_agreement(self) -> None:
        renewal = fact("agreement_created", 5, agreement_id=SECOND, intent="RENEW", offer_id="offer-2")
        found = state(fact("agreement_created"), fact("license_updated", 1), renewal, ended(10, "EXPIRED"))
        assert (found.status, found.current_agreement_id, found.offer_id) == ("active", SECOND, "offer-2")
        assert found.agreement_ids == [FIRST, SECOND]

    def test_a_renewal_undoes_a_closing_that_came_from_the_agreement_before(self) -> None:
        renewal = fact("agreement_created", 5, agreement_id=SECOND, intent="RENEW")
        assert state(fact("license_updated"), ended(4, "EXPIRED"), renewal).status == "active"

    def test_a_renewal_does_not_bring_back_a_deprovisioned_licence(self) -> None:
        renewal = fact("agreement_created", 5, agreement_id=SECOND, intent="RENEW")
        assert state(fact("license_updated"), fact("license_deprovisioned", 4), renewal).status == "closing"

    def test_a_renewal_signed_ahead_takes_over_when_the_agreement_before_ends(self) -> None:
        starts = (NOON + 600) * 1000
        renewal = fact("agreement_created", 1, agreement_id=SECOND, intent="RENEW", starts_at_ms=starts)
        signed = fact("license_updated"), renewal
        assert state(*signed).current_agreement_id == FIRST
        found = state(*signed, ended(10, "EXPIRED"))
        assert (found.status, found.current_agreement_id) == ("active", SECOND)

    def test_a_cancellation_before_a_renewal_signed_ahead_begins_closes(self) -> None:
        starts = (NOON + 600) * 1000
        renewal = fact("agreement_created", 1, agreement_id=SECOND, intent="RENEW", starts_at_ms=starts)
        assert state(fact("license_updated"), renewal, ended(5)).status == "closing"

    def test_a_renewal_signed_ahead_and_cancelled_takes_nothing_over(self) -> None:
        starts = (NOON + 600) * 1000
        renewal = fact("agreement_created", 1, agreement_id=SECOND, intent="RENEW", starts_at_ms=starts)
        called_off = ended(5, agreement_id=SECOND, id="called off")
        assert state(fact("license_updated"), renewal, called_off, ended(10, "EXPIRED")).status == "closing"


class TestFutureDatedAgreements:
    starts = NOON + DAY

    def signed(self) -> list[Fact]:
        return [
            fact("agreement_created", starts_at_ms=self.starts * 1000),
            fact("license_updated", 1),
        ]

    def test_are_pending_until_their_start(self) -> None:
        assert folded(self.signed(), self.starts - 1).status == "pending"
        found = folded(self.signed(), self.starts)
        assert (found.status, found.activated_at) == ("active", self.starts)

    def test_say_when_they_start_until_they_have(self) -> None:
        assert state().scheduled_start is None
        assert folded(self.signed(), self.starts - 1).scheduled_start == self.starts
        assert folded(self.signed(), self.starts).scheduled_start is None

    def test_start_at_the_first_whole_second(self) -> None:
        signed = [fact("agreement_created", starts_at_ms=self.starts * 1000 + 1), fact("license_updated", 1)]
        assert folded(signed, self.starts).scheduled_start == self.starts + 1
        assert folded(signed, self.starts + 1).activated_at == self.starts + 1

    def test_never_start_when_they_were_cancelled_before(self) -> None:
        assert folded([*self.signed(), ended(10)], LATE).status == "ended"
        assert folded([*self.signed(), fact("license_deprovisioned", 10)], LATE).status == "ended"

    def test_start_at_the_date_they_were_amended_to(self) -> None:
        earlier = fact("agreement_amended", 0.5, starts_at_ms=(NOON + HOUR) * 1000)
        assert folded([*self.signed(), earlier], self.starts).activated_at == NOON + HOUR

    def test_that_start_after_a_closing_has_run_out_are_a_new_activation(self) -> None:
        renewed = fact("agreement_created", 5, agreement_id=SECOND, starts_at_ms=self.starts * 1000)
        scheduled = fact("license_updated", 6, agreement_id=SECOND)
        found = folded([fact("license_updated"), renewed, scheduled, ended(10)], LATE)
        assert (found.status, found.activated_at) == ("active", self.starts)


class TestSeveralAgreementsSignedAhead:
    """What is said of one agreement leaves the activations that the others wait for as they are."""

    second_starts, third_starts = NOON + DAY, NOON + 2 * DAY

    def signed(self, agreement_id: str, minutes: float, starts: int, intent: str = "NEW") -> list[Fact]:
        about = {"agreement_id": agreement_id, "id": f"created-{agreement_id}", "intent": intent}
        return [fact("agreement_created", minutes, starts_at_ms=starts * 1000, **about), self.updated(agreement_id, 9)]

    def updated(self, agreement_id: str, minutes: float, **given: Any) -> Fact:
        return fact(
            "license_updated", minutes, **{"agreement_id": agreement_id, "id": f"updated-{agreement_id}", **given}
        )

    def both(self) -> list[Fact]:
        second, third = self.signed(SECOND, 6, self.second_starts), self.signed(THIRD, 7, self.third_starts)
        return [fact("license_updated"), *second, *third]

    @pytest.mark.parametrize("intent", ["NEW", "RENEW"])
    @pytest.mark.parametrize("ended_at", [20, 1439, 1441, 1500])
    @pytest.mark.parametrize("last", ["said of the current agreement", "said of the renewal"])
    def test_a_change_of_the_current_agreement_leaves_the_renewal_scheduled(
        self, intent: str, ended_at: int, last: str
    ) -> None:
        created, scheduled = self.signed(SECOND, 5, self.second_starts, intent)
        changed = fact("license_updated", 12)
        start = [fact("agreement_created", -1), fact("license_updated"), created]
        told = [scheduled, changed] if last == "said of the current agreement" else [changed, scheduled]
        facts = [*start, *told, ended(ended_at, "EXPIRED")]
        assert folded([*start, *told], NOON + HOUR).scheduled_start == self.second_starts
        found = folded(facts, self.second_starts)
        assert (found.status, found.current_agreement_id) == ("active", SECOND)
        arrived: list[Fact] = []
        for one in facts:
            arrived = compacted(merged(arrived, [one]), self.second_starts)
        assert folded(arrived, LATE) == folded(facts, LATE)
        assert folded(facts, LATE).status == "active"

    def test_the_soonest_start_comes_next(self) -> None:
        assert folded(self.both(), self.second_starts - 1).scheduled_start == self.second_starts
        assert folded(self.both(), self.second_starts).scheduled_start == self.third_starts
        assert folded(self.both(), self.third_starts).scheduled_start is None

    def test_each_is_current_from_its_own_start(self) -> None:
        for moment, current in (
            (self.second_starts - 1, FIRST),
            (self.second_starts, SECOND),
            (self.third_starts, THIRD),
        ):
            assert folded(self.both(), moment).current_agreement_id == current

    def test_the_one_that_was_told_of_last_is_current_when_they_start_at_once(self) -> None:
        for third_told, current in ((9.5, THIRD), (8, SECOND)):
            created, _ = self.signed(THIRD, 7, self.second_starts)
            facts = [*self.signed(SECOND, 6, self.second_starts), created, self.updated(THIRD, third_told)]
            assert folded(facts, self.second_starts).current_agreement_id == current

    def test_the_cancellation_of_one_leaves_the_other(self) -> None:
        called_off = ended(20, agreement_id=SECOND, id="called off")
        facts = [*self.both(), called_off, ended(30, "EXPIRED")]
        assert folded(facts, self.second_starts).status == "ended"
        assert folded(facts, self.second_starts).scheduled_start == self.third_starts
        found = folded(facts, self.third_starts)
        assert (found.status, found.current_agreement_id) == ("active", THIRD)

    def test_an_end_that_another_agreement_follows_leaves_both(self) -> None:
        renewed = ended(20, "RENEWED", agreement_id=SECOND, id="renewed")
        assert folded([*self.both(), renewed], NOON + HOUR).scheduled_start == self.second_starts

    def test_a_deprovisioned_licence_waits_for_none_of_them(self) -> None:
        found = folded([*self.both(), fact("license_deprovisioned", 30)], LATE)
        assert (found.status, found.scheduled_start) == ("ended", None)

    def test_each_that_starts_after_a_closing_has_run_out_is_a_new_activation(self) -> None:
        over = [ended(20, "EXPIRED"), ended(1500, agreement_id=SECOND, id="second is over")]
        found = folded([*self.both(), *over], LATE)
        assert (found.status, found.activated_at) == ("active", self.third_starts)

    def test_no_order_of_arrival_makes_a_difference(self) -> None:
        facts = [*self.both(), fact("license_updated", 12), ended(30, "EXPIRED")]
        for moment in (NOON + HOUR, self.second_starts, LATE):
            expected = folded(facts, moment)
            assert all(folded(order, moment) == expected for order in itertools.permutations(facts))


def test_ties_are_decided_against_access() -> None:
    assert state(fact("license_updated"), fact("license_deprovisioned")).status == "closing"


def test_only_kinds_that_the_state_depends_on_are_facts() -> None:
    assert Fact.of(notification("eventbridge_purchase_agreement_advisory_issued")) is None
    assert Fact.of(notification("eventbridge_unknown_type")) is None
    found = Fact.of(notification("eventbridge_license_updated"))
    assert found is not None
    assert Fact.from_stored(found.as_stored()) == found


KINDS: list[Kind] = [
    "agreement_created",
    "agreement_amended",
    "agreement_ended",
    "license_updated",
    "license_deprovisioned",
    "subscribe_success",
    "subscribe_fail",
    "unsubscribe_pending",
    "unsubscribe_success",
    "entitlement_updated",
]


@st.composite
def histories(draw: st.DrawFn, max_size: int = 12) -> list[Fact]:
    """Anything at all, together with agreements signed ahead or without."""
    ahead = draw(st.just([]) | signed_ahead())
    return [*ahead, *draw(facts_of_any_kind(max_size))]


@st.composite
def signed_ahead(draw: st.DrawFn) -> list[Fact]:
    """A current agreement, others that are signed before their starts, and what is said of them all afterwards."""
    minutes = st.integers(0, 240)
    facts = [fact("license_updated", id="first")]
    for number, agreement_id in enumerate([SECOND, THIRD, "agmt-fourth"][: draw(st.integers(1, 3))]):
        at, ahead = draw(st.integers(0, 60)), draw(st.integers(1, 180))
        starts, intent = (NOON + (at + ahead) * 60) * 1000, draw(st.sampled_from(["NEW", "RENEW", "REPLACE"]))
        about = {"agreement_id": agreement_id, "offer_id": draw(st.sampled_from([f"offer-{number}", None]))}
        created = fact("agreement_created", at, id=f"created-{number}", starts_at_ms=starts, intent=intent, **about)
        told = at + draw(st.integers(0, ahead))
        facts += [created, fact("license_updated", told, id=f"scheduled-{number}", **about)]
    for number in range(draw(st.integers(1, 4))):
        about = {"id": f"after-{number}", "agreement_id": draw(st.sampled_from([FIRST, FIRST, SECOND, THIRD]))}
        kind: Kind = draw(
            st.sampled_from(["license_updated", "license_updated", "agreement_ended", "agreement_amended"])
        )
        starts = (NOON + draw(minutes) * 60) * 1000
        facts.append(
            fact(
                kind,
                draw(minutes),
                agreement_status=draw(st.sampled_from(["EXPIRED", "CANCELLED", "RENEWED"])),
                starts_at_ms=starts if kind == "agreement_amended" else None,
                **about,
            )
        )
    return facts


@st.composite
def facts_of_any_kind(draw: st.DrawFn, max_size: int = 12) -> list[Fact]:
    minutes = st.integers(0, 240)
    return [
        Fact(
            id=f"event-{number}",
            at_ms=(NOON + draw(minutes) * 60) * 1000,
            kind=draw(st.sampled_from(KINDS)),
            agreement_id=draw(st.sampled_from([FIRST, SECOND, THIRD])),
            agreement_status=draw(st.sampled_from([*sorted(KNOWN_STATUSES), None])),
            intent=draw(st.sampled_from(["NEW", "RENEW", "REPLACE", "AMEND", None])),
            starts_at_ms=draw(st.none() | minutes.map(lambda minute: (NOON + minute * 60) * 1000)),
            offer_id=draw(st.sampled_from(["offer-1", "offer-2", None])),
            free_trial=draw(st.sampled_from([True, False, None])),
        )
        for number in range(draw(st.integers(0, max_size)))
    ]


@pytest.mark.slow
@settings(max_examples=500)
@given(st.data(), histories(), st.integers(0, 400))
def test_no_order_and_no_repetition_makes_a_difference(data: st.DataObject, history: list[Fact], minutes: int) -> None:
    now = NOON + minutes * 60
    shuffled = data.draw(st.permutations([*history, *data.draw(st.lists(st.sampled_from(history)))])) if history else []
    assert folded(shuffled, now) == folded(history, now)
    stepwise: list[Fact] = []
    for arrived in shuffled:
        stepwise = compacted(merged(stepwise, [arrived]), now)
    assert folded(stepwise, now) == folded(history, now)


@pytest.mark.slow
@settings(max_examples=300)
@given(histories(), st.integers(0, 400))
def test_every_state_makes_sense(history: list[Fact], minutes: int) -> None:
    now = NOON + minutes * 60
    found = folded(history, now)
    if found.status in {"active", "closing"}:
        assert found.activated_at is not None
    if found.status == "active":
        assert found.closing_deadline is None
    if found.status == "closing":
        assert found.closing_deadline is not None
        assert now < found.closing_deadline, iso(now)
    assert not history or found.last_event_at == max(fact.at_ms for fact in history) // 1000


@pytest.mark.slow
@settings(max_examples=300)
@given(histories(), st.integers(0, 400))
def test_the_end_of_an_agreement_that_is_not_the_licences_own_does_nothing(history: list[Fact], minutes: int) -> None:
    strange = ended(120, agreement_id="agmt-strange", id="strange")
    now = strange.at_ms // 1000 + minutes * 60
    before, after = folded(history, now), folded([*history, strange], now)
    if any(fact.agreement_id for fact in history if fact.kind in {"agreement_created", "license_updated"}):
        earliest = min(fact.at_ms for fact in history if fact.kind in {"agreement_created", "license_updated"})
        if earliest < strange.at_ms:
            assert (before.status, before.activated_at) == (after.status, after.activated_at)


def test_old_facts_are_compacted_without_changing_anything() -> None:
    many = [fact("license_updated", minutes=day * 1440, id=f"u{day}") for day in range(MAX_FACTS + 50)]
    now = NOON + 300 * DAY
    kept = compacted(many, now)
    assert len(kept) == MAX_FACTS // 2
    assert folded(kept, now) == folded(many, now)
    assert kept[0] == many[0]


@settings(max_examples=300)
@given(signed_ahead(), st.integers(0, 400))
def test_a_scheduled_start_is_waited_for_until_it_comes_or_is_called_off(history: list[Fact], minutes: int) -> None:
    now = NOON + minutes * 60
    known = [fact for fact in merged([], history) if fact.at_ms <= now * 1000]
    starts: dict[str | None, int] = {}
    waiting: set[str | None] = set()
    for one in known:
        waiting -= {name for name in waiting if starts[name] <= one.at_ms}
        if one.starts_at_ms is not None:
            starts[one.agreement_id] = one.starts_at_ms
        if one.kind == "license_updated" and starts.get(one.agreement_id, 0) > one.at_ms:
            waiting.add(one.agreement_id)
        if one.kind == "agreement_ended" and one.agreement_status != "RENEWED":
            waiting.discard(one.agreement_id)
    to_come = [starts[name] // 1000 for name in waiting if starts[name] > now * 1000]
    assert folded(known, now).scheduled_start == min(to_come, default=None)


def test_a_scheduled_start_outlives_compaction_until_nothing_can_arrive_before_it() -> None:
    day = 24 * 60
    told = fact("license_updated", day, id="scheduled", agreement_id=SECOND)
    signed = fact("agreement_created", day - 1, agreement_id=SECOND, starts_at_ms=(NOON + 30 * DAY) * 1000)
    idle = [fact("entitlement_updated", 2 * day + number) for number in range(MAX_FACTS)]
    newest = fact("license_updated", 35 * day, id="newest", agreement_id=SECOND)
    facts, now = [fact("license_updated"), signed, told, *idle, newest], NOON + 36 * DAY
    late = ended(32 * day, "EXPIRED")
    kept = compacted(facts, now)
    assert len(kept) < len(facts)
    assert folded([*kept, late], now) == folded([*facts, late], now)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data(), signed_ahead())
def test_what_was_compacted_never_matters_to_starts_that_come_later(data: st.DataObject, past: list[Fact]) -> None:
    later_start = st.integers(20, 70).map(lambda days: (NOON + days * DAY) * 1000)
    old = [
        one if one.starts_at_ms is None else Fact(**{**_fields(one), "starts_at_ms": data.draw(later_start)})
        for one in past
    ]
    idle = [fact("entitlement_updated", 300 + number) for number in range(MAX_FACTS)]
    newest = fact("license_updated", 40 * 1440, id="newest", agreement_id=data.draw(st.sampled_from([FIRST, SECOND])))
    news = [
        fact(
            data.draw(st.sampled_from(KINDS)),
            data.draw(st.integers(25, 60)) * 1440,
            id=f"new-{number}",
            agreement_id=data.draw(st.sampled_from([FIRST, SECOND, THIRD])),
            agreement_status="EXPIRED",
        )
        for number in range(data.draw(st.integers(1, 3)))
    ]
    now = NOON + 60 * DAY
    kept = compacted(merged([*old, *idle], [newest]), now)
    assert len(kept) <= MAX_FACTS
    for moment in (now, now + 30 * DAY):
        assert folded([*kept, *news], moment) == folded([*old, *idle, newest, *news], moment)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(facts_of_any_kind(6), min_size=1, max_size=3), histories(6))
def test_what_was_compacted_never_matters_again(pasts: list[list[Fact]], news: list[Fact]) -> None:
    month = 30 * DAY * 1000
    old = [
        Fact(**{**_fields(one), "id": f"{number}-{one.id}", "at_ms": one.at_ms + number * 1000})
        for number in range(40)
        for past in pasts
        for one in past
    ]
    later = [
        Fact(**{**_fields(one), "id": f"new-{one.id}", "at_ms": one.at_ms + month, "starts_at_ms": None})
        for one in news
    ]
    newest = fact("license_updated", 40 * 1440, id="newest")
    now = NOON + 60 * DAY
    kept = compacted(merged(old, [newest]), now)
    assert folded([*kept, *later], now) == folded([*old, newest, *later], now)


def _fields(one: Fact) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Fact.__dataclass_fields__}
