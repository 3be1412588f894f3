"""Which hours of usage are unusual: the rules."""

from hypothesis import given
from hypothesis import strategies as st

from marketplace.metering.anomaly import DAYS, LEARNED_FOR, Usual, day_of, oddity
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, hour_of
from tests.support.world import NOON

FIRST = hour_of(NOON)
hours = st.integers(0, 24 * 20).map(lambda number: EpochSeconds(FIRST + number * HOUR))
quantities = st.integers(0, 2_147_483_647)
uses = st.lists(st.tuples(hours, quantities), min_size=1, max_size=40)
factors = st.integers(1, 1_000_000)


def learned(use: list[tuple[EpochSeconds, int]]) -> Usual | None:
    """What is known after this usage, as the usage table keeps it."""
    usual: Usual | None = None
    for hour, quantity in use:
        if not quantity or (usual is not None and not usual.raised_by(hour, quantity)):
            continue
        before = {} if usual is None else dict(usual.greatest)
        gone = [] if usual is None else usual.outdated_by(hour)
        before[day_of(hour)] = quantity
        kept = {day: one for day, one in before.items() if day not in gone}
        usual = Usual(hour if usual is None else usual.since, kept)
    return usual


def usual(quantity: int, since: int = FIRST - 30 * DAY) -> Usual:
    return Usual(EpochSeconds(since), {day_of(FIRST): quantity})


@given(uses, hours, factors)
def test_usage_of_nothing_is_never_unusual(
    use: list[tuple[EpochSeconds, int]], hour: EpochSeconds, factor: int
) -> None:
    assert oddity(hour, 0, learned(use), [usual(1)], factor) is None


@given(uses, hours, quantities, factors)
def test_what_was_usual_once_stays_so_when_it_is_judged_again(
    use: list[tuple[EpochSeconds, int]], hour: EpochSeconds, quantity: int, factor: int
) -> None:
    if oddity(hour, quantity, learned(use), [], factor) is None:
        assert oddity(hour, quantity, learned([*use, (hour, quantity)]), [], factor) is None


@given(uses)
def test_learning_twice_is_learning_once(use: list[tuple[EpochSeconds, int]]) -> None:
    once = learned(use)
    last = use[-1]
    assert learned([*use, last]) == once


@given(uses)
def test_the_days_that_are_kept_are_few(use: list[tuple[EpochSeconds, int]]) -> None:
    known = learned(use)
    assert known is None or len(known.greatest) <= DAYS


@given(quantities.filter(bool), factors)
def test_an_hour_is_far_above_that_exceeds_the_factor(quantity: int, factor: int) -> None:
    assert oddity(FIRST, quantity * factor, usual(quantity), [], factor) is None
    assert oddity(FIRST, quantity * factor + 1, usual(quantity), [], factor) == "far_above_usual"


def test_the_greatest_of_the_last_days_counts_and_not_the_last_one() -> None:
    known = Usual(EpochSeconds(FIRST - 30 * DAY), {day_of(FIRST): 1, day_of(EpochSeconds(FIRST - 3 * DAY)): 100})
    assert oddity(FIRST, 300, known, [], 3) is None
    assert oddity(FIRST, 301, known, [], 3) == "far_above_usual"


def test_a_dimension_is_not_judged_in_the_first_day_of_its_usage() -> None:
    young = usual(1, since=FIRST - LEARNED_FOR + HOUR)
    assert oddity(FIRST, 1_000_000, young, [], 2) is None
    assert oddity(FIRST, 1_000_000, usual(1, since=FIRST - LEARNED_FOR), [], 2) == "far_above_usual"


def test_a_dimension_is_new_to_a_subscription_that_has_used_another_for_a_day() -> None:
    assert oddity(FIRST, 1, None, [], 2) is None
    assert oddity(FIRST, 1, None, [usual(5, since=FIRST - LEARNED_FOR + HOUR)], 2) is None
    assert oddity(FIRST, 1, None, [usual(5, since=FIRST - LEARNED_FOR)], 2) == "new_dimension"
