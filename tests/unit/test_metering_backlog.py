"""What a run takes on when more is due than any run could do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import State
from marketplace.metering import backlog
from marketplace.metering.backlog import Backlog
from marketplace.platform.clock import EpochSeconds

NOW = EpochSeconds(1_795_003_500)
LIMIT = 8


def entry(number: int, refuse_in: int = 3600, state: State = "open", quantity: int = 1) -> DueEntry:
    return DueEntry(
        key=keys.metering_record(f"sub-{number}", NOW - NOW % 3600, "api_calls"),
        seal="-",
        state=state,
        refuse_at=EpochSeconds(NOW + refuse_in),
        quantity=quantity,
        product_code="code",
        licensed=True,
        due_at=EpochSeconds(NOW - 60),
    )


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_ENTRIES", LIMIT)


def taken_on(added: list[DueEntry]) -> tuple[list[DueEntry], list[DueEntry]]:
    left_over: list[DueEntry] = []
    backlog = Backlog(NOW, left_over.append)
    for one in added:
        backlog.add(one)
    return backlog.entries(), left_over


def test_everything_is_taken_on_as_long_as_a_run_can_do_it() -> None:
    added = [entry(number, refuse_in=number) for number in range(1, LIMIT + 1)]
    assert taken_on(added) == (added, [])


def test_what_AWS_takes_no_more_comes_after_all_that_it_still_takes() -> None:  # noqa: N802 - a name
    late, told, soon = entry(1, refuse_in=0), entry(2, state="conflict"), entry(3, refuse_in=1)
    held = entry(4, refuse_in=2, state="held")
    assert taken_on([late, told, held, soon])[0] == [soon, held, late, told]


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

    def urgency(one: DueEntry) -> tuple[bool, int]:
        return (one.state not in {"open", "held"} or one.refuse_at <= NOW, one.refuse_at)

    assert sorted(map(urgency, entries + left_over)) == [urgency(one) for one in sorted(added, key=urgency)]
    assert {one.key for one in entries + left_over} == {one.key for one in added}
    assert list(map(urgency, entries)) == sorted(map(urgency, added))[:LIMIT]
