"""Runs the benchmarks one after the other: `make bench`, or `python -m bench metering usage`.

python -m bench [cold_start] [metering] [usage] [idle] [straightforward]
"""

import subprocess
import sys

ALL = ("metering", "usage", "idle", "straightforward", "cold_start")


def main() -> int:
    wanted = sys.argv[1:] or list(ALL)
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    return max(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode for name in wanted)


if __name__ == "__main__":
    sys.exit(main())
