"""The HTTP server that the API, the console and moto run on."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from werkzeug import Request, Response

from local.server import Server
from tests.local_stack.browser import call


def respond(request: Request) -> Response:
    if request.path == "/fails":
        raise ValueError("a reason")
    return Response(request.get_data())


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server("127.0.0.1", 0, respond)
    yield running
    running.stop()


def test_an_exception_is_logged_with_its_traceback_and_answered_500(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert call("GET", f"{server.url}/fails").status == 500

    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "GET /fails failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a reason"
    assert call("POST", server.url, "still there").text == "still there"


def test_a_taken_port_is_an_error(server: Server) -> None:
    with pytest.raises(OSError, match="in use"):
        Server("127.0.0.1", server.port, respond)


def test_a_stopped_server_takes_no_connection() -> None:
    server = Server("127.0.0.1", 0, respond)
    server.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
