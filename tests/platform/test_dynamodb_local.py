"""DynamoDB Local ends with the process that started it."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tools import dynamodb_local
from tools.template import ROOT

pytestmark = pytest.mark.dynamodb_local

PARENT = """
import signal, sys, threading
from tools import dynamodb_local
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
process = dynamodb_local.start(int(sys.argv[1]))
print(process.pid, flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_when_a_signal_ends_its_parent(number: signal.Signals) -> None:
    port = dynamodb_local.free_port()
    command = [sys.executable, "-c", PARENT, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip().isdigit()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            parent.send_signal(number)
            assert parent.wait() == -number
            assert closed(connection)
    assert refused(port)


def closed(connection: socket.socket) -> bool:
    """Whether the other end closes the connection before the connection's timeout. Only the end of its process makes
    DynamoDB Local close one so early."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def refused(port: int) -> bool:
    """Whether nothing listens on a port any more, or soon: a process that ends closes its sockets one by one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass
        os.sched_yield()
    return False


def test_it_ends_with_its_block() -> None:
    with dynamodb_local.running() as endpoint:
        port = int(endpoint.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()

    assert refused(port)
