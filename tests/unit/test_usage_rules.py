"""The pure rules of recording usage: validation, hours, deadlines, digests."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.ledger.deadlines import (
    CLOCK_MARGIN,
    FINAL_MARGIN,
    FINAL_RUN,
    Period,
    booking_hours,
    due_at,
    last_due_hour,
    month_of,
    refuse_at,
    timestamp_of,
    window_closes_at,
)
from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, epoch, hour_of
from marketplace.usage.record import Rejection, tag_set, tags_digest
from marketplace.usage.report import UsageReport, parsed

SUBSCRIPTION = "sub-" + "a" * 26


def at(*when: int) -> EpochSeconds:
    return epoch(datetime(*when, tzinfo=UTC))  # type: ignore[arg-type,misc]


def raw(**changes: Any) -> dict[str, Any]:
    record = {"id": "r1", "subscription_id": SUBSCRIPTION, "dimension": "api_calls", "quantity": 1, **changes}
    return {name: value for name, value in record.items() if value is not ...}


def digest(**changes: Any) -> str:
    report = parsed(raw(**changes))
    assert isinstance(report, UsageReport)
    return report.digest_for(report.named_subscription)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantity": 0},
        {"quantity": MAX_QUANTITY},
        {"timestamp": "2026-11-22T14:05:00Z"},
        {"timestamp": "2026-11-22T14:05:00.5+01:00"},
        {"tags": {}},
        {"tags": {"user": "john", "path": "a/b_c:d@e=f.g+h-i j"}},
        {"tags": {"aws": "aws", "arn": "arn:aws:s3", "k" * 100: "v" * 256}},
        {"id": "2026/11/22#a:b"},
        {"subscription_id": ..., "license_arn": "arn:aws:license-manager::294406891311:license:l-0123"},
    ],
)
def test_valid_reports_are_taken(changes: dict[str, Any]) -> None:
    assert isinstance(parsed(raw(**changes)), UsageReport)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quantity": -1}, "invalid_quantity"),
        ({"quantity": MAX_QUANTITY + 1}, "invalid_quantity"),
        ({"quantity": 1.0}, "invalid_quantity"),
        ({"quantity": True}, "invalid_quantity"),
        ({"quantity": "1"}, "invalid_quantity"),
        ({"quantity": ...}, "invalid_quantity"),
        ({"id": ""}, "invalid_id"),
        ({"id": "a b"}, "invalid_id"),
        ({"id": "x" * 129}, "invalid_id"),
        ({"id": 7}, "invalid_id"),
        ({"dimension": ""}, "invalid_dimension"),
        ({"dimension": "é" * 200}, "invalid_dimension"),
        ({"timestamp": "2026-11-22T14:05:00"}, "invalid_timestamp"),
        ({"timestamp": 1795316400}, "invalid_timestamp"),
        ({"timestamp": "yesterday"}, "invalid_timestamp"),
        ({"tags": {"a": ""}}, "invalid_tags"),
        ({"tags": {"": "a"}}, "invalid_tags"),
        ({"tags": {"a": 1}}, "invalid_tags"),
        ({"tags": {"a;b": "c"}}, "invalid_tags"),
        ({"tags": {"a": "ü"}}, "invalid_tags"),
        ({"tags": {"a": "b\n"}}, "invalid_tags"),
        ({"tags": {"team": " "}}, "invalid_tags"),
        ({"tags": {"  ": "search"}}, "invalid_tags"),
        ({"tags": {"aws:createdBy": "search"}}, "invalid_tags"),
        ({"tags": {"AWS:team": "search"}}, "invalid_tags"),
        ({"tags": {"team": "Aws:search"}}, "invalid_tags"),
        ({"tags": {"k" * 101: "v"}}, "invalid_tags"),
        ({"tags": {"k": "v" * 257}}, "invalid_tags"),
        ({"tags": {str(n): "v" for n in range(6)}}, "invalid_tags"),
        ({"tags": ["a"]}, "invalid_tags"),
        ({"subscription_id": "buyer-1"}, "invalid_subscription_id"),
        ({"subscription_id": ...}, "invalid_record"),
        ({"license_arn": "arn:x"}, "invalid_record"),
        ({"colour": "red"}, "invalid_colour"),
    ],
)
def test_bad_reports_are_rejected_by_field(changes: dict[str, Any], reason: str) -> None:
    rejection = parsed(raw(**changes))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert not rejection.retryable


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"id": "a b", "dimension": "", "quantity": -1}, ["id", "dimension", "quantity"]),
        ({"quantity": "many", "timestamp": "yesterday"}, ["quantity", "timestamp"]),
        ({"tags": {f"aws:{number}": "" for number in range(9)}, "colour": "red"}, ["tags", "colour"]),
    ],
)
def test_everything_that_is_wrong_with_a_report_is_told_at_once(changes: dict[str, Any], fields: list[str]) -> None:
    rejection = parsed(raw(**changes))

    assert isinstance(rejection, Rejection)
    assert rejection.reason == f"invalid_{fields[0]}"
    assert [part.partition(": ")[0] for part in rejection.message.split("; ")] == fields


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
@pytest.mark.slow
def test_anything_at_all_gets_an_answer(value: object) -> None:
    assert isinstance(parsed(value), Rejection)
    assert isinstance(parsed(raw(tags=value)), Rejection | UsageReport)


def test_the_digest_knows_the_content_and_not_the_order_of_tags() -> None:
    assert digest(tags={"a": "1", "b": "2"}) == digest(tags={"b": "2", "a": "1"})
    assert digest(tags={}) == digest()
    assert digest(timestamp="2026-11-22T14:00:00Z") == digest(timestamp="2026-11-22T15:00:00+01:00")
    others = [digest(quantity=2), digest(dimension="x"), digest(tags={"a": "1"}), digest(timestamp="2026-11-22T14:00Z")]
    assert len({digest(), *others}) == 5


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"team": " "}, "blank"),
        ({" ": "search"}, "blank"),
        ({"aWs:team": "search"}, "AWS reserves"),
        ({"team": "aws:search"}, "AWS reserves"),
        ({"team": "v" * 257}, "1-256"),
        ({"k" * 101: "search"}, "1-100"),
    ],
)
def test_tags_that_AWS_may_refuse_are_refused_at_the_door_with_the_reason(  # noqa: N802 - a name
    tags: dict[str, str], why: str
) -> None:
    rejection = parsed(raw(tags=tags))
    assert isinstance(rejection, Rejection)
    assert rejection.message.startswith("tags: ")
    assert why in rejection.message


license_ids = st.from_regex(r"l-[0-9a-f]{32}", fullmatch=True)
printed = st.sampled_from(
    [
        "{}",
        "arn:aws:license-manager::294406891311:license:{}",
        "aws:license-manager:us-east-1:123456789012:{}",
        "arn:aws:license-manager:us-east-1:294406891311:license/{}",
        "  arn:aws:license-manager::294406891311:license:{} ",
    ]
)
contents = st.fixed_dictionaries(
    {
        "dimension": st.sampled_from(["a", "b"]),
        "quantity": st.integers(0, 2),
        "timestamp": st.sampled_from([None, "2027-02-28T23:30Z", "2027-02-28T23:30:00.1Z"]),
        "tags": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    }
)


@given(license_ids, printed, printed, contents, contents)
def test_the_digest_is_over_the_subscription_and_not_the_way_it_was_named(
    license_id: str, one: str, other: str, content: dict[str, Any], another: dict[str, Any]
) -> None:
    first = parsed(raw(subscription_id=..., license_arn=one.format(license_id), **content))
    assert isinstance(first, UsageReport)
    named = first.named_subscription
    for again in (
        parsed(raw(subscription_id=..., license_arn=other.format(license_id), **content)),
        parsed(raw(subscription_id=named, **content)),
    ):
        assert isinstance(again, UsageReport)
        assert again.named_subscription == named
        assert again.is_kept_as(first.digest_for(named), named)
        assert again.has_content_of(first)
        assert not again.is_kept_as(first.digest_for(SUBSCRIPTION), named)
    changed = parsed(raw(subscription_id=named, **another))
    assert isinstance(changed, UsageReport)
    assert changed.is_kept_as(first.digest_for(named), named) == (content == another)
    assert changed.has_content_of(first) == (content == another)


def test_tag_sets_are_told_apart_whatever_they_contain() -> None:
    assert tags_digest(tag_set({"a": "b=c"})) != tags_digest(tag_set({"a=b": "c"}))


# refuse_at: BatchMeterUsage takes 24 hours back, and last month's hours until 06:00 UTC on the 1st (botocore model).


@pytest.mark.parametrize(
    ("hour", "refused"),
    [
        (at(2026, 11, 10, 5), at(2026, 11, 11, 5)),
        (at(2026, 11, 30, 5), at(2026, 12, 1, 5)),
        (at(2026, 11, 30, 7), at(2026, 12, 1, 6)),
        (at(2026, 11, 30, 23), at(2026, 12, 1, 6)),
        (at(2026, 12, 31, 23), at(2027, 1, 1, 6)),
        (at(2028, 2, 28, 23), at(2028, 2, 29, 23)),
        (at(2028, 2, 29, 12), at(2028, 3, 1, 6)),
        (at(2027, 2, 28, 12), at(2027, 3, 1, 6)),
    ],
)
def test_refusal_is_after_a_day_or_at_six_on_the_first(hour: EpochSeconds, refused: EpochSeconds) -> None:
    assert refuse_at(hour) == refused


def test_an_hour_is_due_when_it_has_ended_and_the_seal_delay_has_passed() -> None:
    assert due_at(at(2026, 11, 10, 5), 600) == at(2026, 11, 10, 6, 10)


def test_a_closing_subscriptions_ended_hours_are_due_at_once() -> None:
    now = at(2026, 11, 10, 5, 5)
    period = Period(at(2026, 11, 1), closing_deadline=now + HOUR)
    assert period.due_at(at(2026, 11, 10, 4), 600, now) == now
    assert period.refuse_at(at(2026, 11, 10, 4)) == now + HOUR


def test_a_closing_subscriptions_running_hour_waits_for_the_run_before_the_deadline() -> None:
    closed = at(2026, 11, 10, 5, 2)
    deadline = closed + HOUR
    period = Period(at(2026, 11, 1), closing_deadline=deadline)
    assert period.due_at(at(2026, 11, 10, 5), 600, closed) == deadline - FINAL_RUN == at(2026, 11, 10, 6)
    assert period.due_at(at(2026, 11, 10, 5), 600, EpochSeconds(closed + 59 * 60)) == closed + 59 * 60
    assert period.due_at(at(2026, 11, 10, 6), 600, closed) == at(2026, 11, 10, 6)
    half_past = at(2026, 11, 10, 5, 30)
    later = Period(at(2026, 11, 1), closing_deadline=half_past + HOUR)
    assert later.due_at(at(2026, 11, 10, 6), 600, half_past) == half_past + HOUR - FINAL_RUN


@pytest.mark.parametrize("minutes", [0, 10, 345, 346, 390, 500, 720])
def test_no_seal_delay_makes_an_hour_due_too_late_for_two_runs(minutes: int) -> None:
    """The last hours of a month are refused six hours after its end."""
    for hour in range(at(2026, 11, 29, 20), at(2026, 12, 1, 6), HOUR):
        due = due_at(EpochSeconds(hour), minutes * 60)
        assert hour + HOUR <= due <= refuse_at(EpochSeconds(hour)) - 30 * 60
        assert due == min(hour + HOUR + minutes * 60, refuse_at(EpochSeconds(hour)) - 30 * 60)


@given(st.integers(0, 720), st.integers(at(2026, 11, 30), at(2026, 12, 2)).map(EpochSeconds))
def test_the_last_due_hour_is_due_and_the_next_one_is_not(minutes: int, now: EpochSeconds) -> None:
    last = last_due_hour(now, minutes * 60)
    assert due_at(last, minutes * 60) <= now < due_at(EpochSeconds(last + HOUR), minutes * 60)


def test_usage_is_written_off_unasked_only_beyond_a_margin_for_the_clocks() -> None:
    assert window_closes_at(at(2026, 11, 10, 5, 20)) == at(2026, 11, 11, 5, 20) + CLOCK_MARGIN
    assert window_closes_at(at(2026, 11, 30, 23)) == at(2026, 12, 1, 6) + CLOCK_MARGIN


def test_the_timestamp_is_never_before_activation() -> None:
    assert timestamp_of(at(2026, 11, 10, 5), at(2026, 11, 10, 5, 20)) == at(2026, 11, 10, 5, 20)
    assert timestamp_of(at(2026, 11, 10, 6), at(2026, 11, 10, 5, 20)) == at(2026, 11, 10, 6)


# booking_hours


def hours(moment: int, now: int, **given: Any) -> list[EpochSeconds]:
    period = Period(**{"activated_at": at(2026, 1, 1), **given})
    return list(booking_hours(moment, period, EpochSeconds(now)))


def test_usage_of_now_goes_to_its_own_hour_first_and_to_the_coming_one_next() -> None:
    now = at(2026, 11, 10, 5, 30)
    assert hours(now, now)[:3] == [at(2026, 11, 10, 5), at(2026, 11, 10, 6), at(2026, 11, 10, 4)]


def test_late_usage_prefers_later_hours_to_earlier_ones() -> None:
    now = at(2026, 11, 10, 8, 30)
    assert hours(at(2026, 11, 10, 5, 10), now)[:6] == [at(2026, 11, 10, h) for h in (5, 6, 7, 8, 9, 4)]


def test_hours_before_activation_never_take_usage() -> None:
    now = at(2026, 11, 10, 5, 30)
    candidates = hours(at(2026, 11, 10, 1), now, activated_at=at(2026, 11, 10, 4, 10))
    assert candidates == [at(2026, 11, 10, h) for h in (4, 5, 6)]


def test_usage_stays_in_its_month_while_aws_takes_it() -> None:
    now = at(2026, 12, 1, 3, 0)
    candidates = hours(at(2026, 11, 30, 22, 0), now)
    november = [hour for hour in candidates if month_of(hour) == (2026, 11)]
    assert candidates[: len(november)] == november
    assert candidates[0] == at(2026, 11, 30, 22)
    assert candidates[len(november) :] == [at(2026, 12, 1, 3), at(2026, 12, 1, 4)]


def test_usage_of_a_month_that_is_closed_goes_to_the_current_hour() -> None:
    now = at(2026, 12, 1, 6, 5)
    assert hours(at(2026, 11, 30, 22, 0), now) == [at(2026, 12, 1, 6), at(2026, 12, 1, 7)]


def test_an_hour_that_no_run_would_reach_in_time_comes_last() -> None:
    now = at(2026, 11, 11, 4, 50)
    candidates = hours(at(2026, 11, 10, 5, 0), now)
    assert candidates[0] == at(2026, 11, 10, 6)
    assert candidates[-1] == at(2026, 11, 10, 5)


def test_a_closing_subscription_takes_usage_until_its_deadline() -> None:
    now = at(2026, 11, 10, 5, 30)
    assert hours(now, now, closing_deadline=at(2026, 11, 10, 6, 25))[:2] == [at(2026, 11, 10, 5), at(2026, 11, 10, 6)]
    soon = hours(now, now, closing_deadline=at(2026, 11, 10, 6, 1))
    assert soon[:2] == [at(2026, 11, 10, 5), at(2026, 11, 10, 4)]
    assert soon[-1] == at(2026, 11, 10, 6)
    assert hours(now, now, closing_deadline=now) == []


@pytest.mark.parametrize("left", [FINAL_MARGIN, FINAL_MARGIN - 1])
def test_a_closing_subscriptions_own_hour_is_taken_while_the_run_before_the_deadline_is_to_come(left: int) -> None:
    now = at(2026, 11, 10, 5, 30)
    period = Period(at(2026, 1, 1), closing_deadline=now + left)
    assert period.is_reached(at(2026, 11, 10, 5), now) == (left == FINAL_MARGIN)


def test_usage_of_a_period_with_an_end_stays_before_it() -> None:
    now = at(2026, 11, 10, 5, 30)
    assert max(hours(now, now, until=at(2026, 11, 10, 6))) == at(2026, 11, 10, 5)


moments = st.integers(at(2026, 1, 1), at(2029, 1, 1)).map(EpochSeconds)


@given(
    now=moments,
    age=st.integers(-300, DAY - 1),
    lifetime=st.integers(0, 40 * DAY),
    left=st.none() | st.integers(1, HOUR),
)
def test_every_candidate_hour_is_one_that_aws_takes(
    now: EpochSeconds, age: int, lifetime: int, left: int | None
) -> None:
    moment, activated = now - age, now - lifetime
    period = Period(activated, None if left is None else now + left)
    candidates = list(booking_hours(moment, period, now))
    assert len(candidates) == len(set(candidates))
    for hour in candidates:
        assert hour % HOUR == 0
        assert period.first_hour <= hour <= hour_of(now) + HOUR
        assert max(now, timestamp_of(hour, activated)) < period.refuse_at(hour)
    own = hour_of(max(moment, activated))
    if period.is_reached(own, now):
        assert candidates[0] == own
    if left is None:
        assert candidates
        same_month = [hour for hour in candidates if month_of(hour) == month_of(own)]
        safe = [hour for hour in same_month if period.is_reached(hour, now)]
        assert candidates[: len(safe)] == safe


@given(moments)
def test_refusal_never_is_later_than_a_day_nor_before_the_hour_can_be_due(moment: int) -> None:
    hour = hour_of(moment)
    assert hour + 6 * HOUR < refuse_at(hour) <= hour + DAY


@given(st.integers(-14, 14), moments)
def test_the_offset_of_a_timestamp_changes_nothing(offset: int, moment: int) -> None:
    there = datetime.fromtimestamp(moment, timezone(timedelta(hours=offset))).isoformat()
    assert digest(timestamp=there) == digest(timestamp=datetime.fromtimestamp(moment, UTC).isoformat())
