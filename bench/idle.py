"""A metering run with nothing to do, in front of an empty history and of a long one.

python -m bench.idle [--history 1000000] [--runs 20]
"""

import argparse
import statistics
import time

from bench.metering import metering_run
from bench.surroundings import surroundings, table


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    options.add_argument("--history", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=20)
    given = options.parse_args()
    rows = []
    with surroundings(licences=1000, memory="8g") as around:
        for history in (0, given.history):
            around.write(around.tables.usage, map(around.settled_record, range(history)), history)
            for _ in range(3):
                metering_run(around, 10, 4).run()
            around.calls.clear()
            seconds, cpu = [], time.process_time()
            for _ in range(given.runs):
                began = time.monotonic()
                assert metering_run(around, 10, 4).run().due == 0
                seconds.append(time.monotonic() - began)
            calls = {name: count / given.runs for name, count in around.calls.items()}
            cpu_ms = (time.process_time() - cpu) / given.runs * 1000
            rows.append(
                (
                    f"{history:,} settled records behind it",
                    f"{', '.join(f'{count:.0f} {name}' for name, count in calls.items())}; median "
                    f"{statistics.median(seconds) * 1000:.0f} ms; CPU {cpu_ms:.0f} ms",
                )
            )
    table(f"An idle metering run, {given.runs} runs each", rows)


if __name__ == "__main__":
    main()
