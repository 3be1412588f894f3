"""`make rehearse EXAMPLES=1000`: deploys template.yaml on paper with that many combinations of its parameters.

    python -m tests.rehearsal [--examples N] [--seed N]

Each combination is a first deployment, an update from the previous release's template, and an update to another
combination. The exit code is 1 when CloudFormation would refuse one, or when an update loses a resource that holds data
or an address. The fewest parameters that still fail are printed.
"""

import argparse
import logging
import os
import sys
import time

from hypothesis import HealthCheck, given, seed, settings

from tests.rehearsal.parameters import at_least, combinations
from tests.rehearsal.rehearsal import change_faults, previous, rehearsed, upgrade_faults
from tests.rehearsal.resolver import Stack
from tests.support.progress import tracked
from tools import template


def rehearse(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """What is wrong with a first deployment, with the update that another one is to it, and with the update from the
    previous release."""
    before = {name: value for name, value in one.items() if name in previous()["Parameters"]}
    old, new, changed = rehearsed(previous(), at_least(previous(), **before)), *map(_rehearsed, (one, other))
    return [*new.faults, *upgrade_faults(old, new), *change_faults(new, changed)]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--examples", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # SAM's translator asks the SDK for the region
    logging.disable(logging.WARNING)  # it warns of metrics of its own that nobody publishes
    began = time.monotonic()
    progress = iter(tracked(range(chosen.examples), "combinations", chosen.examples))
    template_parameters = combinations(template.load())

    @seed(chosen.seed)
    @settings(max_examples=chosen.examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(template_parameters, template_parameters)
    def every_combination(one: dict[str, str], other: dict[str, str]) -> None:
        next(progress, None)
        assert rehearse(one, other) == []

    try:
        every_combination()
    except AssertionError as error:
        print("\n".join([str(error), *getattr(error, "__notes__", [])]))
        return 1
    print(f"{'combinations':<24}{chosen.examples:>20,}")
    print(f"{'seconds':<24}{time.monotonic() - began:>20,.0f}")
    return 0


def _rehearsed(parameters: dict[str, str]) -> Stack:
    return rehearsed(template.load(), parameters)


if __name__ == "__main__":
    sys.exit(main())
