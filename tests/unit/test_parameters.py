"""Every parameter of the template is drawn by the fault schedules, or is no unit's business."""

import random

import pytest

from tests.faults.invariant import MAPPED
from tests.support.parameters import NOT_DRAWN, Parameters
from tools.template import load


def drawn(seed: int) -> Parameters:
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return Parameters.drawn(dice, heartbeat="users", overage="/".join(MAPPED) + "=seats").holding(dice, refuses=True)


def test_every_parameter_is_drawn_or_named_with_a_reason() -> None:
    assert {*Parameters.__dataclass_fields__, *NOT_DRAWN} == set(load()["Parameters"])


def test_defaults_are_the_templates() -> None:
    declared = load()["Parameters"]
    given = Parameters()
    for name in set(Parameters.__dataclass_fields__) - {"MeteringCallsPerSecond"}:
        assert getattr(given, name) == declared[name]["Default"]


NUMBERS = [name for name, declared in load()["Parameters"].items() if declared["Type"] == "Number"]


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in NOT_DRAWN])
def test_a_number_is_drawn_from_its_whole_range(name: str) -> None:
    declared = load()["Parameters"][name]
    values = {getattr(drawn(seed), name) for seed in range(300)}
    assert {declared["MinValue"], declared["MaxValue"], declared["Default"]} <= values
    assert len(values) > 10
