"""`make faults SEEDS=10000`: plays that many fault schedules and prints what became of every unit.

    python -m tests.faults [--seeds N] [--first N] [--workers N]

The exit code is 1 when a unit is lost or billed twice. Each failing seed is printed when it fails, and of the first one
the fewest steps that still fail.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.faults.invariant import Outcome
from tests.faults.plays import minimised, run, steps_of
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.progress import tracked

STATES = ("recorded", "metered", "included", "held", "rejected", "conflict", "refused", "unbillable", "shadow", "open")


def play(seed: int) -> tuple[int, Outcome | None, str]:
    try:
        return seed, run(seed, steps_of(seed), MemoryDynamoDB), ""
    except Exception as error:
        return seed, None, f"{type(error).__name__}: {error}"


def played(seeds: Iterable[int], workers: int) -> Iterable[tuple[int, Outcome | None, str]]:
    if workers == 1:
        yield from map(play, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(play, seeds, chunksize=20)


def report_fewest_steps(seed: int) -> None:
    print("the fewest steps that still fail:")
    for step in minimised(seed, steps_of(seed), MemoryDynamoDB):
        print(f"    {step}")
    print(f"again: python -m tests.faults --first {seed} --seeds 1")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = options.parse_args()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "testing"
    began = time.monotonic()
    units: Counter[str] = Counter()
    records: Counter[str] = Counter()
    crashes = calls = due_again = done = 0
    failed: list[int] = []
    seeds = range(given.first, given.first + given.seeds)
    for seed, outcome, message in tracked(played(seeds, given.workers), "schedules", len(seeds)):
        done += 1
        if outcome is None:
            failed.append(seed)
            print(f"\nseed {seed} fails: {message}", flush=True)
            if len(failed) == 1:
                report_fewest_steps(seed)
        else:
            units += outcome.units
            records += outcome.records
            crashes += outcome.crashes
            calls += outcome.aws_calls
            due_again += outcome.due_again
    print(f"{'schedules':<24}{done:>20,}")
    print(f"{'failed':<24}{len(failed):>20,}")
    print(f"{'crashes injected':<24}{crashes:>20,}")
    print(f"{'BatchMeterUsage calls':<24}{calls:>20,}")
    print(f"{'refused, made due again':<24}{due_again:>20,}")
    print(f"{'':<24}{'records':>20}{'units':>24}")
    for state in STATES:
        print(f"{state:<24}{records[state]:>20,}{units[state]:>24,}")
    accounted = sum(units[state] for state in STATES[1:])
    print(f"{'lost':<24}{'':>20}{units['recorded'] - accounted:>24,}")
    print(f"{'seconds':<24}{time.monotonic() - began:>20,.0f}")
    if failed:
        print(f"failing seeds: {', '.join(str(seed) for seed in failed[:50])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
