"""What a run takes on when more is due than any run could do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import State
from marketplace.metering import backlog
from marketplace.metering.backlog import Backlog, Phase, phase_of
from marketplace.platform.clock import EpochSeconds

NOW = EpochSeconds(1_795_003_500)
LIMIT = 8


def entry(number: int, refuse_in: int = 3600, state: State = "open", quantity: int = 1, due_in: int = -60) -> DueEntry:
    return DueEntry(
        key=keys.metering_record(f"sub-{number}", NOW - NOW % 3600, "api_calls"),
        seal="-",
        state=state,
        refuse_at=EpochSeconds(NOW + refuse_in),
        quantity=quantity,
        product_code="code",
        licensed=True,
        due_at=EpochSeconds(NOW + due_in),
    )


def told(number: int, state: State, next_step_in: int, refuse_in: int = 3600) -> DueEntry:
    """An entry that was told, and whose next step comes in so many seconds."""
    return entry(number, refuse_in, state, due_in=-2 * NOW - next_step_in)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_ENTRIES", LIMIT)


def taken_on(added: list[DueEntry]) -> tuple[list[DueEntry], list[DueEntry]]:
    left_over: list[DueEntry] = []
    backlog = Backlog(left_over.append)
    for one in added:
        phase = phase_of(one, NOW)
        assert phase is not None
        backlog.add(one, phase)
    return [one for entries in backlog.phases().values() for one in entries], left_over


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        (entry(1), Phase.SEND),
        (entry(1, refuse_in=0), Phase.SEND_LATE),
        *((entry(1, state=state), Phase.TELL) for state in ("held", "rejected", "conflict", "unbillable")),
        *((told(1, state, 1), None) for state in ("held", "rejected", "conflict", "unbillable")),
        (told(1, "held", 0), Phase.SEND),
        (told(1, "held", 0, refuse_in=-60), Phase.SEND_LATE),
        (told(1, "rejected", 0), Phase.WRITE_OFF),
        (told(1, "conflict", 0), Phase.FORGET),
        (told(1, "unbillable", 0), Phase.FORGET),
    ],
)
def test_what_is_decided_is_told_then_waits_and_then_has_one_next_step(found: DueEntry, phase: Phase | None) -> None:
    assert phase_of(found, NOW) == phase


def test_everything_is_taken_on_as_long_as_a_run_can_do_it() -> None:
    added = [entry(number, refuse_in=number) for number in range(1, LIMIT + 1)]
    assert taken_on(added) == (added, [])


def test_what_is_past_its_deadline_comes_after_all_that_is_not() -> None:
    late, untold, soon = entry(1, refuse_in=0), entry(2, state="conflict"), entry(3, refuse_in=1)
    held, closed = told(4, "held", 0, refuse_in=2), told(5, "rejected", 0)
    assert taken_on([closed, late, untold, held, soon])[0] == [soon, held, untold, late, closed]


def test_a_record_that_moves_while_the_index_is_read_counts_once_as_it_was_seen_last() -> None:
    assert taken_on([entry(1, quantity=5), entry(2), entry(1, quantity=9)]) == (
        [entry(1, quantity=9), entry(2)],
        [],
    )


@given(
    st.lists(st.tuples(st.integers(-5, 50), st.sampled_from(["open", "held", "conflict", "unbillable"])), max_size=60)
)
def test_the_most_urgent_are_taken_on_and_all_others_counted(given_entries: list[tuple[int, State]]) -> None:
    added = [entry(number, refuse_in, state) for number, (refuse_in, state) in enumerate(given_entries)]
    entries, left_over = taken_on(added)

    def urgency(one: DueEntry) -> tuple[int, int]:
        return (0 if one.state == "open" and one.refuse_at > NOW else 2 if one.state == "open" else 1, one.refuse_at)

    assert sorted(map(urgency, entries + left_over)) == [urgency(one) for one in sorted(added, key=urgency)]
    assert {one.key for one in entries + left_over} == {one.key for one in added}
    assert list(map(urgency, entries)) == sorted(map(urgency, added))[:LIMIT]
