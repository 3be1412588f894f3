"""Runs the benchmarks one after the other: `make bench`, or `python -m bench metering usage`.

python -m bench [cold_start] [metering] [usage] [idle] [straightforward] [archive] [reconcile]
"""

import platform
import subprocess
import sys
from pathlib import Path

from marketplace.platform.clock import utc_now

ALL = ("metering", "usage", "idle", "straightforward", "archive", "reconcile", "cold_start")


def main() -> int:
    wanted = sys.argv[1:] or list(ALL)
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    print(surroundings_line(), flush=True)
    return max(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode for name in wanted)


def surroundings_line() -> str:
    """What a table of figures needs beside it: when, of which commit, and on what."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")}
    cores = sum(line.startswith("processor") for line in cpuinfo)
    processor = ", ".join(sorted(names)) or platform.processor()
    return f"{utc_now():%Y-%m-%d}, commit {commit}, {processor}, {cores} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
