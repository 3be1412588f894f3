"""The terms of an entitlement, as one reading of AWS after another shows them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.entitlements.rules import PENDING_FOR, Entitlement
from marketplace.entitlements.terms import (
    AWAITED_FOR,
    LAST_READING_LEAD,
    LOOK_AHEAD,
    MAX_TERMS,
    RENEWAL_LEAD,
    RENEWAL_READING_AFTER,
    GrantedTerm,
    History,
    next_reading_at,
)
from marketplace.platform.clock import DAY, HOUR, MINUTE

NOW = 1_787_236_200
END = NOW + 90 * DAY
YEAR = 365 * DAY


def seats(count: int, expires_at: int | None = END) -> Entitlement:
    return Entitlement(dimension="seats", value_type="integer", value=count, expires_at=expires_at)


def read(*readings: tuple[int, Entitlement | None]) -> History:
    """The history after these readings, each with its time."""
    history, read_before = History(), None
    for now, granted in readings:
        history = history.after_reading(granted, now, empty=granted is None, read_before=read_before)
        read_before = now
    return history


def spans(history: History) -> list[tuple[int, int | None, Any]]:
    return [(term.starts_at, term.ends_at, term.value) for term in history.terms]


def counters(history: History) -> list[tuple[int | None, int | None]]:
    return [(term.first_end, term.counted_from) for term in history.terms]


def test_the_first_reading_begins_a_term_that_also_holds_before_it() -> None:
    history = read((NOW, seats(10)))
    assert spans(history) == [(NOW, END, 10)]
    assert history.at(NOW - DAY) == history.at(NOW) == history.terms[0]
    assert history.standing(NOW - DAY, NOW) == "held"


def test_a_changed_value_moves_the_limit_of_the_term() -> None:
    history = read((NOW, seats(10)), (NOW + DAY, seats(15)), (NOW + 2 * DAY, seats(12)))
    assert spans(history) == [(NOW, END, 12)]


@pytest.mark.parametrize("end", [END + DAY, END + YEAR, END - DAY, None])
def test_an_end_that_moves_while_the_term_is_running_is_an_upgrade(end: int | None) -> None:
    history = read((NOW, seats(10)), (NOW + DAY, seats(15, end)))
    assert spans(history) == [(NOW, end, 15)]
    assert counters(history) == [(END, None)]


@pytest.mark.parametrize("seen", [END - RENEWAL_LEAD, END, END + 1, END + 5 * DAY])
def test_a_later_end_that_is_seen_at_the_end_is_a_renewal_from_there(seen: int) -> None:
    history = read((NOW, seats(10)), (seen, seats(4, END + YEAR)))
    assert spans(history) == [(NOW, END, 10), (END, END + YEAR, 4)]
    assert counters(history) == [(END, None), (END + YEAR, None)]
    assert history.at(END - 1) == history.terms[0]
    assert history.at(END) == history.terms[1]


def test_a_second_before_the_last_hour_it_is_an_upgrade() -> None:
    history = read((NOW, seats(10)), (END - RENEWAL_LEAD - 1, seats(10, END + YEAR)))
    assert len(history.terms) == 1


def test_an_end_that_moves_back_is_no_renewal() -> None:
    assert len(read((NOW, seats(10)), (END + 60, seats(10, END - DAY))).terms) == 1


def test_an_end_that_was_moved_is_the_one_that_a_renewal_begins_at() -> None:
    history = read((NOW, seats(10)), (NOW + 1, seats(10, END + DAY)), (END + DAY, seats(4, END + YEAR)))
    assert [term.starts_at for term in history.terms] == [NOW, END + DAY]
    assert counters(history) == [(END, None), (END + YEAR, None)]


def test_terms_that_were_first_read_with_one_end_are_counted_apart() -> None:
    """The end moves from December to June; the renewal from June ends in December."""
    june = NOW + 30 * DAY
    history = read((NOW, seats(10)), (NOW + 1, seats(10, june)), (june, seats(10, END)))
    assert counters(history) == [(END, None), (END, june)]


def test_what_is_not_shown_for_a_moment_goes_on() -> None:
    history = read((NOW, seats(10)), (NOW + 60, None), (NOW + 60 + PENDING_FOR - 1, seats(12, END + DAY)))
    assert spans(history) == [(NOW, END + DAY, 12)]
    assert history.withdrawn_at is None


def test_the_same_grant_after_a_long_silence_goes_on() -> None:
    assert len(read((NOW, seats(10)), (NOW + 60, None), (NOW + 30 * DAY, seats(10))).terms) == 1


def test_what_is_bought_again_begins_where_it_was_taken_back() -> None:
    history = read((NOW, seats(10)), (NOW + 60, None), (NOW + DAY, seats(10, END + DAY)))
    assert [term.starts_at for term in history.terms] == [NOW, NOW + 60]


def test_a_withdrawal_keeps_its_first_time() -> None:
    history = read((NOW, seats(10)), (NOW + 60, None), (NOW + 120, None))
    assert history.withdrawn_at == NOW + 60


def test_nothing_after_nothing_is_no_history() -> None:
    assert read((NOW, None)) == History()


def test_only_the_newest_terms_are_kept() -> None:
    ends = [END + n * YEAR for n in range(MAX_TERMS + 3)]
    history = read((NOW, seats(0)), *((end, seats(n, end + YEAR)) for n, end in enumerate(ends)))
    assert [term.ends_at for term in history.terms] == [end + YEAR for end in ends[-MAX_TERMS:]]


# What is known of a moment


@pytest.mark.parametrize(
    ("moment", "now", "expected"),
    [
        (END - 1, END - 1, "held"),
        (END - 1, END + DAY, "held"),
        (END, END, "awaited"),
        (END + HOUR, END + AWAITED_FOR - 1, "awaited"),
        (END, END + AWAITED_FOR, "held"),
    ],
)
def test_after_its_end_a_term_that_aws_still_lists_is_awaited_and_then_goes_on(
    moment: int, now: int, expected: str
) -> None:
    assert read((NOW, seats(10))).standing(moment, now) == expected


@pytest.mark.parametrize(
    ("moment", "now", "expected"),
    [
        (NOW, NOW + DAY, "awaited"),
        (END - 1, END - 1, "awaited"),
        (END - 1, END + DAY, "awaited"),
        (END, END + AWAITED_FOR - 1, "awaited"),
        (END, END + AWAITED_FOR, "over"),
    ],
)
def test_an_empty_answer_leaves_what_was_paid_for_awaited(moment: int, now: int, expected: str) -> None:
    assert read((NOW, seats(10)), (NOW + 60, None)).standing(moment, now) == expected


def test_what_is_dropped_beside_other_grants_is_over_from_then_on() -> None:
    history = read((NOW, seats(10))).after_reading(None, NOW + 60, empty=False, read_before=NOW)
    assert [history.standing(NOW + n, NOW + DAY) for n in (59, 60)] == ["held", "over"]


# What an ended term granted at its end


@pytest.mark.parametrize(("age", "known"), [(30, True), (15 * MINUTE, True), (15 * MINUTE + 1, False), (DAY, False)])
def test_an_ended_term_is_known_to_its_end_if_aws_was_asked_shortly_before(age: int, known: bool) -> None:
    history = read((NOW, seats(10)), (END - age, seats(12)), (END + HOUR, seats(4, END + YEAR)))
    old, new = history.terms
    assert [history.is_known_to_its_end(one, 15 * MINUTE) for one in (old, new)] == [known, True]


def test_a_term_that_aws_shows_is_known() -> None:
    history = read((NOW, seats(10)))
    assert history.is_known_to_its_end(history.terms[0], 1)


def test_what_was_withdrawn_is_known_until_the_last_reading_that_showed_it() -> None:
    history = read((NOW, seats(10)), (NOW + DAY, None), (NOW + DAY + 60, None), (NOW + 2 * DAY, seats(9, END + DAY)))
    assert [term.starts_at for term in history.terms] == [NOW, NOW + DAY]
    assert history.terms[0].read_until == NOW
    assert not history.is_known_to_its_end(history.terms[0], DAY - 1)
    assert history.is_known_to_its_end(history.terms[0], DAY)


def test_what_is_shown_again_is_known_again() -> None:
    history = read((NOW, seats(10)), (NOW + DAY, None), (NOW + DAY + 60, seats(11)))
    assert history.is_known_to_its_end(history.terms[0], 1)


@pytest.mark.parametrize("ahead", [LAST_READING_LEAD + 1, HOUR, LAST_READING_LEAD + LOOK_AHEAD])
def test_the_last_reading_of_a_term_is_shortly_before_its_end(ahead: int) -> None:
    granted = [seats(1, NOW + ahead), seats(1, NOW + ahead + 60), seats(1, None)]
    assert next_reading_at(granted, NOW) == NOW + ahead - LAST_READING_LEAD


@pytest.mark.parametrize("ahead", [LAST_READING_LEAD, 1, 0, 1 - RENEWAL_READING_AFTER])
def test_after_its_last_reading_the_renewal_of_a_term_is_read(ahead: int) -> None:
    assert next_reading_at([seats(1, NOW + ahead)], NOW) == NOW + ahead + RENEWAL_READING_AFTER


@pytest.mark.parametrize(
    "end", [None, NOW - DAY, NOW - RENEWAL_READING_AFTER, NOW + LAST_READING_LEAD + LOOK_AHEAD + 1]
)
def test_what_has_no_end_soon_needs_no_reading(end: int | None) -> None:
    assert next_reading_at([seats(1, end)], NOW) is None


def test_where_nothing_was_ever_granted_it_is_over() -> None:
    assert History().at(NOW) is None
    assert History().standing(NOW, NOW) == "over"


# Whatever is read

steps = st.lists(
    st.tuples(
        st.integers(1, 60 * DAY),
        st.one_of(st.none(), st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(-5 * DAY, YEAR)))),
    ),
    max_size=12,
)


def played(drawn: list[tuple[int, Any]]) -> list[tuple[int, Entitlement | None]]:
    now, readings = NOW, []
    for pause, granted in drawn:
        now += pause
        ends = None if granted is None or granted[1] is None else now + granted[1]
        readings.append((now, None if granted is None else seats(granted[0], ends)))
    return readings


@given(steps)
def test_each_moment_has_one_term_and_terms_follow_one_another(drawn: list[tuple[int, Any]]) -> None:
    readings = played(drawn)
    history = read(*readings)
    starts = [term.starts_at for term in history.terms]
    assert starts == sorted(set(starts))
    for start, term in zip(starts, history.terms, strict=True):
        assert history.at(start) == term
    for before, term in zip(history.terms, history.terms[1:], strict=False):
        assert history.at(term.starts_at - 1) == before


@given(steps)
def test_counters_are_never_shared(drawn: list[tuple[int, Any]]) -> None:
    history = read(*played(drawn))
    assert len(set(counters(history))) == len(history.terms)


@given(steps)
def test_the_last_term_is_what_aws_said_last(drawn: list[tuple[int, Any]]) -> None:
    readings = played(drawn)
    history = read(*readings)
    granted = [one for _, one in readings if one is not None]
    if granted:
        assert (history.terms[-1].value, history.terms[-1].ends_at) == (granted[-1].value, granted[-1].expires_at)


@given(steps, st.integers(0, 9), st.integers(1, DAY))
def test_a_reading_changes_no_term_but_the_last(drawn: list[tuple[int, Any]], value: int, later: int) -> None:
    readings = played(drawn)
    before = read(*readings)
    now = NOW + 2 * YEAR
    after = before.after_reading(seats(value, now + later), now, empty=False, read_before=now - 1)
    kept = after.terms[: len(before.terms) - 1] if len(before.terms) < MAX_TERMS else ()
    assert kept == before.terms[: len(kept)]


@given(steps)
def test_repeating_a_reading_changes_nothing(drawn: list[tuple[int, Any]]) -> None:
    readings = played(drawn)
    history = read(*readings)
    if readings:
        now, granted = readings[-1]
        again = history.after_reading(granted, now + 1, empty=granted is None, read_before=now)
        assert again == history


@given(steps)
def test_a_history_is_stored_whole(drawn: list[tuple[int, Any]]) -> None:
    history = read(*played(drawn))
    assert History.from_values("seats", from_item(to_item(history.as_values()))) == history


def test_an_entitlement_that_was_stored_without_terms_has_the_one_that_it_grants() -> None:
    stored = {**seats(10).as_values(), "synced_at": NOW}
    assert History.from_values("seats", stored).terms == (GrantedTerm.of(seats(10), NOW),)
    assert History.from_values("seats", {}) == History()
