"""The fault schedules on moto: another store than the in-memory one, the same invariant."""

from typing import Any

import pytest

from tests.faults.plays import is_whole, run, steps_of


@pytest.mark.parametrize("seed", [seed for seed in range(24) if not is_whole(seed)])
def test_no_schedule_loses_a_unit_or_bills_one_twice_on_moto(moto_dynamodb: Any, seed: int) -> None:
    run(seed, steps_of(seed), lambda: moto_dynamodb)
