"""Keys: different things never share one, and everything of one thing stands together."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.platform.clock import HOUR, iso

text = st.text(max_size=30) | st.text("#%/TAGSHOUR:", max_size=12)
some = text.filter(bool)
subscriptions = st.integers(0, 5).map(lambda n: f"sub-{'abcdef'[n] * 26}")
hours = st.integers(0, 800_000).map(lambda n: n * HOUR)
times = st.sampled_from(["2026-11-22T14:00:00Z", "2026-11-22T14:00:01Z"])

USAGE = st.one_of(
    st.tuples(st.just(keys.usage_record), subscriptions, some),
    st.tuples(st.just(keys.metering_record), subscriptions, hours, some),
    st.tuples(st.just(keys.allocation), subscriptions, hours, some, st.text("0123456789abcdef", min_size=1)),
    st.tuples(st.just(keys.heartbeat_mark), some),
    st.tuples(st.just(keys.usage_change), subscriptions, hours, st.text("0123456789abcdef", min_size=1)),
)
SUBSCRIPTIONS = st.one_of(
    st.tuples(st.just(keys.subscription), subscriptions),
    st.tuples(st.just(keys.contact), subscriptions),
    st.tuples(st.just(keys.entitlement), subscriptions, some),
    st.tuples(st.just(keys.event), subscriptions, times, some),
    st.tuples(st.just(keys.outbox), subscriptions, some),
    st.tuples(st.just(keys.agreement_subscription), some, subscriptions),
    st.tuples(st.just(keys.agreement_event), some, times, some),
    st.tuples(st.just(keys.unassigned_event), times, some),
    st.tuples(st.just(keys.registration), some),
    st.tuples(st.just(keys.tenant_subscription), some, subscriptions),
    st.tuples(st.just(keys.account_tenants), some),
)


def made(thing: tuple[Any, ...]) -> keys.Key:
    make, *parts = thing
    key: keys.Key = make(*parts)
    return key


@pytest.mark.parametrize("table", [USAGE, SUBSCRIPTIONS], ids=["usage", "subscriptions"])
def test_different_things_have_different_keys(table: st.SearchStrategy[tuple[Any, ...]]) -> None:
    @given(table, table)
    def check(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
        assert (made(one) == made(other)) == (one == other)

    check()


@given(USAGE | SUBSCRIPTIONS)
def test_a_key_is_no_longer_than_DynamoDB_allows(thing: tuple[Any, ...]) -> None:  # noqa: N802 - a name
    key = made(thing)
    assert 0 < len(key.pk.encode()) <= 2048
    assert 0 < len(key.sk.encode()) <= 1024
    assert key.item() == {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def test_the_longest_dimension_and_record_id_fit() -> None:
    subscription = "sub-" + "a" * 26
    assert len(keys.allocation(subscription, 0, "é" * 127, "d" * 32).sk.encode()) <= 1024
    assert len(keys.usage_record(subscription, "#" * 128).sk.encode()) <= 1024


@given(text)
def test_a_component_holds_no_delimiter_and_can_be_read_back(component: str) -> None:
    assert "#" not in keys.encoded(component)
    assert keys.decoded(keys.encoded(component)) == component


@given(subscriptions, st.lists(hours, min_size=2, max_size=6), some)
def test_hours_sort_in_time(subscription: str, moments: list[int], dimension: str) -> None:
    by_key = sorted(moments, key=lambda hour: keys.metering_record(subscription, hour, dimension).sk)
    assert by_key == sorted(moments)


@given(subscriptions, hours, some, some)
def test_the_allocations_of_an_hour_are_found_by_its_key_and_no_other_ones(
    subscription: str, hour: int, dimension: str, other: str
) -> None:
    record = keys.metering_record(subscription, hour, dimension)
    allocation = keys.allocation(subscription, hour, dimension, "d")
    prefix = keys.allocation_prefix(record.sk)
    assert allocation.sk.startswith(prefix)
    assert allocation.sk.startswith(keys.hour_prefix(hour))
    assert keys.is_allocation(allocation.sk)
    assert not keys.is_allocation(record.sk)
    assert keys.allocation(subscription, hour, other, "d").sk.startswith(prefix) == (other == dimension)


@given(subscriptions, hours, some)
def test_hour_and_dimension_are_read_back_from_a_metering_records_key(
    subscription: str, hour: int, dimension: str
) -> None:
    assert keys.hour_and_dimension(keys.metering_record(subscription, hour, dimension).sk) == (iso(hour), dimension)


@given(subscriptions)
def test_a_subscription_id_is_read_back_from_its_partition(subscription: str) -> None:
    assert keys.subscription_id_of(keys.subscription_pk(subscription)) == subscription


@given(st.text())
def test_every_subscription_has_one_of_sixteen_shards(subscription: str) -> None:
    assert keys.due_shard(subscription) in keys.all_due_shards()


def test_work_spreads_over_the_shards() -> None:
    counts = [0] * keys.DUE_SHARDS
    for n in range(1600):
        counts[int(keys.due_shard(f"sub-{n:026d}"))] += 1
    assert len(keys.all_due_shards()) == len(set(keys.all_due_shards())) == 16
    assert min(counts) > 50


def test_a_registration_code_is_stored_as_a_hash_only() -> None:
    assert "secret-code" not in "".join(keys.registration("secret-code"))


def test_an_hours_prefix_is_readable() -> None:
    moment = int(datetime(2026, 11, 22, 14, tzinfo=UTC).timestamp())
    assert keys.metering_record("sub-x", moment, "api calls#1") == ("SUB#sub-x", "HOUR#2026-11-22T14#api%20calls%231")
    assert keys.heartbeat_mark("") == ("HEARTBEAT", "ALL")
